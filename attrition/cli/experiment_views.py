"""Experiments for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from attrition.experiments.planning import Expectation, Size
    from attrition.experiments.records import Experiment

_STYLES = {"PROMOTE": "bold green", "ROLL_BACK": "bold red", "CONTINUE": "cyan", "INCONCLUSIVE": "yellow"}
_STANDINGS = {"better": "green", "holds": "green", "worse": "bold red"}
_RIGHT = {"control", "challenger", "difference", "harm beyond", "n", "one look", "any time", "9 of 10 by", "min_units"}


def parse_expectation(text: str) -> Expectation:
    """``RATE=CONTROL:CHALLENGER[:MARGIN]`` as what the planner wants.

    Raises
    ------
    UsageError
        It has another form, or names no rate.
    """
    from attrition.experiments.plan import Role
    from attrition.experiments.planning import PLANNABLE, Expectation

    name, _, figures = text.partition("=")
    known = {str(metric): metric for metric in PLANNABLE}
    try:
        control, challenger, *margin = map(float, figures.split(":"))
    except ValueError:
        control, challenger, margin = 0.0, 0.0, [0.0, 0.0]
    if name not in known or len(margin) > 1:
        forms = f"RATE=CONTROL:CHALLENGER[:MARGIN], where RATE is one of {', '.join(known)}"
        raise UsageError(Fault(f"--expect {text[:60]}", "cannot be read", forms))
    role = Role.GUARDRAIL if margin else Role.GOAL
    return Expectation(known[name], control, challenger, role, margin[0] if margin else 0.0)


def sizes_view(sizes: Sequence[Size], *, share: float) -> RenderableType:
    """One line per rate, in records of both variants."""
    from rich.console import Group
    from rich.text import Text

    table = _table(
        "rate", "expected", "to be shown", "one look", "any time", "9 of 10 by", "min_units", "expected days"
    )
    for size in sizes:
        expected = size.expectation
        shown = f"worse by less than {expected.margin:g}" if expected.threshold else "better"
        table.add_row(
            str(expected.metric),
            f"{expected.control:.2%} → {expected.challenger:.2%}",
            shown,
            f"{size.records_fixed:,}",
            f"{size.records_mean:,}",
            f"{size.records_late:,}",
            f"{size.min_units:,}",
            "" if size.days is None else f"{size.days:,.0f}",
        )
    legend = (
        f"Records of both versions together, each of another person, the challenger's share being {share:.0%}.",
        "one look: a classical test, valid only when it is looked at once, at this size, with a power of 80 %.",
        "any time: looked at as often as one likes; mean of simulated experiments, and when 9 of 10 are decided.",
        "min_units: set it for the metric in the plan, in persons or requests of each version.",
    )
    return Group(table, "", *(Text(line, style="dim") for line in legend))


def experiment_view(experiment: Experiment) -> RenderableType:
    """What is compared, since when, and the last look."""
    from rich.console import Group
    from rich.text import Text

    plan = experiment.plan
    since = f"since {experiment.started_at:%Y-%m-%d %H:%M} UTC"
    until = f", stopped {experiment.stopped_at:%Y-%m-%d %H:%M} UTC" if experiment.stopped_at else ", running"
    how = "as its shadow" if plan.design == "shadow" else f"with {plan.weights.share:.4g} of the traffic"
    parts: list[RenderableType] = [
        f"{plan.name}: {plan.challenger} beside {plan.control} {how}, {since}{until}",
        Text(f"started by {experiment.actor}, run {experiment.run_id}, {len(experiment.looks)} looks", style="dim"),
    ]
    if experiment.looks:
        parts += ["", look_view(experiment.looks[-1])]
    return Group(*parts)


def experiments_view(found: Sequence[Experiment]) -> RenderableType:
    """One line per experiment."""
    table = _table("experiment", "control", "challenger", "design", "started", "state")
    for each in found:
        state = "running" if each.running else f"stopped {each.stopped_at:%Y-%m-%d %H:%M}"
        plan = each.plan
        table.add_row(
            plan.name, plan.control, plan.challenger, str(plan.design), f"{each.started_at:%Y-%m-%d %H:%M}", state
        )
    return table


def look_view(look: Mapping[str, Any]) -> RenderableType:
    """Verdict, reasons, metrics, the split and the classical tests."""
    from rich.console import Group
    from rich.text import Text

    verdict = str(look["verdict"])
    parts: list[RenderableType] = [Text(f"{verdict}  {look['experiment']}", style=_STYLES[verdict])]
    parts += [Text(f"  {reason}") for reason in look["reasons"]]
    if look["metrics"]:
        parts += ["", _metrics(look["metrics"])]
    if look["ratio"] is not None:
        parts += ["", Text(_ratio(look["ratio"]))]
    if look["fixed_horizon"]:
        tests = ", ".join(
            f"{test['metric']} {test['test']} p {test['p_value']:.3g}"
            for test in look["fixed_horizon"]
            if test["p_value"] is not None
        )
        parts += ["", Text(f"fixed horizon, for one look only: {tests}", style="dim")]
    parts += [Text(note, style="dim") for note in look["notes"]]
    return Group(*parts)


def _metrics(metrics: Sequence[Mapping[str, Any]]) -> Table:
    from rich.text import Text

    table = _table("metric", "role", "standing", "control", "challenger", "difference", "interval", "harm beyond", "n")
    for each in metrics:
        table.add_row(
            each["metric"],
            each["role"],
            Text(each["standing"], style=_STANDINGS.get(each["standing"], "")),
            _figure(each["control"]),
            _figure(each["challenger"]),
            _figure(each["difference"], "+.4g"),
            Text(f"[{_figure(each['low'], '+.4g')}, {_figure(each['high'], '+.4g')}]"),
            f"{each['margin']:g}",
            f"{each['n_control']:,} + {each['n_challenger']:,} {each['unit']}",
        )
    return table


def _ratio(ratio: Mapping[str, Any]) -> str:
    total = sum(ratio["assigned"].values())
    persons = ", ".join(
        f"{version} {ratio['assigned'].get(version, 0):,} of {share * total:,.0f} expected"
        for version, share in ratio["shares"].items()
    )
    word = "SAMPLE-RATIO MISMATCH" if ratio["mismatch"] else "split as weighted"
    return f"{word}: {persons} (p {ratio['p_value']:.2g}, limit {ratio['alpha']:g})"


def _figure(value: float | None, form: str = ".4g") -> str:
    return "" if value is None else format(value, form)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in _RIGHT else "left")
    return table
