"""``attrition outcomes``: who left, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say

app = typer.Typer(help="Record who left, and when.", no_args_is_help=True)


@app.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or Parquet: employee_id, left_on, optionally observed_at.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Record the outcomes in a file, with pseudonyms; the same file again changes nothing.

    Example: attrition outcomes import leavers.csv
    """
    recorded = open_workspace(ctx).outcomes.load(file)
    emit(recorded.to_dict(), as_json=as_json)
    say(f"{recorded.n_new:,} of {recorded.n_rows:,} outcomes are new, about {recorded.n_persons:,} persons.")


@app.command()
def compact(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Merge the small files of the outcomes into few; a node that serves does so each day by itself.

    Example: attrition outcomes compact
    """
    from attrition.cli.prediction_views import compaction_text

    done = open_workspace(ctx).outcomes.compact()
    emit(done.to_dict(), as_json=as_json)
    say(compaction_text(done))
