"""Retention: what is past it goes, what is not stays, and a dry run counts the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from attrition.data.person_tables import SnapshotStore
from attrition.data.predictions import prediction_schema
from attrition.data.retention import Retained, Retention, RetentionPolicy
from attrition.data.tables import Tables
from attrition.data.tombstones import ErasureState
from attrition.errors import ConfigError, NotFound
from attrition.evaluation.groups import age_bands

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ANNA, BERT, CARL = "a1" * 16, "b2" * 16, "c3" * 16
NOTHING = Retained(False, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class FakeSamples:
    """Two samples from April."""

    def __init__(self):
        self.n_left = 2

    def expire(self, before, *, dry_run):
        if before < datetime(2024, 4, 30, tzinfo=UTC):
            return 0
        found = self.n_left
        self.n_left = found if dry_run else 0
        return found


@pytest.fixture
def samples():
    return FakeSamples()


@pytest.fixture
def apply(records, samples):
    """Applies a policy and returns what was past its retention, after a dry run has said the same."""

    def run(now=NOW, **fields):
        policy = RetentionPolicy(**fields)
        retention = Retention(records.tables, records.root, policy, SnapshotStore(records.tables, policy), samples)
        foreseen = retention.apply(now=now, dry_run=True)
        done = retention.apply(now=now)
        # files can only be old once rows were removed
        assert replace(foreseen, dry_run=False, n_files=done.n_files) == done
        assert foreseen.n_files <= done.n_files
        return done

    return run


def test_nothing_is_stored(apply):
    """Nothing is past its retention, and no table is made."""
    assert apply() == NOTHING


def test_young_rows_stay(apply, filled):
    """All of them, unchanged."""
    before = filled.predictions.between()
    assert apply() == NOTHING
    pd.testing.assert_frame_equal(filled.predictions.between(), before)


def test_features_of_a_prediction_go_first(apply, filled):
    """Of whole days; what was answered stays."""
    filled.predict(ANNA, BERT, start=NOW - timedelta(days=31))
    filled.predict(ANNA, BERT, start=NOW - timedelta(days=30))
    before = filled.predictions.between()
    done = apply()
    assert (done.n_scoring_inputs, done.n_predictions) == (2, 0)
    assert done.n_files > 0
    after = filled.predictions.between()
    assert after["feature_salary"].isna().tolist() == [True] * 2 + [False] * 9
    pd.testing.assert_frame_equal(after.drop(columns="feature_salary"), before.drop(columns="feature_salary"))
    assert apply() == NOTHING


def test_predictions_that_arrive_late_lose_their_features_too(apply, filled):
    """A spool that was recovered after weeks."""
    filled.predict(ANNA, start=NOW - timedelta(days=40))
    assert apply().n_scoring_inputs == 1
    filled.predict(BERT, start=NOW - timedelta(days=40))
    apply()
    assert filled.predictions.between()["feature_salary"].isna().tolist()[:3] == [True, True, False]


def test_features_of_every_version_go(apply, records):
    """Also those that only one version has."""
    day = NOW - timedelta(days=40)
    records.predict(ANNA, start=day)
    columns = {name: [None] for name in prediction_schema(["height"]).names}
    columns |= {"prediction_id": ["x"], "time": [day], "day": [day.date()], "version": ["2.0.0"], "variant": ["b"]}
    columns |= {"reason": ["sole"], "probability": [0.1], "threshold": [0.5], "decision": [False], "latency_us": [1]}
    columns |= {"feature_height": [1.8]}
    records.predictions.append(pa.table(columns, schema=prediction_schema(["height"])), {"other": 1})
    assert apply().n_scoring_inputs == 2
    frame = records.predictions.between()
    assert frame["feature_height"].isna().all()
    assert frame["feature_salary"].isna().all()


def test_old_predictions_go_whole(apply, filled):
    """They are not counted among those that lose their features."""
    filled.predict(ANNA, BERT, CARL, start=NOW - timedelta(days=1100))
    done = apply()
    assert (done.n_predictions, done.n_scoring_inputs) == (3, 0)
    assert len(filled.predictions.between()) == 7


def test_old_outcomes_go(apply, filled):
    """By their recording."""
    filled.state("dd" * 16, now=NOW - timedelta(days=1100))
    assert apply().n_outcomes == 1
    assert sorted(filled.outcomes.history()["employee_id"]) == [ANNA, BERT, CARL]


@pytest.mark.parametrize("n_old", [1, 2])
def test_old_snapshots_go_whole(apply, filled, monkeypatch, n_old):
    """Their numbers stay taken, and whoever asks for one learns why it is gone; the latest is the table's content."""
    stored = Tables.stored

    def imported_long_ago(tables):
        versions = stored(tables)
        return [
            replace(version, stored_at=NOW - timedelta(days=1100 if index < n_old else 10))
            for index, version in enumerate(versions)
        ]

    monkeypatch.setattr(Tables, "stored", imported_long_ago)
    done = None
    retention = Retention(
        filled.tables,
        filled.root,
        RetentionPolicy(),
        SnapshotStore(filled.tables, RetentionPolicy()),
        FakeSamples(),
    )
    done = retention.apply(now=NOW)
    monkeypatch.undo()
    assert (done.n_snapshots, done.n_snapshot_rows) == (n_old, 3 * n_old)
    assert [ref.version for ref in filled.tables.snapshots()] == [0, 1][n_old:]
    with pytest.raises(NotFound, match="version 0: was removed on 2024-06-01 after the 1096 days"):
        filled.tables.read_snapshot(0)
    if n_old == 1:
        assert len(filled.tables.read_snapshot()[0]) == 3
        assert filled.tables.write_snapshot(filled.tables.read_snapshot()[0]).version == 1
    else:
        with pytest.raises(NotFound, match="holds no snapshot yet"):
            filled.tables.read_snapshot()
        assert not filled.persons().stores[-1].holdings(ANNA)
        assert filled.write_snapshot(ANNA).version > 1


