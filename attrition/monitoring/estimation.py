"""What a version is probably worth before outcomes are known: an estimate, never a measurement.

Notation: ``s`` a served score, ``g(s)`` the probability of leaving that belongs to it, ``d`` the decision. If ``g``
holds for the window, each person is a true positive with probability ``d·g(s)``, a false positive with
``d·(1 - g(s))``, and so on: the expected confusion matrix is known without a single outcome, and the expected ROC curve
likewise, by counting each person as ``g(s)`` leavers and ``1 - g(s)`` stayers. This is confidence-based performance
estimation (CBPE: Kivimäki, Białek & Kuberski 2025, arXiv:2505.05295).

``g`` is learned on the reference, the version's own out-of-fold scores, by beta calibration (Kull, Silva Filho & Flach
2017, AISTATS, PMLR 54): ``logit g = c + a·ln s - b·ln(1 - s)``. Three parameters contain the identity (a = b = 1,
c = 0), so scores that are calibrated stay as they are, and their uncertainty is the usual normal one of a logistic
regression. Out-of-fold scores come from models that saw a little less data than the served one; where that matters the
estimate is a little too low.

**The band** is a prediction interval of the realised metric of this very window: draw ``(a, b, c)`` from their normal
approximation, draw an outcome for every person, compute the metric, repeat, take quantiles. It has two sources: how
well the reference determines ``g``, and the chance in who leaves. With `coverage` 0.95 the realised metric falls inside
for 95 of 100 windows, provided that ``g`` holds.

**When it fails.** ``g`` says how leaving depends on the score. Covariate drift (other people, other scores) is followed
as long as that dependence stays. Concept drift *is* a change of that dependence: the same person with the same features
now leaves more often, or for other reasons. Nothing in the window shows it, and the estimate stays where it was, with a
narrow band. So an estimate may raise a question; it never promotes, retrains or clears a version by itself, and each is
reconciled with the outcomes once they are there (:func:`reconcile`).

Persons appear once per window (:mod:`attrition.monitoring.buckets`), or the band would be too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, InsufficientData, UsageError
from attrition.evaluation.auc import checked
from attrition.evaluation.display import html_table, text_table
from attrition.evaluation.intervals import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

ESTIMATED = ("auc", "accuracy", "precision", "recall", "f1", "fpr", "fnr")
"""Names of the estimated metrics, in the order of reports."""

METHOD = "CBPE estimate, no outcomes"
"""Method of every figure made here; no report may show one without it."""

_CELLS_PER_CHUNK = 4_000_000
_FLOOR = 1e-6
"""Scores nearer to 0 or 1 have no finite logarithm worth modelling."""
_IDENTITY = np.array([1.0, 1.0, 0.0])
_RIDGE = 1e-3
"""Prior precision of a, b and c around the identity, in units of persons: what the reference does not determine stays
at "as calibrated as it claims to be"."""


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Probability of leaving that belongs to a score, as the reference says.

    Attributes
    ----------
    parameters : tuple of float
        ``a``, ``b`` and ``c``.
    covariance : tuple of tuple of float
        Of the parameters, shape (3, 3).
    n : int
        Rows of the reference.
    """

    parameters: tuple[float, float, float]
    covariance: tuple[tuple[float, ...], ...]
    n: int

    def __call__(self, scores: ArrayLike) -> Floats:
        """Probabilities of leaving, shape (n_rows,), in (0, 1), of scores in [0, 1].

        Examples
        --------
        >>> identity = Recalibration((1.0, 1.0, 0.0), ((0.0,) * 3,) * 3, 100)
        >>> identity([0.2, 0.7]).round(6).tolist()
        [0.2, 0.7]
        """
        return _expit(_design(np.asarray(scores, float)) @ np.array(self.parameters))

    def draws(self, rng: np.random.Generator, n_draws: int) -> Floats:
        """Parameters that the reference makes as plausible, shape (n_draws, 3)."""
        drawn: Floats = rng.multivariate_normal(self.parameters, self.covariance, n_draws, method="cholesky")
        return drawn


