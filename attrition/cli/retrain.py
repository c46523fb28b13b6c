"""``attrition retrain``: whether a new version is worth training, and its training up to a challenger."""

from __future__ import annotations

from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say
from attrition.errors import UsageError

EXIT_HELD = 3

app = typer.Typer()


@app.callback(invoke_without_command=True)
def retrain(
    ctx: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Decide and record the decision; train nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Train whatever the verdict; also in the cooldown.")] = False,
    config: Annotated[
        str, typer.Option(help="Policy: a YAML file or a shipped name, see tune_configs/retraining.yaml.")
    ] = "retraining",
    as_json: JsonFlag = False,
) -> None:
    """Retrain when drift or performance ask for it; the end is a challenger, never production traffic.

    Exits 0 when nothing is to be done, when it may not be done now (another process retrains, cooldown, daily budget,
    nothing new to learn) and when a challenger was registered; 3 when the gates hold it, when a person should look
    (INVESTIGATE), and with --check also when it is to be retrained.

    Example: attrition retrain --check
    """
    if ctx.invoked_subcommand is not None:
        return
    if check and force:
        raise UsageError("--check trains nothing and --force trains in any case; give one of them.")
    from attrition.cli.progress import SearchProgress
    from attrition.cli.retraining_views import retraining_view

    with open_workspace(ctx) as workspace:
        if check:
            found = workspace.retraining.check(config)
        else:
            with SearchProgress() as progress:
                found = workspace.retraining.run(config, force=force, on_trial=progress.trial, on_step=progress.step)
    emit(found.to_dict(), retraining_view(found.to_dict()), as_json=as_json)
    if found.attention:
        raise typer.Exit(EXIT_HELD)


@app.command()
def history(
    ctx: typer.Context,
    last: Annotated[int, typer.Option(min=1, help="Newest decisions to show.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List decisions and what came of them, newest first.

    Example: attrition retrain history --last 5
    """
    from attrition.cli.retraining_views import history_view

    decisions = open_workspace(ctx).retraining.history(last)
    emit(decisions, history_view(decisions), as_json=as_json)
    if not decisions:
        say("No decision was made yet: attrition retrain --check")
