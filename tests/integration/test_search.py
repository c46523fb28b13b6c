"""A search on a real Ray cluster with a real MLflow store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from attrition.cluster.session import connect as connect_ray
from attrition.data.extracts import read_extract
from attrition.data.workforce import simulate, write_extract
from attrition.errors import PlatformError
from attrition.governance.privacy import PseudonymKey
from attrition.settings import Settings
from attrition.training.lineage import Lineage
from attrition.training.plan import SearchPlan
from attrition.training.search import search
from attrition.training.study import TrialStatus
from attrition.training.tracking import connect

pytestmark = pytest.mark.ray

KEY = "ab" * 32
LINEAGE = Lineage(None, None, "0.1.0+test", "smoke", "0" * 64, 42, "2026-01-01T00:00:00+00:00")
PLAN = SearchPlan.load("smoke").model_copy(update={"max_concurrent_trials": 2})
SLOW = PLAN.model_copy(
    update={
        "name": "slow",
        "n_trials": 8,
        "max_concurrent_trials": 1,
        "families": {"random_forest": SearchPlan.load("default").families["random_forest"]},
    }
)


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    """A file, so that another process reads the same rows."""
    return write_extract(simulate(1500, seed=3), tmp_path_factory.mktemp("data") / "extract.csv.gz")


@pytest.fixture(scope="module")
def table(extract):
    return read_extract(extract, "workforce", PseudonymKey.from_hex(KEY)).table


@pytest.fixture(scope="module")
def settings(tmp_path_factory, ray_cluster):
    """Of a project on the shared cluster; connected while the module runs."""
    project = Settings.from_environment({}, home=tmp_path_factory.mktemp("home"), ray_address=ray_cluster.address)
    with connect_ray(project):
        connect(project)
        yield project


def children(settings, run_id):
    """The trials' runs by number."""
    client = connect(settings)
    experiment = client.get_experiment_by_name(settings.experiment).experiment_id
    found = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{run_id}'", max_results=1000)
    return {int(run.data.tags["attrition.trial"]): run for run in found}


def test_a_search_ends_with_a_candidate_and_its_records(settings, table, capfd):
    """Every trial is in the result, in the study and in MLflow, and nothing is printed."""
    updates = []
    result = search(table, PLAN, settings=settings, lineage=LINEAGE, on_trial=updates.append)
    assert capfd.readouterr() == ("", "")

    assert [trial.number for trial in result.trials] == list(range(PLAN.n_trials))
    assert {result.trials[0].family, result.trials[1].family} == set(PLAN.families)
    assert result.best.status is TrialStatus.COMPLETE
    assert result.candidate.family == result.best.family
    assert result.candidate.parameters == result.best.parameters
    assert updates[-1].n_done == updates[-1].n_total == PLAN.n_trials
    assert updates[-1].best_so_far == result.best.mean
    assert result.candidate.score(table.features).shape == (len(table),)

    runs = children(settings, result.run_id)
    assert sorted(runs) == list(range(PLAN.n_trials))
    for trial in result.trials:
        run = runs[trial.number]
        assert run.info.status == "FINISHED"
        assert set(run.data.metrics) == {"fold_auc", "mean_auc", "duration_seconds"}
        assert run.data.metrics["mean_auc"] == pytest.approx(trial.mean)
        assert set(run.data.params) == {"family", *trial.parameters}
        assert run.data.tags["attrition.status"] == trial.status
        history = connect(settings).get_metric_history(run.info.run_id, "fold_auc")
        assert [metric.value for metric in history] == pytest.approx(trial.fold_scores)
    parent = connect(settings).get_run(result.run_id)
    assert parent.info.status == "RUNNING"  # whoever asked for the candidate has more to write
    assert parent.data.tags["attrition.best_trial"] == str(result.best.number)

    study = settings.home / "tune" / "smoke"
    assert len((study / "trials.jsonl").read_text().splitlines()) == PLAN.n_trials
    assert not (study / "ray").exists()