@dataclass(frozen=True, slots=True)
class EstimatedPerformance:
    """Estimated metrics of one window.

    Attributes
    ----------
    metrics : mapping of str to Estimate
        Keys :data:`ESTIMATED`; the value is the expected metric, the interval the band, its ``confidence`` the nominal
        coverage.
    n : int
        Persons in the window.
    n_expected_leavers : float
        Sum of the recalibrated probabilities.
    n_reference : int
        Rows of the reference.
    """

    metrics: Mapping[str, Estimate]
    n: int
    n_expected_leavers: float
    n_reference: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document, marked as an estimate."""
        return {
            "is_estimate": True,
            "method": METHOD,
            "metrics": {name: estimate.to_dict() for name, estimate in self.metrics.items()},
            "n": self.n,
            "n_expected_leavers": self.n_expected_leavers,
            "n_reference": self.n_reference,
        }

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return (
            f"ESTIMATED performance (CBPE, no outcomes; blind to concept drift): {self.n:,} persons, "
            f"{self.n_expected_leavers:,.0f} expected to leave; recalibrated on {self.n_reference:,} out-of-fold scores"
        )

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Metric, estimate and band, as text."""
        return [
            (
                name,
                f"{estimate.value:.3f}" if estimate.defined else "undefined",
                f"{estimate.low:.3f} to {estimate.high:.3f}",
            )
            for name, estimate in self.metrics.items()
        ]

    @property
    def header(self) -> tuple[str, str, str]:
        """Titles of :attr:`rows`."""
        return "metric", "estimate", f"{next(iter(self.metrics.values())).confidence:.0%} band"

    def __str__(self) -> str:
        return text_table(self.title, self.header, self.rows)

    def _repr_html_(self) -> str:
        return html_table(self.title, self.header, self.rows)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One estimated metric against what was realised.

    Attributes
    ----------
    metric : str
    estimated : Estimate
        With its band.
    realised : Estimate
        With its own interval, which plays no part in `is_within`: the band already is about the realised figure.
    """

    metric: str
    estimated: Estimate
    realised: Estimate

    @property
    def is_within(self) -> bool | None:
        """Whether the realised figure lies in the band; None when either is undefined."""
        if not (self.estimated.defined and self.realised.defined):
            return None
        return self.estimated.low <= self.realised.value <= self.estimated.high

    @property
    def difference(self) -> float:
        """Realised minus estimated; NaN when either is undefined."""
        return self.realised.value - self.estimated.value

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "metric": self.metric,
            "estimated": self.estimated.to_dict(),
            "realised": self.realised.to_dict(),
            "difference": None if math.isnan(self.difference) else self.difference,
            "is_within": self.is_within,
        }


def fit_recalibration(y_true: ArrayLike, y_score: ArrayLike, *, min_rows: int = 500) -> Recalibration:
    """Beta calibration of out-of-fold scores, with the uncertainty of its parameters.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,), 0 or 1
        1 = left within the horizon.
    y_score : array_like of shape (n_rows,), in [0, 1]
        Of models that had not seen the row.
    min_rows : int
        Fewer rows are refused.

    Raises
    ------
    InsufficientData
        Fewer than `min_rows` rows, or one class is absent.
    UsageError
        Lengths differ, a label is not 0 or 1, or a score is not in [0, 1].

    References
    ----------
    Kull, Silva Filho & Flach (2017), AISTATS, PMLR 54.
    """
    if (n_rows := len(np.asarray(y_true))) < min_rows:
        remedy = "estimate with a version that was trained on more people"
        raise InsufficientData(
            Fault("reference", f"has {n_rows:,} out-of-fold scores", f"at least {min_rows:,}", remedy)
        )
    labels, scores = checked(y_true, y_score)
    _require_shares("y_score", scores)
    if not 0 < labels.sum() < len(labels):
        raise InsufficientData(Fault("reference", "holds one class only", "leavers and stayers are needed"))
    design, y = _design(scores), labels.astype(float)
    beta = _most_likely(design, y)
    p = _expit(design @ beta)
    hessian = (design * (p * (1 - p))[:, None]).T @ design + _RIDGE * np.eye(3)
    covariance = np.linalg.inv(hessian)
    slope_low, slope_high, shift = beta.tolist()
    return Recalibration((slope_low, slope_high, shift), tuple(map(tuple, covariance.tolist())), len(y))


def estimate_performance(
    y_score: ArrayLike,
    decisions: ArrayLike,
    recalibration: Recalibration,
    *,
    coverage: float = 0.95,
    n_simulations: int = 1_000,
    seed: int = 42,
) -> EstimatedPerformance:
    """Expected metrics of a window without outcomes, each with a band for what will be realised.

    Parameters
    ----------
    y_score : array_like of shape (n_rows,), in [0, 1]
        One per person.
    decisions : array_like of shape (n_rows,), bool or 0/1
        As they were answered.
    recalibration
        Of the version that answered.
    coverage : float
        In (0, 1); nominal share of windows without concept drift whose realised metric falls into the band.
    n_simulations : int
        Outcomes drawn for each person, at least 200.
    seed : int
        Of the simulation; equal input gives equal output.

    Raises
    ------
    InsufficientData
        No rows.
    UsageError
        Lengths differ, a score is not in [0, 1], or too few simulations.
    """
    scores, flagged = np.asarray(y_score, float), np.asarray(decisions).astype(bool)
    if scores.shape != flagged.shape:
        raise UsageError(Fault("y_score and decisions", f"{scores.shape} and {flagged.shape}", "equal lengths"))
    if n_simulations < 200:
        raise UsageError(Fault("n_simulations", f"is {n_simulations}", "at least 200"))
    if not len(scores):
        raise InsufficientData(Fault("window", "has no predictions of known persons"))
    _require_shares("y_score", scores)
    order = np.argsort(scores, kind="stable")
    scores, flagged = scores[order], flagged[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    probability = recalibration(scores)
    value = {name: float(found[0]) for name, found in _metrics(probability[None, :], flagged, ends).items()}
    chunks = list(_simulated(scores, flagged, ends, recalibration, n_simulations, seed))
    tail = (1 - coverage) / 2
    metrics = {}
    for name in ESTIMATED:
        found = np.concatenate([chunk[name] for chunk in chunks])
        found = found[np.isfinite(found)]
        low, high = np.quantile(found, [tail, 1 - tail]) if len(found) and math.isfinite(value[name]) else (0.0, 1.0)
        metrics[name] = Estimate(value[name], float(low), float(high), len(scores), coverage, METHOD)
    return EstimatedPerformance(metrics, len(scores), float(probability.sum()), recalibration.n)


def reconcile(estimated: Mapping[str, Estimate], realised: Mapping[str, Estimate]) -> tuple[Reconciliation, ...]:
    """Estimates against the realised figures of the same persons.

    One metric outside its band is expected in one window out of twenty (at a coverage of 0.95). Windows that fall
    outside again and again, to the same side, say that leaving depends on the score otherwise than it did: concept
    drift, or a reference that was not representative.

    Parameters
    ----------
    estimated, realised : mapping of str to Estimate
        Of :func:`estimate_performance` and :func:`attrition.monitoring.performance.realised`.
    """
    shared = [name for name in ESTIMATED if name in estimated and name in realised]
    return tuple(Reconciliation(name, estimated[name], realised[name]) for name in shared)


def _most_likely(design: Floats, y: Floats) -> Floats:
    """Parameters of the penalised logistic regression; its loss is convex, so halved Newton steps always arrive."""

    def loss(beta: Floats) -> float:
        logit = design @ beta
        away = beta - _IDENTITY
        return float(np.sum(np.logaddexp(0, logit) - y * logit) + _RIDGE / 2 * away @ away)

    beta = np.array(_IDENTITY)
    for _ in range(100):
        p = _expit(design @ beta)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + _RIDGE * np.eye(3)
        step = np.linalg.solve(hessian, design.T @ (y - p) - _RIDGE * (beta - _IDENTITY))
        current, length = loss(beta), 1.0
        while loss(beta + length * step) > current and length > 1e-6:
            length /= 2
        beta = beta + length * step
        if np.abs(length * step).max() < 1e-9:
            break
    return beta


def _simulated(
    scores: Floats, flagged: Bools, ends: NDArray[np.intp], recalibration: Recalibration, n_simulations: int, seed: int
) -> Iterator[dict[str, Floats]]:
    """Metrics of simulated outcomes, in chunks so that memory does not grow with the window."""
    rng = np.random.default_rng(seed)
    parameters, design = recalibration.draws(rng, n_simulations), _design(scores)
    chunk = max(1, _CELLS_PER_CHUNK // len(scores))
    for start in range(0, n_simulations, chunk):
        probability = _expit(parameters[start : start + chunk] @ design.T)
        outcome = (rng.random(probability.shape, np.float32) < probability).astype(float)
        yield _metrics(outcome, flagged, ends)


def _metrics(left: Floats, flagged: Bools, ends: NDArray[np.intp]) -> dict[str, Floats]:
    """Metrics of each row of `left`, shape (n_simulations, n_rows) in ascending order of score.

    A cell is an outcome (0 or 1) or the probability of one; the metrics of probabilities are ratios of expectations.
    """
    n_rows = left.shape[1]
    leavers, n_flagged = left.sum(axis=1), float(flagged.sum())
    tp = left[:, flagged].sum(axis=1)
    fp, fn = n_flagged - tp, leavers - tp
    stayers = n_rows - leavers
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "auc": _areas(left, ends),
            "accuracy": (tp + stayers - fp) / n_rows,
            "precision": tp / n_flagged if n_flagged else np.full(len(tp), math.nan),
            "recall": tp / leavers,
            "f1": 2 * tp / (n_flagged + leavers),
            "fpr": fp / stayers,
            "fnr": fn / leavers,
        }


def _areas(left: Floats, ends: NDArray[np.intp]) -> Floats:
    """AUC of each row: leavers meet the stayers below them, and half of those with the same score."""
    ones = np.arange(1, left.shape[1] + 1, dtype=float)[ends]
    leavers = np.cumsum(left, axis=1)[:, ends]
    stayers = ones - leavers
    own_leavers, own_stayers = np.diff(leavers, prepend=0.0), np.diff(stayers, prepend=0.0)
    won = np.sum(own_leavers * (stayers - own_stayers / 2), axis=1)
    areas: Floats = won / (leavers[:, -1] * stayers[:, -1])
    return areas


def _design(scores: Floats) -> Floats:
    inside = np.clip(scores, _FLOOR, 1 - _FLOOR)
    return np.column_stack([np.log(inside), -np.log1p(-inside), np.ones_like(inside)])


def _expit(logit: Floats) -> Floats:
    probability: Floats = 1 / (1 + np.exp(-np.clip(logit, -700, 700)))
    return probability


def _require_shares(name: str, scores: Floats) -> None:
    if outside := int(np.count_nonzero(~((scores >= 0) & (scores <= 1)))):
        raise UsageError(Fault(name, f"{outside} scores outside [0, 1]", "scores are probabilities of leaving"))
