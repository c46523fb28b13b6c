"""The workflows: linters have nothing against them, nothing in them is mutable, and what they run exists."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import parses
from manifests import KUBERAY, ROOT

from attrition.governance.access import RolePolicy
from attrition.governance.actions import Action

FOLDER = ROOT / ".github"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((FOLDER / "workflows").glob("*.yml"))}
ACTION = yaml.safe_load((FOLDER / "actions" / "cluster" / "action.yml").read_text())
SOURCES = [*sorted((FOLDER / "workflows").glob("*.yml")), *sorted((FOLDER / "actions").rglob("*.yml"))]
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"]]


def job_of(workflow, name):
    return WORKFLOWS[workflow]["jobs"][name]


def steps():
    """Every step of every workflow and of the action, with where it stands."""
    found = [(f"{name}.{job}", step) for name, job in JOBS for step in job_of(name, job)["steps"]]
    return found + [("cluster", step) for step in ACTION["runs"]["steps"]]


def commands(script):
    """Arguments of every call of ours in a script: also what it submits to Ray, and what a shell there runs."""
    lexer = shlex.shlex(
        re.sub(r"\d(>&\d)?(?=>)|2>&1", "", script.replace("\\\n", " ")), posix=True, punctuation_chars=";|&<>()\n"
    )
    lexer.whitespace, lexer.whitespace_split = " \t", True
    for is_operator, words in itertools.groupby(lexer, lambda word: set(word) <= set(";|&<>()\n")):
        call = list(words)
        if is_operator:
            continue
        while call:
            if call[0] in {"if", "then", "until", "do"}:
                call = call[1:]
            elif call[0] == "sh":
                yield from commands(call[2])
                break
            elif call[0] == "attrition":
                yield call[1:]
                call = call[call.index("--") + 1 :] if "--" in call else []
            else:
                break


def scripts():
    return [(where, step["run"]) for where, step in steps() if "run" in step]


def test_actionlint_has_nothing_to_say():
    """Syntax, expressions, types of inputs and contexts, and shellcheck on the scripts where that is installed."""
    program = shutil.which("actionlint") or shutil.which("actionlint", path=str(Path.home() / "go" / "bin"))
    if program is None:
        pytest.skip("actionlint is missing: go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12")
    done = subprocess.run([program, "-no-color"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_no_weakness():
    """Injection, credentials that stay, permissions, unpinned actions: nothing from medium severity on."""
    program = shutil.which("zizmor") or shutil.which(str(Path(sys.executable).parent / "zizmor"))
    assert program, "the package zizmor of the test group brings it"
    arguments = [program, "--offline", "--no-progress", "--min-severity", "medium", str(FOLDER)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_delivery_is_these_workflows():
    """Started by what the delivery needs: a push, data, a hand, and Monday at two."""
    assert set(WORKFLOWS) == {"ci", "train", "cd-deploy", "auto-retrain"}
    assert {"push", "pull_request"} <= WORKFLOWS["ci"]["on"].keys()
    assert WORKFLOWS["train"]["on"].keys() == {"repository_dispatch", "workflow_dispatch"}
    assert WORKFLOWS["cd-deploy"]["on"].keys() == {"workflow_dispatch"}
    assert WORKFLOWS["auto-retrain"]["on"].keys() == {"schedule", "workflow_dispatch"}
    assert WORKFLOWS["auto-retrain"]["on"]["schedule"] == [{"cron": "0 2 * * 1"}]


def test_actions_are_pinned_to_commits():
    """A tag can be moved to other code; the comment says which version the commit was."""
    used = [line.strip() for path in SOURCES for line in path.read_text().splitlines() if "uses:" in line]
    outside = [line for line in used if "uses: ./" not in line]
    assert outside
    for line in outside:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    pins = {re.search(r"uses: (\S+)", line)[1] for line in outside}
    assert len({pin.split("@")[0] for pin in pins}) == len(pins), "one action, two commits"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_permissions_are_the_least(name):
    """Nobody writes; a token for Azure is asked for by the jobs that sign in, and by nobody else."""
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] in ({}, {"contents": "read"})
    assert workflow["concurrency"]["group"]
    for job_name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 420, job_name
        permissions = job.get("permissions", workflow["permissions"])
        signs_in = any(step.get("uses", "").startswith("./") for step in job["steps"])
        assert permissions.get("id-token") == ("write" if signs_in else None), job_name
        assert {each for each, level in permissions.items() if level == "write"} <= {"id-token"}
        assert not signs_in or job["environment"], "the identity trusts environments, not branches"


def test_no_secret_is_stored():
    """Whoever signs in does so with the workflow's own identity."""
    text = "".join(path.read_text() for path in SOURCES)
    assert "secrets." not in text
    (login,) = [step for step in ACTION["runs"]["steps"] if step.get("uses", "").startswith("azure/login@")]
    assert login["with"].keys() == {"client-id", "tenant-id", "subscription-id"}