def test_samples_follow_the_snapshots(apply, samples):
    """They are rows of them."""
    assert apply(snapshot_days=10).n_samples == 2
    assert samples.n_left == 0


def test_tombstones_end(apply, filled):
    """After their time an extract may bring the person back; the digest is in no file then."""
    filled.persons().erase(ANNA, now=NOW)
    filled.tables.tombstones.set(BERT, ErasureState.BEGUN, now=NOW)
    done = apply(now=NOW + timedelta(days=1096))
    assert (done.n_tombstones, done.n_unfinished) == (0, 1)
    assert apply(now=NOW + timedelta(days=1097), prediction_days=9000, outcome_days=9000).n_tombstones == 1
    assert filled.tables.tombstones.find(ANNA) is None
    assert filled.tables.tombstones.find(BERT).state is ErasureState.BEGUN
    assert filled.write_snapshot(ANNA).n_rows == 1


def test_a_policy_is_a_file(tmp_path):
    """Every key is checked."""
    path = tmp_path / "retention.yaml"
    path.write_text("prediction_days: 730\nscoring_input_days: 7\n")
    policy = RetentionPolicy.load(path)
    assert (policy.prediction_days, policy.scoring_input_days, policy.snapshot_days) == (730, 7, 1096)
    assert RetentionPolicy.load(None) == RetentionPolicy()
    path.write_text("prediction_days: 0\nfor_ever: true\n")
    with pytest.raises(ConfigError, match="prediction_days") as caught:
        RetentionPolicy.load(path)
    assert "for_ever" in str(caught.value)
    with pytest.raises(ValidationError):
        RetentionPolicy(stray_file_hours=0)


def log_labels(records, day, ages):
    """Predictions of a day with a department, an age and a salary."""
    names = ["department_code", "age", "salary"]
    n = len(ages)
    columns = {name: [None] * n for name in prediction_schema(names).names}
    columns |= {"prediction_id": [f"{day:%j}-{i}" for i in range(n)], "time": [day] * n, "day": [day.date()] * n}
    columns |= {"version": ["1.0.0"] * n, "variant": ["b"] * n, "reason": ["sole"] * n, "probability": [0.1] * n}
    columns |= {"threshold": [0.5] * n, "decision": [False] * n, "latency_us": [1] * n}
    columns |= {"feature_department_code": [3.0] * n, "feature_age": ages, "feature_salary": [50_000.0] * n}
    records.predictions.append(pa.table(columns, schema=prediction_schema(names)), {f"labels {day}": 1})


AGES = [19.5, 30.0, 39.9, 47.0, 55.5, 71.0, None]


def test_group_labels_stay_until_the_label_is_mature(apply, records):
    """The department as it is, the age as its band, so that fairness by group can still be seen; then they go too."""
    log_labels(records, NOW - timedelta(days=40), AGES)
    done = apply()
    assert (done.n_scoring_inputs, done.n_group_labels) == (7, 0)
    frame = records.predictions.between()
    assert frame["feature_salary"].isna().all()
    assert frame["feature_department_code"].eq(3.0).all()
    assert frame["feature_age"].dropna().tolist() == [29.0, 30.0, 30.0, 40.0, 50.0, 60.0]
    pd.testing.assert_series_equal(age_bands(frame["feature_age"]), age_bands(pd.Series(AGES)), check_names=False)
    assert apply() == NOTHING
    later = apply(now=NOW + timedelta(days=420))
    assert (later.n_scoring_inputs, later.n_group_labels) == (0, 7)
    frame = records.predictions.between()
    assert frame[["feature_department_code", "feature_age"]].isna().all(axis=None)


def test_group_labels_can_go_with_the_other_features(apply, records):
    """Where the policy says so."""
    log_labels(records, NOW - timedelta(days=40), AGES)
    assert apply(group_days=0).n_group_labels == 7
    assert records.predictions.between()[["feature_department_code", "feature_age"]].isna().all(axis=None)
