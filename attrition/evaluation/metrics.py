"""What a classifier of leavers is worth, every figure with an interval.

================== ============================================================================================
auc                DeLong on the logit scale (:mod:`attrition.evaluation.auc`)
accuracy, recall,  proportions: Wilson. Precision is a proportion of those predicted to leave
precision
balanced_accuracy  mean of recall and specificity, independent proportions: MOVER of their Wilson intervals
f1                 ``2J / (1 + J)`` with ``J = tp / (tp + fp + fn)``, a proportion: its Wilson limits, transformed
                   (Hand, Christen & Kirielle 2021, Mach. Learn. 110, eq. 3)
average_precision  bootstrap on the logit scale
brier              bootstrap on the logarithmic scale
calibration_error  inverted ECE (:mod:`attrition.evaluation.calibration`)
================== ============================================================================================

The bootstrap draws persons with replacement from the whole holdout, not class by class: the share of leavers in a
holdout is itself a matter of chance, and average precision depends on it; a bootstrap that holds the share fixed gives
intervals that are too narrow. Resamples without a leaver are passed over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, UsageError
from attrition.evaluation.auc import auc_delong, checked, compare_auc
from attrition.evaluation.calibration import calibration_error
from attrition.evaluation.intervals import Estimate, mean_of_proportions, proportion

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.bool_]

__all__ = ["LOWER_IS_BETTER", "METRICS", "Confusion", "Estimate", "auc_delong", "compare_auc", "measure"]

METRICS: tuple[str, ...] = (
    "auc",
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "average_precision",
    "brier",
    "calibration_error",
)
"""Names of the metrics, in the order of reports."""
LOWER_IS_BETTER = frozenset({"brier", "calibration_error"})
"""Metrics that measure an error."""
_CELLS_PER_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of decisions against outcomes; "positive" is leaving.

    Examples
    --------
    >>> Confusion.count([True, True, False], [True, False, False])
    Confusion(tn=1, fp=0, fn=1, tp=1)
    """

    tn: int
    fp: int
    fn: int
    tp: int

    @classmethod
    def count(cls, labels: ArrayLike, decisions: ArrayLike) -> Confusion:
        """Counts from outcomes and decisions, both of shape (n_rows,), bool or 0/1."""
        y, d = np.asarray(labels).astype(bool), np.asarray(decisions).astype(bool)
        tp, fp, fn = int((y & d).sum()), int((~y & d).sum()), int((y & ~d).sum())
        return cls(tn=len(y) - tp - fp - fn, fp=fp, fn=fn, tp=tp)

    def to_dict(self) -> dict[str, int]:
        """JSON-ready document."""
        return {"tn": self.tn, "fp": self.fp, "fn": self.fn, "tp": self.tp}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Confusion:
        """Inverse of :meth:`to_dict`."""
        return cls(**{name: int(document[name]) for name in ("tn", "fp", "fn", "tp")})


def measure(
    y_true: ArrayLike,
    y_score: ArrayLike,
    threshold: float,
    *,
    confidence: float = 0.95,
    n_resamples: int = 500,
    seed: int = 42,
) -> dict[str, Estimate]:
    """Every metric of :data:`METRICS` with its interval.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,), 0 or 1
        1 = left within the horizon.
    y_score : array_like of shape (n_rows,), in [0, 1]
        Probability of leaving within the horizon.
    threshold : float
        A score of at least this is a decision "leaves".
    confidence : float
        In (0, 1), of each interval by itself.
    n_resamples : int
        Bootstrap resamples, at least 100.
    seed : int
        Of the bootstrap.

    Raises
    ------
    InsufficientData
        One class is absent.
    UsageError
        Lengths differ, a label is not 0 or 1, a score is not a probability, or too few resamples.
    """
    labels, scores = checked(y_true, y_score)
    check_probabilities(scores, n_resamples)
    return measure_slice(labels, scores, threshold, confidence, n_resamples, seed)


def measure_slice(
    labels: Labels, scores: Floats, threshold: float, confidence: float, n_resamples: int, seed: int
) -> dict[str, Estimate]:
    """The metrics of checked rows that may hold one class only: what needs both is undefined, [0, 1]."""
    estimates = threshold_metrics(Confusion.count(labels, scores >= threshold), confidence)
    estimates |= _bootstrapped(labels, scores, confidence, n_resamples, seed)
    estimates["calibration_error"] = calibration_error(labels, scores, confidence, seed=seed)
    if 0 < labels.sum() < len(labels):
        estimates["auc"] = auc_delong(labels, scores, confidence)
    else:
        undefined = Estimate(math.nan, 0.0, 1.0, len(labels), confidence, "one class")
        estimates |= {"auc": undefined, "balanced_accuracy": undefined, "average_precision": undefined}
    return {name: estimates[name] for name in METRICS}


