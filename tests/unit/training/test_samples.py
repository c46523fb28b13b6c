"""The samples in MLflow: found, written again without the person, emptied after their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from attrition.data.tombstones import ErasureState, Tombstones
from attrition.evaluation.reports import evaluate
from attrition.settings import Settings
from attrition.training.samples import SampleStore
from attrition.training.tracking import SAMPLE_FILE, connect, log_training, start_training_run

PERSON, OTHER = f"{3:08x}", f"{4:08x}"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """One MLflow database for the module: creating it takes seconds."""
    return Settings.from_environment({}, home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def logged(settings, candidate, make_table):
    """Id of a run with a sample of fifty persons."""
    holdout = make_table(seed=1)
    evaluation = evaluate(holdout.target, candidate.score(holdout.features), 0.5, n_resamples=100)
    run_id = start_training_run(settings, candidate)
    log_training(settings, run_id, candidate, evaluation, None, holdout=holdout, sample=make_table())
    return run_id


def read(settings, run_id, tmp_path):
    return pd.read_csv(connect(settings).download_artifacts(run_id, SAMPLE_FILE, str(tmp_path)), dtype="str")


def test_nothing_was_ever_logged(tmp_path):
    """MLflow is not even started."""
    store = SampleStore(Settings.from_environment({}, home=tmp_path))
    assert store.holdings(PERSON) == []
    assert store.erase(PERSON) == 0
    assert store.expire(datetime.now(UTC), dry_run=False) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_person_is_removed_and_the_others_stay(settings, logged, tmp_path):
    """Also from a run that was deleted; a training that ends later leaves the erased person out."""
    before = read(settings, logged, tmp_path)
    connect(settings).delete_run(logged)
    store = SampleStore(settings)
    (holding,) = store.holdings(PERSON)
    assert holding.place == f"run {logged}: {SAMPLE_FILE}"
    assert (holding.n_rows, holding.first_date) == (1, "2024-03-31")
    assert store.values(PERSON)[0]["run_id"] == logged
    assert store.erase(PERSON) == 1
    assert store.holdings(PERSON) == []
    assert store.erase(PERSON) == 0
    connect(settings).restore_run(logged)
    after = read(settings, logged, tmp_path)
    pd.testing.assert_frame_equal(after, before[before["employee_id"] != PERSON].reset_index(drop=True))


def test_a_training_that_ends_after_the_erasure(settings, candidate, make_table, tmp_path):
    """It has read the person's row, and does not log it."""
    Tombstones(settings.tables).set(OTHER, ErasureState.BEGUN, now=datetime.now(UTC))
    holdout = make_table(seed=1)
    evaluation = evaluate(holdout.target, candidate.score(holdout.features), 0.5, n_resamples=100)
    run_id = start_training_run(settings, candidate)
    log_training(settings, run_id, candidate, evaluation, None, holdout=holdout, sample=make_table())
    sample = read(settings, run_id, tmp_path)
    assert OTHER not in set(sample["employee_id"])
    assert PERSON in set(sample["employee_id"])


def test_samples_end(settings, logged, tmp_path):
    """The columns stay, so that a reader still learns what the data looked like."""
    store = SampleStore(settings)
    assert store.expire(datetime.now(UTC) - timedelta(days=1), dry_run=False) == 0
    n_samples = store.expire(datetime.now(UTC) + timedelta(days=1), dry_run=True)
    assert n_samples >= 1
    assert store.expire(datetime.now(UTC) + timedelta(days=1), dry_run=False) == n_samples
    assert store.expire(datetime.now(UTC) + timedelta(days=1), dry_run=False) == 0
    sample = read(settings, logged, tmp_path)
    assert len(sample) == 0
    assert "tenure" in sample.columns
    assert np.array_equal(sample.columns[:2], ["employee_id", "snapshot_date"])
