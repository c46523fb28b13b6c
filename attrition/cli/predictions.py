"""``attrition predictions``: what the endpoint answered."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say

app = typer.Typer(help="Read the log of predictions, and keep it in shape.", no_args_is_help=True)

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
SinceOption = Annotated[datetime | None, typer.Option(help="First day, UTC.", formats=DATES)]
UntilOption = Annotated[datetime | None, typer.Option(help="Day after the last one, UTC.", formats=DATES)]


@app.command()
def tail(
    ctx: typer.Context,
    n: Annotated[int, typer.Option("-n", min=1, max=100_000, help="Predictions.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Show the last predictions; features only with --json.

    Example: attrition predictions tail -n 5
    """
    import json

    from attrition.cli.prediction_views import predictions_view

    frame = open_workspace(ctx).predictions.tail(n)
    rows = json.loads(frame.to_json(orient="records", date_format="iso", date_unit="us", double_precision=15))
    emit(rows, predictions_view(frame), as_json=as_json)


@app.command()
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Ends in .parquet or .csv.")],
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the predictions of a period, with their features, to a Parquet or CSV file.

    Example: attrition predictions export march.parquet --since 2024-03-01 --until 2024-04-01
    """
    n_rows = open_workspace(ctx).predictions.export(file, since, until)
    emit({"file": str(file), "n_rows": n_rows}, as_json=as_json)
    say(f"Wrote {n_rows:,} predictions to {file}.")


@app.command()
def recover(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Commit what replicas that were killed left on this machine; a replica that starts here does the same.

    Example: attrition predictions recover
    """
    status = open_workspace(ctx).predictions.recover()
    emit({"n_records": status.n_records, "n_outcomes": status.n_outcomes} if status else None, as_json=as_json)
    if status is None:
        say("The endpoint is running and commits by itself.")
    else:
        say(f"Committed {status.n_records:,} predictions and {status.n_outcomes:,} outcomes.")


@app.command()
def compact(
    ctx: typer.Context,
    today: Annotated[bool, typer.Option("--today", help="Also the current day's, when nothing is served.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Merge the small files of each day that is over; a node that serves does so each day by itself.

    Example: attrition predictions compact
    """
    from attrition.cli.prediction_views import compaction_text

    done = open_workspace(ctx).predictions.compact(today=today)
    emit(done.to_dict(), as_json=as_json)
    say(compaction_text(done))
