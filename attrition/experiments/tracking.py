"""What an experiment leaves in MLflow: one run, a step of metrics for each look, and the report as it is now."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.training.connection import connect, experiment_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.experiments.plan import ExperimentPlan
    from attrition.experiments.verdict import Analysis
    from attrition.settings import Settings
    from attrition.training.connection import TrackingClient

DOCUMENT_FILE, PAGE_FILE, PLAN_FILE = "analysis.json", "experiment.html", "plan.json"


def begin_run(settings: Settings, plan: ExperimentPlan) -> str:
    """Id of the run of a new experiment.

    Raises
    ------
    PlatformError
        MLflow does not answer.
    """
    client = connect(settings)
    tags = {
        "attrition.kind": "experiment",
        "attrition.ab_experiment": plan.name,
        "attrition.control": plan.control,
        "attrition.challenger": plan.challenger,
        "attrition.design": str(plan.design),
    }
    run = client.create_run(experiment_id(client, settings), run_name=f"experiment {plan.name}", tags=tags)
    run_id = str(run.info.run_id)
    write_files(client, run_id, {PLAN_FILE: json.dumps(plan.model_dump(mode="json"), indent=1)})
    return run_id


def log_look(settings: Settings, run_id: str, number: int, analysis: Analysis, page: str) -> None:
    """Add a look to the run of its experiment.

    Raises
    ------
    PlatformError
        MLflow does not answer.
    """
    from mlflow.entities import Metric as LoggedMetric
    from mlflow.entities import RunTag

    client = connect(settings)
    moment = int(analysis.as_of.timestamp() * 1000)
    document = analysis.to_dict()
    metrics = [LoggedMetric(name, value, moment, number) for name, value in look_metrics(document).items()]
    client.log_batch(run_id, metrics=metrics, tags=[RunTag("attrition.verdict", str(analysis.verdict))])
    text = json.dumps(document, indent=1, allow_nan=False)
    write_files(client, run_id, {DOCUMENT_FILE: text, PAGE_FILE: page})


def end_run(settings: Settings, run_id: str, status: str = "FINISHED") -> None:
    """Mark the run as ended."""
    connect(settings).set_terminated(run_id, status)


def has_ended(settings: Settings, run_id: str) -> bool:
    """Whether the run is marked as ended."""
    return connect(settings).get_run(run_id).info.end_time is not None


def look_metrics(look: Mapping[str, Any]) -> dict[str, float]:
    """Metrics by name, ``difference.<metric>``, ``low.<metric>`` ...; what is undefined or infinite is left out.

    Parameters
    ----------
    look
        Document of :meth:`attrition.experiments.verdict.Analysis.to_dict`.
    """
    found: dict[str, float] = {}
    for each in look["metrics"]:
        for name in ("control", "challenger", "difference", "low", "high", "p_harm", "p_good", "n_challenger"):
            if each[name] is not None:
                found[f"{name}.{each['metric']}"] = float(each[name])
    if look["ratio"] is not None:
        found["ratio_p_value"] = look["ratio"]["p_value"]
    return found


def write_files(client: TrackingClient, run_id: str, files: Mapping[str, str]) -> None:
    """Put texts into a run, by the names of their files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        client.log_artifacts(run_id, folder)
