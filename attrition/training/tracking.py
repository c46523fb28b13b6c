"""What a training leaves in MLflow. Logged through the client, by the driver only."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attrition.data.tombstones import Tombstones
from attrition.training.candidate import one_thread
from attrition.training.connection import TrackingClient, connect, ended, experiment_id
from attrition.training.lineage import library_versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow.entities import DatasetInput

    from attrition.data.employees import EmployeeTable
    from attrition.data.quality import QualityReport
    from attrition.evaluation.explanations import GlobalImportance
    from attrition.evaluation.reports import Evaluation
    from attrition.settings import Settings
    from attrition.training.candidate import Candidate
    from attrition.training.lineage import Lineage

__all__ = [
    "TrackingClient",
    "connect",
    "ended",
    "evaluation_metrics",
    "experiment_id",
    "log_training",
    "permutation_importance",
    "start_run",
    "start_training_run",
]

SAMPLE_FILE = "sample.csv"
"""Artifact of a run; see :mod:`attrition.training.samples` for how a person is removed from it."""

SAMPLE_ROWS = 50
"""Pseudonymised rows logged with a run, to show the shape of the data."""

_IMPORTANCE_ROWS = 1500
_IMPORTANCE_REPEATS = 5
_DIGEST_LENGTH = 36  # MLflow's limit


def start_training_run(settings: Settings, candidate: Candidate) -> str:
    """Id of a new MLflow run for a candidate that was fitted without a search; :func:`ended` ends it.

    Raises
    ------
    TrackingUnreachable
        See :func:`connect`.
    """
    title = candidate.lineage.plan or f"train {candidate.family}"
    return start_run(connect(settings), settings, title, candidate.lineage)


def start_run(client: TrackingClient, settings: Settings, title: str, lineage: Lineage, kind: str = "training") -> str:
    """Id of a new MLflow run with the lineage as tags, so that it is found by its data or code.

    Parameters
    ----------
    kind
        ``training`` (one configuration) or ``search``.
    """
    tags = {
        "attrition.kind": kind,
        "attrition.plan": lineage.plan,
        "attrition.plan_digest": lineage.plan_digest,
        "attrition.code_version": lineage.code_version,
        "attrition.fingerprint": lineage.fingerprint,
    }
    if lineage.snapshot is not None:
        tags["attrition.data_version"] = str(lineage.snapshot.version)
        tags["attrition.data_hash"] = lineage.snapshot.content_hash
    run = client.create_run(experiment_id(client, settings), run_name=title, tags=tags)
    return str(run.info.run_id)


def log_training(
    settings: Settings,
    run_id: str,
    candidate: Candidate,
    evaluation: Evaluation,
    quality: QualityReport | None,
    *,
    holdout: EmployeeTable,
    sample: EmployeeTable,
    explanations: GlobalImportance | None = None,
) -> None:
    """Write everything a reader needs to judge and repeat a training into its run, which goes on running.

    Parameters
    ----------
    run_id
        From :func:`start_training_run` or a search.
    evaluation
        Of the holdout.
    quality
        Findings about the data that were trained on.
    holdout
        Rows the candidate has not seen; the permutation importance is measured on up to 1,500 of them.
    sample
        Pseudonymised rows to show what the data look like: the first `SAMPLE_ROWS` are kept, without sensitive
        attributes and without persons who were erased since.
    explanations
        Shapley importance of the features: written as ``shap.json``, ``shap.csv`` and two plots.

    Raises
    ------
    TrackingUnreachable
        See :func:`connect`.
    """
    from mlflow.entities import Metric, Param, RunTag

    client = connect(settings)
    now = int(time.time() * 1000)
    metrics = {**evaluation_metrics(evaluation), "threshold": candidate.threshold}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        params=[Param(name, _text(value)) for name, value in _parameters(candidate).items()],
        tags=[RunTag(f"attrition.{name}", value) for name, value in _tags(candidate, quality).items()],
    )
    client.log_inputs(run_id, [_dataset(settings, candidate)])
    with tempfile.TemporaryDirectory() as folder:
        _write_artifacts(Path(folder), candidate, evaluation, quality, permutation_importance(candidate, holdout))
        erased = Tombstones(settings.tables).erased().mask(sample.frame["employee_id"].to_list())
        _write_sample(Path(folder), sample.take(~erased))
        if explanations is not None:
            _write_explanations(Path(folder), explanations)
        client.log_artifacts(run_id, folder)


def evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Metrics by name with ``_low`` and ``_high`` of their intervals; what is undefined is left out."""
    flat: dict[str, float | None] = {}
    for name, estimate in evaluation.metrics.items():
        flat |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    confusion = evaluation.confusion
    flat |= {"tn": confusion.tn, "fp": confusion.fp, "fn": confusion.fn, "tp": confusion.tp}
    return {name: float(value) for name, value in flat.items() if value is not None and math.isfinite(value)}


class Importance(NamedTuple):
    """Loss of AUC when a feature is shuffled: mean and standard deviation over repeats."""

    feature: str
    mean: float
    std: float


