"""``attrition tune | train | validate``: candidates, and the gates that judge them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from attrition.cli.console import JsonFlag, emit, open_workspace, say
from attrition.errors import UsageError

EXIT_GATE_HELD = 3

SnapshotOption = Annotated[int | None, typer.Option(help="Snapshot version. [default: the latest]")]
GatesOption = Annotated[str | None, typer.Option(help="Gate thresholds: a YAML file or a shipped name.")]
RegisterFlag = Annotated[bool, typer.Option("--register", help="Register the run as a version if the gates admit it.")]


def tune(
    ctx: typer.Context,
    config: Annotated[str, typer.Option(help="Search plan: a YAML file or smoke, default, thorough.")] = "default",
    snapshot: SnapshotOption = None,
    gates: GatesOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted search of this plan.")] = False,
    register: RegisterFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Search hyper-parameters on Ray Tune, judge the winner on the holdout, log everything to MLflow.

    Example: attrition tune --config tune_configs/smoke.yaml --register
    """
    from attrition.cli.progress import SearchProgress

    with open_workspace(ctx) as workspace, SearchProgress() as progress:
        try:
            run = workspace.tune(
                config,
                snapshot=snapshot,
                gates=gates,
                on_trial=progress.trial,
                on_step=progress.step,
                resume=resume,
            )
        except KeyboardInterrupt:
            say(f"Finished trials are kept. Go on with: attrition tune --config {config} --resume")
            raise
    _finish(workspace, run, register=register, as_json=as_json)


def train(
    ctx: typer.Context,
    family: Annotated[str | None, typer.Option(help="Model family. [default: the logistic baseline]")] = None,
    param: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, repeatable.")] = None,
    config: Annotated[str, typer.Option(help="Plan that supplies split, folds, seed and threshold.")] = "default",
    snapshot: SnapshotOption = None,
    gates: GatesOption = None,
    register: RegisterFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Fit one configuration without a search; by default the baseline, a balanced logistic regression.

    Example: attrition train --family random_forest --param n_estimators=300
    """
    from attrition.cli.progress import SearchProgress

    parameters = _parameters(param or [])
    with open_workspace(ctx) as workspace, SearchProgress() as progress:
        run = workspace.train(family, parameters, plan=config, snapshot=snapshot, gates=gates, on_step=progress.step)
    _finish(workspace, run, register=register, as_json=as_json)


def validate(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="VERSION|RUN", help="1.0.0, champion, or an MLflow run id.")],
    gates: GatesOption = None,
    min_auc: Annotated[float | None, typer.Option(min=0, max=1, help="Least AUC.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Least accuracy.")] = None,
    bias_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Greatest difference of selection rates between groups.")
    ] = None,
    check_fairness: Annotated[
        bool | None, typer.Option("--check-fairness/--skip-fairness", help="Judge fairness. [default: as in the gates]")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Hold a version or a run against the gates again; exits 0 when they admit it, 3 when one holds it.

    Example: attrition validate 1.0.0 --min-auc 0.85 --min-accuracy 0.80 --bias-threshold 0.1 --check-fairness
    """
    from attrition.cli.views import evaluation_view, stacked, verdict_view

    judgement = open_workspace(ctx).validate(
        ref,
        gates=gates,
        min_auc=min_auc,
        min_accuracy=min_accuracy,
        bias_threshold=bias_threshold,
        check_fairness=check_fairness,
    )
    document = {
        "evaluation": judgement.evaluation.to_dict(),
        "verdict": judgement.verdict.to_dict(),
        "notes": judgement.notes,
    }
    emit(
        document,
        stacked(evaluation_view(judgement.evaluation), verdict_view(judgement.verdict)),
        as_json=as_json,
    )
    for note in judgement.notes:
        say(note)
    raise typer.Exit(0 if judgement.verdict.admits else EXIT_GATE_HELD)


def _finish(workspace: Any, run: Any, *, register: bool, as_json: bool) -> None:
    """Show a judged run, register it when asked and admitted, and exit 3 when a gate held it."""
    from attrition.cli.views import evaluation_view, run_document, run_view, stacked, verdict_view

    admitted = run.verdict.admits
    version = workspace.models.register(run.run_id) if register and admitted else None
    emit(
        run_document(run, version),
        stacked(run_view(run, version), evaluation_view(run.evaluation), verdict_view(run.verdict)),
        as_json=as_json,
    )
    if not admitted:
        raise typer.Exit(EXIT_GATE_HELD)
    if version is not None and "champion" not in version.aliases:
        say(f"The champion stays what it was; serve this version with: attrition serve up {version.version}")
    if not register:
        say(f"Register it: attrition models register {run.run_id}")


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value is read as YAML, so 300 is a number and true a boolean."""
    import yaml

    parameters = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise UsageError(f"--param {pair}: NAME=VALUE is expected, such as --param n_estimators=300.")
        parameters[name] = yaml.safe_load(value)
    return parameters
