"""The evaluation of a candidate on a holdout: metrics with intervals, counts, curves, and slices by group."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, UsageError
from attrition.evaluation.auc import checked
from attrition.evaluation.calibration import Bins, reliability_bins
from attrition.evaluation.display import html_figure, html_table, text_table
from attrition.evaluation.groups import group_labels
from attrition.evaluation.metrics import Confusion, Estimate, check_probabilities, measure, measure_slice

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

CURVE_POINTS = 256
"""Points kept of a curve: finer than a screen shows, small enough to store with every model version."""


@dataclass(frozen=True, slots=True)
class Curves:
    """ROC, precision-recall and reliability curves.

    Attributes
    ----------
    fpr, tpr : tuple of float, in [0, 1]
        ROC curve from (0, 0) to (1, 1), thinned to `CURVE_POINTS`.
    precision, recall : tuple of float, in [0, 1]
        At the same thresholds, recall ascending; without the empty decision, whose precision does not exist.
    calibration : Bins
    """

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    calibration: Bins

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        lines = {name: list(getattr(self, name)) for name in ("fpr", "tpr", "precision", "recall")}
        return {**lines, "calibration": self.calibration.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Curves:
        """Inverse of :meth:`to_dict`."""
        lines = {name: tuple(document[name]) for name in ("fpr", "tpr", "precision", "recall")}
        return cls(**lines, calibration=Bins.from_dict(document["calibration"]))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a candidate is worth on rows that it has not seen.

    Attributes
    ----------
    metrics : mapping of str to Estimate
        Keys :data:`attrition.evaluation.metrics.METRICS`.
    confusion : Confusion
        Decisions at `threshold` against outcomes.
    threshold : float
        A score of at least this is a decision "leaves".
    n, n_positive : int
        Rows, and rows that left.
    slices : mapping
        Attribute → group label → metric → Estimate. A slice with one class has undefined AUC, average precision and
        balanced accuracy; few rows show as wide intervals.
    small_slices : mapping
        Attribute → group label → rows, of the groups that are too small to report: their figures would say more
        about single persons than about the model.
    curves : Curves
    """

    metrics: Mapping[str, Estimate]
    confusion: Confusion
    threshold: float
    n: int
    n_positive: int
    curves: Curves
    slices: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    small_slices: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; undefined figures are None."""
        return {
            "metrics": {name: estimate.to_dict() for name, estimate in self.metrics.items()},
            "confusion": self.confusion.to_dict(),
            "threshold": self.threshold,
            "n": self.n,
            "n_positive": self.n_positive,
            "slices": {
                attribute: {
                    label: {name: estimate.to_dict() for name, estimate in metrics.items()}
                    for label, metrics in groups.items()
                }
                for attribute, groups in self.slices.items()
            },
            "small_slices": {attribute: dict(groups) for attribute, groups in self.small_slices.items()},
            "curves": self.curves.to_dict(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Evaluation:
        """Inverse of :meth:`to_dict`."""
        return cls(
            metrics=_estimates(document["metrics"]),
            confusion=Confusion.from_dict(document["confusion"]),
            threshold=float(document["threshold"]),
            n=int(document["n"]),
            n_positive=int(document["n_positive"]),
            curves=Curves.from_dict(document["curves"]),
            slices={
                attribute: {label: _estimates(metrics) for label, metrics in groups.items()}
                for attribute, groups in document["slices"].items()
            },
            small_slices={attribute: dict(groups) for attribute, groups in document["small_slices"].items()},
        )

    @property
    def rows(self) -> list[tuple[str, str, str, str]]:
        """Metric, value, interval and n, as text."""
        return [
            (
                name.replace("_", " "),
                f"{estimate.value:.3f}" if estimate.defined else "undefined",
                f"{estimate.low:.3f} to {estimate.high:.3f}",
                f"{estimate.n:,}",
            )
            for name, estimate in self.metrics.items()
        ]

    @property
    def _title(self) -> str:
        return (
            f"Evaluation on {self.n:,} rows, {self.n_positive:,} of which left ({self.n_positive / self.n:.1%}); "
            f"decision at {self.threshold:.3f}"
        )

    @property
    def _header(self) -> tuple[str, ...]:
        confidence = next(iter(self.metrics.values())).confidence if self.metrics else 0.95
        return "metric", "value", f"{confidence:.0%} interval", "n"

    def __str__(self) -> str:
        return text_table(self._title, self._header, self.rows)

    def plots(self) -> dict[str, Figure]:
        """Matplotlib figures by name: ``roc``, ``precision_recall``, ``calibration`` and ``confusion``."""
        from attrition.evaluation import plots

        return {
            "roc": plots.roc_plot(self),
            "precision_recall": plots.precision_recall_plot(self),
            "calibration": plots.calibration_plot(self),
            "confusion": plots.confusion_plot(self),
        }

    def _repr_html_(self) -> str:
        from attrition.evaluation.plots import figure_png

        figures = self.plots()
        shown = "".join(html_figure(figure_png(figures[name]), name) for name in ("roc", "calibration"))
        return f"{html_table(self._title, self._header, self.rows)}<div>{shown}</div>"


def evaluate(
    y_true: ArrayLike,
    y_score: ArrayLike,
    threshold: float,
    *,
    groups: pd.DataFrame | None = None,
    confidence: float = 0.95,
    n_resamples: int = 500,
    seed: int = 42,
    min_slice_size: int = 20,
) -> Evaluation:
    """Everything that reports and gates need to know about a score on a holdout.

    Parameters
    ----------
    y_true : array_like of shape (n_rows,), 0 or 1
        1 = left within the horizon.
    y_score : array_like of shape (n_rows,), in [0, 1]
        Probability of leaving within the horizon.
    threshold : float
        A score of at least this is a decision "leaves".
    groups : DataFrame of shape (n_rows, n_attributes), optional
        Group labels (see :func:`attrition.evaluation.groups.attributes_of`), rows in the order of `y_true`.
    confidence : float
        In (0, 1), of each interval by itself.
    n_resamples : int
        Bootstrap resamples, at least 100.
    seed : int
        Of the bootstrap; equal input gives equal output.
    min_slice_size : int
        Groups with fewer rows are counted, not reported.

    Raises
    ------
    InsufficientData
        `y_true` holds one class.
    UsageError
        Lengths differ, a label is not 0 or 1, a score is not a probability, or too few resamples.
    """
    labels, scores = checked(y_true, y_score)
    check_probabilities(scores, n_resamples)
    slices: dict[str, dict[str, dict[str, Estimate]]] = {}
    small: dict[str, dict[str, int]] = {}
    if groups is not None:
        if len(groups) != len(labels):
            raise UsageError(Fault("groups", f"{len(groups)} rows", f"y_true has {len(labels)}"))
        for attribute in groups:
            names = group_labels(groups[attribute])
            slices[str(attribute)], small[str(attribute)] = {}, {}
            for label in sorted(set(names)):
                rows = names == label
                if (size := int(rows.sum())) < min_slice_size:
                    small[str(attribute)][label] = size
                    continue
                slices[str(attribute)][label] = measure_slice(
                    labels[rows], scores[rows], threshold, confidence, n_resamples, seed
                )
    return Evaluation(
        metrics=measure(labels, scores, threshold, confidence=confidence, n_resamples=n_resamples, seed=seed),
        confusion=Confusion.count(labels, scores >= threshold),
        threshold=float(threshold),
        n=len(labels),
        n_positive=int(labels.sum()),
        curves=_curves(labels, scores, confidence),
        slices=slices,
        small_slices=small,
    )


def _curves(labels: NDArray[np.bool_], scores: NDArray[np.float64], confidence: float) -> Curves:
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    tp = np.cumsum(labels[order])[ends]
    fp = ends + 1 - tp
    tpr, fpr = tp / tp[-1], fp / fp[-1]
    # equal steps along the curve keep its corners, where equal steps in the threshold would cut them
    kept = np.unique(np.searchsorted((tpr + fpr) / 2, np.linspace(0, 1, CURVE_POINTS)).clip(max=len(ends) - 1))
    return Curves(
        fpr=(0.0, *fpr[kept].tolist()),
        tpr=(0.0, *tpr[kept].tolist()),
        precision=tuple((tp / (ends + 1))[kept].tolist()),
        recall=tuple(tpr[kept].tolist()),
        calibration=reliability_bins(labels, scores, confidence),
    )


def _estimates(document: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_dict(entry) for name, entry in document.items()}
