"""How the audit log looks on a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from attrition.governance.audit_chain import Verification
    from attrition.governance.audit_events import Record
    from attrition.governance.audit_heads import Head

_STYLES = {"denied": "bold red", "failed": "red"}


def records_view(records: Sequence[Record]) -> RenderableType:
    """Events, in the order given."""
    if not records:
        return Text("No event fits.")
    table = Table(title=f"{len(records)} event{'' if len(records) == 1 else 's'}", title_justify="left")
    for column in ("event", "time (UTC)", "actor", "action", "subject", "outcome", "why"):
        table.add_column(column)
    for record in records:
        cells = (str(record.time)[:19].replace("T", " "), record.actor, record.action, record.subject)
        outcome = _shown(record.outcome, _STYLES.get(str(record.outcome), ""))
        table.add_row(str(record.sequence), *map(_shown, cells), outcome, _shown(record.justification or ""))
    return table


def record_view(record: Record) -> RenderableType:
    """One event, a line for each field that was recorded."""
    table = Table(title=f"Event {record.sequence}", title_justify="left", show_header=False)
    for name, value in record.to_dict().items():
        if value is not None and name != "sequence":
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            table.add_row(name.replace("_", " "), _shown(text))
    return table


def verification_view(names: Sequence[str], verdicts: Sequence[Verification]) -> RenderableType:
    """A line for each log or export, and one for everything that is wrong with it."""
    text = Text()
    for name, verdict in zip(names, verdicts, strict=True):
        text.append(f"{name}: ")
        text.append("intact" if verdict.intact else "BROKEN", "green" if verdict.intact else "bold red")
        text.append(f", {_extent(verdict)}\n")
        for found in verdict.breaks:
            text.append_text(_shown(f"  {found}")).append("\n")
    text.rstrip()
    return text


def head_view(head: Head) -> RenderableType:
    """What was signed."""
    return Text(f"{head.sequence:,} events, signed {head.time[:19]}Z with key {head.key_id}, last hash {head.hash}")


def _extent(verdict: Verification) -> str:
    if not verdict.intact:
        before = verdict.last - verdict.first + 1
        return f"{before:,} events before the first break" if before else "no event before the first break"
    if verdict.last < verdict.first:
        return "no events"
    extent = f"events {verdict.first:,} to {verdict.last:,}"
    if verdict.covered == verdict.last:
        return f"{extent}, all signed"
    unsigned = verdict.last - max(verdict.covered, verdict.first - 1)
    return f"{extent}, the last {unsigned:,} not signed yet (attrition audit head signs them)"


def _shown(value: Any, style: str = "") -> Text:
    """Text without markup, and without what could move the cursor: the log may have been tampered with."""
    return Text(
        "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in str(value)),
        style,
    )
