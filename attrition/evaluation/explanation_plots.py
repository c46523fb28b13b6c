"""Figures of a model's Shapley values: every feature's contributions as a swarm, and their mean sizes as bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attrition.evaluation.explanations import trend_words
from attrition.evaluation.plots import BLUE, CAPTION, blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from attrition.evaluation.explanations import GlobalImportance

_COLOURS = "cividis"
"""Told apart with any colour vision, and in grey."""
_NO_RANK = "#B0B0B0"
_ROW_HEIGHT = 0.42


def summary_plot(importance: GlobalImportance) -> Figure:
    """One dot per person and feature: how far it moves the estimate, coloured by the height of the value."""
    features = importance.features
    figure, axes = blank("How features move single estimates", height=2.1 + 0.5 * len(features))
    axes.axvline(0, color="black", linewidth=0.8, zorder=1)
    dots = None
    for row, feature in enumerate(features):
        x = np.array([point[0] for point in feature.points])
        ranks = np.array([np.nan if point[1] is None else point[1] for point in feature.points])
        y = row + _spread(x) * _ROW_HEIGHT
        plain = np.isnan(ranks)
        axes.scatter(x[plain], y[plain], color=_NO_RANK, s=9, linewidth=0, zorder=2)
        dots = axes.scatter(
            x[~plain], y[~plain], c=ranks[~plain], cmap=_COLOURS, vmin=0, vmax=1, s=9, linewidth=0, zorder=3
        )
    axes.set_yticks(range(len(features)), [f.feature.replace("_", " ") for f in features], parse_math=False)
    axes.set_ylim(len(features) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_xlabel(f"Contribution to the estimate ({importance.unit}); right of 0 raises it")
    if dots is not None:
        bar = figure.colorbar(dots, ax=axes, ticks=[0, 1], aspect=40, pad=0.02)
        bar.ax.set_yticklabels(["low", "high"], fontsize=9)
        bar.ax.tick_params(length=0)
        bar.set_label("value of the feature", labelpad=-14)
        bar.outline.set_visible(False)
    figure.supxlabel(f"{_rows(importance)}; grey: category or missing value", **CAPTION)
    return figure


def importance_bars(importance: GlobalImportance) -> Figure:
    """Mean size of each feature's contribution, the largest first, with what higher values do."""
    features = importance.features
    figure, axes = blank("What the model relies on", height=1.9 + 0.4 * len(features))
    position = np.arange(len(features))
    sizes = [feature.mean_absolute for feature in features]
    axes.barh(position, sizes, color=BLUE, height=0.65)
    for row, feature in enumerate(features):
        words = trend_words(feature.trend)
        text = f"{feature.share:.0%}" + (f", {words}" if words and feature.mean_absolute else "")
        axes.annotate(text, (feature.mean_absolute, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, max(sizes) * 1.95 or 1.0)
    axes.set_yticks(position, [feature.feature.replace("_", " ") for feature in features], parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_xlabel(f"Mean absolute contribution ({importance.unit})")
    figure.supxlabel(_rows(importance), **CAPTION)
    return figure


def _rows(importance: GlobalImportance) -> str:
    return f"Shapley values of {importance.n_rows:,} employees that the model had not seen"


def _spread(x: NDArray[np.float64], n_bins: int = 60) -> NDArray[np.float64]:
    """Vertical places in [-1, 1] that show how many points lie together; `x` ascends."""
    if not len(x):
        return x
    span = float(x[-1] - x[0]) or 1.0
    bins = np.minimum(((x - x[0]) / span * n_bins).astype(int), n_bins - 1)
    y = np.zeros(len(x))
    largest = int(np.bincount(bins).max())
    rng = np.random.default_rng(0)  # only the order within a column, which would otherwise draw chevrons
    for place in np.unique(bins):
        rows = np.flatnonzero(bins == place)
        y[rows] = (rng.permutation(len(rows)) - (len(rows) - 1) / 2) / max(1.0, (largest - 1) / 2)
    return y
