"""Confidence sequences of differences, challenger minus control: intervals that hold at every look together.

Rates and quantiles use the exact martingales of :mod:`attrition.experiments.mixtures`. Means use an asymptotic
confidence sequence, which needs a moderate number of units and no bound on the values (Waudby-Smith, Arbour, Sinha,
Kennedy & Ramdas 2024, Ann. Stat. 52(6)). Each limit has a level of its own: `alpha_low` is the probability that the
truth ever lies below the lower limit, `alpha_high` that it ever lies above the upper one.

Why not a library: ``confseq`` (2023) must be compiled against Boost and supports Python to 3.10, ``expectation`` starts
at Python 3.12, and neither has the difference of two rates at unequal shares, on which a rollout depends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attrition.experiments.mixtures import farthest, least, log_evidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from attrition.experiments.samples import Distribution

    Floats = NDArray[np.float64]


def rate_evidence(
    k0: ArrayLike,
    n0: ArrayLike,
    k1: ArrayLike,
    n1: ArrayLike,
    delta: ArrayLike,
    *,
    weight: float,
    side: int,
) -> Floats:
    """Log evidence that the difference of two rates lies above (`side` 1) or below (-1) `delta`.

    ``exp(-evidence)`` is an always-valid p-value: whatever the truth on the other side, it ever falls to `a` with a
    probability of at most `a`.

    Parameters
    ----------
    k0, n0, k1, n1 : array_like
        Events and units of control and challenger; units of a variant have the same rate, given all before.
    delta : array_like
        In [-1, 1].
    weight
        See :func:`attrition.experiments.mixtures.log_evidence`; the same for both.

    References
    ----------
    Kaufmann & Koolen (2021), JMLR 22(246), section 5: products over arms, and their least value over the nuisance.
    """
    k0, n0, k1, n1, delta = (np.asarray(each, float) for each in np.broadcast_arrays(k0, n0, k1, n1, delta))

    def at(p0: Floats) -> Floats:
        challenger = log_evidence(k1, n1, p0 + delta, weight=weight, side=side)
        return challenger + log_evidence(k0, n0, p0, weight=weight, side=-side)

    # what speaks against the challenger falls in the control's rate and what speaks against the control rises, so the
    # least of the sum lies between the rates at which each is content, or a few standard errors outside
    one, other = _rate(k0, n0), _rate(k1, n1) - delta
    reach = 5 * np.maximum(_spread(k0, n0), _spread(k1, n1))
    floor, ceiling = np.maximum(0.0, -delta), np.minimum(1.0, 1.0 - delta)
    low = np.clip(np.minimum(one, other) - reach, floor, ceiling)
    high = np.clip(np.maximum(one, other) + reach, floor, ceiling)
    return least(at, low, high)


def rate_limits(
    k0: ArrayLike,
    n0: ArrayLike,
    k1: ArrayLike,
    n1: ArrayLike,
    *,
    weight: float,
    alpha_low: float,
    alpha_high: float,
) -> tuple[Floats, Floats]:
    """Confidence sequence of the difference of two rates; -1 and 1 where a variant has no units.

    Parameters as in :func:`rate_evidence`.

    Examples
    --------
    >>> [f"{float(x):.3f}" for x in rate_limits(60, 500, 20, 500, weight=50, alpha_low=0.025, alpha_high=0.025)]
    ['-0.138', '-0.026']
    """
    start = np.clip(_rate(k1, n1) - _rate(k0, n0), -1.0, 1.0)

    def refuted(delta: Floats, alpha: float, side: int) -> NDArray[np.bool_]:
        return rate_evidence(k0, n0, k1, n1, delta, weight=weight, side=side) >= -math.log(alpha)

    low = farthest(lambda delta: refuted(delta, alpha_low, 1), start, -1.0)
    high = farthest(lambda delta: refuted(delta, alpha_high, -1), start, 1.0)
    return low, high


def mean_limits(
    difference: ArrayLike, standard_error: ArrayLike, ratio: ArrayLike, *, alpha_low: float, alpha_high: float
) -> tuple[Floats, Floats]:
    """Asymptotic confidence sequence of a mean, or of a difference of two.

    Parameters
    ----------
    difference, standard_error : array_like
        Of all units so far.
    ratio : array_like
        Units so far, relative to the weight of the mixture's prior in units: :func:`information` of two samples.

    References
    ----------
    Waudby-Smith et al. (2024), Ann. Stat. 52(6), Theorem 2.2 and its one-sided form.
    """
    centre, error, ratio = (np.asarray(each, float) for each in (difference, standard_error, ratio))

    def half(alpha: float) -> Floats:
        bound = np.log1p(np.sqrt(1 + ratio) / (2 * alpha))
        return np.asarray(error * np.sqrt(2 * (1 + 1 / ratio) * bound))

    return np.asarray(centre - half(alpha_low)), np.asarray(centre + half(alpha_high))


def mean_evidence(
    difference: ArrayLike, standard_error: ArrayLike, ratio: ArrayLike, delta: ArrayLike, *, side: int
) -> Floats:
    """Log evidence that the mean, or difference of two, lies above (`side` 1) or below (-1) `delta`.

    It inverts :func:`mean_limits`, at least 0.
    """
    ratio = np.asarray(ratio, float)
    distance = side * (np.asarray(difference, float) - delta) / np.asarray(standard_error, float)
    exponent = np.where(distance > 0, distance**2 * ratio / (2 * (1 + ratio)), 0.0)
    # log(expm1(x)) without overflow
    log_growth = exponent + np.log(-np.expm1(-np.maximum(exponent, 1e-300)))
    return np.asarray(np.maximum(log_growth + math.log(2) - 0.5 * np.log1p(ratio), 0.0))


def information(n0: ArrayLike, n1: ArrayLike, weight: float) -> Floats:
    """Units so far of two samples relative to a prior's weight, as :func:`mean_limits` wants it."""
    n0, n1 = np.asarray(n0, float), np.asarray(n1, float)
    return np.asarray(2 * n0 * n1 / (n0 + n1) / weight)


