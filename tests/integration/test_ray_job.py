"""The commands inside a Ray job: what works on a laptop is submitted to a cluster unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attrition import Settings, Workspace
from attrition.cluster.local_head import start_local_head, stop_local_head

pytestmark = [pytest.mark.ray, pytest.mark.slow]  # test_jobs.py runs commands as jobs in the default run

PROJECT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def cluster(tmp_path):
    """A cluster started with `ray start --head`, whose nodes find the installed commands."""
    settings = Settings.from_environment({}, home=tmp_path / "cluster")
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{SCRIPTS}{os.pathsep}{path}"
    try:
        yield start_local_head(settings, num_cpus=2)
    finally:
        os.environ["PATH"] = path
        stop_local_head(settings)


def test_tune_as_a_ray_job(tmp_path, cluster):
    """`ray job submit --working-dir . -- attrition tune` searches, judges and registers in the shared stores."""
    home = tmp_path / "home"
    workspace = Workspace(home=home)
    workspace.data.load(workspace.data.simulate(n_employees=12_000))
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("RAY_ADDRESS", None)
    submit = ["ray", "job", "submit", "--address", cluster.dashboard_url, "--working-dir", ".", "--"]
    tune = ["attrition", "--home", str(home), "tune", "--config", "tune_configs/smoke.yaml", "--register"]
    done = subprocess.run(
        [*submit, *tune], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The gates admit this candidate" in done.stdout
    assert workspace.models.resolve("champion").version == "1.0.0"
