"""Statistics of the difference between a window and its reference, computed from sketches.

Each equals the textbook statistic of the raw values; the tests compare with SciPy. Pure.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.evaluation.sketches import CategoryReference, CategorySketch, NumericSketch, Reference

    Floats = NDArray[np.float64]
    Counts = NDArray[np.int64]

EXACT_ROWS = 10_000
"""Up to as many rows on either side SciPy computes the exact p-value of a Kolmogorov-Smirnov test."""

MIN_EXPECTED = 5.0
"""Expected count from which a chi-square cell stands alone (Cochran 1954, Biometrics 10)."""

SHARE_FLOOR = 1e-4
"""Least share of a bin in a stability index: an empty bin would make it infinite, and says no more than a rare one."""

PSI_BINS = 10


@dataclass(frozen=True, slots=True)
class Test:
    """A statistic with the probability of one as large when nothing drifted.

    Attributes
    ----------
    statistic : float
    p_value : float
        In [0, 1].
    """

    statistic: float
    p_value: float


def kolmogorov_smirnov(reference: Reference, window: NumericSketch) -> Test | None:
    """Two-sample Kolmogorov-Smirnov test; None when either side has no value.

    The statistic is exact. Its p-value is the one of :func:`scipy.stats.ks_2samp` with its choice of method: exact up
    to `EXACT_ROWS` rows, else asymptotic.

    References
    ----------
    Hodges (1958), Arkiv för Matematik 3.
    """
    if reference.n == 0 or window.n == 0:
        return None
    from scipy.stats import ks_2samp, kstwo

    if max(reference.n, window.n) <= EXACT_ROWS:
        # the test knows ranks only, so any values in the same order and with the same ties will do
        with warnings.catch_warnings():
            # where rounding defeats SciPy's exact method it says so, and takes the asymptotic one
            warnings.simplefilter("ignore", RuntimeWarning)
            found = ks_2samp(*_ranks(reference, window))
        return Test(float(found.statistic), float(found.pvalue))
    upto = reference.upto
    at = np.abs(upto / reference.n - window.upto / window.n).max()
    before = np.abs((upto - reference.counts) / reference.n - window.below / window.n).max()
    statistic = float(max(at, before))
    effective = reference.n * window.n / (reference.n + window.n)
    return Test(statistic, float(np.clip(kstwo.sf(statistic, np.round(effective)), 0.0, 1.0)))


def _ranks(reference: Reference, window: NumericSketch) -> tuple[Floats, Floats]:
    """Both samples as ranks: even numbers are cells of the line, odd ones the reference's values."""
    m = len(reference.values)
    occupied = np.zeros(2 * m + 1, np.int64)
    occupied[1::2] = window.upto - window.below
    occupied[0::2] = np.append(window.below, window.n) - np.concatenate([[0], window.upto])
    return (
        np.repeat(np.arange(1.0, 2 * m + 1, 2), reference.counts),
        np.repeat(np.arange(2.0 * m + 1), occupied),
    )


