"""The station of experiments: what it leaves when something fails half way."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from rollout_world import rollout

from attrition.errors import NotFound, PlatformError, ServingError, UsageError
from attrition.experiments import tracking
from attrition.experiments.plan import ExperimentPlan
from attrition.experiments.records import ExperimentRecords
from attrition.governance.guard import Guard
from attrition.release.rollout_store import RolloutStore
from attrition.settings import Settings
from attrition.stations.experiments import Experiments

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAN = ExperimentPlan(name="first", control="1.0.0", challenger="1.1.0")


class World:
    """Runs and traffic; `fails` has what does not work, `did` what was done."""

    def __init__(self, settings):
        self.records = ExperimentRecords(settings.database_url)
        self.fails, self.did = {}, []

    def do(self, what, result=None):
        if what in self.fails:
            raise self.fails[what]
        self.did.append((what, [each.run_id for each in self.records.list()]))
        return result


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({}, home=tmp_path)


@pytest.fixture
def world(settings, monkeypatch):
    settings.prepare_home()
    found = World(settings)
    monkeypatch.setattr(tracking, "begin_run", lambda *_: found.do("begin", "r1"))
    monkeypatch.setattr(tracking, "has_ended", lambda *_: "FINISHED" in [what for what, _ in found.did])
    monkeypatch.setattr(tracking, "end_run", lambda _settings, _run, status="FINISHED": found.do(status))
    return found


@pytest.fixture
def experiments(settings, world):
    package = SimpleNamespace(schema=SimpleNamespace(horizon_days=180))
    registry = SimpleNamespace(resolve=lambda ref: SimpleNamespace(version=ref), load=lambda _ref: package)
    traffic = SimpleNamespace(set=lambda *_, **__: world.do("traffic"))
    return Experiments(settings, Guard(settings), lambda: registry, lambda: traffic)


def test_the_traffic_changes_last(experiments, world):
    """The record then names its run: nothing that can fail comes after."""
    assert experiments.start(PLAN).run_id == "r1"
    assert world.did == [("begin", [""]), ("traffic", ["r1"])]


def test_what_could_not_begin_leaves_an_ended_run_and_no_record(experiments, world):
    """The run is ended while the record still names it; MLflow that is away keeps no record alive."""
    world.fails["traffic"] = ServingError("nothing is served")
    with pytest.raises(ServingError):
        experiments.start(PLAN)
    assert world.did[1:] == [("FAILED", ["r1"])]
    world.fails["FAILED"] = PlatformError("MLflow does not answer")
    with pytest.raises(PlatformError):
        experiments.start(PLAN)
    with pytest.raises(NotFound):
        experiments.status()


def test_stopping_again_ends_a_run_that_could_not_be_ended(experiments, world):
    """MLflow was away when it was stopped; the time is that of the first stop."""
    experiments.start(PLAN)
    world.fails["FINISHED"] = PlatformError("MLflow does not answer")
    with pytest.raises(PlatformError):
        experiments.stop()
    stopped_at = experiments.status().stopped_at
    assert stopped_at is not None
    world.fails.clear()
    assert experiments.stop().stopped_at == stopped_at
    assert world.did[-1] == ("FINISHED", ["r1"])
    with pytest.raises(UsageError, match="was stopped before"):
        experiments.stop()
    assert [what for what, _ in world.did].count("FINISHED") == 1


def test_an_experiment_without_a_run_can_be_stopped(experiments, world):
    """Whoever started it was killed before there was one."""
    world.records.start(PLAN, actor="ann", now=NOW)
    assert not experiments.stop().running
    assert world.did == []


def test_a_rollout_keeps_its_traffic(experiments, settings, world):
    """Other weights would pause it; who only watches may begin."""
    RolloutStore(settings.database_url).begin(lambda number: rollout(id=number))
    with pytest.raises(UsageError, match=r"rollout 1 of 1\.1\.0 has the traffic; .*--keep-traffic"):
        experiments.start(PLAN)
    assert world.did == []
    assert experiments.start(PLAN, change_traffic=False).running
    assert world.did == [("begin", [""])]
