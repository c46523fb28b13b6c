"""Batch scoring on a real Ray: the same numbers as the endpoint, and a batch that survives the death of its driver."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.data.schema import FeatureSchema
from attrition.errors import ExtractError
from attrition.governance.privacy import PseudonymKey
from attrition.registry.bundle import load_bundle
from attrition.serving import batch_plan
from attrition.serving.batch import plan_batch, run_batch
from attrition.serving.batch_execution import in_process, on_ray
from attrition.serving.exchange import Exchange
from attrition.serving.snapshot import load_snapshot
from attrition.serving.traffic import Traffic

NAMES = list(FeatureSchema.default().names)
KEY = PseudonymKey.from_hex("00" * 32)

DRIVER = """
import json, sys
from attrition.cluster.session import connect
from attrition.governance.privacy import PseudonymKey
from attrition.registry.bundle import BundleRef
from attrition.serving import batch_plan
from attrition.serving.batch import plan_batch, run_batch
from attrition.serving.batch_execution import in_process, on_ray
from attrition.settings import Settings

source, target, uri, digest, address = sys.argv[1:]
batch_plan.CSV_BYTES = 100_000
batch = plan_batch(source, target, BundleRef(uri, "1.0.0", digest), PseudonymKey.from_hex("00" * 32))
if address == "here":
    run_batch(batch, in_process)
    heavy = {"sklearn", "pandas", "mlflow", "ray", "scipy", "fastapi"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else 0)
with connect(Settings.from_environment({}, ray_address=address)):
    run_batch(batch, on_ray)
"""


def _people(n_rows):
    rng = np.random.default_rng(3)
    values = {name: rng.uniform(1, 4, n_rows).round(3) for name in NAMES}
    values |= {"age": rng.uniform(18, 65, n_rows), "promotion_flag": rng.integers(0, 2, n_rows)}
    values |= {name: rng.integers(1, 6, n_rows) for name in ("department_code", "projects_count")}
    return pd.DataFrame({"employee_id": [f"E{i:07d}" for i in range(n_rows)], **values})


def _driver(*arguments):
    return subprocess.Popen([sys.executable, "-c", DRIVER, *map(str, arguments)])


def _finished(folder):
    reports = (folder / "_progress").glob("part-*.json")
    parts = [folder / f"{report.stem}.parquet" for report in reports]
    return {part.name: part.stat().st_mtime_ns for part in parts if part.exists()}


def test_a_worker_needs_no_training_library(tmp_path, make_bundle):
    """A batch imports neither scikit-learn nor pandas nor MLflow nor, in this process, Ray."""
    ref = make_bundle("1.0.0", 0.5)
    _people(500).to_csv(tmp_path / "in.csv", index=False)
    assert _driver(tmp_path / "in.csv", tmp_path / "out", ref.uri, ref.manifest_sha256, "here").wait(60) == 0


@pytest.mark.ray
def test_ray_scores_what_this_process_scores(tmp_path, ray_cluster, make_bundle, monkeypatch):
    """Ray's partitions come back in any order; the output is in that of the input."""
    monkeypatch.setattr(batch_plan, "CSV_BYTES", 20_000)
    ref = make_bundle("1.0.0", 0.5)
    _people(3_000).to_csv(tmp_path / "in.csv", index=False)
    seen = []
    batch = plan_batch(tmp_path / "in.csv", tmp_path / "ray.csv", ref, KEY)
    result = run_batch(batch, on_ray, on_progress=seen.append)
    run_batch(plan_batch(tmp_path / "in.csv", tmp_path / "here.csv", ref, KEY), in_process)
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert result.n_partitions > 8
    assert [progress.n_done for progress in seen] == list(range(result.n_partitions + 1))


@pytest.mark.ray
def test_bad_rows_end_a_batch_on_ray(tmp_path, ray_cluster, make_bundle, monkeypatch):
    """The faults of the partitions at work are reported, the others are not begun."""
    monkeypatch.setattr(batch_plan, "CSV_BYTES", 20_000)
    people = _people(20_000)
    people["age"] = people["age"].astype("str").mask(people.index >= 300, "secret")
    people.to_csv(tmp_path / "in.csv", index=False)
    batch = plan_batch(tmp_path / "in.csv", tmp_path / "out", make_bundle("1.0.0", 0.5), KEY)
    with pytest.raises(ExtractError) as error:
        run_batch(batch, on_ray)
    assert 1 <= len(error.value.faults) <= 10 < len(batch.plan.partitions)
    assert all("column age" in fault.where for fault in error.value.faults)
    assert "secret" not in str(error.value)