@dataclass(frozen=True, slots=True)
class Bins:
    """Rows by bin on both sides; the last bin is of missing values.

    Attributes
    ----------
    labels : tuple of str
    reference, window : ndarray of shape (n_bins,), int64
    """

    labels: tuple[str, ...]
    reference: Counts
    window: Counts

    @property
    def missing(self) -> Bins:
        """Rows with and without a value."""
        pairs = [np.array([side[:-1].sum(), side[-1]], np.int64) for side in (self.reference, self.window)]
        return Bins(("known", "missing"), *pairs)

    @property
    def shares(self) -> tuple[Floats, Floats]:
        """Shares of the rows, each summing to 1; NaN for a side without rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.reference / self.reference.sum(), self.window / self.window.sum()


def numeric_bins(reference: Reference, window: NumericSketch, n_bins: int = PSI_BINS) -> Bins:
    """Bins by quantiles of the reference, the outer ones open, and one of missing values.

    An edge is a value of the reference and belongs to the bin that it begins, as in :func:`numpy.histogram`. A value
    that is more frequent than a bin would be makes fewer bins.
    """
    edges = np.zeros(0, np.intp)
    if reference.n:
        places = np.ceil(np.arange(1, n_bins) / n_bins * (reference.n - 1)).astype(np.int64)
        edges = np.unique(np.searchsorted(reference.upto, places, "right"))
        edges = edges[edges > 0]  # below the least value there is nothing
    below = (reference.upto - reference.counts, window.below)
    counts = [
        np.diff(np.concatenate([[0], side[edges], [n]])).astype(np.int64)
        for side, n in zip(below, (reference.n, window.n), strict=True)
    ]
    texts = [f"{edge:.6g}" for edge in reference.values[edges]]
    labels = [f"below {text}" for text in texts[:1]] + [f"{a} to below {b}" for a, b in pairwise(texts)]
    labels.append(f"from {texts[-1]}" if texts else "all values")
    return Bins(
        (*labels, "missing"),
        np.append(counts[0], reference.n_missing),
        np.append(counts[1], window.n_missing),
    )


def category_bins(reference: CategoryReference, window: CategorySketch) -> Bins:
    """A bin per code of the reference, one of codes that it does not have, and one of missing values."""
    return Bins(
        (*(f"{code:g}" for code in reference.codes), "unseen", "missing"),
        np.concatenate([reference.counts, [0, reference.n_missing]]).astype(np.int64),
        np.concatenate([window.counts, [window.n_unseen, window.n_missing]]).astype(np.int64),
    )


def stability_index(bins: Bins, *, floor: float = SHARE_FLOOR) -> float | None:
    """Population stability index in nats, >= 0; None when either side has no rows.

    ``sum((w - r) ln(w / r))`` over the bins' shares; shares below `floor` are raised to it. A bin that is empty on both
    sides counts nothing.

    References
    ----------
    Wu & Olson (2010), J. Oper. Res. Soc. 61(2).

    Examples
    --------
    >>> import numpy as np
    >>> round(stability_index(Bins(("a", "b"), np.array([50, 50]), np.array([60, 40]))), 4)
    0.0405
    """
    if bins.reference.sum() == 0 or bins.window.sum() == 0:
        return None
    shares = np.array([share[(bins.reference + bins.window) > 0] for share in bins.shares])
    expected, found = np.maximum(shares, floor)
    return float(((found - expected) * np.log(found / expected)).sum())


def critical_index(bins: Bins, alpha: float) -> float | None:
    """Stability index that equal distributions exceed with probability `alpha`; None as above.

    ``(1/n + 1/m) chi2(1 - alpha; B - 1)`` for B bins that have rows.

    References
    ----------
    Yurdakul & Naranjo (2020), J. Risk Model Validation 14(4).
    """
    n, m = int(bins.reference.sum()), int(bins.window.sum())
    used = int(((bins.reference + bins.window) > 0).sum())
    if n == 0 or m == 0 or used < 2:
        return None
    from scipy.stats import chi2

    return float((1 / n + 1 / m) * chi2.ppf(1 - alpha, used - 1))


def chi_square(bins: Bins) -> Test | None:
    """Chi-square test of homogeneity; cells expecting fewer than `MIN_EXPECTED` rows on a side are pooled.

    None when a side has no rows, or when pooling leaves one cell. Pearson's statistic without continuity correction, as
    :func:`scipy.stats.chi2_contingency` has it.
    """
    table = np.array([bins.reference, bins.window], np.float64)
    table = table[:, table.sum(axis=0) > 0]
    rows, total = table.sum(axis=1), table.sum()
    if table.size == 0 or (rows == 0).any():
        return None
    rare = table.sum(axis=0) * rows.min() / total < MIN_EXPECTED
    pooled = table[:, ~rare]
    if rare.any():
        rest = table[:, rare].sum(axis=1)
        if rest.sum() * rows.min() / total >= MIN_EXPECTED or pooled.shape[1] == 0:
            pooled = np.column_stack([pooled, rest])
        else:  # what is rare even together joins the smallest cell that stands alone
            pooled[:, pooled.sum(axis=0).argmin()] += rest
    if pooled.shape[1] < 2:
        return None
    from scipy.stats import chi2_contingency

    found = chi2_contingency(pooled, correction=False)
    return Test(float(found.statistic), float(found.pvalue))


@dataclass(frozen=True, slots=True)
class Distance:
    """A distance and how far it may be from the exact one.

    Attributes
    ----------
    value : float
        >= 0, in the feature's unit.
    error : float
        The exact distance lies within `value` ± `error`.
    """

    value: float
    error: float


def wasserstein(reference: Reference, window: NumericSketch) -> Distance | None:
    """First Wasserstein distance, the area between both distribution functions; None when a side has no value.

    In a cell the reference's function is constant at ``c`` and the window's goes from ``a`` to ``b``. Where ``c`` is
    not between them, the cell sums give the area exactly. Where it is, the area has bounds: at least the difference of
    the means within the cell, at most what a window with all its mass on the cell's ends could make (it majorises every
    other window of the same sum); their middle is used.
    """
    if reference.n == 0 or window.n == 0:
        return None
    width = np.diff(reference.values)
    inside = window.below[1:] - window.upto[:-1]
    constant = reference.upto[:-1] / reference.n
    start, end = window.upto[:-1] / window.n, window.below[1:] / window.n
    # the window's function integrates to start * width + sum(r[i + 1] - x) / n over the cell
    area = start * width + (inside * reference.values[1:] - window.cell_sums[1:-1]) / window.n
    signed = np.abs(area - constant * width)
    crossing = (start < constant) & (constant < end)
    # at most: go as far as possible on either side of the constant while keeping the area
    t = np.clip((area - start * width) / np.where(end > start, end - start, 1.0), 0.0, width)
    most = (constant - start) * (width - t) + (end - constant) * t
    upper = np.where(crossing, np.maximum(most, signed), signed)
    low_tail = (window.below[0] * reference.values[0] - window.cell_sums[0]) / window.n
    n_above = window.n - window.upto[-1]
    high_tail = (window.cell_sums[-1] - n_above * reference.values[-1]) / window.n
    exact = max(float(low_tail), 0.0) + max(float(high_tail), 0.0)
    least, greatest = float(signed.sum()) + exact, float(upper.sum()) + exact
    return Distance((least + greatest) / 2, (greatest - least) / 2)


def mean_shift_percent(reference: Reference, window: NumericSketch) -> float | None:
    """Change of the mean in per cent of the reference's mean; None without values, or for a mean of zero."""
    if reference.n == 0 or window.n == 0 or reference.mean == 0:
        return None
    return 100.0 * (window.mean(reference) - reference.mean) / abs(reference.mean)


def adjusted(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that those at or below alpha have a false discovery rate of at most alpha.

    References
    ----------
    Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57(1).

    Examples
    --------
    >>> [round(p, 3) for p in adjusted([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    if not p_values:
        return []
    order = np.argsort(p_values)[::-1]
    ranked = np.asarray(p_values, float)[order] * len(p_values) / np.arange(len(p_values), 0, -1)
    result = np.empty(len(p_values))
    result[order] = np.minimum.accumulate(ranked)
    return [min(float(p), 1.0) for p in result]


def finite(value: float | None) -> float | None:
    """The value, None instead of NaN and infinity: JSON has neither."""
    return value if value is not None and math.isfinite(value) else None
