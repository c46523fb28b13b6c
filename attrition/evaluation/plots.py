"""Figures of an evaluation, drawn without a display and without pyplot's global state.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; nothing is told by colour alone.
Each figure carries a caption that makes it readable by itself: how many rows, which figure with which interval, and
which threshold.
"""

from __future__ import annotations

from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from attrition.evaluation.fairness import FairnessReport
    from attrition.evaluation.reports import Evaluation

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
PIXELS_PER_INCH = 144


def roc_plot(evaluation: Evaluation) -> Figure:
    """ROC curve with the operating point that the threshold gives."""
    figure, axes = _canvas("How well the score ranks leavers above stayers", evaluation)
    counts, curves = evaluation.confusion, evaluation.curves
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="no skill, AUC 0.5")
    axes.plot(curves.fpr, curves.tpr, color=BLUE, linewidth=2, label=f"AUC {evaluation.metrics['auc']}")
    axes.plot(
        counts.fp / (counts.fp + counts.tn),
        counts.tp / (counts.tp + counts.fn),
        **_marker(f"threshold {evaluation.threshold:.3f}"),
    )
    axes.set(xlabel="Share of stayers flagged", ylabel="Share of leavers flagged")
    _unit_square(axes)
    _legend(axes, "lower right")
    return figure


def precision_recall_plot(evaluation: Evaluation) -> Figure:
    """Precision against recall with the operating point that the threshold gives."""
    figure, axes = _canvas("How precise flags are as more leavers are found", evaluation)
    metrics, curves = evaluation.metrics, evaluation.curves
    share = evaluation.n_positive / evaluation.n
    axes.axhline(share, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=f"no skill, precision {share:.3f}")
    axes.plot(
        (0.0, *curves.recall),
        (curves.precision[0], *curves.precision),
        color=BLUE,
        linewidth=2,
        drawstyle="steps-pre",
        label=f"average precision {metrics['average_precision']}",
    )
    if metrics["precision"].defined:
        point = metrics["recall"].value, metrics["precision"].value
        axes.plot(*point, **_marker(f"threshold {evaluation.threshold:.3f}"))
    axes.set(xlabel="Recall: share of leavers flagged", ylabel="Precision: share of flagged who leave")
    _unit_square(axes)
    _legend(axes, "best")
    return figure


def calibration_plot(evaluation: Evaluation) -> Figure:
    """Share that left against predicted probability, per bin of equal mass with its interval."""
    figure, axes = _canvas("Whether predicted probabilities come true", evaluation)
    bins = evaluation.curves.calibration
    predicted, observed = np.array(bins.predicted), np.array(bins.observed)
    spread = [np.maximum(observed - np.array(bins.low), 0), np.maximum(np.array(bins.high) - observed, 0)]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
    axes.errorbar(
        predicted,
        observed,
        yerr=spread,
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.5,
        capsize=3,
        label=f"{len(bins.n)} bins of about {round(evaluation.n / len(bins.n)):,} rows",
    )
    # a rare outcome would sit in a corner of the unit square
    side = min(1.0, 1.1 * max(*bins.predicted, *bins.high))
    beyond = "" if evaluation.threshold <= side else " (beyond this range)"
    label = f"threshold {evaluation.threshold:.3f}{beyond}"
    axes.axvline(evaluation.threshold, color=ORANGE, linewidth=1.5, label=label)
    axes.set(xlabel="Predicted probability of leaving", ylabel="Share that left")
    _unit_square(axes, side)
    _legend(axes, "best")
    _caption(figure, evaluation, f"calibration error {evaluation.metrics['calibration_error']}")
    return figure


