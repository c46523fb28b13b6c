"""What a drift run leaves in MLflow: metrics to plot over time, the document, and the page."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.monitoring.statistics import finite
from attrition.training.connection import connect, ended, experiment_id

if TYPE_CHECKING:
    from attrition.monitoring.drift_report import DriftReport
    from attrition.settings import Settings

REPORT_TAG = "attrition.drift_report"
DOCUMENT_FILE, PAGE_FILE = "drift.json", "drift.html"


def drift_metrics(report: DriftReport) -> dict[str, float]:
    """Metrics by name: ``psi.<feature>``, ``mean_shift_percent.<feature>`` ...; what does not apply is left out."""
    metrics: dict[str, float | None] = {
        "rows": float(report.n_window),
        "drifted_features": float(len(report.drifted)),
        "separability_auc": None if report.separability is None else report.separability.auc,
    }
    for each in report.features:
        metrics |= {
            f"psi.{each.feature}": each.psi,
            f"mean_shift_percent.{each.feature}": each.mean_shift_percent,
            f"statistic.{each.feature}": each.statistic,
            f"p_adjusted.{each.feature}": each.p_adjusted,
            f"wasserstein.{each.feature}": each.wasserstein,
            f"missing_share.{each.feature}": each.missing_window,
        }
    return {name: value for name, found in metrics.items() if (value := finite(found)) is not None}


def log_drift(settings: Settings, report: DriftReport, page: str) -> str:
    """Id of the run of MLflow that shows a report; the one of an interrupted try when there is one.

    Raises
    ------
    PlatformError
        MLflow does not answer.
    """
    from mlflow.entities import Metric

    client = connect(settings)
    experiment = experiment_id(client, settings)
    made = client.search_runs(
        [experiment], f"tags.`{REPORT_TAG}` = '{report.report_id}' and attributes.status = 'FINISHED'", max_results=1
    )
    if made:
        return str(made[0].info.run_id)
    moment = int(report.created_at.timestamp() * 1000)
    tags = {
        "attrition.kind": "drift",
        REPORT_TAG: report.report_id,
        "attrition.drift_level": report.level.value,
        "attrition.drift_reference": report.reference,
        "attrition.drift_window": report.window[:200],
        "attrition.model_version": report.model_version,
    }
    run = client.create_run(experiment, run_name=f"drift {report.reference} {report.window}"[:200], tags=tags)
    run_id = str(run.info.run_id)
    with ended(client, run_id), tempfile.TemporaryDirectory() as folder:
        metrics = [Metric(name, value, moment, 0) for name, value in drift_metrics(report).items()]
        client.log_batch(run_id, metrics=metrics)
        document = json.dumps(report.to_dict(), indent=1, allow_nan=False)
        (Path(folder) / DOCUMENT_FILE).write_text(document, encoding="utf-8")
        (Path(folder) / PAGE_FILE).write_text(page, encoding="utf-8")
        client.log_artifacts(run_id, folder)
    return run_id
