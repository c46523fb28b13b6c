"""The whole loop on real parts: Ray Tune, MLflow, Delta tables, drift, the database; and what stops an attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from attrition import Workspace
from attrition.errors import NotFound
from attrition.governance.actions import Action
from attrition.governance.audit_events import Outcome
from attrition.retraining.ledger import Ledger
from attrition.retraining.policy import RetrainingPolicy
from attrition.retraining.simulated_world import make_world

pytestmark = pytest.mark.ray
ATTRITION = Path(sys.executable).parent / "attrition"
COMPANY = {"n_employees": 3_000, "seed": 42, "scenario": "flexible_hours", "drift_quarter": -2}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory, ray_cluster):
    """Three quarters of a company whose change began in the year before; its report and its project."""
    folder = tmp_path_factory.mktemp("loop") / "company"
    with Workspace(home=tmp_path_factory.mktemp("own"), ray_address=ray_cluster.address) as own:
        report, paths = own.simulate(
            folder, quarters=3, employees=3_000, seed=42, scenario="flexible_hours", drift_quarter=-2
        )
    with Workspace(home=folder, ray_address=ray_cluster.address) as company:
        yield report, paths, company


@pytest.fixture(scope="module")
def day():
    """Moment of the check after a quarter of that company."""
    return make_world(3, **COMPANY).checked_at


def test_the_loop_notices_retrains_and_recovers(simulated):
    """Fallen performance leads to a challenger; in charge, it ranks the same people better by the whole interval."""
    report, _, _ = simulated
    assert [quarter.verdict for quarter in report.quarters][:2] == ["HOLD", "RETRAIN"], str(report)
    assert report.quarters[1].state == "REGISTERED"
    assert report.quarters[1].drifted == ("work_hours",)
    last = report.quarters[-1]
    assert (last.version, report.quarters[0].version) == ("1.1.0", "1.0.0")
    assert last.gain.low > 0.01
    assert last.auc_without.high < report.baseline.value


def test_everything_is_on_record(simulated):
    """Decisions in the database and in the audit log, versions in the registry, drift in its table, files beside it."""
    report, paths, company = simulated
    decisions = company.retraining.history()
    assert [each["verdict"] for each in reversed(decisions)] == [quarter.verdict for quarter in report.quarters]
    assert decisions[1]["records"]["n_production"] > 0
    assert all(each["reasons"] for each in decisions)
    events = company.audit.records(action=Action.RETRAINING_DECISION)
    assert sum(event.outcome == Outcome.SUCCEEDED for event in events) == 3
    assert any("AUC" in reason for event in events for reason in event.details.get("reasons", ()))
    assert company.models.show("champion").version == "1.1.0"
    (trail,) = [check for check in company.certificates.assess("1.1.0").checks if check.name == "audit trail"]
    assert trail.passed, trail.text
    assert len(company.monitoring.drift_reports()) == 3
    assert json.loads(paths[0].read_text())["quarters"][1]["challenger"] == "1.1.0"
    assert all(path.stat().st_size > 1_000 for path in paths)


def test_the_same_records_teach_nothing_new(simulated, day):
    """Forced again on the day of the retraining: same records, plan and code, so the version of then is named."""
    *_, company = simulated
    found = company.retraining.run(_policy(runs_per_day=9), force=True, now=day(2))
    assert (found.state, found.version) == ("UNCHANGED", "1.1.0")


def test_cooldown_budget_and_single_flight(simulated, day):
    """What stops an attempt is said, and no version comes of it."""
    *_, company = simulated
    before = len(company.models.list())
    eager = _policy(rules=[{"name": "any drift", "verdict": "RETRAIN", "when": {"drifted_features_from": 1}}])
    found = company.retraining.run(eager.model_copy(update={"cooldown_days": 120}), now=day(3))
    assert (found.decision.verdict, found.state) == ("RETRAIN", "COOLDOWN")
    found = company.retraining.run(_policy(runs_per_day=1), force=True, now=day(2))
    assert found.state == "BUDGET"
    ledger = Ledger(company.settings.database_url)
    assert ledger.acquire("somebody else", day(3), 60) is None
    try:
        found = company.retraining.run(force=True, now=day(3) + timedelta(minutes=59))
        assert found.state == "BUSY"
        assert "until" in found.note
    finally:
        ledger.release("somebody else")
    assert len(company.models.list()) == before


def test_nothing_to_retrain(tmp_path, ray_cluster):
    """A project without a version is told how to make one."""
    with (
        Workspace(home=tmp_path, ray_address=ray_cluster.address) as empty,
        pytest.raises(NotFound, match="no champion"),
    ):
        empty.retraining.check()


def test_the_ledger_in_postgresql(postgres_url):
    """The same statements decide there: one holder, attempts and decisions as they were noted."""
    first, second, now = Ledger(postgres_url), Ledger(postgres_url), datetime(2026, 5, 4, tzinfo=UTC)
    assert first.acquire("ada", now, 60) is None
    other = second.acquire("bob", now, 60)
    assert other is not None
    assert other.until == now + timedelta(minutes=60)
    first.begin("a", "f", now)
    second.end("a", "HELD", seconds=1.5)
    assert [attempt.state for attempt in first.attempts()] == ["HELD"]
    second.note("a", now, {"verdict": "RETRAIN"})
    assert first.decisions() == [{"verdict": "RETRAIN"}]


def _policy(**changes):
    document = RetrainingPolicy.load("retraining-simulation").model_dump(mode="json")
    return RetrainingPolicy.model_validate({**document, **changes})


@pytest.mark.slow
def test_the_loop_over_http(tmp_path, unused_port):
    """The command with --serve: an own Ray, the endpoint scores, its log is what is monitored and learned from."""
    outside = ("RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "MLFLOW_TRACKING_URI")
    environment = {name: value for name, value in os.environ.items() if name not in outside}
    environment |= {"ATTRITION_HOME": str(tmp_path / "home"), "ATTRITION_SERVE_PORT": str(unused_port)}
    options = ["--quarters", "3", "--drift-quarter", "-2", "--employees", "3000", "--serve", "--json"]
    done = subprocess.run(
        [ATTRITION, "simulate", *options], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    report = json.loads(done.stdout)
    assert report["scored_by"] == "HTTP"
    assert report["quarters"][1]["state"] == "REGISTERED"
    assert report["quarters"][2]["gain"]["low"] > 0
