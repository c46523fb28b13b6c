"""How far predicted probabilities are from what happened: equal-mass bins and the expected calibration error.

Notation: bin ``b`` holds a share ``w[b]`` of the rows; ``d[b]`` is its mean of ``y - p`` (what happened minus what was
predicted) and ``s[b]`` the standard error of that mean. The calibration error is the expected ``sum(w·|E d|)`` over ten
bins of equal mass (ECE with adaptive bins: Nixon et al. 2019, arXiv:1904.01685).

The plug-in ``T = sum(w·|d|)`` is never zero: noise alone makes it positive, the more the fewer rows there are
(Roelofs et al. 2022, AISTATS, "Mitigating bias in calibration error estimation"), and a bootstrap adds that bias once
more. So value and limits come from inverting T: suppose a calibration error ``e``, spread over the bins in some
pattern, ask how T is distributed then (each ``|d|`` a folded normal with deviation ``s``), and report the ``e`` under
which the observed T is the median (the value) or lies at either tail (the limits). A folded normal grows stochastically
with its mean, so each answer is unique. A perfectly calibrated model gets 0 as often as not.

The true pattern is unknown and matters: gaps concentrated in few bins raise T by their full size, gaps spread thinly
drown in noise. The value takes the observed ``|d|``; the low limit the most concentrated pattern that the data suggest
(what exceeds two standard errors), the high limit a spread one (``|d|`` enlarged by ``s``). Simulated coverage of the
95 % interval for patterns of both kinds: 0.96 and more.

Binning averages out miscalibration within a bin: like every binned measure, this is a lower bound of the unbinned
error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.evaluation.intervals import Estimate, normal_quantile, wilson_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

N_BINS = 10
"""Bins of equal mass; the usual choice, and coarse enough that a holdout of 1,000 rows has 100 per bin."""
MIN_BIN_ROWS = 20
"""Fewer rows per bin make the normal approximation of a bin's mean untenable: small slices get fewer bins."""
_DRAWS = 2_000
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Bins:
    """Reliability curve: bins of equal mass in the order of the predicted probability.

    Attributes
    ----------
    predicted, observed : tuple of float, in [0, 1]
        Mean predicted probability and share that left, per bin.
    low, high : tuple of float
        Wilson limits of the share that left.
    n : tuple of int
        Rows per bin.
    """

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {name: list(getattr(self, name)) for name in ("predicted", "observed", "low", "high", "n")}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Bins:
        """Inverse of :meth:`to_dict`."""
        return cls(**{name: tuple(document[name]) for name in ("predicted", "observed", "low", "high", "n")})


def reliability_bins(labels: NDArray[np.bool_], scores: Floats, confidence: float = 0.95) -> Bins:
    """Reliability curve of predicted probabilities.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,), bool
        True where the person left.
    scores : ndarray of shape (n_rows,), float64, in [0, 1]
    confidence : float
        Of the limits, per bin.
    """
    index = _bin_index(scores)
    n = np.bincount(index)
    leavers = np.bincount(index, labels)
    observed, low, high = wilson_limits(leavers, n, normal_quantile(confidence))
    predicted = np.bincount(index, scores) / n
    return Bins(*(tuple(column.tolist()) for column in (predicted, observed, low, high, n)))


def calibration_error(
    labels: NDArray[np.bool_], scores: Floats, confidence: float = 0.95, *, seed: int = 42
) -> Estimate:
    """Expected calibration error over ten bins of equal mass, corrected for the bias that noise adds.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,), bool
        True where the person left.
    scores : ndarray of shape (n_rows,), float64, in [0, 1]
    seed : int
        Of the simulated distribution that is inverted; another seed moves the limits by a few percent of the width.

    Returns
    -------
    Estimate in [0, 1].
        Median-unbiased value; 0 when the plug-in is no larger than noise makes it.
    """
    n_rows, index = len(scores), _bin_index(scores)
    n = np.bincount(index).astype(float)
    gap = labels - scores
    mean = np.bincount(index, gap) / n
    sampled = np.bincount(index, (gap - mean[index]) ** 2) / np.maximum(n - 1, 1)
    # a bin without a single leaver has no sampled variance; a calibrated model says what it should have been, and
    # Jeffreys' prior what it may have been when the model is sure
    expected = np.bincount(index, scores * (1 - scores)) / n
    share = (np.bincount(index, labels) + 0.5) / (n + 1)
    weight, size = n / n.sum(), np.abs(mean)
    noise = np.sqrt(np.maximum.reduce([sampled, expected, share * (1 - share)]) / n)
    plug_in = float(weight @ size)
    draws = np.random.default_rng(seed).standard_normal((_DRAWS, len(n))) * noise
    clear = np.maximum(size - 2 * noise, 0)
    tail = (1 - confidence) / 2

    def inverted(pattern: Floats, target: float) -> float:
        # without any gap there is no pattern to follow: spread evenly
        direction = pattern / float(weight @ pattern) if pattern.any() else np.ones_like(pattern)

        def below(error: float) -> float:
            return float(np.mean(np.abs(error * direction + draws) @ weight <= plug_in))

        return _solve(below, target)

    value = inverted(size, 0.5)
    low = min(inverted(clear if clear.any() else size, 1 - tail), value)
    # a lucky sample must not claim more precision than its own plug-in
    high = min(max(inverted(np.hypot(size, noise), tail), plug_in, value), 1.0)
    return Estimate(value, low, high, n_rows, confidence, f"inverted ECE, {len(n)} equal-mass bins")


def _solve(below: Callable[[float], float], target: float) -> float:
    """The smallest error in [0, 1] at which no more than `target` of the draws lie below the plug-in."""
    if below(0.0) <= target:
        return 0.0
    left, right = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (left + right) / 2
        left, right = (middle, right) if below(middle) > target else (left, middle)
        if right - left < 1e-6:
            break
    return (left + right) / 2


def _bin_index(scores: Floats) -> NDArray[np.intp]:
    """Bin of each row; equal scores share a bin, so that there may be fewer bins than asked for."""
    bins = max(1, min(N_BINS, len(scores) // MIN_BIN_ROWS))
    edges = np.unique(np.quantile(scores, np.arange(1, bins) / bins))
    index = np.searchsorted(edges, scores, side="right")
    return np.unique(index, return_inverse=True)[1].astype(np.intp)