def confusion_plot(evaluation: Evaluation) -> Figure:
    """Decisions against outcomes, counts and shares of the row."""
    figure, axes = _canvas("What is decided and what happens", evaluation)
    c = evaluation.confusion
    counts = np.array([[c.tn, c.fp], [c.fn, c.tp]])
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        colour = "white" if share > 0.55 else "black"
        axes.text(column, row, f"{count:,}\n{share:.1%}", ha="center", va="center", color=colour, fontsize=14)
    axes.set_xticks([0, 1], ["not flagged", "flagged as leaving"])
    axes.set_yticks([0, 1], ["stayed", "left"], rotation=90, va="center")
    axes.set(xlabel=f"Decision at threshold {evaluation.threshold:.3f}", ylabel="Outcome")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _caption(figure, evaluation, f"accuracy {evaluation.metrics['accuracy']}; shares are of the row")
    return figure


def importance_plot(
    names: Sequence[str],
    values: Sequence[float],
    spreads: Sequence[float],
    *,
    unit: str = "Loss of AUC when the feature is shuffled",
) -> Figure:
    """Importance of each feature with its spread, in the order given from the top.

    Parameters
    ----------
    names, values, spreads : sequences of equal length
        Features, importances and their standard deviations.
    unit : str
        What an importance measures, for the axis.
    """
    figure, axes = blank("What the model relies on", height=1.6 + 0.34 * len(names))
    position = np.arange(len(names))
    axes.barh(position, values, xerr=spreads, color=BLUE, ecolor="black", capsize=3, height=0.65)
    axes.set_yticks(position, [name.replace("_", " ") for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(unit)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    figure.supxlabel("bars: mean; lines: one standard deviation over repeats", **CAPTION)
    return figure


def fairness_plot(report: FairnessReport) -> Figure:
    """Selection rate of each group with its interval; groups that are not compared are hollow."""
    figure, axes = blank(f"Who is flagged, by {report.attribute}", height=1.8 + 0.34 * len(report.groups))
    for position, group in enumerate(report.groups):
        rate = group.selection_rate
        axes.errorbar(
            rate.value,
            position,
            xerr=[[rate.value - rate.low], [rate.high - rate.value]],
            color=BLUE if group.compared else GREY,
            marker="o",
            markerfacecolor=BLUE if group.compared else "white",
            capsize=3,
            linewidth=1.5,
        )
    labels = [f"{group.label} ({group.n:,})" for group in report.groups]
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)  # also without any group: the caption says why
    axes.set_xlim(left=0)
    axes.set_xlabel("Share flagged as leaving")
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
    figure.supxlabel("\n".join(wrap(report.summary, 86)), **CAPTION)
    return figure


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=PIXELS_PER_INCH)
    return buffer.getvalue()


CAPTION: dict[str, Any] = {"fontsize": 8.5, "color": "#444444"}
"""Text properties of the line below a figure."""


def blank(title: str, *, height: float) -> tuple[Figure, Any]:
    """A figure of a given height in inches and its axes, titled."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11.5, pad=12, parse_math=False)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _canvas(title: str, evaluation: Evaluation) -> tuple[Figure, Any]:
    figure, axes = blank(title, height=5.8)
    _caption(figure, evaluation, f"AUC {evaluation.metrics['auc']}")
    return figure, axes


def _caption(figure: Figure, evaluation: Evaluation, figures: str) -> None:
    rows = f"{evaluation.n:,} rows, {evaluation.n_positive:,} left"
    confidence = f"{evaluation.metrics['auc'].confidence:.0%} intervals"
    figure.supxlabel(f"{rows}; {figures}; {confidence}", **CAPTION)


def _marker(label: str) -> dict[str, Any]:
    return {
        "color": ORANGE,
        "marker": "D",
        "markersize": 8,
        "markeredgecolor": "white",
        "linestyle": "none",
        "label": label,
        "zorder": 3,
    }


def _legend(axes: Any, loc: str) -> None:
    axes.legend(loc=loc, facecolor="white", edgecolor="none", framealpha=0.85)


def _unit_square(axes: Any, side: float = 1.0) -> None:
    limits = (-0.015 * side, 1.015 * side)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.grid(color="#E5E5E5", linewidth=0.8)
