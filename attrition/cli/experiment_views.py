"""Experiments for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from attrition.experiments.expectation import Expectation
    from attrition.experiments.planning import Size
    from attrition.experiments.records import Experiment

_STYLES = {"PROMOTE": "bold green", "ROLL_BACK": "bold red", "CONTINUE": "cyan", "INCONCLUSIVE": "yellow"}
_STANDINGS = {"better": "green", "holds": "green", "worse": "bold red"}
_RIGHT = {
    "control",
    "challenger",
    "difference",
    "harm beyond",
    "n",
    "one look",
    "any time",
    "9 of 10 by",
    "min_units",
    "days",
}


def parse_expectation(text: str) -> Expectation:
    """``METRIC=CONTROL:CHALLENGER[:MARGIN][~SPREAD]`` as what the planner wants.

    Raises
    ------
    UsageError
        It has another form, or names no metric.
    """
    from attrition.experiments.expectation import Expectation
    from attrition.experiments.plan import Metric, Role

    name, _, rest = text.partition("=")
    figures, _, spread = rest.partition("~")
    known = {str(metric): metric for metric in Metric}
    try:
        control, challenger, *margin = map(float, figures.split(":"))
        wide = float(spread) if spread else None
    except ValueError:
        control, challenger, margin, wide = 0.0, 0.0, [0.0, 0.0], None
    if name not in known or len(margin) > 1:
        forms = f"METRIC=CONTROL:CHALLENGER[:MARGIN][~SPREAD], where METRIC is one of {', '.join(known)}"
        raise UsageError(Fault(f"--expect {text[:60]}", "cannot be read", forms))
    role = Role.GUARDRAIL if margin else Role.GOAL
    return Expectation(known[name], control, challenger, role, margin[0] if margin else 0.0, wide)


def sizes_view(sizes: Sequence[Size], *, share: float, correlation: float) -> RenderableType:
    """One line per metric and design, in records of both variants."""
    from rich.console import Group
    from rich.text import Text

    names = ["metric", "design", "expected", "to be shown", "one look", "any time", "9 of 10 by", "min_units", "days"]
    with_days = any(size.days is not None for size in sizes)
    table = _table(*names[: None if with_days else -1])
    for size in sizes:
        days = [f"{size.days:,.0f}"] if size.days is not None else []
        table.add_row(
            str(size.expectation.metric),
            str(size.design),
            _expected(size.expectation),
            _to_be_shown(size.expectation),
            f"{size.records_fixed:,}",
            f"{size.records_mean:,}",
            f"{size.records_late:,}",
            f"{size.min_units:,}",
            *days,
        )
    legend = [
        f"Records, each of another person. split: of both versions together, the challenger's share being {share:.0%}.",
        "one look: a classical test, valid only when it is looked at once, at this size, with a power of 80 %.",
        "any time: looked at as often as one likes; mean of simulated experiments, and when 9 of 10 are decided.",
        "min_units: set it for the metric in the plan, in persons or requests of each version.",
    ]
    if any(size.design == "shadow" for size in sizes):
        alike = f"their judgements are taken to correlate by {correlation:g}, or as much as the rates allow"
        legend.insert(1, f"shadow: both versions judge each record, so persons are compared with themselves; {alike}.")
    if with_days:
        legend.append("days: until the mean of any time, with the horizon after which labels are known.")
    return Group(table, "", *(Text(line, style="dim") for line in legend))


def _expected(expected: Expectation) -> str:
    if expected.metric.is_latency:
        return f"{expected.control:g} → {expected.challenger:g} ms"
    if expected.metric == "score_mean":
        return f"{expected.control:g} → {expected.challenger:g}"
    return f"{expected.control:.2%} → {expected.challenger:.2%}"


def _to_be_shown(expected: Expectation) -> str:
    if expected.metric.is_shift:
        return f"within {expected.margin:g} on both sides"
    return f"worse by less than {expected.margin:g}" if expected.threshold else "better"


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
