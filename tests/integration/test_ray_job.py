"""The commands inside a Ray job: what works on a laptop is submitted to a cluster unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attrition import Workspace

pytestmark = pytest.mark.ray

PROJECT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent


def test_tune_as_a_ray_job(tmp_path, ray_cluster):
    """`ray job submit --working-dir . -- attrition tune` searches, judges and registers in the shared stores."""
    home = tmp_path / "home"
    workspace = Workspace(home=home)
    workspace.data.load(workspace.data.simulate(n_employees=3_000))
    command = [
        SCRIPTS / "ray", "job", "submit", "--address", ray_cluster.dashboard_url, "--working-dir", PROJECT, "--",
        SCRIPTS / "attrition", "--home", home, "tune", "--config", "tune_configs/smoke.yaml", "--register",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert "1.0.0" in done.stdout or done.returncode != 0, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.models.resolve("champion").version == "1.0.0"
