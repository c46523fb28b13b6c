"""``attrition release``: from a registered version to everybody's, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, emit, open_workspace, say

if TYPE_CHECKING:
    from attrition.release.rollout import Rollout
    from attrition.stations.release import Release, RolloutStatus

EXIT_GATE_HELD = 3

app = typer.Typer(help="Stage a version, approve it, roll it out step by step, intervene.", no_args_is_help=True)

VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="1.1.0, or an alias such as challenger.")]


@app.command()
def stage(
    ctx: typer.Context, version: VersionArgument, justification: JustificationOption = None, as_json: JsonFlag = False
) -> None:
    """Warm a version beside the others, without traffic, and smoke-test it over HTTP; exits 3 when a test fails.

    Example: attrition release stage 1.1.0
    """
    from attrition.cli.release_views import staged_view

    staged = open_workspace(ctx).release.stage(version, justification=justification)
    emit(staged.to_dict(), staged_view(staged), as_json=as_json)
    if not staged.passed:
        say("It was let go; the traffic is what it was.")
        raise typer.Exit(EXIT_GATE_HELD)


@app.command()
def approve(
    ctx: typer.Context,
    version: VersionArgument,
    justification: Annotated[
        str, typer.Option("--justification", "--reason", help="Why it is fit for its purpose; kept with the version.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Approve a version, which a plan's step with `approval: true` waits for; not by those who made it.

    Example: attrition release approve 1.1.0 --justification "fewer false alarms, fair in every department"
    """
    approved = open_workspace(ctx).release.approve(version, justification=justification)
    emit(approved.to_dict(), f"Version {approved.version} is approved.", as_json=as_json)


@app.command()
def start(
    ctx: typer.Context,
    version: VersionArgument,
    plan: Annotated[str, typer.Option(help="Rollout plan: a YAML file, or the shipped one.")] = "rollout",
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to the Ray cluster that serves, and return at once.")
    ] = False,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Roll a staged version out by plan and show how it goes; exits 3 when it does not become the champion.

    Example: attrition release start 1.1.0 --plan serve_configs/rollout.yaml
    """
    release = open_workspace(ctx).release
    release.start(version, plan, justification=justification)
    if detach:
        release.detach()
        say("The cluster drives it from here.")
        _emit(release.status(), as_json=as_json)
    else:
        _drive(release, as_json=as_json)


@app.command()
def run(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Drive the rollout that is under way, such as one whose `start` was interrupted; exits 3 as that does.

    Example: attrition release run
    """
    _drive(open_workspace(ctx).release, as_json=as_json)


@app.command()
def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Show the rollout that is under way, or the last one: step, evidence, what happened.

    Example: attrition release status
    """
    _emit(open_workspace(ctx).release.status(), as_json=as_json)


@app.command()
def pause(ctx: typer.Context, justification: JustificationOption = None, as_json: JsonFlag = False) -> None:
    """Have the rollout stand still; harm still ends it.

    Example: attrition release pause --justification "payroll runs today"
    """
    _emit(open_workspace(ctx).release.pause(justification=justification), as_json=as_json)


@app.command()
def resume(ctx: typer.Context, justification: JustificationOption = None, as_json: JsonFlag = False) -> None:
    """Go on with a rollout that was paused.

    Example: attrition release resume
    """
    _emit(open_workspace(ctx).release.resume(justification=justification), as_json=as_json)


@app.command()
def promote(ctx: typer.Context, justification: JustificationOption = None, as_json: JsonFlag = False) -> None:
    """Skip what is left of the plan and make the challenger the champion.

    Example: attrition release promote --justification "the old version's feed ends tonight"
    """
    _emit(open_workspace(ctx).release.promote(justification=justification), as_json=as_json)


@app.command()
def rollback(ctx: typer.Context, justification: JustificationOption = None, as_json: JsonFlag = False) -> None:
    """Give the champion everything back and end the rollout.

    Example: attrition release rollback --justification "complaints from the sales department"
    """
    _emit(open_workspace(ctx).release.rollback(justification=justification), as_json=as_json)


def _drive(release: Release, *, as_json: bool) -> None:
    """Drive the rollout and say what happens to it when it happens."""
    from attrition.release.rollout import Status

    n_told = 0

    def tell(rollout: Rollout) -> None:
        nonlocal n_told
        for line in rollout.log[n_told:]:
            say(f"{line.at:%H:%M:%S}  {line.text}")
        n_told = len(rollout.log)

    ended = release.run(tell)
    _emit(ended, as_json=as_json)
    if ended.rollout.status is not Status.PROMOTED:
        raise typer.Exit(EXIT_GATE_HELD)


def _emit(status: RolloutStatus, *, as_json: bool) -> None:
    from attrition.cli.release_views import rollout_view

    emit(status.to_dict(), rollout_view(status), as_json=as_json)
