"""Two versions on the same records, as a shadow gives them: pairs, which need far fewer persons than two groups do.

What makes a person hard to judge is hard for both versions and cancels: only pairs on which they disagree count. Of `n`
pairs, `worse` are those on which the challenger alone is wrong and `better` those on which the control alone is; the
difference of the rates is ``(worse - better) / n``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.evaluation.auc import compare_auc
from attrition.evaluation.intervals import normal_quantile
from attrition.experiments.mixtures import farthest, least, log_evidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from attrition.evaluation.intervals import Estimate
    from attrition.experiments.samples import Pairs

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's tests of equal rates in pairs: fixed horizon, for one look planned beforehand.

    Attributes
    ----------
    worse, better : int
        Pairs on which the challenger alone, or the control alone, is wrong.
    exact, mid, chi_square : float, in [0, 1]
        Two-sided p-values: exact binomial; mid-p, which is less conservative; chi-square with continuity correction.
    """

    worse: int
    better: int
    exact: float
    mid: float
    chi_square: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "worse": self.worse,
            "better": self.better,
            "p_exact": self.exact,
            "p_mid": self.mid,
            "p_chi_square": self.chi_square,
        }


def mcnemar(worse: int, better: int) -> McNemar:
    """McNemar's tests.

    References
    ----------
    McNemar (1947), Psychometrika 12(2); Edwards (1948), Psychometrika 13(3) for the correction; Fagerland, Lydersen &
    Laake (2013), BMC Med. Res. Methodol. 13:91 for the mid-p.

    Examples
    --------
    >>> test = mcnemar(5, 15)
    >>> round(test.exact, 4), round(test.mid, 4), round(test.chi_square, 4)
    (0.0414, 0.0266, 0.0442)
    """
    from scipy.special import bdtr, chdtrc, comb

    disagreeing, fewer = worse + better, min(worse, better)
    if not disagreeing:
        return McNemar(worse, better, 1.0, 1.0, 1.0)
    tail = float(bdtr(fewer, disagreeing, 0.5))
    at = float(comb(disagreeing, fewer) * 0.5**disagreeing) if disagreeing < 1_000 else 0.0
    exact = min(1.0, 2 * tail)
    mid = 1.0 - at if worse == better else 2 * tail - at
    corrected = max(abs(worse - better) - 1, 0) ** 2 / disagreeing
    return McNemar(worse, better, exact, mid, float(chdtrc(1, corrected)))


def paired_evidence(
    worse: ArrayLike, better: ArrayLike, n: ArrayLike, delta: ArrayLike, *, weight: float, side: int
) -> Floats:
    """Log evidence that the difference of two rates in pairs lies above (`side` 1) or below (-1) `delta`.

    That a pair disagrees, and in which direction a disagreeing one does (all that McNemar's test looks at), are
    independent trials, so their martingales multiply, and the least of the product over all shares of disagreement
    bounds the difference.

    Parameters
    ----------
    worse, better, n : array_like
        See the module.
    delta : array_like
        In (-1, 1).
    weight
        In pairs, see :func:`attrition.experiments.mixtures.log_evidence`.
    """
    worse, better, n, delta = (np.asarray(each, float) for each in np.broadcast_arrays(worse, better, n, delta))
    disagreeing = worse + better
    few = max(weight / 10, 2.0)  # disagreements among so many pairs

    def at(share: Floats) -> Floats:
        direction = log_evidence(worse, disagreeing, (1 + delta / share) / 2, weight=few, side=side)
        return direction + log_evidence(disagreeing, n, share, weight=weight, side=0)

    return least(at, np.maximum(np.abs(delta), 1e-9), np.ones_like(delta), steps=48)


def paired_limits(
    worse: ArrayLike, better: ArrayLike, n: ArrayLike, *, weight: float, alpha_low: float, alpha_high: float
) -> tuple[Floats, Floats]:
    """Confidence sequence of the difference of two rates in pairs, exact for few of them, too.

    Examples
    --------
    >>> [f"{float(x):.3f}" for x in paired_limits(5, 35, 500, weight=50, alpha_low=0.025, alpha_high=0.025)]
    ['-0.108', '-0.020']
    """
    total = np.asarray(n, float)
    start = np.where(total > 0, (np.asarray(worse, float) - better) / np.maximum(total, 1), 0.0)
    end = 1 - 1e-9

    def refuted(delta: Floats, alpha: float, side: int) -> NDArray[np.bool_]:
        return paired_evidence(worse, better, n, delta, weight=weight, side=side) >= -math.log(alpha)

    low = farthest(lambda delta: refuted(delta, alpha_low, 1), start, -end)
    high = farthest(lambda delta: refuted(delta, alpha_high, -1), start, end)
    return low, high


@dataclass(frozen=True, slots=True)
class DeLong:
    """DeLong's test of equal AUCs in pairs: fixed horizon, for one look planned beforehand.

    Attributes
    ----------
    difference : Estimate
        AUC of the challenger minus that of the control.
    p_value : float, in [0, 1]
        Two-sided; NaN when nothing varies.
    """

    difference: Estimate
    p_value: float


def delong(pairs: Pairs, confidence: float = 0.95) -> DeLong | None:
    """DeLong's test on pairs with a label; None without leavers and stayers.

    The placements of all persons change with every new one, so no martingale is at hand. See
    :func:`attrition.evaluation.auc.compare_auc`.
    """
    known = pairs.left >= 0
    labels = pairs.left[known]
    if not known.any() or labels.min() == labels.max():
        return None
    found = compare_auc(labels, pairs.control[known], pairs.challenger[known], confidence)
    error = (found.high - found.low) / 2 / normal_quantile(confidence)
    p_value = 2 * NormalDist().cdf(-abs(found.value) / error) if error > 0 else math.nan
    return DeLong(found, p_value)