def test_inputs_reach_scripts_as_values_only():
    """An expression inside a script would be code of whoever filled it in."""
    assert [where for where, script in scripts() if "${{" in script] == []


def test_commands_exist():
    """Every command of ours in a workflow, also one that is submitted to Ray, is one that our command line takes."""
    found = [command for _, script in scripts() for command in commands(script)]
    found += [shlex.split(text)[1:] for _, s in scripts() for text in re.findall(r'ENTRYPOINT="(.*?)"', s)]
    names = {" ".join(command[:2]) for command in found}
    assert {
        "jobs submit",
        "release stage",
        "release start",
        "release rollback",
        "cluster up",
        "cluster deploy",
    } <= names
    assert {"retrain", "retrain --force", "drift run", "models unchanged", "tune --config"} <= names
    assert any(command[:2] == ["certify", "--verify"] for command in found)
    for command in found:
        assert parses(command), command


def test_a_misspelt_command_would_be_found():
    """The check above can fail."""
    ((outer, inner),) = [list(commands("attrition jobs submit -- attrition release stagee 1.0.0"))]
    assert parses(outer)
    with pytest.raises(Exception, match="No such command"):
        parses(inner)


def test_drift_has_the_id_of_the_schedule():
    """The CronJob and the workflow of the same Monday run one job."""
    (script,) = [script for where, script in scripts() if "drift run" in script]
    (name,) = re.findall(r'"(attrition-\w+)-\$\(\(', script)
    documents = yaml.safe_load_all((KUBERAY / "base" / "schedules.yaml").read_text())
    (cron,) = [each for each in documents if each["metadata"]["name"] == name]
    hour = re.search(r"%F\)\s(\d\d):00", script)[1]
    assert cron["spec"]["schedule"] == f"0 {int(hour)} * * 1"
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    # the same command, or Ray's job of that id would be refused to the second
    assert " ".join(container["args"][container["args"].index("--") :]) in script


def test_people_stand_between_staging_and_traffic():
    """A job of an environment with reviewers, which signs in nowhere; what failed is given back."""
    jobs = WORKFLOWS["cd-deploy"]["jobs"]
    assert jobs["approve"]["needs"] == "stage"
    assert jobs["approve"]["environment"].endswith("-approval")
    assert jobs["approve"]["permissions"] == {}
    assert jobs["rollout"]["needs"] == "approve"
    assert "needs.rollout.result == 'failure'" in jobs["rollback"]["if"]
    uploaded = [step["with"]["path"] for step in jobs["stage"]["steps"] if "upload-artifact" in step.get("uses", "")]
    assert uploaded == ["certificate-*.json"]


@pytest.mark.parametrize(
    ("code", "said", "free"),
    [
        (0, '"status": "RUNNING"', False),
        (0, '"status": "WAITING"', False),
        (0, '"status": "PROMOTED"', True),
        (4, "there was none yet", True),
        (5, "no Ray dashboard answers", False),
    ],
)
def test_a_rollout_of_somebody_else_is_not_ended(tmp_path, code, said, free):
    """A run that may not begin gives nothing back: `release rollback` would end the rollout that is under way."""
    jobs = WORKFLOWS["cd-deploy"]["jobs"]
    assert "needs.rollout.outputs.free == 'success'" in jobs["rollback"]["if"]
    assert jobs["rollout"]["outputs"] == {"free": "${{ steps.free.outcome }}"}
    (script,) = [step["run"] for step in jobs["rollout"]["steps"] if step.get("id") == "free"]
    program = tmp_path / "attrition"
    program.write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    program.chmod(0o700)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RUN": "deploy-1-1"}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    assert (subprocess.run(shell, env=environment, cwd=tmp_path, check=False).returncode == 0) is free


def test_pipelines_may_do_what_they_do():
    """The keys that the head has: one for what runs by itself, one for certificates; neither approves."""
    operator, auditor = (set(RolePolicy.default().roles[name].actions) for name in ("operator", "compliance_auditor"))
    needed = {Action.TRAFFIC_CHANGE, Action.PROMOTE, Action.ROLLBACK, Action.RETRAINING_DECISION, Action.VALIDATE}
    assert needed <= operator
    assert Action.CERTIFY in auditor
    assert Action.APPROVE not in operator | auditor
    assert "certifier-api-key" in (KUBERAY / "base" / "secrets.yaml").read_text()
    assert "/mnt/secrets/certifier-api-key" in (FOLDER / "workflows" / "cd-deploy.yml").read_text()


def test_ci_is_the_command_of_the_readme():
    """And pins what it installs beside it."""
    ci = (FOLDER / "workflows" / "ci.yml").read_text()
    assert "run: bash .ci/run" in ci
    assert "bash .ci/run" in (ROOT / "README.md").read_text() or ".ci/run" in (ROOT / "README.md").read_text()
    for line in re.findall(r"go install .*|pipx run .*", ci):
        assert re.search(r"@v\d+\.\d+\.\d+$|--spec [\w-]+==[\d.]+ ", line), line
