"""Bootstrap intervals of the gaps between groups: what the same people drawn again would have given.

Resampling is stratified by group: ``n[g]`` persons are drawn with replacement from the ``n[g]`` persons of a group.
Each person counts as one of four (false positive, true negative, false negative, true positive), so a resample of a
group is one draw from a multinomial distribution with the observed shares, and no person has to be touched: exactly
the resampling of rows, in the time of a few thousand draws. Limits are percentiles (Efron & Tibshirani 1993, ch. 13).

What these limits are not: the largest difference of noisy rates is biased upwards, and the bootstrap inherits the bias.
Under equal true rates the low limit of a difference lies above zero almost always, the more groups the surer, and a
group of which nobody was flagged is drawn without anybody flagged for ever. So the gates decide by the limits of
:mod:`attrition.evaluation.fairness`, which hold; these show how far the observed figures would have varied.
``tests/properties/test_evaluation_coverage.py`` compares the two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attrition.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

N_RESAMPLES = 2_000

_FP, _TN, _FN, _TP = range(4)


def bootstrap_gaps(
    counts: ArrayLike, *, confidence: float = 0.95, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Mapping[str, Estimate]:
    """Gaps between at least two groups, with the percentile intervals of a bootstrap stratified by group.

    Parameters
    ----------
    counts : array_like of shape (n_groups, 4), int
        Stayers flagged, stayers not flagged, leavers missed and leavers flagged of each group.
    confidence : float
        In (0, 1).
    n_resamples : int, >= 1
    seed : int
        Of the draws: equal counts give equal limits.

    Returns
    -------
    mapping of str to Estimate
        ``ratio`` (smallest over largest selection rate), ``difference`` (largest minus smallest selection rate),
        ``fpr_difference`` and ``fnr_difference``; one that fewer than two groups have a rate for is absent, and the
        ratio when nobody is selected. Limits are widened to the value where the bias leaves it outside.
    """
    observed = np.asarray(counts, np.int64)
    sizes = observed.sum(axis=1)
    rng = np.random.default_rng(seed)
    draws = [rng.multinomial(n, row / n, n_resamples) for n, row in zip(sizes, observed, strict=True)]
    values, drawn = _gaps(observed[None]), _gaps(np.stack(draws, axis=1))
    found = {}
    for name, value in values.items():
        known = drawn[name][~np.isnan(drawn[name])]
        if math.isnan(value[0]) or not len(known):
            continue
        low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
        point, rows = float(value[0]), int(sizes.sum())
        limits = min(float(low), point), max(float(high), point)
        found[name] = Estimate(point, *limits, rows, confidence, "bootstrap stratified by group")
    return found


def _gaps(counts: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Gaps of each table of shape (n_groups, 4); NaN where fewer than two groups have the rate."""
    fp, tn, fn, tp = (counts[..., column].astype(float) for column in (_FP, _TN, _FN, _TP))
    selected = _share(fp + tp, fp + tn + fn + tp)
    smallest, largest = _extremes(selected)
    gaps = {"ratio": _share(smallest, largest), "difference": largest - smallest}
    for name, rate in (("fpr_difference", _share(fp, fp + tn)), ("fnr_difference", _share(fn, fn + tp))):
        smallest, largest = _extremes(rate)
        gaps[name] = largest - smallest
    return gaps


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full_like(part, math.nan), where=whole > 0)


def _extremes(rates: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(rates)
    enough = known.sum(axis=-1) > 1
    smallest = np.where(known, rates, math.inf).min(axis=-1)
    largest = np.where(known, rates, -math.inf).max(axis=-1)
    return np.where(enough, smallest, math.nan), np.where(enough, largest, math.nan)
