"""The pipelines: pinned, with the least permissions, without stored secrets, and with commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from commands import parses

GITHUB = Path(__file__).parents[2] / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
ACTIONS = sorted((GITHUB / "actions").glob("*/action.yml"))
VALUES = {"$VERSION": "1.1.0", "$PLAN": "default", "$RUN": "1"}


def steps(document):
    return [step for job in document.get("jobs", {"": document.get("runs")}).values() for step in job["steps"]]


def commands(document):
    """Our commands in the steps, with what the variables stand for."""
    for step in steps(document):
        for line in step.get("run", "").replace("\\\n", " ").splitlines():
            for part in re.split(r"\||2>&1|&&|;", line):
                words = shlex.split(part)
                if words[:1] == ["attrition"]:
                    yield [re.sub(r"\$\w+", lambda name: VALUES[name.group()], word) for word in words[1:]]


@pytest.mark.parametrize("path", [*WORKFLOWS, *ACTIONS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pinned_and_without_stored_secrets(path):
    """Every action by its commit, its version beside it; inputs reach shells as variables only."""
    text = path.read_text()
    for use in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"(\./\.github/actions/\w+|[\w./-]+@[0-9a-f]{40} # v[\d.]+)", use), use
    assert "secrets." not in text
    for step in steps(yaml.safe_load(text)):
        assert "${{" not in step.get("run", ""), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_least_permissions_and_limits(path):
    """Read by default; a token only where somebody signs in; every job ends; never two at once."""
    document = yaml.safe_load(path.read_text())
    assert document["permissions"] == {"contents": "read"}
    assert "concurrency" in document
    for job in document["jobs"].values():
        assert job["timeout-minutes"] <= 350
        signs_in = any("actions/cluster" in step.get("uses", "") for step in job["steps"])
        assert ("id-token" in job.get("permissions", {})) == signs_in
        assert ("environment" in job) == signs_in
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_command_exists(path):
    """What a pipeline submits, and the submission itself."""
    found = list(commands(yaml.safe_load(path.read_text())))
    assert bool(found) == (path.name != "ci.yml")
    for words in found:
        assert parses(words), words
        if "--" in words:
            assert parses(words[words.index("--") + 2 :]), words


def test_a_misspelt_command_would_be_found():
    """The check above can fail."""
    with pytest.raises(Exception, match="No such"):
        parses(["release", "stagee", "1.0.0"])


def test_a_person_stands_before_the_rollout_and_a_rollback_behind_it():
    """The environment with reviewers is that of the rollout alone."""
    jobs = yaml.safe_load((GITHUB / "workflows" / "cd-deploy.yml").read_text())["jobs"]
    assert [name for name, job in jobs.items() if job["environment"].endswith("-rollout")] == ["rollout"]
    assert jobs["rollout"]["needs"] == "stage"
    assert (jobs["rollback"]["needs"], "failure()" in jobs["rollback"]["if"]) == ("rollout", True)


@pytest.mark.parametrize("command", [["actionlint"], ["zizmor", "--offline", "--no-progress", "--min-severity=medium"]])
def test_linters_find_nothing(command):
    """Where they are installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, *WORKFLOWS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
