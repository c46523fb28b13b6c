"""What somebody expects of a metric before an experiment: the figures from which its size is planned."""

from __future__ import annotations

from dataclasses import dataclass

from attrition.errors import Fault, UsageError
from attrition.experiments.plan import Metric, Role

RATES = (Metric.ERROR_RATE, Metric.SELECTION_RATE, Metric.FPR, Metric.FNR)

SPREADS = {Metric.SCORE_MEAN: 0.2}
"""Standard deviation of scores; many models' scores of a workforce are about as wide."""
LATENCY_SPREAD = 0.5
"""Standard deviation of the logarithm of latencies; p95 is then 2.3 times the median."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What somebody expects of one metric.

    Attributes
    ----------
    metric : Metric
    control, challenger : float
        In the unit of the metric: rates and mean scores in (0, 1), latencies in milliseconds.
    role : Role
        A goal is decided when the challenger is better, a guardrail when it is not worse by the margin; of a metric
        that is neither better nor worse, when it lies within the margin on both sides.
    margin : float
    spread : float or None
        Standard deviation: of scores, or of the logarithm of latencies; None: `SPREADS`, `LATENCY_SPREAD`. Rates have
        none.
    """

    metric: Metric
    control: float
    challenger: float
    role: Role = Role.GOAL
    margin: float = 0.0
    spread: float | None = None

    def __post_init__(self) -> None:
        faults = self._faults()
        if not faults and not self.gap > 0:
            faults.append(self._hopeless())
        if faults:
            raise UsageError(faults)

    @property
    def difference(self) -> float:
        """Challenger minus control."""
        return self.challenger - self.control

    @property
    def threshold(self) -> float:
        """What the difference must lie below."""
        return self.margin if self.role is Role.GUARDRAIL else 0.0

    @property
    def gap(self) -> float:
        """How far from undecided the expected difference is; at most 0 when nothing could be shown."""
        return self.threshold - (abs(self.difference) if self.metric.is_shift else self.difference)

    @property
    def deviation(self) -> float:
        """Standard deviation of scores, or of the logarithm of latencies."""
        return self.spread if self.spread is not None else SPREADS.get(self.metric, LATENCY_SPREAD)

    def _faults(self) -> list[Fault]:
        faults = []
        for name, value in (("control", self.control), ("challenger", self.challenger)):
            where = f"{self.metric} of the {name}"
            if self.metric.is_latency and not 0 < value < 600_000:
                faults.append(Fault(where, f"is {value:g}", "milliseconds, above 0"))
            elif not self.metric.is_latency and not 0 < value < 1:
                faults.append(Fault(where, f"is {value:g}", "between 0 and 1, both excluded"))
        if self.metric.is_shift and (self.role is Role.GOAL or not self.margin > 0):
            remedy = "give a margin within which it should stay"
            faults.append(Fault(self.metric, "is neither better nor worse, so it cannot be a goal", "", remedy))
        if self.spread is not None and self.metric in RATES:
            faults.append(Fault(f"{self.metric} spread", f"is {self.spread:g}", "a rate has none"))
        elif self.spread is not None and not 0 < self.spread < 10:
            faults.append(Fault(f"{self.metric} spread", f"is {self.spread:g}", "above 0, below 10"))
        return faults

    def _hopeless(self) -> Fault:
        if self.metric.is_shift:
            found = f"a difference of {self.difference:g} does not lie within {self.margin:g}"
            return Fault(self.metric, found, "", "expect less of it, or give a wider margin")
        found = f"{self.challenger:g} is not below {self.control + self.threshold:g}"
        return Fault(self.metric, found, "", "expect less of it, or give a guardrail a wider margin")


PUBLISHED = (
    Expectation(Metric.FPR, 0.12, 0.08),
    Expectation(Metric.FNR, 0.15, 0.14),
    Expectation(Metric.ERROR_RATE, 0.005, 0.004),
)
"""The case that the planner shows unless it is given another: fewer false alarms, slightly fewer misses and errors."""
