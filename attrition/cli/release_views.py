"""How a staged version and a rollout look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from attrition.release.rollout import Rollout
    from attrition.release.staging import Staged
    from attrition.stations.release import RolloutStatus

_COLOURS = {"PROMOTED": "bold green", "ROLLED_BACK": "bold red", "INCONCLUSIVE": "bold yellow", "PAUSED": "yellow"}


def staged_view(staged: Staged) -> RenderableType:
    """What the smoke tests found, and how the version is reached."""
    table = Table(title=f"Smoke tests of {staged.version}", title_justify="left")
    for column in ("check", "passed", "found"):
        table.add_column(column)
    for check in staged.report.checks:
        table.add_row(check.name, "yes" if check.passed else Text("no", "bold red"), check.detail)
    if not staged.passed:
        return table
    return Group(table, f"Staged without traffic; reached by the request header {staged.header}: {staged.value}")


def rollout_view(status: RolloutStatus) -> RenderableType:
    """Where a rollout stands, what the evidence is, what happened."""
    rollout = status.rollout
    state = Text(str(rollout.status).replace("_", " "), _COLOURS.get(str(rollout.status), "bold"))
    title = Text.assemble(f"Rollout {rollout.id}: {rollout.champion} to {rollout.challenger}  ", state)
    lines: list[RenderableType] = [title]
    if not rollout.status.is_final:
        lines.append(f"Driven by {status.driven_by or 'nobody: attrition release run'}")
    if rollout.trouble:
        lines.append(Text(f"Trouble: {rollout.trouble}", "red"))
    lines.append(_steps(rollout))
    if rollout.look is not None:
        lines.append(_evidence(rollout.look))
    lines += [Text(f"{line.at:%Y-%m-%d %H:%M:%S}  {line.text}") for line in rollout.log]
    return Group(*lines)


def _steps(rollout: Rollout) -> Table:
    table = Table(title="Plan", title_justify="left")
    for column in ("", "step", "lasts at least", "employees", "ends after", "approval"):
        table.add_column(column)
    for number, step in enumerate(rollout.plan.steps):
        mark = ">" if number == rollout.step and not rollout.status.is_final else ""
        mark = "done" if number < rollout.step or rollout.status == "PROMOTED" else mark
        is_last = number == rollout.plan.last
        needs = ("", "") if is_last else (f"{step.min_samples:,} each", _duration(step.limit))
        approval = "needed" if step.approval else ""
        table.add_row(mark, step.title, _duration(step.dwell), *needs, approval)
    return table


def _evidence(look: dict[str, Any]) -> Table:
    counts = f"{look['n_champion']:,} and {look['n_challenger']:,} employees"
    table = Table(title=f"Evidence of this step: {look['verdict']}, {counts}", title_justify="left")
    for column in ("metric", "role", "champion", "challenger", "difference", "interval", "margin", "shows"):
        table.add_column(column)
    for each in look["metrics"]:
        interval = f"{_number(each['low'])} to {_number(each['high'])}"
        figures = [_number(each[name]) for name in ("control", "challenger", "difference")]
        table.add_row(each["metric"], each["role"], *figures, interval, _number(each["margin"]), each["standing"])
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
