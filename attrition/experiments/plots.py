"""Pictures of an experiment: each difference with its interval from look to look."""

from __future__ import annotations

from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any

from attrition.evaluation.plots import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

_COLUMNS = 2


def intervals_over_time(looks: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel for each metric: difference and confidence sequence at each look, zero, and the margin of harm.

    Parameters
    ----------
    looks
        Documents of :meth:`attrition.experiments.verdict.Analysis.to_dict`, oldest first, at least one.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    names = [each["metric"] for each in looks[-1]["metrics"]]
    n_rows = max(ceil(len(names) / _COLUMNS), 1)
    figure = Figure(figsize=(10, 2.9 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        found = [
            (datetime.fromisoformat(look["as_of"]), each)
            for look in looks
            for each in look["metrics"]
            if each["metric"] == name and each["low"] is not None and each["high"] is not None
        ]
        _panel(axes, name, found, looks[-1])
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    drawn = [axes.get_legend_handles_labels() for axes in panels]
    unique = {label: handle for handles, labels in drawn for handle, label in zip(handles, labels, strict=True)}
    if unique:
        figure.legend(unique.values(), unique.keys(), loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    return figure


def _panel(axes: Any, name: str, found: Sequence[tuple[datetime, Mapping[str, Any]]], last: Mapping[str, Any]) -> None:
    now = next(each for each in last["metrics"] if each["metric"] == name)
    axes.set_title(f"{name.replace('_', ' ')} ({now['role']}): {now['standing']}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GREY, alpha=0.2)
    if not found:
        axes.text(0.5, 0.5, "nothing bounds it yet", ha="center", va="center", transform=axes.transAxes, color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    times = [moment for moment, _ in found]
    lows, highs = [each["low"] for _, each in found], [each["high"] for _, each in found]
    middle = [each["difference"] for _, each in found]
    if len(found) == 1:
        axes.errorbar(
            times,
            middle,
            yerr=[[middle[0] - lows[0]], [highs[0] - middle[0]]],
            color=BLUE,
            marker="o",
            markersize=4,
            capsize=4,
        )
    else:
        axes.fill_between(
            times, lows, highs, color=BLUE, alpha=0.18, linewidth=0, label="interval, valid at every look"
        )
        axes.plot(times, middle, color=BLUE, marker="o", markersize=3, linewidth=1.4, label="challenger minus control")
    axes.axhline(0.0, color="#333333", linewidth=0.9)
    shift = name in {"score_mean", "selection_rate"}
    for margin in [now["margin"], -now["margin"]][: 2 if shift else 1]:
        axes.axhline(margin, color=ORANGE, linewidth=1.2, linestyle=(0, (5, 3)), label="harm beyond")
    # the first looks know nothing: let the later ones fill the panel
    recent = slice(len(found) // 3, None)
    edges = [*lows[recent], *highs[recent], 0.0, now["margin"], *([-now["margin"]] if shift else [])]
    pad = 0.08 * (max(edges) - min(edges) or 1.0)
    axes.set_ylim(min(edges) - pad, max(edges) + pad)
