"""Retraining decisions for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from attrition.retraining.simulation_report import SimulationReport

_STYLES = {"RETRAIN": "bold yellow", "INVESTIGATE": "bold red", "HOLD": "green"}


def retraining_view(found: Mapping[str, Any]) -> RenderableType:
    """Verdict, reasons, what was missing, then what came of it."""
    from rich.console import Group
    from rich.text import Text

    from attrition.retraining.records import Counts

    rule = f": {found['rule']}" if found["rule"] else ": no rule of the policy applies"
    evidence = found["evidence"]
    parts: list[RenderableType] = [
        Text(f"{found['verdict']}{rule} (version {evidence['version']})", style=_STYLES[found["verdict"]]),
        *(Text(f"  {text}") for text in found["reasons"]),
        *(Text(f"  not known: {text}", style="dim") for text in found["missing"]),
    ]
    if found["state"] != "DECIDED":
        forced = " (forced)" if found["forced"] else ""
        parts += ["", Text(f"{found['state']}{forced}: {found['note']}")]
    if found["records"]:
        parts.append(Text(f"  {Counts(**found['records'])}"))
    parts += [Text(f"  {each['gate']}: {each['outcome']}, {each['found']}") for each in found["gates"]]
    if found["staged"]:
        parts.append(Text(f"  {found['staged']}"))
    return Group(*parts)


def history_view(decisions: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per decision."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("at", "version", "verdict", "rule", "came to", "challenger"):
        table.add_column(name)
    for found in decisions:
        table.add_row(
            found["at"][:16].replace("T", " "),
            found["evidence"]["version"],
            Text(found["verdict"], style=_STYLES[found["verdict"]]),
            found["rule"],
            found["state"] + (" (forced)" if found["forced"] else ""),
            found["version"],
        )
    return table


def simulation_view(report: SimulationReport) -> RenderableType:
    """A line per quarter, then what the loop was worth."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from attrition.retraining.simulation_report import REMARK

    table = Table(title=report.title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name in report.header:
        table.add_column(name)
    for row in report.rows:
        table.add_row(*map(Text, row))
    return Group(table, "", Text(report.summary, style="bold"), Text(REMARK, style="dim"))
