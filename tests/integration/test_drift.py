"""Drift of a registered version: from its training rows in the package to predictions in the log; and on a real Ray."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
import ray
import yaml
from prometheus_client.parser import text_string_to_metric_families

from attrition import Workspace
from attrition.cluster.ray_token import ray_token
from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema
from attrition.data.workforce import simulate, write_extract
from attrition.errors import ExtractError, Fault, PlatformError
from attrition.evaluation.references import DriftReference
from attrition.monitoring.run import in_threads, on_ray, sketch_window
from attrition.monitoring.windows import plan_window
from attrition.serving import batch_plan
from attrition.settings import config_file

SCHEMA = FeatureSchema.default()
NAMES = list(SCHEMA.names)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A registered version, and what it makes of a quarter before and of one after a restructuring."""
    home = tmp_path_factory.mktemp("drift") / "home"
    frame = simulate(2_500, n_quarters=7, seed=3, scenario="restructuring")
    quarters = [rows for _, rows in frame.groupby("snapshot_date")]
    with Workspace(home=home) as workspace:
        write_extract(quarters[0], home.parent / "extract.csv.gz")
        workspace.data.load(home.parent / "extract.csv.gz", "workforce")
        run = workspace.train(plan="smoke")
        version = workspace.models.register(run.run_id, waive=None if run.verdict.admits else "to measure its drift")
        yield workspace, version.version, quarters, run.candidate


def _log(workspace, version, rows, score, start):
    n_rows = len(rows)
    columns = {
        "prediction_id": [f"{start:%j}{i:09d}" for i in range(n_rows)],
        "time": [start + timedelta(seconds=i) for i in range(n_rows)],
        "day": [start.date()] * n_rows,
        "version": [version] * n_rows,
        "variant": ["champion"] * n_rows,
        "reason": ["sole"] * n_rows,
        "shadow_of": [None] * n_rows,
        "employee_id": [None] * n_rows,
        "probability": score,
        "threshold": [0.5] * n_rows,
        "decision": [False] * n_rows,
        "latency_us": [900] * n_rows,
    }
    columns |= {FEATURE + name: pa.array(rows[name], pa.float64(), from_pandas=True) for name in NAMES}
    PredictionTable(workspace.settings.tables).append(pa.table(columns, prediction_schema(NAMES)), {})


def test_predictions_against_the_rows_that_a_version_was_trained_on(project):
    """Quiet a quarter later; after a restructuring satisfaction, hours and the score are named, with their segments."""
    workspace, version, quarters, candidate = project
    for place, day in ((1, 3), (-1, 10)):
        features = quarters[place][NAMES].astype(float)
        _log(workspace, version, features, candidate.score(features), datetime(2026, 3, day, 1, tzinfo=UTC))
    quiet = workspace.monitoring.drift("2026-03-03..2026-03-03", version).report
    assert quiet.level == "STABLE"
    assert quiet.n_window == len(quarters[1])
    assert quiet.model_version == version
    assert [each.feature for each in quiet.features] == [*NAMES, "probability"]
    assert quiet.n_reference == len(candidate.oof_score)
    changed = workspace.monitoring.drift("2026-03-10..2026-03-10", version).report
    assert {"satisfaction_score", "work_hours", "probability"} <= set(changed.drifted)
    assert not {"age", "salary", "department_code", "promotion_flag"} & set(changed.drifted)
    assert changed.separability.low > 0.6
    assert len(changed.segments) == 6
    assert all(segment.level.drifted for segment in changed.segments)
    assert [stored.report.report_id for stored in workspace.monitoring.drift_reports()] == [
        changed.report_id,
        quiet.report_id,
    ]
    assert "2 reports against the same reference" in workspace.monitoring.drift_page(changed.report_id)


