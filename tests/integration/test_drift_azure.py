"""Drift where a company's data lies: tables, windows and references in a storage account (Azurite)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from azurite import ACCOUNT, KEY, throwaway_azurite
from deltalake import write_deltalake
from pyarrow import fs

from attrition.data import addresses
from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema
from attrition.errors import NotFound
from attrition.evaluation.references import DriftReference
from attrition.monitoring.baselines import Baseline, file_baseline, is_file
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


@pytest.fixture
def account(azurite, container, monkeypatch):
    """Arrow's file system of the emulated account; its addresses mean the emulator."""
    place = f"127.0.0.1:{azurite.port}"
    authorities = {"blob_storage_authority": place, "dfs_storage_authority": place}
    schemes = {"blob_storage_scheme": "http", "dfs_storage_scheme": "http"}
    system = fs.AzureFileSystem(ACCOUNT, account_key=KEY, **authorities, **schemes)

    def of(address):
        parts = urlsplit(address)
        return system, f"{parts.username}{parts.path}"

    monkeypatch.setattr(addresses, "filesystem_of", of)
    return system


@pytest.mark.parametrize("kind", ["parquet", "csv", "folder", "delta"])
def test_window_and_reference_are_files_in_an_account(account, container, kind, tmp_path):
    """Read there part by part, with the verdict that the same files have on a disk."""
    addressed = f"abfss://{container}@{ACCOUNT}.dfs.core.windows.net"
    for name, rows in (("before", people(2_000, 1)), ("after", people(1_000, 2, age=55))):
        for number, part in enumerate((rows.iloc[:600], rows.iloc[600:])):
            (tmp_path / name).mkdir(exist_ok=True)
            part.to_parquet(tmp_path / name / f"{number}.parquet")
        rows.to_parquet(tmp_path / f"{name}.parquet")
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        if kind == "delta":
            write_deltalake(f"{addressed}/{name}", pa.Table.from_pandas(rows, preserve_index=False))
    if kind != "delta":
        fs.copy_files(str(tmp_path), container, source_filesystem=fs.LocalFileSystem(), destination_filesystem=account)
    suffix = "" if kind in {"folder", "delta"} else f".{kind}"
    found = []
    for root in (addressed, str(tmp_path)):
        reference = f"{root}/before{suffix}"
        assert is_file(reference)
        baseline = file_baseline(reference, SCHEMA)
        window = plan_window(f"{root}/after{suffix}", baseline.reference.names, tables="", now=NOW)
        found.append(report_on(window, baseline))
    there, here = found
    assert there.drifted == here.drifted == ("age",)
    for one, other in zip(there.features, here.features, strict=True):
        assert (one.statistic, one.p_value, one.psi, one.level) == (
            other.statistic,
            other.p_value,
            other.psi,
            other.level,
        )
    assert (there.window, there.reference) == (f"after{suffix}", f"before{suffix}")


def test_what_is_not_in_the_account(account, container):
    """Is told by its address."""
    address = f"abfss://{container}@{ACCOUNT}.dfs.core.windows.net/none.parquet"
    with pytest.raises(NotFound, match=r"none\.parquet: no such file or folder"):
        plan_window(address, NAMES, tables="", now=NOW)
    with pytest.raises(NotFound, match=r"none\.parquet: no such file or folder"):
        file_baseline(address, SCHEMA)
