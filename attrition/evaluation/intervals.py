"""Interval estimates of proportions, differences, ratios, means and quantiles, in closed form where one is known.

Notation: ``p`` a proportion of ``trials``; ``z`` the normal quantile that belongs to a two-sided confidence; ``low``
and ``high`` the limits. Proportions use Wilson's score interval, which keeps its coverage near 0 and 1 and for few
trials, where the textbook ``p ± z·se`` does not (Brown, Cai & DasGupta 2001, Stat. Sci. 16(2)). Functions of two
independent proportions recover their variance from the two Wilson intervals (MOVER: Zou & Donner 2008, Stat. Med.
27(10)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Limits = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """A figure with the interval that the data support.

    Attributes
    ----------
    value : float
        Point estimate; NaN when the data do not define it (precision when nobody was predicted to leave).
    low, high : float
        Limits of the interval; for an undefined value the whole range of the figure.
    n : int
        Observations behind the figure (the denominator of a proportion).
    confidence : float
        Probability, in (0, 1), with which such intervals contain the true figure.
    method : str
        How the interval was made.

    Examples
    --------
    >>> print(Estimate(0.9031, 0.8922, 0.9138, n=3750))
    0.903 [0.892, 0.914]
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95
    method: str = ""

    def __str__(self) -> str:
        value = f"{self.value:.3f}" if self.defined else "undefined"
        return f"{value} [{self.low:.3f}, {self.high:.3f}]"

    def __eq__(self, other: object) -> bool:
        # two undefined values are equal, unlike two NaN
        return isinstance(other, Estimate) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.to_dict().values()))

    @property
    def defined(self) -> bool:
        """Whether the data define a value."""
        return not math.isnan(self.value)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; an undefined value is None."""
        return {
            "value": finite_or_none(self.value),
            "low": finite_or_none(self.low),
            "high": finite_or_none(self.high),
            "n": self.n,
            "confidence": self.confidence,
            "method": self.method,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Estimate:
        """Inverse of :meth:`to_dict`."""
        return cls(
            value=_float(document["value"]),
            low=_float(document["low"]),
            high=_float(document["high"]),
            n=int(document["n"]),
            confidence=float(document["confidence"]),
            method=str(document["method"]),
        )


def finite_or_none(value: float | None) -> float | None:
    """The value as JSON can hold it: None for NaN, infinity and None."""
    return None if value is None or not math.isfinite(value) else float(value)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def normal_quantile(confidence: float) -> float:
    """Two-sided normal quantile: 1.96 for a confidence of 0.95.

    Raises
    ------
    UsageError
        `confidence` lies outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise UsageError(Fault("confidence", f"is {confidence}", "it must lie between 0 and 1", "0.95 is usual"))
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson_limits(successes: ArrayLike, trials: ArrayLike, z: float) -> Limits:
    """Proportions and their Wilson score limits.

    Parameters
    ----------
    successes, trials : array_like of shape (k,)
        Counts; 0 <= successes <= trials. Without trials the proportion is NaN and the limits are 0 and 1.
    z : float
        Two-sided normal quantile.

    Returns
    -------
    tuple of ndarray of shape (k,), float64
        Proportion, low, high.

    References
    ----------
    Wilson (1927), J. Am. Stat. Assoc. 22(158), p. 209.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    n_safe = np.maximum(n, 1.0)
    p = k / n_safe
    centre = (p + z * z / (2 * n_safe)) / (1 + z * z / n_safe)
    half = z / (1 + z * z / n_safe) * np.sqrt(p * (1 - p) / n_safe + z * z / (4 * n_safe**2))
    # rounding may push the limit past the proportion it must contain when that is exactly 0 or 1
    low = np.where(n > 0, np.clip(centre - half, 0.0, p), 0.0)
    high = np.where(n > 0, np.clip(centre + half, p, 1.0), 1.0)
    return np.where(n > 0, p, math.nan), low, high


def proportion(successes: float, trials: float, confidence: float = 0.95) -> Estimate:
    """A proportion with its Wilson score interval; undefined, [0, 1], without trials.

    Examples
    --------
    >>> print(proportion(8, 10))
    0.800 [0.490, 0.943]
    """
    p, low, high = wilson_limits(successes, trials, normal_quantile(confidence))
    return Estimate(float(p), float(low), float(high), int(trials), confidence, "Wilson")


def exact_proportion_limits(p: float, trials: float, confidence: float) -> tuple[float, float]:
    """Clopper-Pearson limits of a proportion: never less than the confidence, wider than Wilson's.

    `p * trials` need not be whole, so that effective counts can be given.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    k = p * trials
    low = 0.0 if k <= 0 else float(betaincinv(k, trials - k + 1, tail))
    high = 1.0 if k >= trials else float(betaincinv(k + 1, trials - k, 1 - tail))
    return low, high


