"""Stage a version: warm beside the others, tried over HTTP by a pin, reachable by one afterwards; and who may be.

The version gets no traffic. It answers smoke tests first (:mod:`attrition.serving.smoke`: a valid answer of the
right version, equal to what the offline scorer says, fast enough), whose records are not logged. When they pass,
everybody who sends ``x-attrition-stage: VERSION`` is answered by it, and these answers are logged like others.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.errors import AttritionError, Fault
from attrition.release.rollout_traffic import STAGE_HEADER, is_staged, shadows, weights
from attrition.serving.traffic import SMOKE_HEADER

if TYPE_CHECKING:
    import httpx

    from attrition.evaluation.gates import Verdict
    from attrition.registry.bundle import Bundle
    from attrition.release.rollout import Rollout
    from attrition.release.rollout_plan import RolloutPlan
    from attrition.release.rollout_traffic import TrafficControl
    from attrition.serving.smoke import SmokeReport
    from attrition.serving.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Staged:
    """What became of staging a version.

    Attributes
    ----------
    version : str
    report : SmokeReport
        What the smoke tests found.
    header, value : str
        Request header that reaches the version; the value is empty when the tests failed and it was let go.
    """

    version: str
    report: SmokeReport
    header: str = STAGE_HEADER
    value: str = ""

    @property
    def passed(self) -> bool:
        """It is staged."""
        return bool(self.value)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        pin = {"header": self.header, "value": self.value} if self.passed else None
        return {"version": self.version, "staged": self.passed, "pin": pin, "smoke_tests": self.report.to_dict()}


def stage(control: TrafficControl, http: httpx.Client, version: str, bundle: Bundle) -> Staged:
    """Warm a version, try it, and keep it reachable when it passes.

    Parameters
    ----------
    control
        Changes the traffic.
    http
        Client of the endpoint.
    version
        Semantic version, neither answering nor a shadow.
    bundle
        The same version, loaded here: what the served answers are compared with.

    Raises
    ------
    NotFound, IntegrityError, ServingError
        It cannot be loaded; the traffic is what it was.
    """
    from attrition.serving.smoke import smoke_test

    token = secrets.token_hex(8)
    control.pin(SMOKE_HEADER, token, version)
    try:
        traffic = control.show().traffic
        name = next(pin.variant for pin in traffic.pins if (pin.header, pin.value) == (SMOKE_HEADER, token))
        report = smoke_test(http, traffic.variant(name), bundle, token)
        if report.passed:
            control.pin(STAGE_HEADER, version, version)
    except BaseException:
        with contextlib.suppress(AttritionError):  # not instead of what happened
            control.unpin(SMOKE_HEADER, token)
        raise
    control.unpin(SMOKE_HEADER, token)
    return Staged(version, report, value=version if report.passed else "")


def stage_faults(version: str, verdict: Verdict, traffic: Traffic | None) -> list[Fault]:
    """Everything that keeps a version from being staged; none when nothing does.

    Parameters
    ----------
    verdict
        Of the gates.
    traffic
        As served; None when nothing is.
    """
    faults = gate_faults(version, verdict)
    if traffic is None:
        return [*faults, Fault("endpoint", "nothing is served", remedy="start it: attrition serve up")]
    if version in weights(traffic):
        faults.append(Fault(f"version {version}", "answers requests already"))
    if version in shadows(traffic):
        faults.append(
            Fault(f"version {version}", "is a shadow", remedy="stop that first: attrition traffic shadow --stop")
        )
    return faults


def gate_faults(version: str, verdict: Verdict) -> list[Fault]:
    """Why the gates keep a version from being released. A waiver lets it be registered, which is not the same."""
    if verdict.admits:
        return []
    held = ", ".join(result.gate for result in verdict.results if result.holds)
    found = f"did not pass its gates ({verdict.outcome.replace('_', ' ')}{f': {held}' if held else ''})"
    return [Fault(f"version {version}", found, remedy="release one that did")]


def start_faults(
    challenger: tuple[str, Verdict] | None,
    plan: RolloutPlan | None,
    traffic: Traffic | None,
    *,
    running: Rollout | None,
    experiment: str | None,
    demands_approval: bool,
) -> list[Fault]:
    """Everything that keeps a rollout from beginning; none when nothing does.

    Parameters
    ----------
    challenger
        Version and verdict of its gates; None when there is no such version.
    plan
        None when it cannot be used.
    traffic
        As served; None when nothing is.
    running
        A rollout that is under way.
    experiment
        Name of an experiment that runs.
    demands_approval
        Whether nobody alone may bring a version to everybody here.
    """
    faults = [] if challenger is None else gate_faults(*challenger)
    if demands_approval and plan is not None and not plan.asks_approval:
        allowed, remedy = "where access is closed, four eyes are asked for", "give a step approval: true"
        faults.append(Fault("plan", "asks nobody for an approval", allowed, remedy))
    if running is not None:
        what = f"rollout {running.id} of {running.challenger}"
        remedy = "wait for it, or end it: attrition release rollback"
        return [*faults, Fault(what, "is under way", "one at a time", remedy)]
    if experiment is not None:
        remedy = f"stop it: attrition experiment stop {experiment}"
        faults.append(Fault(f"experiment {experiment}", "is running, and would share the traffic", "", remedy))
    if traffic is None:
        return [*faults, Fault("endpoint", "nothing is served", remedy="start it: attrition serve up")]
    answering = weights(traffic)
    if len(answering) > 1 or traffic.shadows:
        what = f"a split for {traffic.experiment}" if traffic.experiment else "a split of the traffic"
        found = ", ".join(
            [f"{name} {share:.4g}" for name, share in answering.items()] + [f"shadow {v}" for v in shadows(traffic)]
        )
        faults.append(Fault(what, f"is under way ({found})", "a rollout begins with one version", "end it first"))
    elif challenger is not None and challenger[0] in answering:
        faults.append(Fault(f"version {challenger[0]}", "answers all requests already"))
    elif challenger is not None and not is_staged(traffic, challenger[0]):
        remedy = f"attrition release stage {challenger[0]}"
        faults.append(Fault(f"version {challenger[0]}", "is not staged", remedy=remedy))
    return faults
