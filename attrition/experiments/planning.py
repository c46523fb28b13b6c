"""How many people an experiment will need: by the classical formula, and by simulating the sequential one.

A sequential experiment pays for the right to look at any time with a larger size in the worst case, and stops before
that most of the time. There is no formula for when, so paths are drawn, with a seed, and looked at some forty times
each, as :mod:`attrition.experiments.verdict` would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, UsageError
from attrition.experiments.comparison import TIGHTEST
from attrition.experiments.plan import Metric, Role
from attrition.experiments.sequential import rate_evidence

if TYPE_CHECKING:
    from collections.abc import Sequence

POWER = 0.8
"""Probability with which an expected difference is to be found."""

N_PATHS, N_LOOKS, SEED = 300, 40, 20_260_101
_LONGEST = 12.0
"""Where paths end, in classical sizes."""
_SOONEST = 4
"""A metric speaks from a fourth of the classical size on: earlier it could hardly be decided, and its interval is then
tightest where it will be."""

PLANNABLE = (Metric.ERROR_RATE, Metric.SELECTION_RATE, Metric.FPR, Metric.FNR)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What somebody expects of one rate.

    Attributes
    ----------
    metric : Metric
        One of :data:`PLANNABLE`.
    control, challenger : float
        In (0, 1).
    role : Role
        A goal is decided when the challenger is better, a guardrail when it is not worse by the margin.
    margin : float
    """

    metric: Metric
    control: float
    challenger: float
    role: Role = Role.GOAL
    margin: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        if self.metric not in PLANNABLE:
            faults.append(Fault(self.metric, "is no rate", f"one of {', '.join(PLANNABLE)}"))
        for name, rate in (("control", self.control), ("challenger", self.challenger)):
            if not 0 < rate < 1:
                faults.append(Fault(f"{self.metric} of the {name}", f"is {rate:g}", "between 0 and 1, both excluded"))
        if not faults and self.challenger >= self.control + self.threshold:
            found = f"{self.challenger:g} is not below {self.control + self.threshold:g}"
            faults.append(Fault(self.metric, found, "", "expect less of it, or give a guardrail a wider margin"))
        if faults:
            raise UsageError(faults)

    @property
    def threshold(self) -> float:
        """What the difference must lie below."""
        return self.margin if self.role is Role.GUARDRAIL else 0.0


PUBLISHED = (
    Expectation(Metric.FPR, 0.12, 0.08),
    Expectation(Metric.FNR, 0.15, 0.14),
    Expectation(Metric.ERROR_RATE, 0.005, 0.004),
)
"""The case that the planner shows unless it is given another: fewer false alarms, slightly fewer misses and errors."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one rate needs.

    Attributes
    ----------
    expectation : Expectation
    fixed : int
        Units of the challenger for one look at the end, by the classical formula.
    mean, median, late : int
        Units of the challenger when the sequential one decides: on average, in half of the paths, in all but a tenth.
    min_units : int
        What the metric's plan should set as its minimum, so that its intervals are tightest where it is decided.
    undecided : float
        Paths that were open at `_LONGEST` classical sizes.
    records_fixed, records_mean, records_late : int
        Predictions of both variants together that hold so many units.
    days : float or None
        Until `records_mean`, plus the horizon when labels are needed; None when nothing is said of the traffic.
    """

    expectation: Expectation
    fixed: int
    mean: int
    median: int
    late: int
    min_units: int
    undecided: float
    records_fixed: int
    records_mean: int
    records_late: int
    days: float | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        expected = self.expectation
        return {
            "metric": str(expected.metric),
            "role": str(expected.role),
            "margin": expected.margin,
            "control": expected.control,
            "challenger": expected.challenger,
            "fixed_units": self.fixed,
            "sequential_units_mean": self.mean,
            "sequential_units_median": self.median,
            "sequential_units_p90": self.late,
            "min_units": self.min_units,
            "undecided_share": self.undecided,
            "fixed_records": self.records_fixed,
            "sequential_records_mean": self.records_mean,
            "sequential_records_p90": self.records_late,
            "expected_days": self.days,
        }


