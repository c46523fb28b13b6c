"""A drift report as one HTML page that needs no other file and no network; its plots are SVG.

Blue and orange are those of Okabe and Ito, which people with any colour vision tell apart; nothing is told by colour
alone.
"""

from __future__ import annotations

from functools import cache
from html import escape
from importlib.resources import files
from math import ceil
from typing import TYPE_CHECKING

from attrition.monitoring.drift import Level

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Template
    from markupsafe import Markup

    from attrition.monitoring.drift import FeatureDrift
    from attrition.monitoring.drift_report import DriftReport

BLUE, ORANGE, GREY, RULE = "#0072B2", "#D55E00", "#767676", "#D8D8D8"
MAX_POINTS = 60
"""Reports in the plots over time, the newest."""

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 430, 180, 44, 44, 10


def drift_page(report: DriftReport, earlier: Sequence[DriftReport] = ()) -> str:
    """The page of a report.

    Parameters
    ----------
    earlier
        Reports against the same reference, in any order, for the plots over time; the report itself may be among them.
    """
    by_id = {each.report_id: each for each in (*earlier, report)}
    history = sorted(by_id.values(), key=lambda each: (each.end or each.created_at, each.report_id))[-MAX_POINTS:]
    worst = sorted(report.features, key=lambda each: (not each.level.drifted, -(each.psi or 0.0)))
    plots = {each.feature: (distribution_svg(each), history_svg(each.feature, history)) for each in worst}
    return _template().render(report=report, worst=worst, plots=plots, history=history, Level=Level)


def distribution_svg(drift: FeatureDrift) -> Markup:
    """Shares of the rows by bin: the reference as wide grey bars, the window as narrow blue ones in front of them."""
    pairs = [
        (label, reference, window)
        for label, reference, window in zip(drift.labels, drift.shares_reference, drift.shares_window, strict=False)
        if reference or window
    ]
    if not pairs:
        return _svg("", f"{drift.feature}: no rows")
    top = _round_up(max(max(reference, window) for _, reference, window in pairs))
    step = (_WIDTH - _LEFT - 8) / len(pairs)
    height = _HEIGHT - _BOTTOM - _TOP
    marks = [_grid(top, percent=True)]
    for place, (label, reference, window) in enumerate(pairs):
        left = _LEFT + place * step
        for share, width, colour in ((reference, 0.86, "#C9C9C9"), (window, 0.46, BLUE)):
            bar = height * share / top
            x = left + step * (1 - width) / 2
            marks.append(
                f'<rect x="{x:.1f}" y="{_TOP + height - bar:.1f}" width="{step * width:.1f}" height="{bar:.1f}" '
                f'fill="{colour}"><title>{escape(label)}: reference {reference:.1%}, window {window:.1%}</title></rect>'
            )
        text = label.partition(" to ")[0].removeprefix("from ").replace("below ", "<")
        x, y = left + step / 2, _TOP + height + 12
        marks.append(
            f'<text x="{x:.1f}" y="{y}" text-anchor="end" transform="rotate(-35 {x:.1f} {y})">{escape(text)}</text>'
        )
    return _svg("".join(marks), f"{drift.feature}: shares of the rows by bin, reference and window")


def history_svg(feature: str, history: Sequence[DriftReport]) -> Markup:
    """Stability index of a feature in report after report, with the bands of the policy."""
    points = []
    for place, report in enumerate(history):
        found = next((each for each in report.features if each.feature == feature), None)
        if found is not None and found.psi is not None:
            points.append((place, found.psi, found.level.drifted, report))
    if not points:
        return _svg("", f"{feature}: no stability index")
    policy = history[-1].policy
    top = _round_up(max(1.2 * policy.major, *(psi for _, psi, _, _ in points)))
    height, width = _HEIGHT - _BOTTOM - _TOP, _WIDTH - _LEFT - 74
    step = width / max(len(history) - 1, 1)

    def at(place: int, psi: float) -> tuple[float, float]:
        x = _LEFT + 8 + (place * step if len(history) > 1 else width / 2)
        return x, _TOP + height * (1 - psi / top)

    marks = [_grid(top, percent=False)]
    for value, word in ((policy.moderate, "moderate"), (policy.major, "major")):
        y = at(0, value)[1]
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 62}" y1="{y:.1f}" y2="{y:.1f}" stroke="{ORANGE}" '
            f'stroke-dasharray="5 4"/><text x="{_WIDTH - 58}" y="{y + 4:.1f}" fill="{ORANGE}">{word}</text>'
        )
    line = " ".join("{:.1f},{:.1f}".format(*at(place, psi)) for place, psi, _, _ in points)
    marks.append(f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="2"/>')
    for place, psi, drifted, report in points:
        x, y = at(place, psi)
        said = f"<title>{escape(report.window)}: {psi:.3f}{', drifted' if drifted else ''}</title>"
        if drifted:  # a diamond, so that it is told by shape too
            marks.append(f'<path d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z" fill="{ORANGE}" stroke="white">{said}</path>')
        else:
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{BLUE}" stroke="white">{said}</circle>')
    for place, anchor in ((0, "start"), (len(history) - 1, "end")):
        if place == 0 or len(history) > 1:
            x = at(place, 0)[0]
            moment = history[place].end or history[place].created_at
            marks.append(f'<text x="{x:.1f}" y="{_TOP + height + 16}" text-anchor="{anchor}">{moment:%Y-%m-%d}</text>')
    return _svg("".join(marks), f"{feature}: stability index over time")


def _grid(top: float, *, percent: bool) -> str:
    height, marks = _HEIGHT - _BOTTOM - _TOP, []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        text = (
            f"{top * share:.0%}" if percent and top >= 0.1 else f"{top * share:.1%}" if percent else f"{top * share:g}"
        )
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="{RULE}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    return "".join(marks)


def _svg(marks: str, title: str) -> Markup:
    from markupsafe import Markup

    return Markup(  # noqa: S704 - every text in it went through escape()
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">{marks}</svg>'
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5 and 10 times a power of ten."""
    power = 1e-3
    while power * 10 < value:
        power *= 10
    return next((step * power for step in (1, 2, 4, 5, 10) if step * power >= value), ceil(value))


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure
    environment.filters["p"] = _p_value
    source = files("attrition.monitoring").joinpath("drift_page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _figure(value: float | None, form: str = ".3f") -> str:
    return "\N{EN DASH}" if value is None else format(value, form)


def _p_value(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
