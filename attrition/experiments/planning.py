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
from attrition.experiments.expectation import PUBLISHED, Expectation
from attrition.experiments.outlook import outlook_of
from attrition.experiments.plan import Design, Metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.experiments.outlook import Outlook

POWER = 0.8
"""Probability with which an expected difference is to be found."""

N_PATHS, N_LOOKS, SEED = 300, 40, 20_260_101
_LONGEST = 12.0
"""Where paths end, in classical sizes."""
_SOONEST = 4
"""A metric speaks from a fourth of the classical size on: earlier it could hardly be decided, and its interval is then
tightest where it will be."""

CORRELATION = 0.7
"""Of two versions' judgements of the same person, unless somebody knows better: two models of the same features judge
more alike than that, two families less."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one metric needs.

    Attributes
    ----------
    expectation : Expectation
    design : Design
    fixed : int
        Units of the challenger, in a shadow pairs, for one look at the end, by the classical formula.
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
    design: Design
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
            "design": str(self.design),
            "role": str(expected.role),
            "margin": expected.margin,
            "control": expected.control,
            "challenger": expected.challenger,
            "spread": expected.spread,
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
    design: Design = Design.SPLIT,
    share: float = 0.5,
    alpha: float = 0.05,
    power: float = POWER,
    leave_rate: float = 0.16,
    correlation: float = CORRELATION,
    per_day: float | None = None,
    horizon_days: int = 180,
) -> tuple[Size, ...]:
    """What each metric needs, in the order given, those left out that a shadow does not have.

    Parameters
    ----------
    share
        Of the challenger in a split, in (0, 1).
    alpha
        Of the plan: half of it is for promotions, see :mod:`attrition.experiments.plan`.
    power
        Of the classical size.
    leave_rate
        Persons who leave within the horizon, of all: how many records hold one leaver or stayer.
    correlation
        Of both versions' decisions and scores on the same record, in [0, 1); of a shadow alone. As large as the
        expected rates allow at most.
    per_day
        Predictions of both variants in a day, each of another person.
    horizon_days
        Until a label is known.

    Raises
    ------
    UsageError
        A share, level, power, rate or correlation out of range.
    """
    given = {"share": share, "alpha": alpha, "power": power, "leave rate": leave_rate}
    faults = [
        Fault(name, f"is {value:g}", "between 0 and 1, both excluded")
        for name, value in given.items()
        if not 0 < value < 1
    ]
    if not 0 <= correlation < 1:
        faults.append(Fault("correlation", f"is {correlation:g}", "at least 0, below 1"))
    if per_day is not None and not per_day > 0:
        faults.append(Fault("predictions per day", f"are {per_day:g}", "above 0"))
    if faults:
        raise UsageError(faults)
    is_shadow = design is Design.SHADOW
    sizes = []
    for expected in expectations:
        outlook = outlook_of(expected, design, correlation)
        if outlook is None:
            continue
        # a shift is decided at the smaller of two levels, see attrition.experiments.verdict
        level = alpha / 2 / (2 * len(expectations) if expected.metric.is_shift else 1)
        ratio = 1.0 if is_shadow else (1 - share) / share
        # of both variants: a unit of the challenger comes with its counterpart of the control
        per_unit = (1.0 if is_shadow else 1 / share) / _frequency(expected.metric, leave_rate)
        wait = horizon_days if expected.metric in {Metric.FPR, Metric.FNR} else 0
        fixed = _fixed(outlook, expected, ratio, level, power)
        least_units = max(math.ceil(fixed / _SOONEST), 10)
        stops = _stopping_units(outlook, expected, fixed, least_units, ratio=ratio, level=level)
        decided = np.isfinite(stops)
        stops = np.where(decided, stops, _LONGEST * fixed)
        mean, late = float(stops.mean()), float(np.quantile(stops, 0.9))
        sizes.append(
            Size(
                expectation=expected,
                design=design,
                fixed=fixed,
                mean=math.ceil(mean),
                median=math.ceil(np.median(stops)),
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


def fixed_size(
    expected: Expectation,
    *,
    share: float,
    alpha: float,
    power: float,
    design: Design = Design.SPLIT,
    correlation: float = CORRELATION,
) -> int:
    """Units of the challenger at which one test at the one-sided level `alpha` finds the difference.

    Raises
    ------
    UsageError
        A shadow does not have the metric.

    References
    ----------
    Rates: Fleiss, Levin & Paik (2003), Statistical Methods for Rates and Proportions, 3rd ed., eq. 4.19, without
    continuity correction; with a margin, Farrington & Manning (1990), Stat. Med. 9(12), with unrestricted variances.
    Pairs: Connor (1987), Biometrics 43(1); with a margin, Liu et al. (2002), Stat. Med. 21(2). Quantiles: Serfling
    (1980), Approximation Theorems of Mathematical Statistics, section 2.3.3, for the variance. Within a margin on both
    sides: Chow, Shao & Wang (2003), Sample Size Calculations in Clinical Research, section 3.2.

    Examples
    --------
    >>> fixed_size(PUBLISHED[0], share=0.5, alpha=0.025, power=0.8)
    882
    >>> fixed_size(PUBLISHED[0], share=0.5, alpha=0.025, power=0.8, design=Design.SHADOW)
    274
    """
    outlook = outlook_of(expected, design, correlation)
    if outlook is None:
        raise UsageError(Fault(expected.metric, "a shadow has no latency of its own"))
    return _fixed(outlook, expected, 1.0 if design is Design.SHADOW else (1 - share) / share, alpha, power)


def _fixed(outlook: Outlook, expected: Expectation, ratio: float, level: float, power: float) -> int:
    # both sides must hold at once
    misses = (1 - power) / 2 if expected.metric.is_shift else 1 - power
    z_alpha, z_beta = NormalDist().inv_cdf(1 - level), NormalDist().inv_cdf(1 - misses)
    null, own = outlook.variances(ratio)
    return max(math.ceil((z_alpha * math.sqrt(null) + z_beta * math.sqrt(own)) ** 2 / expected.gap**2), 2)


def _stopping_units(
    outlook: Outlook, expected: Expectation, fixed: int, least_units: int, *, ratio: float, level: float
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Units of the challenger at which each path is decided, shape (N_PATHS,); infinite where none is."""
    rng = np.random.default_rng(SEED)
    n1 = np.unique(np.geomspace(least_units, max(_LONGEST * fixed, least_units + 1), N_LOOKS).astype(np.int64))
    n0 = np.maximum(np.round(n1 * ratio).astype(np.int64), 1)
    evidence = outlook.draw(rng, N_PATHS, n0, n1, least_units / TIGHTEST)
    found = evidence(expected.threshold, -1)
    if expected.metric.is_shift:
        found = np.minimum(found, evidence(-expected.threshold, 1))
    decided = found >= -math.log(level)
    first = np.argmax(decided, axis=1)
    return np.where(decided.any(axis=1), n1[first].astype(float), np.inf)


def _frequency(metric: Metric, leave_rate: float) -> float:
    """Units in a record."""
    return {Metric.FPR: 1 - leave_rate, Metric.FNR: leave_rate}.get(metric, 1.0)