def test_resuming_a_finished_search_tries_nothing_new(settings, table):
    """It refits the best trial, in the same MLflow run."""
    first = search(table, PLAN, settings=settings, lineage=LINEAGE)
    updates = []
    again = search(table, PLAN, settings=settings, lineage=LINEAGE, on_trial=updates.append, resume=True)
    assert updates == []
    assert again.trials == first.trials
    assert again.run_id == first.run_id
    assert again.candidate.threshold == first.candidate.threshold
    assert len(children(settings, first.run_id)) == PLAN.n_trials


def test_ctrl_c_ends_the_run_as_killed_and_the_search_can_go_on(settings, table):
    """What ended before is kept, and the workers are free again although the traceback is."""

    def interrupt(update):
        if update.n_done == 2:
            signal.raise_signal(signal.SIGINT)

    plan = PLAN.model_copy(update={"name": "interrupted"})
    with pytest.raises(KeyboardInterrupt) as caught:
        search(table, plan, settings=settings, lineage=LINEAGE, on_trial=interrupt)
    header = json.loads((settings.home / "tune" / plan.name / "study.json").read_text())
    assert connect(settings).get_run(header["run_id"]).info.status == "KILLED"

    result = search(table, plan, settings=settings, lineage=LINEAGE, resume=True)
    assert len(result.trials) == plan.n_trials
    assert result.run_id == header["run_id"]
    assert connect(settings).get_run(result.run_id).info.status == "RUNNING"
    assert caught.tb is not None


DRIVER = """
import sys
from attrition.cluster.session import connect
from attrition.data.extracts import read_extract
from attrition.governance.privacy import PseudonymKey
from attrition.settings import Settings
from attrition.training.lineage import Lineage
from attrition.training.plan import SearchPlan
from attrition.training.search import search

home, address, extract, key, plan = sys.argv[1:]
settings = Settings.from_environment({}, home=home, ray_address=address)
table = read_extract(extract, "workforce", PseudonymKey.from_hex(key)).table
lineage = Lineage(None, None, "0.1.0+test", "smoke", "0" * 64, 42, "2026-01-01T00:00:00+00:00")
with connect(settings):
    search(table, SearchPlan.model_validate_json(plan), settings=settings, lineage=lineage)
"""


def test_a_killed_search_goes_on_where_it_was(settings, extract, table):
    """SIGKILL in the middle: the ended trials are kept, the MLflow run is the same, the budget is kept."""
    journal = settings.home / "tune" / SLOW.name / "trials.jsonl"
    arguments = [str(settings.home), settings.ray_address, str(extract), KEY, SLOW.model_dump_json()]
    with subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], stderr=subprocess.PIPE, text=True) as driver:
        deadline = time.monotonic() + 120
        while not journal.is_file() or len(journal.read_bytes().splitlines()) < 3:
            assert driver.poll() is None, driver.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(driver.pid, signal.SIGKILL)
    kept = journal.read_text().splitlines()
    assert 3 <= len(kept) < SLOW.n_trials
    run_id = json.loads(journal.with_name("study.json").read_text())["run_id"]

    updates = []
    result = search(table, SLOW, settings=settings, lineage=LINEAGE, on_trial=updates.append, resume=True)
    ended = {update.number for update in updates if update.status is not TrialStatus.RUNNING}
    numbers = {json.loads(line)["number"] for line in kept}
    assert ended == set(range(SLOW.n_trials)) - numbers
    assert journal.read_text().splitlines()[: len(kept)] == kept
    assert [trial.number for trial in result.trials] == list(range(SLOW.n_trials))
    assert result.run_id == run_id
    runs = children(settings, run_id)
    assert sorted(runs) == list(range(SLOW.n_trials))
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert connect(settings).get_run(run_id).info.status == "RUNNING"


def test_a_budget_that_ends_before_any_trial_says_so(settings, table):
    """And the MLflow run has failed."""
    plan = SLOW.model_copy(update={"name": "hurried", "time_budget_seconds": 0.05})
    with pytest.raises(PlatformError, match=r"ran all 3 folds; the time budget is 0\.05 s"):
        search(table, plan, settings=settings, lineage=LINEAGE)
    header = json.loads((settings.home / "tune" / plan.name / "study.json").read_text())
    assert connect(settings).get_run(header["run_id"]).info.status == "FAILED"
