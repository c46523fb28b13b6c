"""The report of an experiment as one HTML page that needs no other file and no network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Template

    from attrition.experiments.plan import ExperimentPlan


def experiment_page(plan: ExperimentPlan, looks: Sequence[Mapping[str, Any]]) -> str:
    """The page after the last of the looks.

    Parameters
    ----------
    looks
        Documents of :meth:`attrition.experiments.verdict.Analysis.to_dict`, oldest first, at least one.
    """
    from markupsafe import Markup

    from attrition.evaluation.display import html_figure
    from attrition.evaluation.plots import figure_png
    from attrition.experiments.plots import intervals_over_time

    picture = html_figure(figure_png(intervals_over_time(looks)), "differences and intervals, look by look")
    return _template().render(plan=plan, last=looks[-1], n_looks=len(looks), picture=Markup(picture))  # noqa: S704


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = _figure
    environment.filters["p"] = _p_value
    source = files("attrition.experiments").joinpath("experiment_page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _figure(value: float | None, form: str = ".4g") -> str:
    return "\N{EN DASH}" if value is None else format(value, form)


def _p_value(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
