"""The MLflow connection and what a training leaves in it."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from attrition.data.quality import check_quality
from attrition.errors import TrackingUnreachable
from attrition.evaluation.explanations import GlobalImportance, summarise
from attrition.evaluation.reports import evaluate
from attrition.settings import Settings
from attrition.training import connection
from attrition.training.tracking import (
    connect,
    log_training,
    permutation_importance,
    start_training_run,
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """One MLflow database for the module: creating it takes seconds."""
    return Settings.from_environment({}, home=tmp_path_factory.mktemp("home"))


def test_connecting_creates_the_experiment_with_local_artifacts(settings):
    """Once."""
    first = connect(settings).get_experiment_by_name(settings.experiment)
    second = connect(settings).get_experiment_by_name(settings.experiment)
    assert first.experiment_id == second.experiment_id
    assert first.artifact_location == settings.artifact_location


def test_a_deleted_experiment_is_used_again(settings):
    """MLflow keeps its name taken."""
    other = settings.model_copy(update={"experiment": "deleted"})
    client = connect(other)
    client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
    connect(other)
    assert client.get_experiment_by_name("deleted").lifecycle_stage == "active"


def test_an_address_that_nothing_listens_on_is_named(settings, unused_port):
    """At once, with what to do, and without the password in it."""
    uri = f"http://user:hidden@127.0.0.1:{unused_port}"
    with pytest.raises(TrackingUnreachable, match="no MLflow server answers") as caught:
        connect(settings.model_copy(update={"tracking_uri": uri}))
    assert f"127.0.0.1:{unused_port}" in str(caught.value)
    assert "MLFLOW_TRACKING_URI" in str(caught.value)
    assert "hidden" not in str(caught.value)


class _Silent(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(1)

    def log_message(self, *args):
        pass


class _Broken(_Silent):
    def do_GET(self):
        self.send_response(502)
        self.end_headers()


@pytest.mark.parametrize(("handler", "message"), [(_Silent, "no MLflow server answers"), (_Broken, "answers 502")])
def test_a_server_that_hangs_or_fails_does_not_hold_the_command(handler, message, settings, monkeypatch):
    """The wait is short, and shorter still here."""
    assert connection.CONNECT_TIMEOUT_SECONDS <= 5
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_SECONDS", 0.5)
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.raises(TrackingUnreachable, match=message):
            connect(settings.model_copy(update={"tracking_uri": f"http://127.0.0.1:{server.server_port}"}))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_database_that_cannot_be_opened_is_named(tmp_path):
    """A file that is no database."""
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(TrackingUnreachable, match=r"mlflow\.db"):
        connect(Settings.from_environment({}, home=tmp_path))


def test_a_training_run_holds_what_a_reader_needs(settings, candidate, table, make_table, tmp_path):
    """Dataset, parameters, metrics with intervals, plots, lineage and a small sample without sensitive attributes."""
    holdout = make_table(300, seed=5)
    evaluation = evaluate(holdout.target, candidate.score(holdout.features), candidate.threshold, n_resamples=100)
    quality = check_quality(table)
    values = holdout.features.to_numpy()
    explanations = summarise(holdout.schema, values, np.nan_to_num(values), space="log_odds", base_value=-1.0)
    run_id = start_training_run(settings, candidate)
    log_training(
        settings, run_id, candidate, evaluation, quality, holdout=holdout, sample=table, explanations=explanations
    )

    client = connect(settings)
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"  # the package is still to come
    assert run.data.params["family"] == "logistic_regression"
    assert run.data.params["C"] == "1"
    auc = evaluation.metrics["auc"]
    assert run.data.metrics["auc"] == auc.value
    assert run.data.metrics["auc_low"] == auc.low
    assert run.data.metrics["auc_high"] == auc.high
    assert run.data.metrics["tp"] + run.data.metrics["fn"] == holdout.target.sum()
    assert run.data.tags["attrition.code_version"] == candidate.lineage.code_version
    (dataset,) = run.inputs.dataset_inputs
    assert json.loads(dataset.dataset.profile) == {"num_rows": 600, "num_leavers": int(table.target.sum())}

    folder = client.download_artifacts(run_id, "", str(tmp_path))
    plots = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    figures = {"roc", "precision_recall", "calibration", "confusion", "importance"}
    assert plots == figures | {"shap_summary", "shap_importance"}
    assert GlobalImportance.from_dict(json.loads((tmp_path / "shap.json").read_text())) == explanations
    assert list(pd.read_csv(tmp_path / "shap.csv")["feature"]) == [part.feature for part in explanations.features]
    sample = pd.read_csv(tmp_path / "sample.csv")
    assert len(sample) == 50
    assert "gender" not in sample
    assert set(sample.columns) >= {"employee_id", "attrition", *table.schema.names}
    assert folder
    threshold = json.loads((tmp_path / "threshold.json").read_text())
    assert threshold["threshold"] == candidate.threshold
    assert (tmp_path / "quality.json").is_file()


def test_importance_finds_what_decides(candidate, make_table):
    """Satisfaction does in these data; the rest is nearly nothing."""
    importance = permutation_importance(candidate, make_table(400, seed=6))
    assert importance[0].feature == "satisfaction_score"
    assert importance[0].mean > 0.1
    assert len(importance) == len(candidate.schema.names)
    assert [row.mean for row in importance] == sorted((row.mean for row in importance), reverse=True)


def test_importance_of_one_class_is_not_applicable(candidate, make_table):
    """AUC is undefined there."""
    stayers = make_table(100, seed=6)
    assert permutation_importance(candidate, stayers.take(np.flatnonzero(stayers.target == 0))) == []