def mean_of_proportions(first: Estimate, second: Estimate) -> Estimate:
    """Mean of two independent proportions with its MOVER interval (balanced accuracy is one)."""
    value = (first.value + second.value) / 2
    below = math.hypot(first.value - first.low, second.value - second.low) / 2
    above = math.hypot(first.high - first.value, second.high - second.value) / 2
    if math.isnan(value):
        return Estimate(math.nan, 0.0, 1.0, first.n + second.n, first.confidence, "MOVER of Wilson")
    return Estimate(value, value - below, value + above, first.n + second.n, first.confidence, "MOVER of Wilson")


def difference_limits(first: Limits, second: Limits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Limits of ``first - second`` for independent proportions.

    References
    ----------
    Newcombe (1998), Stat. Med. 17(8), method 10; Zou & Donner (2008), eq. 3.
    """
    (p1, l1, u1), (p2, l2, u2) = first, second
    difference = p1 - p2
    return difference - np.hypot(p1 - l1, u2 - p2), difference + np.hypot(u1 - p1, p2 - l2)


def ratio_limits(first: Limits, second: Limits) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Limits of ``first / second`` for independent proportions; the high one is infinite when `second` may be 0.

    References
    ----------
    Donner & Zou (2012), Stat. Methods Med. Res. 21(4), eq. 9; the low limit is rationalised so that it stays finite
    where their denominator vanishes.
    """
    (p1, l1, u1), (p2, l2, u2) = first, second
    product = p1 * p2
    root_low = np.sqrt(np.maximum(product**2 - l1 * u2 * (2 * p1 - l1) * (2 * p2 - u2), 0.0))
    root_high = np.sqrt(np.maximum(product**2 - u1 * l2 * (2 * p1 - u1) * (2 * p2 - l2), 0.0))
    numerator, denominator = l1 * (2 * p1 - l1), product + root_low
    low = np.divide(numerator, denominator, out=np.zeros_like(product), where=denominator > 0)
    scale = l2 * (2 * p2 - l2)
    high = np.divide(product + root_high, scale, out=np.full_like(product, math.inf), where=scale > 0)
    return low, high


def quantile_estimate(values: NDArray[np.float64], quantile: float, confidence: float = 0.95) -> Estimate:
    """A quantile of independent observations with its order-statistic interval, whatever their distribution.

    The number of observations below the true quantile is binomial, so two order statistics bound it.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
    quantile : float
        In (0, 1).

    Raises
    ------
    UsageError
        Too few values to bound the quantile from above.

    References
    ----------
    David & Nagaraja (2003), Order Statistics, 3rd ed., section 7.1.
    """
    from scipy.stats import binom

    n, tail = len(values), (1 - confidence) / 2
    enough = math.ceil(math.log(tail) / math.log(max(quantile, 1 - quantile)))
    if n < enough:
        raise UsageError(
            Fault("quantile", f"{n} values", f"quantile {quantile} at confidence {confidence} needs at least {enough}")
        )
    ordered = np.sort(values)
    lower = max(int(binom.ppf(tail, n, quantile)), 1)
    upper = min(int(binom.ppf(1 - tail, n, quantile)) + 1, n)
    value = ordered[min(math.ceil(quantile * n), n) - 1]
    return Estimate(
        float(value), float(ordered[lower - 1]), float(ordered[upper - 1]), n, confidence, "order statistics"
    )
