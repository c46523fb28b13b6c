"""`attrition quickstart` as its user runs it: a process of its own, an embedded Ray, Ctrl-C at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import psutil
import pytest

from attrition import Workspace

pytestmark = pytest.mark.ray

ATTRITION = Path(sys.executable).parent / "attrition"
RECORD = {"tenure": 30, "age": 34, "satisfaction_score": 2.1, "work_hours": 52, "salary": 48000, "department_code": 1}


@pytest.fixture
def start(tmp_path, unused_port):
    """Starts the quickstart on a small extract, with its output in a file; kills it if a test leaves it running."""
    extract = Workspace(home=tmp_path / "other").data.simulate(tmp_path / "hr.csv.gz", n_employees=12_000)
    outside = ("RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in outside}
    environment |= {"ATTRITION_HOME": str(tmp_path / "home"), "ATTRITION_SERVE_PORT": str(unused_port)}
    started = []

    def launch(*options):
        log = tmp_path / f"quickstart-{len(started)}.log"
        command = [ATTRITION, "quickstart", "--data", extract, "--plan", "smoke", *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(map(str, command)), stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path
            )
        started.append(process)
        return process, log

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_quickstart_serves_until_interrupted_and_then_knows_that_nothing_changed(start, unused_port, tmp_path):
    """First run: gated, registered, served, logged; Ctrl-C ends it cleanly. Second run: the same version, no search."""
    process, log = start()
    _await(process, log, "Serving until Ctrl-C")
    request = Request(
        f"http://127.0.0.1:{unused_port}/v1/predict",
        json.dumps({"records": [RECORD]}).encode(),
        {"content-type": "application/json"},
    )
    with urlopen(request, timeout=10) as response:
        answer = json.load(response)
    assert 0 < answer["predictions"][0]["probability"] < 1
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) > 3
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0, log.read_text()
    output = log.read_text()
    assert "version 1.0.0" in output
    assert "The gates admit this candidate" in output
    assert f"http://127.0.0.1:{unused_port}/docs" in output
    assert "mlflow ui" in output
    assert "Traceback" not in output
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert len(Workspace(home=tmp_path / "home").predictions.between()) == 11

    process, log = start("--exit")
    assert process.wait(timeout=120) == 0, log.read_text()
    assert "Nothing changed" in log.read_text()
    assert "Searching" not in log.read_text()


def test_sigterm_cleans_up(start):
    """A supervisor's SIGTERM ends the command as Ctrl-C does, also while Ray runs: one message, no process left."""
    process, log = start()
    _await(process, log, "Searching")
    children = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(timeout=60) == 130, log.read_text()
    assert "Interrupted" in log.read_text()
    assert psutil.wait_procs(children, timeout=20)[1] == []


def _await(process, log, text, seconds=150):
    limit = time.monotonic() + seconds
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.3)