def permutation_importance(candidate: Candidate, table: EmployeeTable, seed: int = 42) -> list[Importance]:
    """Importance of each feature on rows the candidate has not seen, the most important first.

    Empty when `table` has one class only. Breiman (2001), Machine Learning 45(1), section 10; by AUC instead of error.
    """
    from sklearn.inspection import permutation_importance as importance

    rows = table.take(_spread(len(table), _IMPORTANCE_ROWS))
    if len(set(rows.target.tolist())) < 2:
        return []
    with one_thread():
        found = importance(
            candidate.classifier,
            rows.features,
            rows.target,
            scoring="roc_auc",
            n_repeats=_IMPORTANCE_REPEATS,
            random_state=seed,
        )
    triples = zip(candidate.schema.names, found.importances_mean, found.importances_std, strict=True)
    measured = [Importance(name, float(mean), float(std)) for name, mean, std in triples]
    return sorted(measured, key=lambda importance: -importance.mean)


def _write_artifacts(
    folder: Path,
    candidate: Candidate,
    evaluation: Evaluation,
    quality: QualityReport | None,
    importance: Sequence[Importance],
) -> None:
    from attrition.evaluation import plots

    documents: dict[str, Any] = {
        "evaluation.json": evaluation.to_dict(),
        "lineage.json": candidate.lineage.to_dict(),
        "schema.json": candidate.schema.to_dict(),
        "threshold.json": {"threshold": candidate.threshold, **candidate.objective},
        "importance.json": [feature._asdict() for feature in importance],
        "libraries.json": library_versions(),
    }
    if candidate.mitigation is not None:
        documents["mitigation.json"] = candidate.mitigation
    if quality is not None:
        documents["quality.json"] = quality.to_dict()
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1), encoding="utf-8")
    figures = {
        "roc": plots.roc_plot(evaluation),
        "precision_recall": plots.precision_recall_plot(evaluation),
        "calibration": plots.calibration_plot(evaluation),
        "confusion": plots.confusion_plot(evaluation),
    }
    if importance:
        names, means, spreads = zip(*importance, strict=True)
        figures["importance"] = plots.importance_plot(names, means, spreads)
    (folder / "plots").mkdir()
    for name, figure in figures.items():
        (folder / "plots" / f"{name}.png").write_bytes(plots.figure_png(figure))


def _write_explanations(folder: Path, importance: GlobalImportance) -> None:
    import pandas as pd

    from attrition.evaluation.plots import figure_png

    (folder / "shap.json").write_text(json.dumps(importance.to_dict(), indent=1), encoding="utf-8")
    pd.DataFrame(importance.table()).to_csv(folder / "shap.csv", index=False)
    for name, figure in importance.plots().items():
        (folder / "plots" / f"{name}.png").write_bytes(figure_png(figure))


def _write_sample(folder: Path, sample: EmployeeTable) -> None:
    from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET

    columns = [EMPLOYEE_ID, SNAPSHOT_DATE, *sample.schema.names, TARGET]
    sample.frame.loc[: SAMPLE_ROWS - 1, columns].to_csv(folder / SAMPLE_FILE, index=False)


def _parameters(candidate: Candidate) -> dict[str, Any]:
    return {
        "family": candidate.family,
        **candidate.parameters,
        "calibration": candidate.calibration,
        "objective": candidate.objective["kind"],
        "min_recall": candidate.objective["min_recall"],
        "seed": candidate.lineage.seed,
        "n_rows": len(candidate.oof_true),
        "n_leavers": int(candidate.oof_true.sum()),
        "n_features": len(candidate.schema.names),
        "mitigation": candidate.mitigation["attribute"] if candidate.mitigation else "none",
    }


def _tags(candidate: Candidate, quality: QualityReport | None) -> dict[str, str]:
    lineage = candidate.lineage
    tags = {
        "family": candidate.family,
        "code_version": lineage.code_version,
        "fingerprint": lineage.fingerprint,
        "schema_digest": candidate.schema.digest,
    }
    if quality is not None:
        tags |= {"quality_errors": str(len(quality.errors)), "quality_warnings": str(len(quality.warnings))}
    return tags


def _dataset(settings: Settings, candidate: Candidate) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    snapshot = candidate.lineage.snapshot
    content = snapshot.content_hash if snapshot else ""
    source: Mapping[str, Any] = (
        {"uri": f"{settings.tables}/{snapshot.table}", "version": snapshot.version, "content_hash": content}
        if snapshot
        else {"uri": "in memory"}
    )
    columns = [{"name": name, "type": "double", "required": False} for name in candidate.schema.names]
    dataset = Dataset(
        name=f"{snapshot.table}-v{snapshot.version}" if snapshot else "unversioned",
        digest=(content or candidate.schema.digest)[:_DIGEST_LENGTH],
        source_type="delta_table" if snapshot else "code",
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": len(candidate.oof_true), "num_leavers": int(candidate.oof_true.sum())}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _spread(n_rows: int, n_wanted: int) -> Any:
    """Positions of at most `n_wanted` rows, evenly spread: no randomness, no order effect."""
    import numpy as np

    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, n_wanted)).astype(np.intp))


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