def _scraped(pattern, seconds=90):
    """Series of Ray's own metrics endpoints that match, with their values; waited for."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = {}
        for node in ray.nodes():
            text = httpx.get(
                f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics", timeout=30
            ).text
            for family in text_string_to_metric_families(text):
                found |= {
                    (sample.name, sample.labels.get("feature_name") or sample.labels.get("table") or ""): sample
                    for sample in family.samples
                    if re.fullmatch(pattern, sample.name)
                }
        if found:
            return found
        time.sleep(1)
    raise AssertionError(f"nothing matches {pattern}")


@pytest.mark.slow
@pytest.mark.ray
def test_monitor_exports_reports_and_the_last_predictions(project, ray_cluster, tmp_path):
    """Under the names that the alert rules read, from a Serve application of its own, which comes back when killed."""
    workspace, version, quarters, candidate = project
    features = quarters[-1][NAMES].astype(float)
    _log(workspace, version, features, candidate.score(features), datetime(2026, 3, 17, 1, tzinfo=UTC))
    report = workspace.monitoring.drift("2026-03-17..2026-03-17", version).report
    document = yaml.safe_load(config_file("serve_configs", "local").read_text())
    document["applications"][1]["args"] = {"refresh_seconds": 1, "live_rows": 1_000}
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(document))
    workspace.serving.up(version, config=tmp_path / "serve.yaml")
    try:
        live = workspace.monitoring.live(1_000)
        assert "work_hours" in live.drifted
        found = _scraped("ray_live_drift_magnitude")
        for drift in live.features:
            assert found["ray_live_drift_magnitude", drift.feature].value == pytest.approx(drift.psi)
        found = _scraped("ray_data_drift_magnitude|ray_feature_mean_shift_percent")
        for drift in report.features:
            assert found["ray_data_drift_magnitude", drift.feature].value == pytest.approx(drift.psi)
            if drift.mean_shift_percent is not None:
                shift = found["ray_feature_mean_shift_percent", drift.feature].value
                assert shift == pytest.approx(drift.mean_shift_percent)
        (run,) = _scraped("ray_drift_run_timestamp_seconds").values()
        assert run.value == pytest.approx(report.created_at.timestamp(), abs=1)
        rows = _scraped("ray_table_rows")
        assert rows["ray_table_rows", "predictions"].value >= len(features)
        assert rows["ray_table_rows", "drift_reports"].value >= 1
        workers = [
            process
            for process in psutil.Process().children(recursive=True)
            if "ray::ServeReplica:attrition-monitor" in " ".join(process.cmdline())
        ]
        assert len(workers) == 1
        before = _scraped("ray_monitor_timestamp_seconds")
        workers[0].kill()
        killed = time.time()
        while max(each.value for each in _scraped("ray_monitor_timestamp_seconds").values()) < killed + 1:
            assert time.time() < killed + 120
            time.sleep(1)
        assert before
        workspace.traffic.pin("x-test", "1", version)  # a change of the traffic leaves the monitor alone
        status = httpx.get(f"{ray_cluster.dashboard_url}/api/serve/applications/", headers=_authorization()).json()
        assert status["applications"]["attrition-monitor"]["status"] == "RUNNING"
        assert status["applications"]["attrition-monitor"]["route_prefix"] is None
    finally:
        workspace.serving.down()
    status = httpx.get(f"{ray_cluster.dashboard_url}/api/serve/applications/", headers=_authorization()).json()
    assert not status["applications"]


def _authorization():
    token = ray_token()
    return {"authorization": f"Bearer {token}"} if token else {}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A Parquet file of many partitions, and a reference."""
    from pyarrow import parquet

    rng = np.random.default_rng(8)
    path = tmp_path_factory.mktemp("many") / "people.parquet"
    with parquet.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in NAMES])) as writer:
        for _ in range(8):
            columns = {name: rng.normal(3, 1, 2**18) for name in NAMES}
            columns["department_code"] = rng.integers(1, 7, 2**18).astype(float)
            writer.write_table(pa.table(columns), row_group_size=2**18)
    small = pd.DataFrame({name: rng.normal(3, 1, 5_000) for name in NAMES})
    small["department_code"] = rng.integers(1, 7, 5_000).astype(float)
    return path, DriftReference.of(small, SCHEMA)


