"""Closed access for real: a workspace on its databases and MLflow, and an endpoint on Ray Serve."""

from __future__ import annotations

import time
from contextlib import ExitStack

import httpx
import pandas as pd
import pytest

from attrition.client import Client
from attrition.cluster import endpoint
from attrition.errors import AccessDenied, NotAuthenticated, UsageError
from attrition.serving.access_options import AccessTuning
from attrition.serving.config import ServeConfig
from attrition.serving.traffic import single_variant
from attrition.settings import Settings
from attrition.stations.traffic import Traffic
from attrition.workspace import Workspace

# MLflow's own table definitions, at their first import
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

RECORD = {"employee_id": "E-1", "age": 40, "tenure": 12, "satisfaction_score": 3.5, "department_code": 2}


class Team:
    """A closed project, and its members' keys by name."""

    def __init__(self, settings, monkeypatch, opened):
        self.settings = settings
        self._opened = opened
        self._monkeypatch = monkeypatch
        monkeypatch.delenv("ATTRITION_TOKEN", raising=False)
        monkeypatch.delenv("ATTRITION_API_KEY", raising=False)
        self.keys = {"lead": self.workspace().access.create_key("lead", "ml_lead")}
        for name, role in (
            ("eve", "ml_engineer"),
            ("dan", "data_scientist"),
            ("sam", "scorer"),
            ("olga", "ml_lead"),
            ("otto", "ml_lead"),
        ):
            self.add(name, role, by="lead")

    def add(self, name, role, *, by):
        self.keys[name] = self.as_(by).access.create_key(name, role)

    def workspace(self):
        return self._opened.enter_context(Workspace(self.settings))

    def as_(self, name):
        """The project as one of its members has it."""
        self._monkeypatch.setenv("ATTRITION_API_KEY", self.keys[name].text)
        return self.workspace()

    def header(self, name):
        return {"authorization": f"Bearer {self.keys[name].text}"}


@pytest.fixture
def found(monkeypatch):
    """Function that founds the team of a closed project; everything is closed at the end."""
    with ExitStack() as opened:
        yield lambda settings: Team(settings, monkeypatch, opened)


def test_a_closed_project_from_the_import_to_the_approval(found, tmp_path):
    """Each by whom it is permitted to; refused to the others; the author does not approve; everything is recorded."""
    team = found(Settings.from_environment({}, home=tmp_path, access="closed"))
    path = team.as_("eve").data.simulate(team.settings.home / "hr.csv.gz", n_employees=1_500, n_quarters=2)
    with pytest.raises(AccessDenied, match=r"data\.import"):
        team.as_("dan").data.load(path, "workforce")
    assert not (team.settings.home / "tables").exists()
    team.as_("eve").data.load(path, "workforce")
    run = team.as_("dan").train(plan="smoke")
    with pytest.raises(AccessDenied, match=r"model\.register"):
        team.as_("sam").models.register(run.run_id)
    version = team.as_("olga").models.register(run.run_id, waive="test")
    assert version.authors == ("dan", "olga")
    with pytest.raises(AccessDenied, match=r"model\.approve"):
        team.as_("dan").models.approve("1.0.0", justification="mine is good")
    with pytest.raises(AccessDenied, match="was made by olga; its author may not approve it"):
        team.as_("olga").models.approve("1.0.0", justification="ours is good")
    team.add("second", "ml_lead", by="olga")
    with pytest.raises(AccessDenied, match="was made by olga, from whom the key of second comes"):
        team.as_("second").models.approve("1.0.0", justification="ours is good")
    with pytest.raises(UsageError, match="no justification"):
        team.as_("otto").models.approve("1.0.0", justification=" ")
    approved = team.as_("otto").models.approve("1.0.0", justification="holdout and fairness reviewed")
    (alias,) = [alias for alias in approved.aliases if alias.startswith("approved-")]
    assert team.as_("dan").models.show(alias).approval["by"] == "otto"
    assert "by otto" in str(approved)

    log = team.workspace().guard.audit
    done = {(r.action, r.outcome, r.actor) for r in log.records()}
    assert {
        ("data.import", "denied", "dan"),
        ("data.import", "succeeded", "eve"),
        ("model.train", "succeeded", "dan"),
        ("model.register", "denied", "sam"),
        ("model.register", "succeeded", "olga"),
        ("model.approve", "denied", "dan"),
        ("model.approve", "denied", "olga"),
        ("model.approve", "denied", "second"),
        ("model.approve", "succeeded", "otto"),
        ("access.manage", "succeeded", "lead"),
    } <= done
    (last,) = log.records(action="model.approve", outcome="succeeded")
    assert (last.model_version, last.data_version) == ("1.0.0", "0")
    assert last.justification == "holdout and fairness reviewed"
    assert log.verify().intact


