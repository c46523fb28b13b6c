"""Area under the ROC curve with DeLong's variance, alone and for two scores of the same persons.

Notation: ``m`` positives (persons who left) and ``n`` negatives. Placement ``V10[i]`` is the share of negatives that
score below positive ``i`` (ties count one half), ``V01[j]`` the share of positives that score above negative ``j``;
the mean of either is the AUC and their variances add up to its variance (DeLong, DeLong & Clarke-Pearson 1988,
Biometrics 44(3), eq. 5). Midranks give all placements in O(N log N) (Sun & Xu 2014, IEEE Signal Process. Lett. 21(11)).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from attrition.errors import Fault, InsufficientData, UsageError
from attrition.evaluation.intervals import Estimate, exact_proportion_limits

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


def auc_delong(y_true: ArrayLike, y_score: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Probability that a leaver scores above a stayer, with an interval made on the logit scale.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,), 0 or 1
    y_score : array_like of shape (n_rows,), finite; larger means likelier to leave
    confidence : float
        In (0, 1).

    Returns
    -------
    Estimate in [0, 1].
        The logit keeps the limits inside [0, 1]; Student's t with Welch's degrees of freedom replaces the normal, which
        matters below some 30 persons of a class. When the placements do not vary (perfect separation either way,
        all scores equal) DeLong's variance is zero and says nothing: then ``min(m, n)`` disjoint pairs of one leaver
        and one stayer are independent trials, and their exact binomial interval is given. With a single leaver or
        stayer there is no variance at all: the interval is [0, 1].

    Raises
    ------
    InsufficientData
        One class is absent: the AUC does not exist.
    UsageError
        Lengths differ, a label is not 0 or 1, or a score is not finite.

    References
    ----------
    Pepe (2003), The Statistical Evaluation of Medical Tests, section 5.2.3 (logit scale).

    Examples
    --------
    >>> print(auc_delong([0, 0, 1, 0, 1, 1], [0.1, 0.3, 0.2, 0.4, 0.8, 0.9]))
    0.778 [0.033, 0.997]
    """
    labels, scores = checked(y_true, y_score)
    v10, v01 = _placements(labels, scores)
    auc, rows = float(v10.mean()), len(labels)
    if min(len(v10), len(v01)) < 2:
        return Estimate(auc, 0.0, 1.0, rows, confidence, "no variance: one person in a class")
    variance, freedom = _variance(v10, v01)
    if variance <= 0 or auc <= 0 or auc >= 1:
        low, high = exact_proportion_limits(auc, min(len(v10), len(v01)), confidence)
        return Estimate(auc, low, high, rows, confidence, "exact binomial of disjoint pairs")
    half = _t_quantile(confidence, freedom) * math.sqrt(variance) / (auc * (1 - auc))
    centre = math.log(auc / (1 - auc))
    return Estimate(auc, _expit(centre - half), _expit(centre + half), rows, confidence, "DeLong, logit")


def compare_auc(y_true: ArrayLike, y_score_a: ArrayLike, y_score_b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """AUC of `y_score_b` minus AUC of `y_score_a` on the same persons; positive when b is better.

    Pairing removes what makes a person hard to rank for both, so the interval is far narrower than that of two
    separate holdouts.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,), 0 or 1
    y_score_a, y_score_b : array_like of shape (n_rows,), finite

    Returns
    -------
    Estimate in [-1, 1].
        Scores that rank everybody equally give exactly 0 [0, 0]; a single person in a class gives [-1, 1].

    Raises
    ------
    InsufficientData
        One class is absent.
    UsageError
        Lengths differ, a label is not 0 or 1, or a score is not finite.
    """
    labels, first = checked(y_true, y_score_a)
    _, second = checked(y_true, y_score_b)
    v10_a, v01_a = _placements(labels, first)
    v10_b, v01_b = _placements(labels, second)
    v10, v01 = v10_b - v10_a, v01_b - v01_a
    difference, rows = float(v10.mean()), len(labels)
    if min(len(v10), len(v01)) < 2:
        return Estimate(difference, -1.0, 1.0, rows, confidence, "no variance: one person in a class")
    variance, freedom = _variance(v10, v01)
    half = _t_quantile(confidence, freedom) * math.sqrt(variance) if variance > 0 else 0.0
    low, high = max(difference - half, -1.0), min(difference + half, 1.0)
    return Estimate(difference, low, high, rows, confidence, "paired DeLong")


def checked(y_true: ArrayLike, y_score: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    """Labels as bool and scores as float64, both of shape (n_rows,), with both classes present.

    Raises
    ------
    InsufficientData
        One class is absent.
    UsageError
        Lengths differ, a label is not 0 or 1, or a score is not finite.
    """
    labels, scores = np.asarray(y_true, float), np.asarray(y_score, float)
    faults = []
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise UsageError(
            Fault("y_true and y_score", f"shapes {labels.shape} and {scores.shape}", "one label and one score per row")
        )
    if foreign := int(np.count_nonzero((labels != 0) & (labels != 1))):
        faults.append(Fault("y_true", f"{foreign} labels other than 0 and 1", "1 = left within the horizon"))
    if unfinite := int(np.count_nonzero(~np.isfinite(scores))):
        faults.append(Fault("y_score", f"{unfinite} scores are missing or infinite", "every row needs a finite score"))
    if faults:
        raise UsageError(faults)
    positives = int(labels.sum())
    if positives in {0, len(labels)}:
        raise InsufficientData(
            Fault(
                "y_true",
                f"{positives} of {len(labels)} rows left",
                "leavers and stayers are both needed",
                "use a holdout with both",
            )
        )
    return labels == 1, scores


def _placements(labels: NDArray[np.bool_], scores: Floats) -> tuple[Floats, Floats]:
    positives, negatives = scores[labels], scores[~labels]
    ranks = _midranks(scores)
    v10 = (ranks[labels] - _midranks(positives)) / len(negatives)
    v01 = 1.0 - (ranks[~labels] - _midranks(negatives)) / len(positives)
    return v10, v01


def _midranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _variance(v10: Floats, v01: Floats) -> tuple[float, float]:
    """Variance of the mean placement and its Welch-Satterthwaite degrees of freedom."""
    parts = float(v10.var(ddof=1)) / len(v10), float(v01.var(ddof=1)) / len(v01)
    total = sum(parts)
    spread = parts[0] ** 2 / (len(v10) - 1) + parts[1] ** 2 / (len(v01) - 1)
    return total, (total**2 / spread if spread > 0 else math.inf)


def _t_quantile(confidence: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.5 + confidence / 2))


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
