"""MLflow's failures are ours, and a run ends as its work did."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from sqlalchemy.exc import OperationalError

from attrition.errors import NotFound, PlatformError, TrackingUnreachable, UsageError
from attrition.settings import Settings
from attrition.training.connection import TrackingClient, answering, connect, ended
from attrition.training.lineage import Lineage
from attrition.training.plan import SearchPlan
from attrition.training.study import Study, Trial, TrialStatus
from attrition.training.trial_log import TrialLog

LINEAGE = Lineage(None, None, "0.1.0+test", "unit", "0" * 64, 42, "2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """One MLflow database for the module: creating it takes seconds."""
    return Settings.from_environment({}, home=tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (MlflowException("no such run", RESOURCE_DOES_NOT_EXIST), NotFound),
        (MlflowException("locked", TEMPORARILY_UNAVAILABLE), TrackingUnreachable),
        (MlflowException("API request failed"), TrackingUnreachable),
        (MlflowException("bad name", INVALID_PARAMETER_VALUE), PlatformError),
        (OperationalError("INSERT", {}, Exception("attempt to write a readonly database")), TrackingUnreachable),
        (PermissionError("Permission denied"), TrackingUnreachable),
        (UsageError("ours"), UsageError),
        (ValueError("a bug"), ValueError),
    ],
)
def test_failures_of_mlflow_are_ours(raised, expected):
    """What does not exist, what does not answer, what is refused; a bug stays one."""
    with pytest.raises(expected) as caught, answering("http://user:hidden@tracking:5000"):
        raise raised
    assert type(caught.value) is expected
    assert "hidden" not in str(caught.value)


def test_every_method_of_the_client_is_covered(settings):
    """Whatever is called."""
    client = connect(settings)
    assert isinstance(client, TrackingClient)
    for ask in (client.get_run, client.get_logged_model, client.get_registered_model):
        with pytest.raises(NotFound):
            ask("0" * 32)


@pytest.mark.parametrize(
    ("raised", "status"), [(None, "FINISHED"), (RuntimeError(), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_ends_as_its_work_did(settings, raised, status):
    """And not before."""
    client = connect(settings)
    run_id = _run(client, settings)

    def work():
        with ended(client, run_id):
            assert client.get_run(run_id).info.status == "RUNNING"
            if raised is not None:
                raise raised

    if raised is None:
        work()
    else:
        with pytest.raises(type(raised)):
            work()
    assert client.get_run(run_id).info.status == status


def test_a_store_that_went_away_does_not_hide_the_error(settings, monkeypatch):
    """The error is what counts."""
    client = connect(settings)
    run_id = _run(client, settings)

    def refuse(*_, **__):
        raise MlflowException("gone")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.set_terminated", refuse)
    with pytest.raises(ZeroDivisionError), ended(client, run_id):
        raise ZeroDivisionError


@pytest.mark.parametrize("moment", ["create_run", "log_batch", "set_terminated"])
def test_a_trial_that_was_written_half_is_completed_not_repeated(settings, tmp_path, monkeypatch, moment):
    """One run for each trial, ended, with each metric once; also when only the answer of MLflow was lost."""
    from mlflow.tracking import MlflowClient

    plan = SearchPlan.load("smoke")
    trial = Trial(0, "logistic_regression", {"C": 1.0}, (0.7, 0.8, 0.9), TrialStatus.COMPLETE, 1.5)
    original = getattr(MlflowClient, moment)

    def lose_the_answer(*args, **kwargs):
        original(*args, **kwargs)
        raise MlflowException("no answer")

    with Study(tmp_path / "study", {"plan": plan.digest}, resume=False) as study:
        log = TrialLog(settings, plan, LINEAGE, study)
        study.append(trial)
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, moment, lose_the_answer)
            log.add(trial)
        log.finish(trial)
    client = connect(settings)
    experiment = client.get_experiment_by_name(settings.experiment).experiment_id
    (child,) = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{log.run_id}'")
    assert child.info.status == "FINISHED"
    history = client.get_metric_history(child.info.run_id, "fold_auc")
    assert [metric.value for metric in history] == [0.7, 0.8, 0.9]


def _run(client, settings):
    experiment = client.get_experiment_by_name(settings.experiment).experiment_id
    return client.create_run(experiment).info.run_id