def test_whoever_comes_first_may_make_only_a_key_that_makes_others(tmp_path, monkeypatch):
    """And nobody a second time without one."""
    for name in ("ATTRITION_API_KEY", "ATTRITION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    access = Workspace(Settings.from_environment({}, home=tmp_path, access="closed")).access
    with pytest.raises(AccessDenied, match="roles that may: ml_lead"):
        access.create_key("portal", "scorer")
    first = access.create_key("lead", "ml_lead")
    with pytest.raises(NotAuthenticated):
        access.create_key("mallory", "ml_lead")
    monkeypatch.setenv("ATTRITION_API_KEY", first.text)
    assert access.whoami().name == "lead"
    access.create_key("portal", "scorer")
    assert [key.name for key in access.list_keys()] == ["lead", "portal"]


def test_keys_on_postgresql(postgres_url, tmp_path, found):
    """Made, recognised, revoked and recorded there, by several connections; the password stays inside."""
    team = found(Settings.from_environment({}, home=tmp_path, access="closed", database_url=postgres_url))
    assert team.as_("eve").access.whoami().roles == ("ml_engineer",)
    team.as_("lead").access.revoke_key("eve", justification="left the team")
    with pytest.raises(NotAuthenticated, match="was revoked"):
        team.as_("eve").access.whoami()
    names = {key.name: key.revoked_at is not None for key in team.as_("otto").access.list_keys()}
    assert names == {name: name == "eve" for name in ("lead", "eve", "dan", "sam", "olga", "otto")}
    with pytest.raises(AccessDenied):
        team.as_("dan").access.list_keys()
    log = team.workspace().guard.audit
    assert log.records(action="access.manage", outcome="succeeded")[-1].justification == "left the team"
    assert log.verify().intact


@pytest.mark.ray
def test_a_closed_endpoint(ray_cluster, make_bundle, tmp_path, found):
    """401, 403, 200; a revoked key is refused within 15 s; a switch smoke-tests with the caller's key."""
    team = found(Settings.from_environment(home=tmp_path, access="closed"))
    team.keys["ann"] = team.as_("lead").access.create_key("ann", "compliance_auditor")
    bundles = {"1.0.0": make_bundle("1.0.0", 1.0), "1.1.0": make_bundle("1.1.0", 0.2)}
    config = ServeConfig.load("local")
    application = config.application
    args = application.args.model_copy(update={"access": AccessTuning(refresh_seconds=5)})
    application = application.model_copy(update={"args": args})
    config = config.model_copy(update={"applications": (application,), "monitor": None})
    served = endpoint.up(team.settings, single_variant(bundles["1.0.0"]), config)
    try:
        with httpx.Client(base_url=served.url) as http:
            assert http.get("/readiness").status_code == 200
            refused = http.post("/v1/predict", json=RECORD)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="attrition"')
            assert http.post("/v1/predict", json=RECORD, headers=team.header("ann")).status_code == 403
            assert http.post("/v2/models/m/infer", json={}).json().keys() == {"error"}
            assert http.post("/v1/predict", json=RECORD, headers=team.header("sam")).status_code == 200

            team.as_("sam")
            with Client(served.url) as client:
                assert len(client.predict(pd.DataFrame([RECORD]))) == 1
            with (
                Client(served.url, credentials="") as client,
                pytest.raises(NotAuthenticated, match="ATTRITION_API_KEY"),
            ):
                client.versions()
            with Client(served.url, credentials=team.keys["ann"].text) as client, pytest.raises(AccessDenied):
                client.predict(pd.DataFrame([RECORD]))

            with pytest.raises(AccessDenied, match=r"traffic\.change"):
                Traffic(team.settings, team.as_("sam").guard, bundles.__getitem__).set({"1.1.0": 1.0})
            control = Traffic(team.settings, team.as_("eve").guard, bundles.__getitem__)
            switched = control.switch("1.1.0", justification="better")
            assert switched.report.passed
            assert switched.change.actor == "eve"

            assert team.as_("lead").access.revoke_key("sam").name == "sam"
            started = time.monotonic()
            while http.post("/v1/predict", json=RECORD, headers=team.header("sam")).status_code == 200:
                assert time.monotonic() - started < 15
                time.sleep(0.2)
            gone = http.post("/v1/predict", json=RECORD, headers=team.header("sam"))
            assert gone.status_code == 401
            assert "was revoked" in gone.json()["detail"]
    finally:
        endpoint.down(team.settings)
    log = team.workspace().guard.audit
    assert {(r.action, r.outcome, r.actor) for r in log.records()} >= {
        ("traffic.change", "denied", "sam"),
        ("traffic.change", "succeeded", "eve"),
        ("access.denied", "denied", "ann"),
    }
    assert log.verify().intact
