"""Evidence against a probability, valid at every look: the one martingale on which the exact intervals here stand.

Notation: `k` successes in `n` trials whose success probability, given all that came before, is `p`. For every `p` the
likelihood ratio to another probability, averaged over a prior, is a martingale that starts at 1, so it ever reaches
``1 / a`` with a probability of at most `a` (Ville 1939; Robbins 1970, Ann. Math. Stat. 41(5)). The prior here is a beta
distribution with the mean `p` itself and the weight of so many trials, as in Lindon & Malek (2022, NeurIPS 35), cut to
the side that is asked about, which saves a one-sided question the factor two (one-sided mixtures: Howard, Ramdas,
McAuliffe & Sekhon 2021, Ann. Stat. 49(2), section 3) and is valid for every truth on the other side, too. Nothing is
approximate: the level holds for a rate of 0.5 % as for one of 50 %, and needs counts only, not their order.

Martingales of independent factors multiply: whatever the allocation between the factors, their product starts at 1 and
bounds them jointly. A hypothesis about a function of several probabilities is refuted when the product is large at all
of its points (Kaufmann & Koolen 2021, JMLR 22(246)). Differences of rates, of paired decisions and of quantiles are
such functions (:mod:`attrition.experiments.sequential`, :mod:`attrition.experiments.paired`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

TINY = 1e-12
"""Probabilities are kept so far from 0 and 1."""

_STAKE = 0.95
"""Part of a one-sided martingale that is put at risk. The rest is kept, so that the evidence never falls below its
logarithm, -3, on the wrong side, where a product would otherwise be zero; that costs 0.05."""
_GOLDEN = (math.sqrt(5) - 1) / 2


def log_evidence(k: ArrayLike, n: ArrayLike, p: ArrayLike, *, weight: float | Floats, side: int) -> Floats:
    """Logarithm of the mixture martingale against the success probability `p`.

    Parameters
    ----------
    k, n : array_like
        Successes and trials, ``0 <= k <= n``; broadcast with `p`.
    p : array_like
        In [0, 1]; the ends are moved inwards by `TINY`.
    weight
        Of the prior, in trials, > 0; chosen before the data. An interval is tightest at some four to ten times as many
        trials.
    side
        ``1``: evidence that the truth lies above `p`, which falls as `p` rises; ``-1``: below; ``0``: either.

    Returns
    -------
    ndarray, float64; 0 without trials.

    Examples
    --------
    >>> [round(float(log_evidence(80, 100, p, weight=25, side=1)), 1) for p in (0.5, 0.7, 0.8, 0.9)]
    [15.0, 1.9, -0.8, -2.0]
    """
    from scipy.special import betainc, betaincc, betaln, xlog1py, xlogy

    k, n = np.asarray(k, float), np.asarray(n, float)
    null: Floats = np.clip(np.asarray(p, float), TINY, 1 - TINY)
    a, b = weight * null, weight * (1 - null)
    log_mixture = betaln(a + k, b + (n - k)) - betaln(a, b) - xlogy(k, null) - xlog1py(n - k, -null)
    if side == 0:
        return np.asarray(log_mixture)
    mass = betaincc if side > 0 else betainc
    with np.errstate(divide="ignore"):  # no posterior mass on that side: nothing is left of the stake
        at_stake = log_mixture + np.log(mass(a + k, b + (n - k), null)) - np.log(mass(a, b, null))
    return np.asarray(np.logaddexp(math.log(_STAKE) + at_stake, math.log(1 - _STAKE)))


def least(function: Callable[[Floats], Floats], low: ArrayLike, high: ArrayLike, *, steps: int = 24) -> Floats:
    """Least value of a function with one minimum between `low` and `high`, for each pair of them.

    Golden-section search (Kiefer 1953, Proc. AMS 4(3)); the bracket shrinks by ``0.618 ** steps``.
    """
    left, right = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    width = right - left
    inner, outer = right - _GOLDEN * width, left + _GOLDEN * width
    at_inner, at_outer = function(inner), function(outer)
    best = np.minimum(np.minimum(function(left), function(right)), np.minimum(at_inner, at_outer))
    for _ in range(steps):
        keep_left = at_inner < at_outer
        left, right = np.where(keep_left, left, inner), np.where(keep_left, outer, right)
        fresh = np.where(keep_left, right - _GOLDEN * (right - left), left + _GOLDEN * (right - left))
        at_fresh = function(fresh)
        inner, outer = np.where(keep_left, fresh, outer), np.where(keep_left, inner, fresh)
        at_inner, at_outer = np.where(keep_left, at_fresh, at_outer), np.where(keep_left, at_inner, at_fresh)
        best = np.minimum(best, at_fresh)
    return best


def farthest(refuted: Callable[[Floats], NDArray[np.bool_]], start: ArrayLike, end: ArrayLike) -> Floats:
    """The point between `start`, which is not refuted, and `end` beyond which everything is refuted, by bisection.

    Returns `end` where nothing up to it is refuted.
    """
    near, far = (np.array(each, float) for each in np.broadcast_arrays(start, end))
    open_end = ~refuted(far)
    for _ in range(40):
        middle = (near + far) / 2
        out = refuted(middle)
        near, far = np.where(out, near, middle), np.where(out, middle, far)
    # the refuted end of the last bracket: rounding never makes an interval too short
    return np.where(open_end, np.asarray(end, float), far)
