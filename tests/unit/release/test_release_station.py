"""The station of releases, closed: what an organisation demands, and who may drive a rollout."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from rollout_world import NEW, NOW, OLD, rollout

from attrition.errors import AccessDenied, ConfigError, PlatformError, UsageError
from attrition.governance.access_keys import KeyStore, make_key
from attrition.governance.guard import Guard
from attrition.release.rollout import Status
from attrition.release.rollout_store import RolloutStore
from attrition.settings import Settings
from attrition.stations import release as station
from attrition.stations import rollout_actor
from attrition.workspace import Workspace


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """Function that opens a closed project as somebody with a role."""
    settings = Settings.from_environment({}, home=tmp_path, access="closed")
    settings.prepare_home()

    def open_as(role, policy="four_eyes: true"):
        made = make_key(role.replace("_", "-"), role, created_by="x", now=datetime.now(UTC))
        KeyStore(settings.database_url).add(made.key)
        monkeypatch.setenv("ATTRITION_API_KEY", made.text)
        config = tmp_path / "access.yaml"
        config.write_text(policy)
        return Workspace(settings.model_copy(update={"access_config": config}))

    return open_as


def unapproved(folder):
    path = folder / "plan.yaml"
    path.write_text("steps: [{champion: 95, challenger: 5}, {champion: 0, challenger: 100}]")
    return path


@pytest.mark.parametrize(("policy", "demanded"), [("four_eyes: true", True), ("four_eyes: false", False)])
def test_where_access_is_closed_a_plan_asks_for_an_approval(closed, tmp_path, policy, demanded):
    """Unless the policy does without four eyes."""
    with closed("ml_lead", policy) as workspace, pytest.raises(ConfigError) as raised:
        workspace.release.start("9.9.9", unapproved(tmp_path))
    assert ("asks nobody for an approval" in str(raised.value)) is demanded
    assert "version 9.9.9: does not exist" in str(raised.value)


def test_who_builds_versions_promotes_none(closed):
    """A rollout that somebody else drives is started, paused and withdrawn by engineers, not promoted."""
    with closed("ml_engineer") as workspace:
        for refused in (workspace.release.run, workspace.release.promote):
            with pytest.raises(AccessDenied, match=r"traffic\.promote"):
                refused()
        with pytest.raises(UsageError, match="none is under way"):
            workspace.release.pause()


def test_a_request_that_nobody_deals_with(tmp_path, monkeypatch):
    """It is told what stands in the way, and it stays for the next controller."""
    monkeypatch.setattr(station, "HANDLED_SECONDS", 0.1)
    with Workspace(home=tmp_path) as workspace:
        workspace.settings.prepare_home()
        store = RolloutStore(workspace.settings.database_url)
        begun = store.begin(lambda number: rollout(id=number, trouble="Ray does not answer"))
        store.acquire("somebody")
        with pytest.raises(PlatformError, match=r"did not pause within 0 s; Ray does not answer"):
            workspace.release.pause()
    assert store.request(begun).command == "pause"


def test_a_request_that_the_end_of_the_rollout_came_before(tmp_path, monkeypatch):
    """The asker sees how it ended, at once."""
    monkeypatch.setattr(station, "HANDLED_SECONDS", 5.0)
    with Workspace(home=tmp_path) as workspace:
        workspace.settings.prepare_home()
        store = RolloutStore(workspace.settings.database_url)
        begun = store.begin(lambda number: rollout(id=number))
        token = store.acquire("somebody")
        ended = begun.noted("the guard", NOW, status=Status.ROLLED_BACK)
        timer = threading.Timer(0.2, lambda: store.save(ended, token))
        timer.start()
        assert workspace.release.pause().rollout.status is Status.ROLLED_BACK
        timer.join()


def test_an_actor_that_does_not_drive_is_no_success(tmp_path, monkeypatch):
    """It is told who can; without a rollout there is nothing to drive."""
    monkeypatch.setattr(station, "HANDLED_SECONDS", 0.1)
    monkeypatch.setattr(rollout_actor, "start_actor", lambda _settings: "attrition-rollout")
    with Workspace(home=tmp_path) as workspace:
        workspace.settings.prepare_home()
        store = RolloutStore(workspace.settings.database_url)
        assert workspace.release.detach() == "attrition-rollout"
        store.begin(lambda number: rollout(id=number))
        with pytest.raises(PlatformError, match=r"does not drive it .* attrition release run"):
            workspace.release.detach()
        store.acquire("the actor")
        assert workspace.release.detach() == "attrition-rollout"


def test_an_alias_that_moves_meanwhile_names_one_version(tmp_path):
    """What is checked is what is rolled out: the alias is looked up once."""
    versions = iter([NEW, OLD])
    loaded = []

    def load(version):
        loaded.append(version)
        return SimpleNamespace(verdict=SimpleNamespace(admits=False, outcome="fail", results=()))

    registry = SimpleNamespace(resolve=lambda _ref: SimpleNamespace(version=next(versions)), load=load)
    settings = Settings.from_environment({}, home=tmp_path)
    release = station.Release(settings, Guard(settings), lambda: registry, lambda _ref: None, None, None)
    with pytest.raises(ConfigError) as raised:
        release.start("candidate", unapproved(tmp_path))
    assert loaded == [NEW]
    assert f"version {NEW}: did not pass its gates" in str(raised.value)