def quantile_limits(
    control: Distribution,
    challenger: Distribution,
    quantile: float,
    *,
    weight: float,
    alpha_low: float,
    alpha_high: float,
) -> tuple[float, float]:
    """Confidence sequence of the difference of a quantile, to the width of a cell, whatever the distributions.

    How many values lie at or below a point is a count of trials whose success probability at the quantile is the
    quantile's order; both variants' points are bounded jointly. Infinite where too few values bound it.

    References
    ----------
    Howard & Ramdas (2022), Bernoulli 28(3), sections 3 and 4.
    """
    low = _lowest(control, challenger, quantile, weight, -math.log(alpha_low))
    high = -_lowest(challenger, control, quantile, weight, -math.log(alpha_high))
    return low, high


def quantile_evidence(
    control: Distribution, challenger: Distribution, quantile: float, delta: float, *, weight: float, side: int
) -> float:
    """Log evidence that the difference of a quantile lies above (`side` 1) or below (-1) `delta`."""
    if side < 0:
        control, challenger, delta = challenger, control, -delta
    above, below = _quantile_above(challenger, quantile, weight), _quantile_below(control, quantile, weight)
    # the control's point lies somewhere in its cell: take the end at which the challenger's has least against it
    cells = np.searchsorted(challenger.edges, control.edges + delta, "left")
    against = np.append(above, above[-1])[cells]
    return float(np.min(against + below))


def _lowest(control: Distribution, challenger: Distribution, quantile: float, weight: float, limit: float) -> float:
    """Least difference of points that are not refuted together as the quantiles of the two."""
    above, below = _quantile_above(challenger, quantile, weight), _quantile_below(control, quantile, weight)
    # `above` falls from cell to cell: the first cell that the control's evidence leaves possible
    first = np.searchsorted(-above, below - limit, "right")
    starts = np.concatenate([[0.0], challenger.edges])
    possible = (below < limit - above.min()) & (first < len(above))
    if not possible.any():
        return -math.inf
    unbounded = possible[-1]  # the control's quantile may lie beyond every value
    lowest = float(np.min(starts[first[possible]] - control.edges[possible]))
    return -math.inf if unbounded else lowest


def _quantile_above(values: Distribution, quantile: float, weight: float) -> Floats:
    """Log evidence, for each cell, that the quantile lies above every point of it."""
    return log_evidence(np.cumsum(values.counts), values.n, quantile, weight=weight, side=-1)


def _quantile_below(values: Distribution, quantile: float, weight: float) -> Floats:
    """Log evidence, for each cell, that the quantile lies below every point of it."""
    before = np.cumsum(values.counts) - values.counts
    return log_evidence(before, values.n, quantile, weight=weight, side=1)


def _rate(k: ArrayLike, n: ArrayLike) -> Floats:
    k, n = np.asarray(k, float), np.asarray(n, float)
    return np.asarray(np.where(n > 0, k / np.maximum(n, 1), 0.5))


def _spread(k: Floats, n: Floats) -> Floats:
    """Standard error of a rate, not less than that of one event in all units."""
    trials = np.maximum(n, 1.0)
    rate = np.clip(_rate(k, n), 1 / (trials + 1), 1 - 1 / (trials + 1))
    return np.asarray(np.sqrt(rate * (1 - rate) / trials) + 1 / trials)
