"""``attrition serve``: the HTTP endpoint on Ray Serve."""

from __future__ import annotations

from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, busy, emit, open_workspace, say

EXIT_PLATFORM = 5

app = typer.Typer(help="Serve a registered version over HTTP.", no_args_is_help=True)


@app.command()
def up(
    ctx: typer.Context,
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION]", help="Version or alias. [default: what is served; the champion when nothing is]"
        ),
    ] = None,
    config: Annotated[str, typer.Option(help="Serve configuration: a YAML file or a shipped name.")] = "local",
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop the split, pins and shadows of a running endpoint.")
    ] = False,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve a version and return once it answers; without a Ray address a local Ray is started in the background.

    Example: attrition serve up champion
    """
    from attrition.cli.views import status_view

    with busy("Verifying the version and starting Ray Serve"):
        workspace = open_workspace(ctx)
        status = workspace.serving.up(version, config=config, replace=replace, justification=justification)
    emit(status.to_dict(), status_view(status), as_json=as_json)


@app.command()
def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Show what is served and where; exits 5 when nothing answers.

    Example: attrition serve status
    """
    from attrition.cli.views import status_view

    found = open_workspace(ctx).serving.status()
    emit(found.to_dict(), status_view(found), as_json=as_json)
    if not found.running:
        raise typer.Exit(EXIT_PLATFORM)


@app.command()
def down(ctx: typer.Context, justification: JustificationOption = None, as_json: JsonFlag = False) -> None:
    """Stop serving, and the local Ray that `serve up` started.

    Example: attrition serve down
    """
    with busy("Stopping"):
        served = open_workspace(ctx).serving.down(justification=justification)
    emit({"stopped": served}, as_json=as_json)
    say("Stopped." if served else "Nothing was served.")
