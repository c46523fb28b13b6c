"""How holdings, erasures and retention look in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from attrition.data.erasure import Erasure
    from attrition.data.holdings import Holding, PersonReport
    from attrition.data.retention import Retained


def report_view(report: PersonReport) -> RenderableType:
    """Store by store, without the person."""
    key = "There is a personal key: events in the audit log can be linked." if report.has_key else "No personal key."
    lines = [key, *([report.erasure] if report.erasure else []), *report.not_held]
    return Group(_holdings(report.holdings, f"Held about this person: {report.n_rows:,} rows"), *map(Text, lines))


def erasure_view(erasure: Erasure) -> RenderableType:
    """Rows by store, then what is left."""
    table = Table(title="Erased", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("store")
    table.add_column("rows", justify="right")
    for store, n_rows in erasure.n_rows.items():
        table.add_row(store, f"{n_rows:,}")
    table.add_row("personal key", "destroyed" if erasure.key_destroyed else "none")
    return Group(table, _holdings(erasure.remaining, "Not removed yet")) if erasure.remaining else table


def retained_view(retained: Retained) -> RenderableType:
    """What went, or would go."""
    title = "Past its retention, nothing was changed" if retained.dry_run else "Removed"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("what")
    table.add_column("number", justify="right")
    for words, number in (
        ("snapshot versions", retained.n_snapshots),
        ("rows in them", retained.n_snapshot_rows),
        ("predictions", retained.n_predictions),
        ("predictions that lose their inputs", retained.n_scoring_inputs),
        ("predictions that lose their groups", retained.n_group_labels),
        ("outcomes", retained.n_outcomes),
        ("samples in MLflow", retained.n_samples),
        ("notes of erasures", retained.n_tombstones),
        ("old files", retained.n_files),
        ("erasures to be repeated", retained.n_unfinished),
    ):
        table.add_row(words, f"{number:,}")
    return table


def _holdings(holdings: Sequence[Holding], title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("store", "where", "rows", "from", "to", "columns", "note"):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    for holding in holdings:
        period = (holding.first_date or "", holding.last_date or "")
        columns = ", ".join(holding.columns)
        table.add_row(holding.store, holding.place, f"{holding.n_rows:,}", *period, columns, holding.note)
    return table
