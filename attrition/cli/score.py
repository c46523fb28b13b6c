"""``attrition score``: a batch of employees from a file to a file."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, talk

if TYPE_CHECKING:
    from typing import Self

    from rich.console import RenderableType

    from attrition.serving.batch import BatchResult, Progress


class Ids(StrEnum):
    """What the column employee_id holds."""

    RAW = "raw"
    PSEUDONYMS = "pseudonyms"


def score(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="INPUT", help="CSV, CSV.gz, Parquet, a folder of them, or a Delta table; or abfss://"),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="OUTPUT", help="x.csv, x.csv.gz, x.parquet, or a folder of Parquet files; or abfss://"),
    ],
    model: Annotated[str, typer.Option(help="Version or alias that scores.")] = "champion",
    mapping: Annotated[str | None, typer.Option(help="Mapping YAML, or a shipped name.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Column of the input to repeat; may be given often.")] = None,
    ids: Annotated[
        Ids | None, typer.Option(help="What employee_id holds; raw ids are replaced.", show_default="raw")
    ] = None,
    table_version: Annotated[
        int | None, typer.Option(help="Version of a Delta table.", show_default="the latest")
    ] = None,
    as_delta: Annotated[bool, typer.Option("--delta", help="Make OUTPUT a Delta table.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier batch wrote.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Score a file of any size in bounded memory; an interrupted batch is finished by repeating the command.

    Example: attrition score employees.parquet scores --model champion
    """
    with open_workspace(ctx) as workspace, BatchProgress() as progress:
        result = workspace.score(
            source,
            target,
            model,
            mapping=mapping,
            keep=keep or (),
            ids=None if ids is None else ids.value,
            table_version=table_version,
            as_delta=as_delta,
            overwrite=overwrite,
            on_progress=progress.show,
        )
    emit(result.to_dict(), result_view(result), as_json=as_json)


class BatchProgress:
    """A bar over the bytes of the input, with rows per second; silent when stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = talk()
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("Preparing", total=None, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Move the bar to where the batch is."""
        note = f"{progress.n_done} of {progress.n_partitions} partitions"
        if progress.n_rows:
            note = f"{progress.n_rows:,} rows, {progress.rows_per_second:,.0f} rows/s"
        self._bar.update(self._task, description="Scoring", total=1.0, completed=progress.share, note=note)


def result_view(result: BatchResult) -> RenderableType:
    """What a batch did, and what it noticed."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def table(title: str) -> Table:
        return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False)

    facts = table("Scored")
    resumed = f", {result.n_resumed} of them by an earlier run" if result.n_resumed else ""
    for name, value in (
        ("output", f"{result.path} ({result.layout})"),
        ("model version", result.version),
        ("rows", f"{result.n_rows:,}"),
        ("expected to leave", f"{result.n_leavers:,} ({result.n_leavers / result.n_rows:.1%})"),
        ("partitions", f"{result.n_partitions}{resumed}"),
        ("took", f"{result.seconds:.1f} s, {result.rows_per_second:,.0f} rows/s"),
    ):
        facts.add_row(Text(name, "dim"), value)
    if not result.findings:
        return facts
    found = table("Noticed")
    for finding in result.findings:
        found.add_row(finding.severity.name, finding.code, finding.column or "", finding.message)
    return Group(facts, found)