def plan_sizes(
    expectations: Sequence[Expectation] = PUBLISHED,
    *,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = POWER,
    leave_rate: float = 0.16,
    per_day: float | None = None,
    horizon_days: int = 180,
) -> tuple[Size, ...]:
    """What each rate needs, in the order given.

    Parameters
    ----------
    share
        Of the challenger, in (0, 1).
    alpha
        Of the plan: half of it is for promotions, see :mod:`attrition.experiments.plan`.
    power
        Of the classical size.
    leave_rate
        Persons who leave within the horizon, of all: how many records hold one leaver or stayer.
    per_day
        Predictions of both variants in a day, each of another person.
    horizon_days
        Until a label is known.

    Raises
    ------
    UsageError
        A share, level, power or rate outside (0, 1).
    """
    given = {"share": share, "alpha": alpha, "power": power, "leave rate": leave_rate}
    faults = [
        Fault(name, f"is {value:g}", "between 0 and 1, both excluded")
        for name, value in given.items()
        if not 0 < value < 1
    ]
    if per_day is not None and not per_day > 0:
        faults.append(Fault("predictions per day", f"are {per_day:g}", "above 0"))
    if faults:
        raise UsageError(faults)
    sizes = []
    for expected in expectations:
        fixed = fixed_size(expected, share=share, alpha=alpha / 2, power=power)
        least_units = max(math.ceil(fixed / _SOONEST), 10)
        stops = _stopping_units(expected, fixed, least_units, share=share, alpha=alpha / 2)
        decided = np.isfinite(stops)
        mean = float(np.where(decided, stops, _LONGEST * fixed).mean())
        # of both variants: a unit of the challenger comes with its counterpart of the control
        per_unit = 1 / share / _frequency(expected.metric, leave_rate)
        late = float(np.quantile(np.where(decided, stops, _LONGEST * fixed), 0.9))
        wait = horizon_days if expected.metric in {Metric.FPR, Metric.FNR} else 0
        sizes.append(
            Size(
                expectation=expected,
                fixed=fixed,
                mean=math.ceil(mean),
                median=math.ceil(np.median(np.where(decided, stops, _LONGEST * fixed))),
                late=math.ceil(late),
                min_units=least_units,
                undecided=float(1 - decided.mean()),
                records_fixed=math.ceil(fixed * per_unit),
                records_mean=math.ceil(mean * per_unit),
                records_late=math.ceil(late * per_unit),
                days=None if per_day is None else mean * per_unit / per_day + wait,
            )
        )
    return tuple(sizes)


def fixed_size(expected: Expectation, *, share: float, alpha: float, power: float) -> int:
    """Units of the challenger at which one test at the one-sided level `alpha` finds the difference.

    References
    ----------
    Fleiss, Levin & Paik (2003), Statistical Methods for Rates and Proportions, 3rd ed., eq. 4.19, without continuity
    correction; with a margin, Farrington & Manning (1990), Stat. Med. 9(12), with unrestricted variances.

    Examples
    --------
    >>> fixed_size(PUBLISHED[0], share=0.5, alpha=0.025, power=0.8)
    882
    """
    z_alpha, z_beta = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power)
    p0, p1 = expected.control, expected.challenger
    ratio = (1 - share) / share  # control units for one of the challenger
    own = p1 * (1 - p1) + p0 * (1 - p0) / ratio
    pooled = (p1 + ratio * p0) / (1 + ratio)
    null = own if expected.threshold else pooled * (1 - pooled) * (1 + 1 / ratio)
    return math.ceil((z_alpha * math.sqrt(null) + z_beta * math.sqrt(own)) ** 2 / (p1 - p0 - expected.threshold) ** 2)


def _stopping_units(
    expected: Expectation, fixed: int, least_units: int, *, share: float, alpha: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Units of the challenger at which each path is decided, shape (N_PATHS,); infinite where none is."""
    rng = np.random.default_rng(SEED)
    n1 = np.unique(np.geomspace(least_units, _LONGEST * fixed, N_LOOKS).astype(int))
    n0 = np.maximum(np.round(n1 * (1 - share) / share).astype(int), 1)
    k1 = _paths(rng, n1, expected.challenger)
    k0 = _paths(rng, n0, expected.control)
    weight = least_units / TIGHTEST
    evidence = rate_evidence(k0, n0, k1, n1, expected.threshold, weight=weight, side=-1)
    decided = evidence >= -math.log(alpha)
    first = np.argmax(decided, axis=1)
    return np.where(decided.any(axis=1), n1[first].astype(float), np.inf)


def _paths(rng: np.random.Generator, n: np.ndarray[Any, Any], rate: float) -> np.ndarray[Any, Any]:
    steps = rng.binomial(np.diff(n, prepend=0), rate, size=(N_PATHS, len(n)))
    return np.cumsum(steps, axis=1)


def _frequency(metric: Metric, leave_rate: float) -> float:
    """Units in a record."""
    return {Metric.FPR: 1 - leave_rate, Metric.FNR: leave_rate}.get(metric, 1.0)
