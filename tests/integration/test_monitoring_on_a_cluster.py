"""Retraining and drift on a cluster that asks for a token: as a Ray job, by tasks, while another process works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from attrition import Workspace
from attrition.cluster.environment import free_ports
from attrition.cluster.local_head import start_local_head, stop_local_head
from attrition.data.schema import FeatureSchema
from attrition.data.workforce import simulate
from attrition.retraining.ledger import Ledger
from attrition.settings import Settings

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ATTRITION = Path(sys.executable).parent / "attrition"
RETRAIN = ("retrain", "--force", "--config", "retraining-simulation", "--json")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of commands of a company with a version in production, on a Ray of its own."""
    folder = tmp_path_factory.mktemp("company")
    home = folder / "company"
    outside = ("ATTRITION_RAY_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI")
    with pytest.MonkeyPatch.context() as patch:
        for name in outside:
            patch.delenv(name, raising=False)
        patch.setenv("RAY_AUTH_TOKEN", "c0ffee" * 8)
        patch.setenv("PATH", f"{ATTRITION.parent}{os.pathsep}{os.environ['PATH']}")
        company = ["--quarters", "1", "--employees", "3000", "--scenario", "none", "--output", home]
        made = run(["simulate", *company], {**os.environ, "ATTRITION_HOME": str(folder / "own")})
        assert made.returncode == 0, made.stderr
        (port,) = free_ports(1)
        patch.setenv("ATTRITION_SERVE_PORT", str(port))
        settings = Settings.from_environment({}, home=home)
        start_local_head(settings, num_cpus=2)
        try:
            yield {**os.environ, "ATTRITION_HOME": str(home)}
        finally:
            stop_local_head(settings)


def run(arguments, environment):
    command = [ATTRITION, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


def document(done):
    """What the command printed on stdout."""
    return json.loads(done.stdout[done.stdout.index("{") :])


def test_a_job_retrains_and_a_second_process_says_so(environment):
    """The job ends in a challenger; who comes meanwhile is told, and exits 0; who comes after, that it is known."""
    home = environment["ATTRITION_HOME"]
    ledger = Ledger(Settings.from_environment({}, home=home).database_url)
    before = len(ledger.attempts())
    submit = [ATTRITION, "jobs", "submit", "--submission-id", "retrain", "--", "attrition", *RETRAIN]
    job = subprocess.Popen(submit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        until = time.monotonic() + 120
        while len(ledger.attempts()) == before:
            assert job.poll() is None, job.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.1)
        second = run(RETRAIN, environment)
        output, _ = job.communicate(timeout=200)
    finally:
        job.kill()
    assert second.returncode == 0, second.stderr
    assert document(second)["state"] == "BUSY"
    assert "another process has been retraining" in document(second)["note"]
    (attempt,) = ledger.attempts()[: len(ledger.attempts()) - before]
    assert attempt.state in {"REGISTERED", "HELD"}, output
    assert job.returncode == (0 if attempt.state == "REGISTERED" else 3), output
    with Workspace(home=home) as workspace:
        versions = [each.version for each in workspace.models.list()]
        states = [each["state"] for each in workspace.retraining.history(last=2)]
    assert versions.count(attempt.version) == (attempt.state == "REGISTERED")
    assert sorted(states) == sorted(["BUSY", attempt.state])
    third = run(RETRAIN, environment)
    assert (third.returncode, document(third)["state"]) == (0, "UNCHANGED"), third.stderr
    assert len(ledger.attempts()) == before + 1


def test_drift_is_read_by_tasks_and_shown_by_the_monitor(environment, tmp_path):
    """A window of many files on the cluster; its report and the last predictions on Ray's metrics endpoints."""
    names = list(FeatureSchema.default().names)
    frame = simulate(2_000, n_quarters=6, seed=9)
    (tmp_path / "window").mkdir()
    for number, (_, rows) in enumerate(frame.groupby("snapshot_date")):
        rows[names].astype(float).to_parquet(tmp_path / "window" / f"{number}.parquet")
    command = ["attrition", "drift", "run", "--window", str(tmp_path / "window")]
    done = run(["jobs", "submit", "--", *command], environment)
    assert done.returncode in {0, 3}, done.stderr
    (report,) = json.loads(run(["drift", "list", "--last", "1", "--json"], environment).stdout)
    assert (report["window"], report["n_window"]) == ("window", len(frame))
    dashboard = json.loads((Path(environment["ATTRITION_HOME"]) / "local-ray.json").read_text())["dashboard_url"]
    headers = {"authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    assert httpx.get(f"{dashboard}/api/prometheus/sd").status_code == 401
    tasks = httpx.get(f"{dashboard}/api/v0/tasks?detail=1&limit=1000", headers=headers).json()
    names_of_tasks = [each["name"] for each in tasks["data"]["result"]["result"]]
    assert names_of_tasks.count("sketch_part") == 6
    up = run(["serve", "up", "champion", "--config", "local"], environment)
    assert up.returncode == 0, up.stderr
    try:
        until, found = time.monotonic() + 90, {}
        while "ray_drift_window_rows" not in found:
            assert time.monotonic() < until, sorted(found)
            time.sleep(1)
            groups = httpx.get(f"{dashboard}/api/prometheus/sd", headers=headers).json()
            for target in {each for group in groups for each in group["targets"]}:
                for family in text_string_to_metric_families(httpx.get(f"http://{target}/metrics").text):
                    found |= {sample.name: sample.value for sample in family.samples}
        assert found["ray_drift_window_rows"] == len(frame)
        assert found["ray_monitor_failed_sources"] == 0
    finally:
        assert run(["serve", "down"], environment).returncode == 0
