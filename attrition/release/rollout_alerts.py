"""What people are told of a rollout: that it stands still and needs somebody, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.monitoring.alerts import Alert, Severity
from attrition.release.rollout import Status

if TYPE_CHECKING:
    from attrition.release.rollout import Rollout

_ENDS = {
    Status.PROMOTED: (Severity.INFO, "{challenger} is the champion"),
    Status.ROLLED_BACK: (Severity.CRITICAL, "{challenger} was rolled back"),
    Status.INCONCLUSIVE: (Severity.WARNING, "{challenger} was not promoted, as nothing was shown"),
}


def scope(rollout: Rollout) -> str:
    """What the keys of its alerts begin with."""
    return f"rollout/{rollout.id}/"


def alerts_of(rollout: Rollout) -> tuple[Alert, ...]:
    """The alerts that hold; none while it goes on by itself.

    Examples
    --------
    A rollout that waits for an approval says how it is given; one that ended, why.
    """
    challenger = rollout.challenger
    named = f"Rollout {rollout.id}: "
    if rollout.status is Status.WAITING:
        body = f"{_last(rollout)}\n\nApprove it: attrition release approve {challenger} --justification TEXT"
        return (Alert(f"{scope(rollout)}approval", f"{named}{challenger} waits for an approval", body),)
    if rollout.status is Status.PAUSED:
        body = f"{rollout.reason}\n\nGo on: attrition release resume, or attrition release rollback"
        return (Alert(f"{scope(rollout)}paused", f"{named}{challenger} is paused", body),)
    if rollout.status not in _ENDS:
        return ()
    severity, text = _ENDS[rollout.status]
    title = named + text.format(challenger=challenger)
    return (Alert(f"{scope(rollout)}ended", title, f"{_last(rollout)}\n\nSee: attrition release status", severity),)


def _last(rollout: Rollout) -> str:
    return rollout.log[-1].text if rollout.log else rollout.reason