@pytest.mark.ray
def test_a_killed_driver(tmp_path, ray_cluster, make_bundle):
    """After kill -9 the same command finishes the batch: equal output, finished partitions untouched."""
    ref = make_bundle("1.0.0", 0.5)
    source, target = tmp_path / "in.csv", tmp_path / "out"
    _people(200_000).to_csv(source, index=False)
    arguments = (source, target, ref.uri, ref.manifest_sha256, ray_cluster.address)
    driver = _driver(*arguments)
    deadline = time.monotonic() + 90
    while len(_finished(target)) < 20 and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    time.sleep(2)  # tasks that were at work end with their driver
    before = _finished(target)
    progress = json.loads((target / "_progress.json").read_bytes())
    assert 20 <= len(before) < progress["job"]["partitions"]
    assert not progress["complete"]
    assert _driver(*arguments).wait(120) == 0
    after = _finished(target)
    assert len(after) == progress["job"]["partitions"]
    assert before.items() <= after.items()
    run_batch(plan_batch(source, tmp_path / "whole", ref, KEY), in_process)
    pd.testing.assert_frame_equal(pd.read_parquet(target), pd.read_parquet(tmp_path / "whole"))
    assert not list(target.glob(".part-*"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, ray_cluster):
    """A project with one registered version."""
    home = tmp_path_factory.mktemp("batch")
    with Workspace(home=home, ray_address=ray_cluster.address) as project:
        project.data.load(project.data.simulate(n_employees=2_000))
        run = project.train("hist_gradient_boosting", {"max_iter": 30}, plan="smoke")
        project.models.register(run.run_id, waive="a test of scoring")
        yield project


@pytest.mark.ray
def test_probabilities_are_those_of_the_endpoint(workspace, tmp_path):
    """To the last bit, whether a person is asked for in a request among others or in a batch."""
    people = _people(1_000)
    people.to_parquet(tmp_path / "in.parquet", index=False)
    workspace.score(tmp_path / "in.parquet", tmp_path / "out.parquet")
    bundle = workspace.models.export_bundle("champion")
    traffic = Traffic.single(bundle.version, bundle.uri, bundle.manifest_sha256)
    snapshot = load_snapshot(traffic, load_bundle, max_records=1_000)
    answer, _ = Exchange(snapshot, "/", (), b"").predict(
        snapshot, json.dumps({"records": people.to_dict("records")}).encode()
    )
    online = pd.DataFrame(json.loads(answer)["predictions"])
    batch = pd.read_parquet(tmp_path / "out.parquet")
    np.testing.assert_array_equal(batch["probability"], online["probability"])
    np.testing.assert_array_equal(batch["decision"], online["decision"])
    assert set(batch["model_version"]) == set(online["model_version"])


@pytest.mark.ray
def test_the_command(workspace, tmp_path, monkeypatch):
    """Scores on Ray, prints JSON, and exits 4 for a bad file and 2 for an output that is there."""
    monkeypatch.setattr(batch_plan, "CSV_BYTES", 20_000)
    people = _people(2_000)
    people.to_csv(tmp_path / "in.csv", index=False)

    def attrition(*arguments):
        options = ["--home", str(workspace.settings.home), "--ray-address", workspace.settings.ray_address, "score"]
        return CliRunner().invoke(app, [*options, *map(str, arguments)])

    done = attrition(tmp_path / "in.csv", tmp_path / "out.csv", "--keep", "age", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["n_rows"] == 2_000
    assert list(pd.read_csv(tmp_path / "out.csv"))[-1] == "age"
    assert attrition(tmp_path / "in.csv", tmp_path / "out.csv").exit_code == 2
    assert "2,000" in attrition(tmp_path / "in.csv", tmp_path / "out.csv", "--overwrite").stdout
    people.drop(columns="tenure").to_csv(tmp_path / "bad.csv", index=False)
    bad = attrition(tmp_path / "bad.csv", tmp_path / "bad")
    assert bad.exit_code == 4
    assert "has no column tenure" in bad.stderr
