"""How an expected difference would show in data: its variance, and the evidence that simulated experiments give.

A *unit* is what a metric counts, see :mod:`attrition.experiments.samples`; in a shadow it is a pair, so both variants
have the same. Rates are drawn as they are judged, by counts; quantiles by counts in cells about them; means as normal
variables, which is what their asymptotic intervals take them for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from attrition.experiments.paired import paired_evidence
from attrition.experiments.plan import Design, Metric
from attrition.experiments.samples import Distribution
from attrition.experiments.sequential import information, mean_evidence, quantile_evidence, rate_evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attrition.experiments.expectation import Expectation

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Evidence = Callable[[float, int], Floats]

Number = TypeVar("Number", bound=np.generic)

_CELLS_PER_GAP, _GAPS_BEYOND = 8, 4
"""Of a quantile: cells as fine as half a per cent is to differences of a few, as far out as it may be estimated."""


class Outlook(Protocol):
    """What is expected of one metric in one design."""

    def variances(self, ratio: float) -> tuple[float, float]:
        """Variance of the difference times the challenger's units: at the threshold, and as expected.

        Parameters
        ----------
        ratio
            Units of the control for one of the challenger.
        """
        ...

    def draw(self, rng: np.random.Generator, n_paths: int, n0: Ints, n1: Ints, weight: float) -> Evidence:
        """Function from a difference and a side to the log evidence in drawn experiments, shape (n_paths, n_looks).

        Parameters
        ----------
        n0, n1 : ndarray of shape (n_looks,), int64
            Units of control and challenger at each look.
        weight
            Of the priors, in units.
        """
        ...


def outlook_of(expected: Expectation, design: Design, correlation: float) -> Outlook | None:
    """How an expectation would show; None for what a shadow does not have.

    Parameters
    ----------
    correlation
        Of both versions' decisions, or scores, on the same record; as large as the expected rates allow at most.
    """
    if expected.metric.is_latency:
        if design is Design.SHADOW:
            return None
        return _Means.of(expected) if expected.metric.quantile is None else _Quantiles.of(expected)
    if design is Design.SHADOW and expected.metric is not Metric.ERROR_RATE:
        return _pairs_of(expected, correlation)
    return _Means.of(expected) if expected.metric is Metric.SCORE_MEAN else _Rates.of(expected)


@dataclass(frozen=True, slots=True)
class _Rates:
    p0: float
    p1: float
    pooled_null: bool

    @classmethod
    def of(cls, expected: Expectation) -> _Rates:
        return cls(expected.control, expected.challenger, pooled_null=not expected.threshold)

    def variances(self, ratio: float) -> tuple[float, float]:
        own = self.p1 * (1 - self.p1) + self.p0 * (1 - self.p0) / ratio
        pooled = (self.p1 + ratio * self.p0) / (1 + ratio)
        return (pooled * (1 - pooled) * (1 + 1 / ratio) if self.pooled_null else own), own

    def draw(self, rng: np.random.Generator, n_paths: int, n0: Ints, n1: Ints, weight: float) -> Evidence:
        k1, k0 = (_added(rng.binomial(_steps(n), p, (n_paths, len(n)))) for n, p in ((n1, self.p1), (n0, self.p0)))
        return lambda delta, side: rate_evidence(k0, n0, k1, n1, delta, weight=weight, side=side)


@dataclass(frozen=True, slots=True)
class _PairedRates:
    worse: float
    better: float
    pooled_null: bool

    def variances(self, ratio: float) -> tuple[float, float]:  # noqa: ARG002 - of a pair there are as many
        disagreeing = self.worse + self.better
        own = disagreeing - (self.worse - self.better) ** 2
        return (disagreeing if self.pooled_null else own), own

    def draw(self, rng: np.random.Generator, n_paths: int, n0: Ints, n1: Ints, weight: float) -> Evidence:  # noqa: ARG002
        shares = [self.worse, self.better, 1 - self.worse - self.better]
        counts = _added(rng.multinomial(_steps(n1), shares, (n_paths, len(n1))))
        worse, better = counts[..., 0], counts[..., 1]
        return lambda delta, side: paired_evidence(worse, better, n1, delta, weight=weight, side=side)


@dataclass(frozen=True, slots=True)
class _Means:
    difference: float
    variance0: float
    variance1: float
    is_paired: bool = False
    """`variance1` is then that of the difference within a pair."""

    @classmethod
    def of(cls, expected: Expectation) -> _Means:
        if expected.metric is Metric.SCORE_MEAN:
            return cls(expected.difference, expected.deviation**2, expected.deviation**2)
        squared = math.expm1(expected.deviation**2)  # of the log-normal distribution, relative to its mean
        return cls(expected.difference, expected.control**2 * squared, expected.challenger**2 * squared)

    def variances(self, ratio: float) -> tuple[float, float]:
        own = self.variance1 if self.is_paired else self.variance1 + self.variance0 / ratio
        return own, own

    def draw(self, rng: np.random.Generator, n_paths: int, n0: Ints, n1: Ints, weight: float) -> Evidence:
        sums1 = _added(rng.normal(0.0, np.sqrt(self.variance1 * _steps(n1)), (n_paths, len(n1))))
        noise, squared, units = sums1 / n1, self.variance1 / n1, n1 / weight
        if not self.is_paired:
            sums0 = _added(rng.normal(0.0, np.sqrt(self.variance0 * _steps(n0)), (n_paths, len(n0))))
            noise, squared, units = noise - sums0 / n0, squared + self.variance0 / n0, information(n0, n1, weight)
        found = self.difference + noise
        return lambda delta, side: mean_evidence(found, np.sqrt(squared), units, delta, side=side)


@dataclass(frozen=True, slots=True)
class _Quantiles:
    q0: float
    q1: float
    order: float
    deviation: float
    gap: float

    @classmethod
    def of(cls, expected: Expectation) -> _Quantiles:
        order = expected.metric.quantile
        assert order is not None
        return cls(expected.control, expected.challenger, order, expected.deviation, expected.gap)

    def variances(self, ratio: float) -> tuple[float, float]:
        one, other = (self.order * (1 - self.order) / self._density(q) ** 2 for q in (self.q0, self.q1))
        return (other + one / ratio,) * 2

    def draw(self, rng: np.random.Generator, n_paths: int, n0: Ints, n1: Ints, weight: float) -> Evidence:
        low, high = min(self.q0, self.q1), max(self.q0, self.q1)
        reach, width = _GAPS_BEYOND * self.gap, self.gap / _CELLS_PER_GAP
        inner = np.arange(max(low - reach, width), high + reach, width)
        edges = np.append(inner, np.inf)
        drawn = [
            _added(rng.multinomial(_steps(n), self._cells(inner, q), (n_paths, len(n))))
            for n, q in ((n0, self.q0), (n1, self.q1))
        ]

        def evidence(delta: float, side: int) -> Floats:
            found = np.empty((n_paths, len(n1)))
            for path, look in np.ndindex(found.shape):
                control, challenger = (
                    Distribution(int(n[look]), math.nan, math.nan, edges, counts[path, look])
                    for n, counts in zip((n0, n1), drawn, strict=True)
                )
                found[path, look] = quantile_evidence(control, challenger, self.order, delta, weight=weight, side=side)
            return found

        return evidence

    def _score(self, value: Floats | float, quantile: float) -> Floats:
        """Normal score of a value of the log-normal distribution that has this quantile."""
        return np.asarray(np.log(np.asarray(value) / quantile) / self.deviation + NormalDist().inv_cdf(self.order))

    def _density(self, quantile: float) -> float:
        return NormalDist().pdf(float(self._score(quantile, quantile))) / (quantile * self.deviation)

    def _cells(self, edges: Floats, quantile: float) -> Floats:
        from scipy.special import ndtr

        return np.diff(ndtr(self._score(edges, quantile)), prepend=0.0, append=1.0)


def _pairs_of(expected: Expectation, correlation: float) -> Outlook:
    if expected.metric is Metric.SCORE_MEAN:
        variance = 2 * expected.deviation**2 * (1 - correlation)
        return _Means(expected.difference, 0.0, variance, is_paired=True)
    p0, p1 = expected.control, expected.challenger
    # two decisions with these rates can only be so alike
    most = (min(p0, p1) - p0 * p1) / math.sqrt(p0 * (1 - p0) * p1 * (1 - p1))
    both = p0 * p1 + min(correlation, most) * math.sqrt(p0 * (1 - p0) * p1 * (1 - p1))
    return _PairedRates(max(p1 - both, 0.0), max(p0 - both, 0.0), pooled_null=not expected.threshold)


def _steps(n: Ints) -> Ints:
    return np.diff(n, prepend=0)


def _added(steps: NDArray[Number]) -> NDArray[Number]:
    """Sums over the looks, which are the second axis."""
    return np.cumsum(steps, axis=1)
