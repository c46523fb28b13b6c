"""``attrition release``: what people see of a rollout, and which exit code a bad wish has."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from rollout_world import NEW, NOW, rollout
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.release.rollout import Status
from attrition.release.rollout_store import RolloutStore
from attrition.settings import Settings


@pytest.fixture
def home(tmp_path):
    settings = Settings.from_environment({}, home=tmp_path)
    settings.prepare_home()
    return settings


@pytest.fixture
def run(home):
    return lambda *arguments: CliRunner().invoke(app, ["--home", str(home.home), "release", *arguments])


def test_a_rollout_at_a_glance(home, run):
    """Versions, status, who drives it, the plan, the evidence, what happened."""
    figures = {"control": 0.12, "challenger": 0.08, "difference": -0.04, "low": -0.06, "high": -0.02, "margin": 0.01}
    metric = {"metric": "false_positive_rate", "role": "goal", "standing": "better", **figures}
    look = {"verdict": "PROMOTE", "metrics": [metric], "n_champion": 900, "n_challenger": 310}
    running = rollout(step=1, entered_at=NOW, clock_from=NOW, look=look).noted("step 2, 5 %: fine", NOW)
    RolloutStore(home.database_url).begin(lambda number: running.model_copy(update={"id": number}))
    shown = run("status")
    assert shown.exit_code == 0
    for text in (
        "Rollout 1: 1.0.0 to 1.1.0  RUNNING",
        "nobody: attrition release run",
        "PROMOTE, 900 and 310 employees",
        "-0.06 to -0.02",
        "2026-05-04 12:00:00  step 2, 5 %: fine",
    ):
        assert text in shown.output
    document = json.loads(run("status", "--json").stdout)
    assert (document["driven_by"], document["challenger"], document["step"]) == (None, NEW, 1)


def test_nothing_was_started(run):
    """Said, with what to do."""
    assert (run("status").exit_code, "there was none yet" in run("status").output) == (4, True)
    assert (run("run").exit_code, run("pause").exit_code, run("rollback").exit_code) == (4, 2, 2)


def test_all_faults_of_a_start_at_once(run, tmp_path):
    """A missing version, weights that do not sum, nothing served: bad input, told together."""
    plan = tmp_path / "plan.yaml"
    plan.write_text("steps: [{champion: 95, challenger: 15}, {champion: 0, challenger: 100}]\nlook: soon\n")
    shown = run("start", "9.9.9", "--plan", str(plan))
    assert shown.exit_code == 4
    for text in ("weights sum to 110", "'soon' is no duration", "version 9.9.9: does not exist", "nothing is served"):
        assert text in shown.output


def test_a_plan_that_does_not_exist(run):
    """Only rollout plans are proposed."""
    shown = run("start", "9.9.9", "--plan", "cautious")
    assert "shipped in serve_configs: rollout;" in " ".join(shown.output.split())


def test_what_ended_is_no_rollout_to_be_paused(home, run):
    """The last one is shown all the same."""
    store = RolloutStore(home.database_url)
    begun = store.begin(lambda number: rollout(id=number))
    token = store.acquire("test")
    store.save(begun.noted("inconclusive", NOW + timedelta(1), status=Status.INCONCLUSIVE), token)
    assert "INCONCLUSIVE" in run("status").output
    assert run("pause").exit_code == 2
