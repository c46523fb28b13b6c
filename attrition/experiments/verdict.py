"""The verdict on a challenger: goals, guardrails and the split itself, at any moment and as often as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime

    from attrition.experiments.plan import ExperimentPlan, Metric, Role
    from attrition.experiments.samples import Samples


class Verdict(StrEnum):
    """What the evidence says should be done."""

    PROMOTE = "PROMOTE"
    """Every goal is reached and every guardrail holds."""
    ROLL_BACK = "ROLL_BACK"
    """At least one metric is worse by more than its margin."""
    CONTINUE = "CONTINUE"
    """Open, and there is time left."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Open at the end of the plan, or the split is not what it should be, so nothing that it shows counts."""


class Standing(StrEnum):
    """What one metric shows."""

    BETTER = "better"
    HOLDS = "holds"
    """Not worse by the margin or more."""
    WORSE = "worse"
    """By more than the margin."""
    OPEN = "open"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric: values, interval, threshold, n.

    Attributes
    ----------
    control, challenger, difference : float
        In the unit of the metric; the difference is challenger minus control. NaN when not measured.
    low, high : float
        Confidence sequence of the difference: valid at every look together.
    margin : float
        The threshold of harm.
    n_control, n_challenger : int
        Units.
    """

    metric: Metric
    role: Role
    standing: Standing
    control: float
    challenger: float
    difference: float
    low: float
    high: float
    margin: float
    n_control: int
    n_challenger: int
    unit: str
    method: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """One look at an experiment.

    Attributes
    ----------
    verdict : Verdict
    reasons : tuple of str
    metrics : tuple of MetricResult
    """

    experiment: str
    as_of: datetime
    verdict: Verdict
    reasons: tuple[str, ...]
    metrics: tuple[MetricResult, ...]
    ratio: Any

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        raise NotImplementedError


def judge(plan: ExperimentPlan, samples: Samples) -> Analysis:
    """The verdict on the last epoch of the samples; the same samples always yield the same verdict."""
    raise NotImplementedError
