"""``attrition privacy``: what is held about a person, its erasure, and retention."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, confirm, emit, open_workspace, say

EXIT_UNFINISHED = 5

app = typer.Typer(help="List what is held about a person, erase it, and apply retention.", no_args_is_help=True)

EmployeeArgument = Annotated[
    str,
    typer.Argument(metavar="EMPLOYEE", help="The HR system's number; - reads it from stdin, past the shell's history."),
]
PseudonymFlag = Annotated[bool, typer.Option("--pseudonym", help="EMPLOYEE is a pseudonym.")]
PolicyOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML of an own policy. [default: 3 years, inputs 30 days]"),
]


@app.command()
def report(
    ctx: typer.Context,
    employee: EmployeeArgument,
    is_pseudonym: PseudonymFlag = False,
    include_values: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every value to a new JSON file, mode 0600.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what is held about a person: stores, rows, dates and columns; exits 4 when nothing is.

    Example: attrition privacy report - --include-values answer.json
    """
    from attrition.cli.privacy_views import report_view

    found = open_workspace(ctx).privacy.report(_read(employee), is_pseudonym=is_pseudonym, values_to=include_values)
    emit(found.to_dict(), report_view(found), as_json=as_json)
    if include_values is not None:
        say(f"Wrote the values to {include_values}; only you can read it.")


@app.command()
def erase(
    ctx: typer.Context,
    employee: EmployeeArgument,
    justification: Annotated[
        str, typer.Option("--justification", "--reason", help="Why, for the audit log; without naming the person.")
    ],
    is_pseudonym: PseudonymFlag = False,
    policy: PolicyOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove a person from every table and sample, and destroy the personal key; repeat it after an interruption.

    Example: attrition privacy erase - --justification "request 2024-117"
    """
    from attrition.cli.privacy_views import erasure_view

    who = _read(employee)
    if not yes:
        confirm("Erase this person for good? It cannot be undone.")
    done = open_workspace(ctx).privacy.erase(who, justification=justification, is_pseudonym=is_pseudonym, policy=policy)
    emit(done.to_dict(), erasure_view(done), as_json=as_json)
    if not done.is_finished:
        say("Something could not be removed yet, see above. Repeat the command to finish.")
        raise typer.Exit(EXIT_UNFINISHED)


@app.command()
def retain(
    ctx: typer.Context,
    policy: PolicyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove what is past its retention; let a schedule run it once a day.

    Example: attrition privacy retain --dry-run
    """
    from attrition.cli.privacy_views import retained_view

    retained = open_workspace(ctx).privacy.retain(policy=policy, dry_run=dry_run)
    emit(retained.to_dict(), retained_view(retained), as_json=as_json)


def _read(employee: str) -> str:
    """The id, from the first line of stdin for ``-``."""
    return sys.stdin.readline() if employee == "-" else employee
