"""``attrition audit``: who did what, when and why, and whether that record is intact."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say
from attrition.governance.audit_events import Outcome

EXIT_BROKEN = 4

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]

app = typer.Typer(help="Read, verify, sign and export the audit log.", no_args_is_help=True)


@app.command("list")
def list_(
    ctx: typer.Context,
    since: Annotated[datetime | None, typer.Option(help="From this day or time on, UTC.", formats=DATES)] = None,
    until: Annotated[datetime | None, typer.Option(help="Before this day or time, UTC.", formats=DATES)] = None,
    actor: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    action: Annotated[str | None, typer.Option(help="What was done, such as traffic.change.")] = None,
    subject: Annotated[str | None, typer.Option(help="What it was done to, such as 1.1.0.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="How it ended.")] = None,
    correlation: Annotated[str | None, typer.Option(help="All events of one action.")] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only starts whose end was not recorded: running, or killed.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Newest events to show.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List recorded events, the newest last; all conditions must hold.

    Example: attrition audit list --action traffic.change --since 2026-01-01
    """
    from attrition.cli.audit_views import records_view

    records = open_workspace(ctx).audit.records(
        since=_utc(since),
        until=_utc(until),
        actor=actor,
        action=action,
        subject=subject,
        outcome=outcome,
        correlation=correlation,
        unfinished=unfinished,
        limit=limit,
    )
    emit([record.to_dict() for record in records], records_view(records), as_json=as_json)


@app.command()
def show(
    ctx: typer.Context,
    sequence: Annotated[int, typer.Argument(min=1, metavar="SEQUENCE", help="As listed.")],
    as_json: JsonFlag = False,
) -> None:
    """Show one event with everything that was recorded.

    Example: attrition audit show 42
    """
    from attrition.cli.audit_views import record_view

    record = open_workspace(ctx).audit.record(sequence)
    emit(record.to_dict(), record_view(record), as_json=as_json)


@app.command()
def verify(
    ctx: typer.Context,
    exports: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[EXPORT...]", help="Exported files, in the order of the log; the log itself if none."),
    ] = None,
    heads: Annotated[
        list[Path] | None,
        typer.Option("--head", metavar="FILE", help="A head, or an export, that was kept elsewhere; repeatable."),
    ] = None,
    public_keys: Annotated[
        list[Path] | None,
        typer.Option("--public-key", metavar="FILE", help="Trust this key beside the log's own; repeatable."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify that the log is what was recorded and extends the given heads; exits 4 and names the first broken event.

    Example: attrition audit verify --head anchored-head.json
    """
    from attrition.cli.audit_views import verification_view

    audit = open_workspace(ctx).audit
    names = [str(path) for path in exports or []] or ["audit log"]
    if exports:
        verdicts = audit.verify_exports(exports, heads=heads or [], public_keys=public_keys or [])
    else:
        verdicts = [audit.verify(heads=heads or [], public_keys=public_keys or [])]
    rows = [{"name": name, **verdict.to_dict()} for name, verdict in zip(names, verdicts, strict=True)]
    emit(rows if exports else rows[0], verification_view(names, verdicts), as_json=as_json)
    if not all(verdict.intact for verdict in verdicts):
        say("This is not what was recorded. Keep a copy of it as it is, and compare with exports and anchored heads.")
        raise typer.Exit(EXIT_BROKEN)


@app.command()
def export(
    ctx: typer.Context,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Folder, abfss://... folder, or a new file that ends in .jsonl.")
    ],
    first: Annotated[
        int | None, typer.Option("--from", min=1, metavar="SEQUENCE", help="First event; else what the folder lacks.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write events and a signed head to a file that can be verified without the database; into a folder, what is new.

    Example: attrition audit export /mnt/immutable/audit
    """
    exported = open_workspace(ctx).audit.export(target, first=first)
    emit(exported.to_dict() if exported else None, as_json=as_json)
    if exported is None:
        say("There is nothing to export that is not there already.")
    else:
        say(f"Wrote the events {exported.first:,} to {exported.last:,} to {exported.path}.")


@app.command()
def head(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it to a new file, to be kept elsewhere.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign the log as it is; kept elsewhere, the head proves later that nothing before it was changed or cut off.

    Example: attrition audit head --out head-2026-01.json
    """
    from attrition.cli.audit_views import head_view

    signed = open_workspace(ctx).audit.head(out)
    emit(signed.to_dict(), head_view(signed), as_json=as_json)
    if out is not None:
        say(f"Wrote the head to {out}.")


@app.command()
def key(
    ctx: typer.Context,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it to a new file, for auditors.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the public key that verifies the log's heads and exports.

    Example: attrition audit key --out audit.pub
    """
    from rich.text import Text

    public = open_workspace(ctx).audit.key(out)
    emit(public, Text(public["pem"].strip()), as_json=as_json)
    say(f"Key {public['key_id']}" + (f", written to {out}." if out else "."))
    if out:
        say("Give it to auditors: attrition audit verify EXPORT --public-key FILE, attrition certify --verify FILE.")
    else:
        say("--out FILE writes it to a file, for auditors.")


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
