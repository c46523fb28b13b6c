"""Drift where a company's data lies: tables, windows and references in a storage account (Azurite)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from azurite import throwaway_azurite

from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema
from attrition.evaluation.references import DriftReference
from attrition.monitoring.baselines import Baseline
from attrition.monitoring.drift import DriftPolicy
from attrition.monitoring.drift_reports import DriftReports
from attrition.monitoring.drift_run import compare_window
from attrition.monitoring.monitor import Monitor
from attrition.monitoring.run import Sample, in_threads, sketch_window
from attrition.monitoring.windows import plan_window

pytestmark = pytest.mark.slow

SCHEMA = FeatureSchema.default()
NAMES = list(SCHEMA.names)
NOW = datetime(2026, 3, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with throwaway_azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture
def container(azurite, monkeypatch):
    """Name of an empty one, with the credentials in the environment."""
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    return azurite.new_container()


def people(n_rows, seed, *, age=40.0):
    """Made-up employees."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.normal(3, 1, n_rows) for name in NAMES})
    frame["age"] = rng.normal(age, 8, n_rows)
    frame["promotion_flag"] = rng.integers(0, 2, n_rows).astype(float)
    frame["department_code"] = rng.integers(1, 4, n_rows).astype(float)
    return frame


def log(root, rows, start):
    """Predictions about them, one a second."""
    n_rows = len(rows)
    columns = {
        "prediction_id": [f"{start:%j}{i:09d}" for i in range(n_rows)],
        "time": [start + timedelta(seconds=i) for i in range(n_rows)],
        "day": [start.date()] * n_rows,
        "version": ["1.0.0"] * n_rows,
        "variant": ["champion"] * n_rows,
        "reason": ["sole"] * n_rows,
        "shadow_of": [None] * n_rows,
        "employee_id": [None] * n_rows,
        "probability": np.linspace(0, 1, n_rows),
        "threshold": [0.5] * n_rows,
        "decision": [False] * n_rows,
        "latency_us": [900] * n_rows,
    }
    columns |= {FEATURE + name: pa.array(rows[name], pa.float64()) for name in NAMES}
    PredictionTable(root).append(pa.table(columns, prediction_schema(NAMES)), {})


def report_on(window, baseline):
    found = sketch_window(baseline.reference, window, in_threads)
    return compare_window(baseline, window, found, policy=DriftPolicy(), now=NOW)


@pytest.mark.parametrize("spelling", ["az", "abfss"])
def test_a_period_of_a_log_in_an_account(container, spelling, tmp_path):
    """Says what it says of the same log on a disk; the report is kept there, and the monitor shows it."""
    root = f"az://{container}/tables"
    if spelling == "abfss":
        root = f"abfss://{container}@devstoreaccount1.dfs.core.windows.net/tables"
    rows = people(2_000, 1)
    reference = DriftReference.of(rows, SCHEMA, np.linspace(0, 1, 2_000))
    sample = Sample.of([rows[name].to_numpy() for name in NAMES], 0, 0).rows
    baseline = Baseline("1.0.0", "1.0.0", reference, sample)
    reports = []
    for place in (root, str(tmp_path)):
        for day, age in ((9, 40.0), (10, 55.0)):
            log(place, people(800, day, age=age), datetime(2026, 3, day, 8, tzinfo=UTC))
        window = plan_window("2026-03-09..2026-03-10", NAMES, tables=place, now=NOW, version="1.0.0")
        assert len(window.parts) == 2
        reports.append(report_on(window, baseline))
    there, here = reports
    assert there.drifted == here.drifted == ("age",)
    assert there.features == here.features
    assert there.segments == here.segments
    stored = DriftReports(root)
    assert stored.add(there, "run")
    assert not stored.add(there, "run")
    assert stored.get(there.report_id).report == there
    monitor = Monitor(root, lambda _: reference)
    found = {(name, labels): value for name, labels, value in monitor.read(NOW)}
    assert found["monitor_failed_sources", ()] == 0
    assert found["table_rows", ("predictions",)] == 1_600
    assert found["data_drift_magnitude", ("age",)] == pytest.approx(here.features[1].psi)
    assert found["live_drift_magnitude", ("age",)] == pytest.approx(here.features[1].psi)