@pytest.fixture
def people_file(tmp_path):
    """A small file, and itself as reference."""
    rng = np.random.default_rng(2)
    people = pd.DataFrame({name: rng.normal(3, 1, 300) for name in NAMES})
    people.to_parquet(tmp_path / "people.parquet")
    return tmp_path / "people.parquet", DriftReference.of(people, SCHEMA)


def _same(a, b):
    assert (a.n_rows, a.n_left_out) == (b.n_rows, b.n_left_out)
    assert set(a.sketches) == set(b.sketches)
    assert all(a.sketches[name] == b.sketches[name] for name in a.sketches)
    np.testing.assert_array_equal(a.sample.rows, b.sample.rows)


@pytest.mark.ray
def test_ray_reads_what_this_process_reads(ray_cluster, tmp_path, monkeypatch):
    """To the last bit; a part whose storage does not answer at first is read again, a bad file is not."""
    monkeypatch.setattr(batch_plan, "CSV_BYTES", 100_000)
    rng = np.random.default_rng(2)
    people = pd.DataFrame({name: rng.normal(3, 1, 10_000).round(3) for name in NAMES})
    people["department_code"] = rng.integers(1, 4, 10_000)
    people.to_csv(tmp_path / "people.csv", index=False)
    reference = DriftReference.of(people.head(2_000), SCHEMA)
    window = plan_window(str(tmp_path / "people.csv"), NAMES, tables="", now=datetime.now(UTC))
    assert len(window.parts) > 4

    class Unsteady:  # pickled by value: a worker does not have this module
        def __init__(self, part, marks):
            self.part, self.number, self.marks = part, part.number, marks

        def read(self, names, *, as_text=False):
            tries = self.marks / str(self.number)
            tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
            if len(tries.read_text()) < 3 and self.number == 1:
                raise PlatformError("The storage does not answer.")
            yield from self.part.read(names, as_text=as_text)

    marks = tmp_path / "marks"
    marks.mkdir()
    unsteady = replace(window, parts=tuple(Unsteady(part, marks) for part in window.parts))
    _same(sketch_window(reference, unsteady, on_ray), sketch_window(reference, window, in_threads))
    assert {file.name: len(file.read_text()) for file in marks.iterdir()} == {
        str(part.number): 3 if part.number == 1 else 1 for part in window.parts
    }
    people.assign(age="secret").to_csv(tmp_path / "people.csv", index=False)
    bad = plan_window(str(tmp_path / "people.csv"), NAMES, tables="", now=datetime.now(UTC))
    with pytest.raises(ExtractError, match="column age") as error:
        sketch_window(reference, bad, on_ray)
    assert len(error.value.faults) == len(bad.parts)
    assert "secret" not in str(error.value)


@pytest.mark.ray
def test_a_storage_that_never_answers_ends_a_run(ray_cluster, people_file):
    """As a platform's fault, with its words."""
    path, reference = people_file

    class Gone:
        number = 0

        def read(self, names, *, as_text=False):
            raise PlatformError(Fault("storage", "does not answer"))

    window = replace(plan_window(str(path), NAMES, tables="", now=datetime.now(UTC)), parts=(Gone(),))
    with pytest.raises(PlatformError, match="storage: does not answer"):
        sketch_window(reference, window, on_ray)


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_worker_changes_nothing(ray_cluster, many):
    """Its task is run again: the same sketches to the last bit, sums of floats included, as without Ray."""
    path, reference = many
    window = plan_window(str(path), NAMES, tables="", now=datetime.now(UTC))
    assert len(window.parts) == 8
    killed = []
    over = threading.Event()

    def kill():
        while not over.is_set() and len(killed) < 2:
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::sketch_part" in " ".join(process.cmdline()) and process.pid not in killed:
                        time.sleep(0.1)
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)
                        break
                except (psutil.Error, ProcessLookupError):
                    continue
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = sketch_window(reference, window, on_ray)
    finally:
        over.set()
        killer.join()
    assert killed
    _same(found, sketch_window(reference, window, in_threads))
