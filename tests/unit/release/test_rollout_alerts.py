"""Alerts of a rollout: when it needs somebody, and how it ended."""

from __future__ import annotations

import pytest
from rollout_world import NEW, NOW, rollout

from attrition.monitoring.alerts import Severity
from attrition.release.rollout import Status
from attrition.release.rollout_alerts import alerts_of, scope


def test_nobody_is_told_while_it_goes_on():
    """Neither at its start nor in a step."""
    assert alerts_of(rollout()) == alerts_of(rollout(step=1)) == ()


@pytest.mark.parametrize(
    ("status", "key", "title", "help_"),
    [
        (Status.WAITING, "approval", "waits for an approval", f"attrition release approve {NEW}"),
        (Status.PAUSED, "paused", "is paused", "attrition release resume"),
    ],
)
def test_who_is_needed_is_told_what_to_do(status, key, title, help_):
    """With why it stands still."""
    standing = rollout().noted("nothing speaks against it", NOW, status=status, reason="nothing speaks against it")
    (alert,) = alerts_of(standing)
    assert (alert.key, alert.severity) == (f"{scope(standing)}{key}", Severity.WARNING)
    assert alert.title == f"Rollout 1: {NEW} {title}"
    assert "nothing speaks against it" in alert.body
    assert help_ in alert.body


@pytest.mark.parametrize(
    ("status", "severity"),
    [
        (Status.PROMOTED, Severity.INFO),
        (Status.ROLLED_BACK, Severity.CRITICAL),
        (Status.INCONCLUSIVE, Severity.WARNING),
    ],
)
def test_an_end_is_told_with_its_reason(status, severity):
    """A rollback is the most urgent."""
    (alert,) = alerts_of(rollout().noted("guard: 20 of 40 requests failed", NOW, status=status))
    assert (alert.key, alert.severity) == ("rollout/1/ended", severity)
    assert "20 of 40" in alert.body