def check_probabilities(scores: Floats, n_resamples: int) -> None:
    """Refuse scores outside [0, 1] and a bootstrap too small for a standard error.

    Raises
    ------
    UsageError
        Names each fault.
    """
    faults = []
    if outside := int(np.count_nonzero((scores < 0) | (scores > 1))):
        faults.append(Fault("y_score", f"{outside} scores outside [0, 1]", "scores are probabilities of leaving"))
    if n_resamples < 100:
        faults.append(Fault("n_resamples", f"is {n_resamples}", "at least 100"))
    if faults:
        raise UsageError(faults)


def threshold_metrics(counts: Confusion, confidence: float) -> dict[str, Estimate]:
    """The metrics of decisions: accuracy, balanced accuracy, precision, recall and F1.

    Parameters
    ----------
    counts : Confusion
        May lack leavers or stayers; what they define is undefined then.
    confidence : float
        In (0, 1), of each interval by itself.
    """
    tn, fp, fn, tp = counts.tn, counts.fp, counts.fn, counts.tp
    recall = proportion(tp, tp + fn, confidence)
    overlap = proportion(tp, tp + fp + fn, confidence)

    def f1_of(jaccard: float) -> float:
        return 2 * jaccard / (1 + jaccard)

    return {
        "accuracy": proportion(tp + tn, tn + fp + fn + tp, confidence),
        "balanced_accuracy": mean_of_proportions(recall, proportion(tn, tn + fp, confidence)),
        "precision": proportion(tp, tp + fp, confidence),
        "recall": recall,
        "f1": Estimate(
            f1_of(overlap.value), f1_of(overlap.low), f1_of(overlap.high), overlap.n, confidence, "Wilson, transformed"
        ),
    }


def _bootstrapped(
    labels: Labels, scores: Floats, confidence: float, n_resamples: int, seed: int
) -> dict[str, Estimate]:
    order = np.argsort(-scores, kind="stable")
    y, ranked = labels[order].astype(float), scores[order]
    loss = (ranked - y) ** 2
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(y) - 1)  # last row of each group of equal scores
    areas, losses = [], []
    for weights in _resamples(len(y), n_resamples, seed):
        areas.append(_average_precision(weights, y, ends))
        losses.append(weights @ loss / len(y))
    area = float(_average_precision(np.ones((1, len(y))), y, ends)[0])
    return {
        "average_precision": _on_logit_scale(area, np.concatenate(areas), len(y), int(y.sum()), confidence),
        "brier": _on_log_scale(float(loss.mean()), np.concatenate(losses), len(y), confidence),
    }


def _average_precision(weights: Floats, y: Floats, ends: NDArray[np.intp]) -> Floats:
    """Average precision of each resample, shape (n_resamples,); rows descend by score, NaN without a leaver."""
    tp = np.cumsum(weights * y, axis=1)[:, ends]
    drawn = np.cumsum(weights, axis=1)[:, ends]
    gained = np.diff(tp, axis=1, prepend=0.0)
    area = np.sum(gained * tp / np.maximum(drawn, 1.0), axis=1)
    leavers = tp[:, -1]
    averaged: Floats = np.divide(area, leavers, out=np.full(len(area), math.nan), where=leavers > 0)
    return averaged


def _on_logit_scale(value: float, replicates: Floats, n_rows: int, n_leavers: int, confidence: float) -> Estimate:
    if n_leavers < 2:
        return Estimate(value, 0.0, 1.0, n_rows, confidence, "no variance: one leaver")
    if value == 1:
        low = proportion(n_leavers, n_leavers, confidence).low
        return Estimate(value, low, 1.0, n_rows, confidence, "Wilson of the leavers: perfect ranking")
    nearest = 0.05 / n_leavers  # a resample that is ranked perfectly must not make the logit infinite

    def logit(share: Floats) -> Floats:
        inside = np.clip(share, nearest, 1 - nearest)
        return np.log(inside / (1 - inside))

    centre = float(logit(np.array([value]))[0])
    half = _t_quantile(confidence, n_leavers - 1) * float(logit(replicates[np.isfinite(replicates)]).std(ddof=1))
    low, high = 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))
    return Estimate(value, min(low, value), max(high, value), n_rows, confidence, "bootstrap, logit")


def _on_log_scale(value: float, replicates: Floats, n_rows: int, confidence: float) -> Estimate:
    if value == 0 or n_rows < 2:
        high = proportion(0, n_rows, confidence).high if value == 0 else 1.0
        return Estimate(value, 0.0, high, n_rows, confidence, "Wilson: no variance")
    spread = float(np.log(np.maximum(replicates, value / 100)).std(ddof=1))
    factor = math.exp(_t_quantile(confidence, n_rows - 1) * spread)
    return Estimate(value, value / factor, min(value * factor, 1.0), n_rows, confidence, "bootstrap, log")


def _resamples(n_rows: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, in chunks of shape (n_chunk, n_rows), so that memory does not grow with the rows."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS_PER_CHUNK // n_rows)
    for start in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - start)
        drawn = rng.integers(0, n_rows, (size, n_rows)) + n_rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n_rows).reshape(size, n_rows).astype(float)


def _t_quantile(confidence: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))
