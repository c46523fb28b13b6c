"""Jobs on a real cluster that asks for a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.cluster.jobs import Jobs
from attrition.cluster.local_head import start_local_head, stop_local_head
from attrition.errors import NotFound, RayUnreachable, UsageError
from attrition.settings import Settings

pytestmark = pytest.mark.ray

TOKEN = "c0ffee" * 8
SCRIPTS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A project whose local Ray wants a token."""
    settings = Settings.from_environment({}, home=tmp_path_factory.mktemp("jobs") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", TOKEN)
        patch.setenv("PATH", f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
        patch.delenv("RAY_AUTH_MODE", raising=False)
        patch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
        start_local_head(settings, num_cpus=2)
        try:
            yield settings
        finally:
            stop_local_head(settings)


@pytest.fixture(scope="module")
def address(settings):
    return json.loads((settings.home / "local-ray.json").read_text())["dashboard_url"]


@pytest.fixture
def attrition(settings, address, monkeypatch):
    """The command on this cluster, whatever Ray the test process has joined before."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)

    def run(*arguments):
        return CliRunner().invoke(app, ["--home", str(settings.home), "jobs", *arguments])

    return run


def test_a_job_runs_once_under_its_id(attrition, settings):
    """Its output and its exit code are this command's; again, it is followed instead of run."""
    command = [sys.executable, "-c", "import os; print('home', os.environ['ATTRITION_HOME']); raise SystemExit(3)"]
    first = attrition("submit", "--submission-id", "held", "--json", "--", *command)
    assert first.exit_code == 3, first.output
    assert "Job held is submitted." in first.stderr
    assert (
        f"home {os.fspath(Path(json.loads(first.stdout)['command'] and first.stderr.split('home ')[1].split()[0]))}"
        in first.stderr
    )
    again = attrition("submit", "--submission-id", "held", "--json", "--", *command)
    assert again.exit_code == 3
    assert "Job held was submitted before." in again.stderr
    assert json.loads(again.stdout) == json.loads(first.stdout)
    other = attrition("submit", "--submission-id", "held", "--", "attrition", "tune")
    assert other.exit_code == 2
    assert "belongs to another command" in other.stderr


def test_our_own_commands_run_there(attrition):
    """On the project's home."""
    done = attrition("submit", "--", "attrition", "models", "list")
    assert done.exit_code == 0, done.output


def test_stop_list_and_logs(attrition, settings, address):
    """By command; a job that is unknown is said to be."""
    started = attrition("submit", "--submission-id", "long", "--no-wait", "--", "sleep", "300")
    assert started.exit_code == 0, started.output
    assert attrition("stop", "long").exit_code == 0
    assert attrition("logs", "long", "--follow").exit_code == 5
    jobs = {job["submission_id"]: job["status"] for job in json.loads(attrition("list", "--json").stdout)}
    assert jobs["long"] == "STOPPED"
    assert "long" in attrition("list").stdout
    unknown = attrition("logs", "nobody")
    assert unknown.exit_code == 4
    assert "job nobody: is not known to this cluster" in unknown.stderr
    with pytest.raises(NotFound):
        Jobs(address, token=TOKEN).stop("nobody")


def test_follow_hands_on_each_line_once(address):
    """While they are printed, over several connections."""
    jobs = Jobs(address, token=TOKEN)
    code = "import time\nfor i in range(30): print(f'line {i:02d}', flush=True); time.sleep(0.1)"
    job = jobs.submit([sys.executable, "-c", code]).job
    heard: list[str] = []
    assert jobs.follow(job.submission_id, heard.append).status == "SUCCEEDED"
    lines = [line for line in "".join(heard).splitlines() if line.startswith("line ")]
    assert lines == [f"line {i:02d}" for i in range(30)]
    assert jobs.logs(job.submission_id).count("\nline ") == 30


def test_rays_own_command_and_ours_see_the_same_jobs(address):
    """`ray job submit` with the token, listed by us."""
    done = subprocess.run(
        ["ray", "job", "submit", "--address", address, "--submission-id", "theirs", "--", "echo", "hello"],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Jobs(address, token=TOKEN).show("theirs").status == "SUCCEEDED"


@pytest.mark.parametrize("token", ["", "0bad" * 12])
def test_without_the_token_nothing_runs(address, token):
    """And the message says what is missing."""
    with pytest.raises(RayUnreachable, match="RAY_AUTH_TOKEN"):
        Jobs(address, token=token).submit(["true"])


def test_where_no_dashboard_is():
    """Nothing listens; or the address is that of Ray's other port."""
    with pytest.raises(RayUnreachable, match="no Ray dashboard answers"):
        Jobs("http://127.0.0.1:9").list()
    with pytest.raises(UsageError, match="http://HOST:8265"):
        Jobs("127.0.0.1:6379")
    with pytest.raises(UsageError, match="no command"):
        Jobs("http://127.0.0.1:9").submit([])
