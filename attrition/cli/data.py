"""``attrition data``: extracts in, findings and snapshots out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say

EXIT_INPUT = 4

app = typer.Typer(help="Read, check, simulate and store HR extracts.", no_args_is_help=True)

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="CSV, CSV.gz, Parquet, or a folder of Parquet; a path or abfss://...")
]
MappingOption = Annotated[
    str | None,
    typer.Option(help="Mapping YAML, or a shipped name: workforce, hr_comma_sep, mfg10. [default: workforce]"),
]
SchemaOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="YAML of an own feature schema. [default: the nine HR features]")
]


@app.command("import")
def import_(
    ctx: typer.Context,
    file: FileArgument,
    mapping: MappingOption = None,
    schema: SchemaOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Read an extract, check and repair it, pseudonymise it, and store it as a snapshot.

    Example: attrition data import hr.csv --mapping hr_comma_sep
    """
    from attrition.cli.views import dataset_view

    dataset = open_workspace(ctx).data.load(file, mapping, schema=schema)
    document = {"snapshot": dataset.snapshot.to_dict(), "quality": dataset.quality.to_dict()}
    emit(document, dataset_view(dataset), as_json=as_json)


@app.command()
def check(
    ctx: typer.Context,
    file: FileArgument,
    mapping: MappingOption = None,
    schema: SchemaOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Report the quality findings of an extract and store nothing; exits 4 when one of them is an error.

    Example: attrition data check hr.csv --mapping hr_comma_sep
    """
    from attrition.cli.views import quality_view

    report = open_workspace(ctx).data.check(file, mapping, schema=schema)
    emit(report.to_dict(), quality_view(report), as_json=as_json)
    if report.errors:
        raise typer.Exit(EXIT_INPUT)


@app.command()
def snapshots(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the stored snapshots.

    Example: attrition data snapshots
    """
    from attrition.cli.views import snapshots_view

    stored = open_workspace(ctx).data.snapshots()
    emit([snapshot.to_dict() for snapshot in stored], snapshots_view(stored), as_json=as_json)


@app.command()
def simulate(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the extract (.csv.gz).")],
    employees: Annotated[int, typer.Option(min=100, help="Persons employed at a time.")] = 15_000,
    quarters: Annotated[int, typer.Option(min=1, help="Quarterly snapshots.")] = 1,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal extracts.")] = 42,
    scenario: Annotated[
        str | None,
        typer.Option(help="Drift: restructuring, remote_work, flexible_hours, salary_inflation, hiring_wave."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the extract of a simulated workforce; it says nothing about real people.

    Example: attrition data simulate workforce.csv.gz --quarters 8 --scenario restructuring
    """
    path = open_workspace(ctx).data.simulate(
        file, n_employees=employees, n_quarters=quarters, seed=seed, scenario=scenario
    )
    document = {"path": str(path), "employees": employees, "quarters": quarters, "seed": seed, "scenario": scenario}
    emit(document, as_json=as_json)
    say(f"Wrote {path}. Store it: attrition data import {path}")
