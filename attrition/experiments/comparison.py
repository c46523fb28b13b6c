"""One metric of control and challenger: both values, their difference, its confidence sequence and p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from attrition.experiments import sequential
from attrition.experiments.paired import paired_evidence, paired_limits
from attrition.experiments.plan import Design, Metric

if TYPE_CHECKING:
    from attrition.experiments.plan import ExperimentPlan, MetricPlan
    from attrition.experiments.samples import Arm, Distribution, Epoch, Pairs

TIGHTEST = 4
"""An interval is tightest at about so many times the weight of its prior; the plan's minimum is put there."""

PERSONS, REQUESTS = "persons", "requests"


class Counts(NamedTuple):
    """Events and units of both variants."""

    k0: int
    n0: int
    k1: int
    n1: int


class Discordance(NamedTuple):
    """Pairs, and those of which only one is an event."""

    only_control: int
    only_challenger: int
    both: int
    n: int


class Difference(Protocol):
    """A difference, challenger minus control, that can be bounded at every look."""

    def limits(self, alpha_low: float, alpha_high: float) -> tuple[float, float]:
        """Lower and upper limit, each at its own level."""
        ...

    def evidence(self, delta: float, side: int) -> float:
        """Log evidence that it lies above (1) or below (-1) `delta`."""
        ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric as it was observed.

    Attributes
    ----------
    control, challenger : float
        In the unit of the metric.
    n_control, n_challenger : int
    unit : str
        What is counted: persons or requests.
    method : str
        How the difference is bounded.
    difference : Difference
    """

    control: float
    challenger: float
    n_control: int
    n_challenger: int
    unit: str
    method: str
    difference: Difference


@dataclass(frozen=True, slots=True)
class _Rates:
    counts: Counts
    weight: float

    def limits(self, alpha_low: float, alpha_high: float) -> tuple[float, float]:
        low, high = sequential.rate_limits(*self.counts, weight=self.weight, alpha_low=alpha_low, alpha_high=alpha_high)
        return float(low), float(high)

    def evidence(self, delta: float, side: int) -> float:
        return float(sequential.rate_evidence(*self.counts, delta, weight=self.weight, side=side))


@dataclass(frozen=True, slots=True)
class _PairedRates:
    pairs: Discordance
    weight: float

    def limits(self, alpha_low: float, alpha_high: float) -> tuple[float, float]:
        only_control, only_challenger, _, n = self.pairs
        low, high = paired_limits(
            only_challenger, only_control, n, weight=self.weight, alpha_low=alpha_low, alpha_high=alpha_high
        )
        return float(low), float(high)

    def evidence(self, delta: float, side: int) -> float:
        only_control, only_challenger, _, n = self.pairs
        return float(paired_evidence(only_challenger, only_control, n, delta, weight=self.weight, side=side))


@dataclass(frozen=True, slots=True)
class _Means:
    value: float
    standard_error: float
    ratio: float

    def limits(self, alpha_low: float, alpha_high: float) -> tuple[float, float]:
        if not self.standard_error > 0:  # nothing varies, or fewer than two units: no error that could be estimated
            return -math.inf, math.inf
        low, high = sequential.mean_limits(
            self.value, self.standard_error, self.ratio, alpha_low=alpha_low, alpha_high=alpha_high
        )
        return float(low), float(high)

    def evidence(self, delta: float, side: int) -> float:
        if not self.standard_error > 0:
            return 0.0
        return float(sequential.mean_evidence(self.value, self.standard_error, self.ratio, delta, side=side))


@dataclass(frozen=True, slots=True)
class _Quantiles:
    control: Distribution
    challenger: Distribution
    quantile: float
    weight: float

    def limits(self, alpha_low: float, alpha_high: float) -> tuple[float, float]:
        return sequential.quantile_limits(
            self.control,
            self.challenger,
            self.quantile,
            weight=self.weight,
            alpha_low=alpha_low,
            alpha_high=alpha_high,
        )

    def evidence(self, delta: float, side: int) -> float:
        return sequential.quantile_evidence(
            self.control, self.challenger, self.quantile, delta, weight=self.weight, side=side
        )


def compare(plan: ExperimentPlan, metric: MetricPlan, epoch: Epoch) -> Comparison | None:
    """A metric in an epoch; None where a variant has no unit of it."""
    name, weight = metric.metric, metric.min_units / TIGHTEST
    if name is Metric.ERROR_RATE:
        return _rates(error_counts(epoch), weight, REQUESTS)
    if plan.design is Design.SHADOW:
        return None if epoch.pairs is None else _of_pairs(name, epoch.pairs, weight)
    if name.is_latency:
        return _of_latency(name, epoch.control.latency, epoch.challenger.latency, weight)
    if name is Metric.SCORE_MEAN:
        return _of_means(epoch.control.scores, epoch.challenger.scores, weight, PERSONS)
    return _rates(rate_counts(name, epoch.control, epoch.challenger), weight, PERSONS)


def error_counts(epoch: Epoch) -> Counts | None:
    """Failed requests of both variants; None when nobody counted them."""
    control, challenger = epoch.control.errors, epoch.challenger.errors
    if control is None or challenger is None:
        return None
    return Counts(control.failed, control.requests, challenger.failed, challenger.requests)


def rate_counts(name: Metric, control: Arm, challenger: Arm) -> Counts:
    """Events and persons of a rate."""
    if name is Metric.SELECTION_RATE:
        return Counts(control.selected, control.employees, challenger.selected, challenger.employees)
    one, other = control.labels, challenger.labels
    if name is Metric.FPR:
        return Counts(one.fp, one.fp + one.tn, other.fp, other.fp + other.tn)
    return Counts(one.fn, one.fn + one.tp, other.fn, other.fn + other.tp)


def discordance(name: Metric, pairs: Pairs) -> Discordance:
    """Pairs of a rate by who shows the event: selection, false positive or false negative."""
    control, challenger = pairs.control_selected, pairs.challenger_selected
    among = np.ones(len(pairs), bool)
    if name is Metric.FPR:
        among = pairs.left == 0
    elif name is Metric.FNR:
        among = pairs.left == 1
        control, challenger = ~control, ~challenger
    one, other = control[among], challenger[among]
    return Discordance(int((one & ~other).sum()), int((~one & other).sum()), int((one & other).sum()), len(one))


def quantile_of(values: Distribution, quantile: float) -> float:
    """A quantile, to the upper end of its cell."""
    rank = max(math.ceil(quantile * values.n), 1)
    return float(values.edges[np.searchsorted(np.cumsum(values.counts), rank)])


def _rates(counts: Counts | None, weight: float, unit: str) -> Comparison | None:
    if counts is None or not counts.n0 or not counts.n1:
        return None
    k0, n0, k1, n1 = counts
    return Comparison(k0 / n0, k1 / n1, n0, n1, unit, "exact mixture of two rates", _Rates(counts, weight))


def _of_pairs(name: Metric, pairs: Pairs, weight: float) -> Comparison | None:
    if name is Metric.SCORE_MEAN:
        n = len(pairs)
        if n < 2:
            return None
        shift = pairs.challenger - pairs.control
        error = float(shift.std(ddof=1)) / math.sqrt(n)
        bounds = _Means(float(shift.mean()), error, n / weight)
        method = "asymptotic, paired"
        return Comparison(float(pairs.control.mean()), float(pairs.challenger.mean()), n, n, PERSONS, method, bounds)
    found = discordance(name, pairs)
    if not found.n:
        return None
    control, challenger = found.only_control + found.both, found.only_challenger + found.both
    n, bound = found.n, _PairedRates(found, weight)
    return Comparison(control / n, challenger / n, n, n, PERSONS, "exact mixture of pairs", bound)


def _of_latency(
    name: Metric, control: Distribution | None, challenger: Distribution | None, weight: float
) -> Comparison | None:
    if name.quantile is None:
        return _of_means(control, challenger, weight, REQUESTS)
    if control is None or challenger is None or not control.n or not challenger.n:
        return None
    return Comparison(
        quantile_of(control, name.quantile),
        quantile_of(challenger, name.quantile),
        control.n,
        challenger.n,
        REQUESTS,
        "exact mixture of two quantiles",
        _Quantiles(control, challenger, name.quantile, weight),
    )


def _of_means(
    control: Distribution | None, challenger: Distribution | None, weight: float, unit: str
) -> Comparison | None:
    if control is None or challenger is None or min(control.n, challenger.n) < 2:
        return None
    error = math.sqrt(control.variance / control.n + challenger.variance / challenger.n)
    ratio = float(sequential.information(control.n, challenger.n, weight))
    bounds = _Means(challenger.mean - control.mean, error, ratio)
    return Comparison(control.mean, challenger.mean, control.n, challenger.n, unit, "asymptotic", bounds)
