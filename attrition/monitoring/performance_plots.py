"""Pictures of performance over time, drawn without a display."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.evaluation.plots import BLUE, GREY, ORANGE
from attrition.monitoring.performance_report import Standing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrition.monitoring.performance_report import PerformanceReport

_COLOURS = (BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "os^Dv"
_SHIFT = 0.14
"""Sideways distance between versions in one bucket, in buckets."""


def auc_over_time(report: PerformanceReport) -> Figure:
    """AUC per bucket with its interval, a line per version, and the minimum that raises an alert.

    Buckets that lie wholly below the minimum are ringed; buckets without enough labels are left blank.
    """
    from matplotlib.figure import Figure

    names = sorted({bucket.name for version in report.versions for bucket in version.buckets})
    places = {name: place for place, name in enumerate(names)}
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(
        report.policy.min_auc,
        color=ORANGE,
        linewidth=1.2,
        linestyle=(0, (5, 3)),
        label=f"minimum {report.policy.min_auc:g}",
    )
    for number, version in enumerate(report.versions):
        measured = [bucket for bucket in version.buckets if bucket.metrics and bucket.metrics["auc"].defined]
        x = [places[bucket.name] + _SHIFT * (number - (len(report.versions) - 1) / 2) for bucket in measured]
        found = [bucket.metrics["auc"] for bucket in measured]
        y = [estimate.value for estimate in found]
        spread = [[e.value - e.low for e in found], [e.high - e.value for e in found]]
        style: dict[str, Any] = {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
        axes.errorbar(
            x, y, yerr=spread, linewidth=1.4, markersize=5, capsize=3, label=f"version {version.version}", **style
        )
        below = [index for index, bucket in enumerate(measured) if bucket.standing is Standing.BELOW]
        label = "wholly below the minimum" if number == 0 else None
        axes.plot(
            [x[i] for i in below],
            [y[i] for i in below],
            linestyle="none",
            marker="o",
            markersize=13,
            fillstyle="none",
            color=ORANGE,
            label=label,
        )
    axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 6 else 0)
    axes.set_xlim(-0.6, max(len(names) - 0.4, 0.6))
    axes.set(title=report.title, ylabel=f"AUC, {report.policy.confidence:.0%} interval")
    axes.grid(axis="y", color=GREY, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure
