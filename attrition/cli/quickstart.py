"""``attrition quickstart``: from an HR extract to a gated model that answers over HTTP, in one command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attrition.cli.console import JsonFlag, busy, emit, open_workspace, say, say_heading

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from attrition.data.dataset import Dataset
    from attrition.registry.models import ModelVersion
    from attrition.serving.control import ServeStatus
    from attrition.workspace import Workspace

    Show = Callable[[RenderableType], None]

EXIT_GATE_HELD = 3
N_SCORED = 10


def quickstart(
    ctx: typer.Context,
    data: Annotated[Path | None, typer.Option(metavar="FILE", help="An HR extract. [default: a simulated one]")] = None,
    mapping: Annotated[str | None, typer.Option(help="Mapping YAML or a shipped name, for --data.")] = None,
    plan: Annotated[str, typer.Option(help="Search plan: a YAML file or smoke, default, thorough.")] = "default",
    leave: Annotated[bool, typer.Option("--exit", help="Stop when done instead of serving until Ctrl-C.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check, tune, gate, register, serve and score: the whole loop on this machine, in about two minutes.

    Example: attrition quickstart --data HR_comma_sep.csv --mapping hr_comma_sep
    """
    started = time.monotonic()
    show = (lambda _: None) if as_json else (lambda view: emit(None, view))
    with open_workspace(ctx) as workspace:
        # a port that is taken must not cost a search first
        workspace.serving.require_free_port()
        dataset = _import(workspace, data, mapping, show)
        with busy("Starting Ray"):
            session = workspace.ray(serving=True)
        if session.dashboard_url:
            say(f"Ray dashboard: {session.dashboard_url}")
        version = _unchanged_or_tuned(workspace, plan, show)
        status = _serve_and_score(workspace, version, dataset, show)
        document = {"version": version.to_dict(), "serving": status.to_dict(), "snapshot": dataset.snapshot.to_dict()}
        emit(document, as_json=as_json)
        say(f"\nDone in {time.monotonic() - started:.0f} s.")
        if not leave:
            say("Serving until Ctrl-C.")
            _until_interrupted()
        say("Stopping.")
        # lets the replica commit what it has logged, which the end of Ray would leave in its spool until the next start
        workspace.serving.down()


def _import(workspace: Workspace, data: Path | None, mapping: str | None, show: Show) -> Dataset:
    """Step 1: a checked snapshot of the given extract, or of a simulated one."""
    from attrition.cli.views import dataset_view

    say_heading("1. Data")
    if data is None:
        say("No --data was given: 15,000 simulated employees. They say nothing about real people.")
    with busy("Reading and checking the extract"):
        if data is None:
            data, mapping = workspace.data.simulate(), "workforce"
        dataset = workspace.data.load(data, mapping)
    show(dataset_view(dataset))
    return dataset


def _unchanged_or_tuned(workspace: Workspace, plan: str, show: Show) -> ModelVersion:
    """Steps 2 and 3: the registered version of this very data, plan and code, or a newly tuned and gated one."""
    from attrition.cli.progress import SearchProgress
    from attrition.cli.views import evaluation_view, run_view, verdict_view

    known = workspace.unchanged(plan)
    if known is not None:
        say_heading("2. and 3. Nothing changed")
        say(f"Version {known.version} was made from this data, plan and code.")
        return known
    say_heading("2. Search")
    with SearchProgress() as progress:
        run = workspace.tune(plan, on_trial=progress.trial, on_step=progress.step)
    say_heading("3. Judge and register")
    show(evaluation_view(run.evaluation))
    show(verdict_view(run.verdict))
    if not run.verdict.admits:
        say(f"Everything is logged in MLflow run {run.run_id}; nothing was registered, nothing is served.")
        say(mlflow_hint(workspace))
        raise typer.Exit(EXIT_GATE_HELD)
    version = workspace.models.register(run.run_id)
    show(run_view(run, version))
    return version


def _serve_and_score(workspace: Workspace, version: ModelVersion, dataset: Dataset, show: Show) -> ServeStatus:
    """Step 4: the version behind HTTP, and ten employees scored by it."""
    import numpy as np

    from attrition.cli.views import predictions_view, status_view
    from attrition.data.schema import EMPLOYEE_ID

    say_heading(f"4. Serve version {version.version}")
    with busy("Starting Ray Serve"):
        status = workspace.serving.up(version.version)
    employees = dataset.table.take(np.linspace(0, len(dataset.table) - 1, N_SCORED).astype(np.intp)).frame
    scored = workspace.client(status.url).predict(employees)
    show(predictions_view(employees[EMPLOYEE_ID], scored))
    show(status_view(status))
    say(mlflow_hint(workspace))
    return status


def mlflow_hint(workspace: Workspace) -> str:
    """The command that opens the MLflow pages of this workspace."""
    return f"MLflow pages:  mlflow ui --backend-store-uri {workspace.settings.tracking_uri}"


def _until_interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM; either is the ordinary end."""
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        return
