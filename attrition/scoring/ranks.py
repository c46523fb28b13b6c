"""Positions of many values at once: of a number among sorted thresholds, of a code among those that are listed.

A binary search mispredicts every other branch, which for a few hundred thresholds costs more than everything that is
done with the answer. Here a number is first put into one of many equal buckets, so that only the thresholds of its own
bucket, mostly none or one, are left to compare with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BUCKETS_PER_POINT = 8
_MAX_BUCKETS = 2**16
_MAX_CODE_SPAN = 4096


class Thresholds:
    """Sorted numbers, each once, and how many of them lie below a value.

    Value minus lowest threshold, times scale, cut to a whole number: each step keeps the order, rounding included.
    Thresholds of lower buckets hence lie below a value, those of higher buckets do not, exactly.

    Parameters
    ----------
    points : ndarray of shape (n,), float64
        Finite and increasing.

    Attributes
    ----------
    points : ndarray
    low, scale, last : float
        Bucket of x is ``(x - low) * scale``, held between 0 and `last`.
    first : ndarray of shape (n_buckets,), int32
        Number of thresholds in lower buckets.
    padded : ndarray, float64
        The thresholds, then infinity often enough for the search.
    widest : int
        Of the halving search within a bucket: the first step, a power of two.
    """

    def __init__(self, points: NDArray[np.float64]) -> None:
        self.points = points
        n_buckets = min(_MAX_BUCKETS, max(1, _BUCKETS_PER_POINT * len(points)))
        self.last = float(n_buckets - 1)
        # thresholds far from all others would leave these too few buckets
        trims = {0, 1, len(points) // 64, len(points) // 16}
        self.low, self.scale = min(
            (self._range(points[trim : len(points) - trim], n_buckets) for trim in trims if 2 * trim < len(points)),
            key=lambda bounds: self._crowd(points, *bounds),
            default=(0.0, 0.0),
        )
        self.first = np.searchsorted(self._buckets(points), np.arange(n_buckets)).astype(np.int32)
        self.widest = 1 << max(0, self._crowd(points, self.low, self.scale).bit_length() - 1)
        self.padded = np.concatenate([points, np.full(2 * self.widest, np.inf)])

    @staticmethod
    def _range(points: NDArray[np.float64], n_buckets: int) -> tuple[float, float]:
        with np.errstate(over="ignore", divide="ignore"):
            scale = np.float64(n_buckets) / (points[-1] - points[0])
        return float(points[0]), float(scale) if np.isfinite(scale) else 0.0

    def _crowd(self, points: NDArray[np.float64], low: float, scale: float) -> int:
        """Most thresholds in one bucket."""
        self.low, self.scale = low, scale
        return int(np.bincount(self._buckets(points), minlength=1).max())

    def _buckets(self, values: NDArray[np.float64]) -> NDArray[np.int32]:
        with np.errstate(over="ignore", invalid="ignore"):
            place = values - self.low
            place *= self.scale
        np.fmax(place, 0.0, out=place)  # NaN becomes 0
        np.fmin(place, self.last, out=place)
        return place.astype(np.int32)

    def ranks(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Number of thresholds below each value, 0 for NaN.

        Examples
        --------
        >>> Thresholds(np.array([1.0, 2.5])).ranks(np.array([0.0, 1.0, 2.0, 9.0])).tolist()
        [0, 0, 1, 2]
        """
        ranks = self.first.take(self._buckets(values)).astype(np.intp)
        half = self.widest
        while half:
            # no branch, so that a processor has nothing to guess
            ranks += (self.padded.take(ranks + (half - 1)) < values) * half
            half >>= 1
        return ranks


class Codes:
    """The codes of a category, and the place of each value among them.

    Parameters
    ----------
    codes
        Finite, each once.
    """

    def __init__(self, codes: Sequence[float]) -> None:
        self.codes = tuple(codes)
        self._low = min(codes, default=0.0)
        span = max(codes, default=0.0) - self._low + 1.0
        self._direct = span <= _MAX_CODE_SPAN and all(code == int(code) for code in codes)
        if self._direct:
            # one entry more at each end, for whatever lies beyond
            self._code = np.full(int(span) + 2, np.nan)
            self._place = np.full(int(span) + 2, len(codes), np.intp)
            at = np.array([int(code - self._low) + 1 for code in codes], np.intp)
            self._code[at], self._place[at] = codes, np.arange(len(codes))

    def places(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Place of each value: its own for a code, n for an unlisted one, n + 1 for NaN.

        Examples
        --------
        >>> Codes((1.0, 5.0)).places(np.array([5.0, 1.0, 1.5, 9.0, np.nan])).tolist()
        [1, 0, 2, 2, 3]
        """
        n = len(self.codes)
        if self._direct:
            entry = np.fmin(np.fmax(values - (self._low - 1.0), 0.0), float(len(self._code) - 1)).astype(np.intp)
            places = self._place.take(entry)
            places[self._code.take(entry) != values] = n
        else:
            places = np.full(len(values), n)
            for place, code in enumerate(self.codes):
                places[values == code] = place
        places[np.isnan(values)] = n + 1
        return places
