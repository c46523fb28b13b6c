"""The live view: the last rows of the log, and what a report would say of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema
from attrition.errors import NotFound, PlatformError
from attrition.evaluation.references import DriftReference
from attrition.monitoring.drift import compare
from attrition.monitoring.drift_reports import DriftReports
from attrition.monitoring.live import LastPredictions, live_drift
from attrition.monitoring.monitor import Monitor
from attrition.monitoring.performance_log import PerformanceFigure, PerformanceLog

SCHEMA = FeatureSchema.default()
NAMES = list(SCHEMA.names)
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def people(n_rows, seed, *, age=40.0):
    rng = np.random.default_rng(seed)
    columns = {name: rng.normal(3, 1, n_rows) for name in NAMES}
    columns["age"] = rng.normal(age, 8, n_rows)
    columns["promotion_flag"] = rng.integers(0, 2, n_rows).astype(float)
    columns["department_code"] = rng.integers(1, 7, n_rows).astype(float)
    return columns


def log(root, columns, *, at=START, version="1.0.0", reason="sole", score=None):
    n_rows = len(columns["age"])
    plain = {
        "prediction_id": [f"{version}{at:%j%H%M%S}{i:07d}" for i in range(n_rows)],
        "time": [at + timedelta(milliseconds=i) for i in range(n_rows)],
        "day": [at.date()] * n_rows,
        "version": [version] * n_rows,
        "variant": ["champion"] * n_rows,
        "reason": [reason] * n_rows,
        "shadow_of": [None] * n_rows,
        "employee_id": [None] * n_rows,
        "probability": np.linspace(0, 1, n_rows) if score is None else score,
        "threshold": [0.5] * n_rows,
        "decision": [False] * n_rows,
        "latency_us": [900] * n_rows,
    }
    plain |= {FEATURE + name: column for name, column in columns.items()}
    PredictionTable(str(root)).append(pa.table(plain, prediction_schema(list(columns))), {})


@pytest.fixture
def reference():
    """Of three thousand people."""
    return DriftReference.of(people(3_000, 1), SCHEMA, np.linspace(0, 1, 3_000))


def test_view_holds_the_last_rows_and_says_what_a_report_would(tmp_path, reference):
    """Across files, whoever comes in which order; the older half is out of view."""
    log(tmp_path, people(400, 2, age=60), at=START)
    log(tmp_path, people(300, 4), at=START + timedelta(minutes=2))
    log(tmp_path, people(300, 3), at=START + timedelta(minutes=1))
    recent = LastPredictions(PredictionTable(str(tmp_path)), 600).read(NOW)
    assert recent.n_rows == 600
    expected = {name: np.concatenate([people(300, 3)[name], people(300, 4)[name]]) for name in NAMES}
    for name in NAMES:
        np.testing.assert_array_equal(recent.columns[name], expected[name])
    found = live_drift(reference, recent)
    assert not found.drifted
    expected["probability"] = np.concatenate([np.linspace(0, 1, 300)] * 2)
    sketches = {name: each.sketch(expected[name]) for name, each in reference.features.items()}
    assert found.features == compare(reference.features, sketches)


def test_view_follows_the_log(tmp_path, reference):
    """Each file is read once, and forgotten when it is out of view."""
    table = PredictionTable(str(tmp_path))
    view = LastPredictions(table, 500)
    assert view.read(NOW) is None
    log(tmp_path, people(500, 2))
    assert not live_drift(reference, view.read(NOW)).drifted
    (first,) = view._held
    held = view._held[first]
    log(tmp_path, people(200, 3, age=60), at=START + timedelta(minutes=1))
    assert view.read(NOW).n_rows == 500
    assert view._held[first] is held
    log(tmp_path, people(500, 4, age=60), at=START + timedelta(minutes=2))
    assert live_drift(reference, view.read(NOW)).drifted[0] == "age"
    assert first not in view._held


def test_a_wrong_clock_does_not_own_the_view(tmp_path, reference):
    """What is dated ahead is counted, and in view only when its time has come."""
    table = PredictionTable(str(tmp_path))
    log(tmp_path, people(300, 2))
    log(tmp_path, people(400, 3, age=60), at=START + timedelta(days=365))
    view = LastPredictions(table, 300)
    found = live_drift(reference, view.read(NOW), n_ahead=table.n_ahead(NOW))
    assert (found.n_rows, found.n_ahead, found.drifted) == (300, 400, ())
    later = NOW + timedelta(days=365)
    assert table.n_ahead(later) == 0
    assert live_drift(reference, view.read(later)).drifted[0] == "age"
    assert PredictionTable(str(tmp_path / "none")).n_ahead(NOW) == 0


def test_a_merge_of_the_files_changes_nothing(tmp_path):
    """The rows are the same in other files."""
    table = PredictionTable(str(tmp_path))
    for number in range(4):
        log(tmp_path, people(200, number), at=START + timedelta(minutes=number))
    view = LastPredictions(table, 500)
    before = view.read(NOW)
    table.compact()
    after = view.read(NOW)
    assert list(before.times) == list(after.times)
    np.testing.assert_array_equal(before.columns["age"], after.columns["age"])


def test_shadows_other_versions_and_emptied_rows_do_not_count(tmp_path):
    """Only what the version that answered most has said, with the features that it read."""
    log(tmp_path, people(300, 1), version="2.0.0")
    log(tmp_path, people(200, 2), at=START + timedelta(minutes=1), version="1.0.0")
    log(tmp_path, people(400, 3), at=START + timedelta(minutes=2), version="1.0.0", reason="shadow")
    left = people(100, 5)
    emptied = {name: left[name] if name in {"age", "department_code"} else np.full(100, np.nan) for name in NAMES}
    log(tmp_path, emptied, at=START + timedelta(minutes=3), version="2.0.0")
    log(tmp_path, {**people(50, 4), "extra": np.ones(50)}, at=START + timedelta(minutes=4), version="3.0.0")
    recent = LastPredictions(PredictionTable(str(tmp_path)), 5_000).read(NOW)
    assert (recent.version, recent.n_rows) == ("2.0.0", 300)
    assert "extra" not in recent.columns


def test_nothing_is_recent_when_retention_has_emptied_all(tmp_path):
    """Group labels alone are no view of anybody."""
    left = people(100, 5)
    log(tmp_path, {name: left[name] if name == "age" else np.full(100, np.nan) for name in NAMES})
    assert LastPredictions(PredictionTable(str(tmp_path)), 5_000).read(NOW) is None


def test_monitor_reads_what_there_is(tmp_path, reference):
    """Nothing at first; the live view from enough rows on; the latest figures of each version."""
    asked = []

    def of_version(version):
        asked.append(version)
        return reference

    now = START + timedelta(hours=1)
    monitor = Monitor(str(tmp_path), of_version, live_rows=500, exported=lambda: START)
    first = {(name, labels): value for name, labels, value in monitor.read(now)}
    assert first["live_rows", ()] == 0
    assert first["table_rows", ("predictions",)] == 0
    assert ("drift_run_timestamp_seconds", ()) not in first
    log(tmp_path, people(500, 2, age=60))
    performance = PerformanceLog(str(tmp_path))
    early, late = START - timedelta(days=60), START - timedelta(days=1)
    performance.add([PerformanceFigure(now, "1.0.0", "realised", "2026-02", late, 500, 0.81, 0.78, 0.84, 0.9)])
    performance.add([PerformanceFigure(now, "1.0.0", "realised", "2026-01", early, 500, 0.89, 0.87, 0.91, 0.9)])
    performance.add([PerformanceFigure(now, "1.0.0", "estimated", "30d", late, 500, 0.88, 0.86, 0.9, 0.9)])
    found = {(name, labels): value for name, labels, value in monitor.read(now)}
    assert found["live_rows", ()] == 500
    assert found["live_drift_level", ()] == 2
    assert found["live_drift_magnitude", ("age",)] > 0.25
    assert found["live_mean_shift_percent", ("age",)] == pytest.approx(50, abs=5)
    assert found["realised_auc", ("1.0.0",)] == 0.81
    assert found["realised_auc_high", ("1.0.0",)] == 0.84
    assert found["estimated_auc", ("1.0.0",)] == 0.88
    assert found["admission_auc", ("1.0.0",)] == 0.9
    assert found["table_rows", ("predictions",)] == 500
    assert found["audit_export_timestamp_seconds", ()] == START.timestamp()
    assert found["monitor_failed_sources", ()] == 0
    monitor.read(now)
    assert asked == ["1.0.0"]


def test_a_source_that_fails_keeps_its_figures(tmp_path, reference, monkeypatch):
    """And is counted; the others go on."""
    log(tmp_path, people(500, 2))
    monitor = Monitor(str(tmp_path), lambda _: reference, live_rows=500)
    before = {(name, labels): value for name, labels, value in monitor.read(START)}

    def gone(*_):
        raise PlatformError("The storage does not answer.")

    monkeypatch.setattr(PredictionTable, "recent_parts", gone)
    after = {(name, labels): value for name, labels, value in monitor.read(START + timedelta(minutes=1))}
    assert after["monitor_failed_sources", ()] == 1
    assert after["live_drift_magnitude", ("age",)] == before["live_drift_magnitude", ("age",)]


def test_a_version_that_cannot_be_had_has_no_view(tmp_path):
    """It was registered elsewhere; asked for again after a pause only."""
    log(tmp_path, people(500, 2))
    asked = []

    def unknown(version):
        asked.append(version)
        raise NotFound("There is no such version.")

    monitor = Monitor(str(tmp_path), unknown, live_rows=500)
    for minutes in (0, 1, 6):
        names = {name for name, _, _ in monitor.read(START + timedelta(minutes=minutes))}
        assert "live_rows" in names
        assert "live_drift_level" not in names
    assert len(asked) == 2
    assert not DriftReports(str(tmp_path)).list()
