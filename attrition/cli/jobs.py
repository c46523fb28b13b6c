"""``attrition jobs``: commands that run on a Ray cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, busy, emit, open_workspace, say

if TYPE_CHECKING:
    from attrition.cluster.jobs import Job

EXIT_PLATFORM = 5

app = typer.Typer(help="Run commands as Ray jobs.", no_args_is_help=True)

AddressOption = Annotated[
    str | None,
    typer.Option(
        help="Ray dashboard, http://HOST:8265.",
        envvar="RAY_API_SERVER_ADDRESS",
        show_default="that of the Ray address, else of the local Ray",
    ),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Submission id of the job.")]


@app.command()
def submit(
    ctx: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND", help="The command and its arguments, after --.")],
    submission_id: Annotated[
        str | None, typer.Option(help="Submit once under this id; again, it is followed.", show_default="Ray chooses")
    ] = None,
    working_dir: Annotated[
        Path | None,
        typer.Option(help="Folder to upload and start in.", file_okay=False, exists=True, show_default="the cluster's"),
    ] = None,
    num_cpus: Annotated[float, typer.Option(min=0.0, help="Cores reserved for the command itself.")] = 0.0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show its output until it ends.")] = True,
    address: AddressOption = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a command on the cluster and exit with its exit code; 5 when it was stopped or never ran.

    Example: attrition jobs submit --submission-id drift-2026-11-30 -- attrition drift run --window 7d
    """
    jobs = open_workspace(ctx).jobs
    with busy("Submitting"):
        submitted = jobs.submit(
            command,
            submission_id=submission_id,
            working_dir=working_dir,
            num_cpus=num_cpus,
            address=address,
            justification=justification,
        )
    job = submitted.job
    say(f"Job {job.submission_id} {'is submitted' if submitted.new else 'was submitted before'}.")
    if wait:
        job = jobs.follow(job.submission_id, _print, address=address)
        say(f"Job {job.submission_id}: {job.status.lower()}.")
    emit(job.to_dict(), as_json=as_json)
    if wait:
        raise typer.Exit(_exit_code(job))


@app.command("list")
def list_(ctx: typer.Context, address: AddressOption = None, as_json: JsonFlag = False) -> None:
    """List the jobs that the cluster remembers, the latest last.

    Example: attrition jobs list
    """
    from attrition.cli.job_views import jobs_view

    jobs = open_workspace(ctx).jobs.list(address=address)
    emit([job.to_dict() for job in jobs], jobs_view(jobs), as_json=as_json)


@app.command()
def logs(
    ctx: typer.Context,
    submission_id: IdArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    address: AddressOption = None,
) -> None:
    """Print what a job has printed; with --follow exits as `jobs submit` does.

    Example: attrition jobs logs drift-2026-11-30 --follow
    """
    jobs = open_workspace(ctx).jobs
    if follow:
        raise typer.Exit(_exit_code(jobs.follow(submission_id, _print, address=address)))
    _print(jobs.logs(submission_id, address=address))


@app.command()
def stop(
    ctx: typer.Context,
    submission_id: IdArgument,
    address: AddressOption = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End a job and return once it has ended.

    Example: attrition jobs stop drift-2026-11-30
    """
    with busy("Stopping"):
        job = open_workspace(ctx).jobs.stop(submission_id, address=address, justification=justification)
    emit(job.to_dict(), as_json=as_json)
    say(f"Job {job.submission_id}: {job.status.lower()}.")


def _print(text: str) -> None:
    # not the result of this command, which --json prints, but another's output
    sys.stderr.write(text)
    sys.stderr.flush()


def _exit_code(job: Job) -> int:
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code and job.exit_code > 0 else EXIT_PLATFORM
