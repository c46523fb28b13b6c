"""The station of releases, closed: what an organisation demands, and who may drive a rollout."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rollout_world import rollout

from attrition.errors import AccessDenied, ConfigError, PlatformError, UsageError
from attrition.governance.access_keys import KeyStore, make_key
from attrition.release.rollout_store import RolloutStore
from attrition.settings import Settings
from attrition.stations import release as station
from attrition.workspace import Workspace


@pytest.fixture
def closed(tmp_path, monkeypatch):
    """Function that opens a closed project as somebody with a role."""
    settings = Settings.from_environment({}, home=tmp_path, access="closed")
    settings.prepare_home()

    def open_as(role, policy="four_eyes: true"):
        made = make_key(role.replace("_", "-"), role, created_by="x", now=datetime.now(UTC))
        with KeyStore(settings.database_url) as store:
            store.add(made.key)
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
