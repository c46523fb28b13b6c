"""Every call of the Workspace has a stated permission; a new one fails here until it has one."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime

import pytest

from attrition.errors import AccessDenied, UsageError
from attrition.experiments.plan import ExperimentPlan
from attrition.governance.access_keys import KeyStore, make_key
from attrition.governance.actions import Action
from attrition.serving.placement import Placement
from attrition.settings import Settings
from attrition.workspace import Workspace

NOW = datetime(2026, 5, 4, tzinfo=UTC)

PLAN = ExperimentPlan(name="retrained", control="1.0.0", challenger="1.1.0")
GUARDED = {
    "tune": (Action.TRAIN, ("smoke",)),
    "train": (Action.TRAIN, ()),
    "validate": (Action.VALIDATE, ("champion",)),
    "unchanged": (Action.MODEL_VIEW, ("smoke",)),
    "score": (Action.BATCH_SCORE, ("in.csv", "out.csv")),
    "explain": (Action.EXPLAIN, ("01890a5d-ac96-774b-bcce-b302099a8057",)),
    "explain_global": (Action.MODEL_VIEW, ("champion",)),
    "data.load": (Action.DATA_IMPORT, ("hr.csv",)),
    "data.read": (Action.DATA_VIEW, ()),
    "data.snapshots": (Action.DATA_VIEW, ()),
    "models.list": (Action.MODEL_VIEW, ()),
    "models.show": (Action.MODEL_VIEW, ("champion",)),
    "models.resolve": (Action.MODEL_VIEW, ("champion",)),
    "models.by_fingerprint": (Action.MODEL_VIEW, ("0",)),
    "models.verdict": (Action.MODEL_VIEW, ("champion",)),
    "models.verify": (Action.MODEL_VIEW, ("champion",)),
    "models.compare": (Action.MODEL_VIEW, ("1.0.0", "1.1.0")),
    "models.card": (Action.MODEL_VIEW, ("champion",)),
    "certificates.assess": (Action.AUDIT_VIEW, ("champion",)),
    "certificates.issue": (Action.CERTIFY, ("champion",)),
    "models.load": (Action.MODEL_DOWNLOAD, ("champion",)),
    "models.export_bundle": (Action.MODEL_DOWNLOAD, ("champion",)),
    "models.register": (Action.REGISTER, ("0" * 32,)),
    "models.set_alias": (Action.ALIAS, ("pilot", "1.0.0")),
    "models.promote": (Action.PROMOTE, ("1.0.0",)),
    "models.approve": (Action.APPROVE, ("1.0.0",)),
    "models.delete": (Action.MODEL_DELETE, ("1.0.0",)),
    "serving.up": (Action.DEPLOY, ()),
    "serving.down": (Action.DEPLOY, ()),
    "traffic.show": (Action.TRAFFIC_VIEW, ()),
    "traffic.history": (Action.TRAFFIC_VIEW, ()),
    "traffic.set": (Action.TRAFFIC_CHANGE, ({"1.0.0": 1.0},)),
    "traffic.pin": (Action.TRAFFIC_CHANGE, ("x-user-group", "pilot", "1.1.0")),
    "traffic.unpin": (Action.TRAFFIC_CHANGE, ("x-user-group",)),
    "traffic.shadow": (Action.TRAFFIC_CHANGE, (["1.1.0"],)),
    "traffic.switch": (Action.TRAFFIC_CHANGE, ("1.1.0",)),
    "traffic.rollback": (Action.ROLLBACK, ()),
    "traffic.place": (Action.TRAFFIC_CHANGE, ("1.1.0", Placement.DEPLOYMENT)),
    "release.stage": (Action.TRAFFIC_CHANGE, ("1.1.0",)),
    "release.approve": (Action.APPROVE, ("1.1.0",)),
    "release.start": (Action.TRAFFIC_CHANGE, ("1.1.0",)),
    "release.run": (Action.PROMOTE, ()),
    "release.detach": (Action.TRAFFIC_CHANGE, ()),
    "release.status": (Action.TRAFFIC_VIEW, ()),
    "release.pause": (Action.TRAFFIC_CHANGE, ()),
    "release.resume": (Action.TRAFFIC_CHANGE, ()),
    "release.promote": (Action.PROMOTE, ()),
    "release.rollback": (Action.ROLLBACK, ()),
    "predictions.tail": (Action.PREDICTION_VIEW, ()),
    "predictions.between": (Action.PREDICTION_VIEW, ()),
    "predictions.export": (Action.PREDICTION_VIEW, ("march.parquet",)),
    "outcomes.load": (Action.OUTCOME_IMPORT, ("leavers.csv",)),
    "outcomes.labels": (Action.PREDICTION_VIEW, (365,)),
    "monitoring.drift": (Action.DRIFT_VERDICT, ()),
    "monitoring.live": (Action.DATA_VIEW, ()),
    "monitoring.drift_reports": (Action.DATA_VIEW, ()),
    "monitoring.drift_report": (Action.DATA_VIEW, ("4f1c09",)),
    "monitoring.drift_page": (Action.DATA_VIEW, ("4f1c09",)),
    "experiments.start": (Action.EXPERIMENT, (PLAN,)),
    "experiments.status": (Action.EXPERIMENT, ()),
    "experiments.list": (Action.EXPERIMENT, ()),
    "experiments.analyze": (Action.EXPERIMENT, ()),
    "experiments.page": (Action.EXPERIMENT, ()),
    "experiments.stop": (Action.EXPERIMENT, ()),
    "privacy.report": (Action.PRIVACY_REPORT, ("E004217",)),
    "privacy.erase": (Action.ERASE, ("E004217",)),
    "privacy.retain": (Action.RETENTION, ()),
    "performance.measure": (Action.PERFORMANCE, ()),
    "performance.estimate": (Action.PERFORMANCE, ()),
    "retraining.check": (Action.RETRAINING_DECISION, ()),
    "retraining.run": (Action.RETRAINING_DECISION, ()),
    "retraining.history": (Action.MODEL_VIEW, ()),
    "alerts.test": (Action.ALERT, ()),
    "alerts.list": (Action.ALERT, ()),
    "alerts.settle": (Action.ALERT, ("performance/", ())),
    "cluster.up": (Action.CLUSTER, ([],)),
    "cluster.status": (Action.TRAFFIC_VIEW, ()),
    "cluster.deploy": (Action.TRAFFIC_CHANGE, ("1.1.0",)),
    "cluster.shift": (Action.TRAFFIC_CHANGE, ({"1.0.0": 1.0},)),
    "cluster.traffic": (Action.TRAFFIC_VIEW, ()),
    "cluster.down": (Action.CLUSTER, ("RayService", "attrition")),
    "jobs.submit": (Action.JOB, (["attrition", "tune"],)),
    "jobs.list": (Action.JOB, ()),
    "jobs.show": (Action.JOB, ("tune-1",)),
    "jobs.logs": (Action.JOB, ("tune-1",)),
    "jobs.follow": (Action.JOB, ("tune-1", print)),
    "jobs.stop": (Action.JOB, ("tune-1",)),
    "access.list_keys": (Action.ACCESS_VIEW, ()),
    "access.create_key": (Action.ACCESS_MANAGE, ("portal", "nobody")),
    "access.revoke_key": (Action.ACCESS_MANAGE, ("portal",)),
    "audit.records": (Action.AUDIT_VIEW, ()),
    "audit.record": (Action.AUDIT_VIEW, (1,)),
    "audit.verify": (Action.AUDIT_VIEW, ()),
    "audit.head": (Action.AUDIT_VIEW, ()),
    "audit.export": (Action.AUDIT_EXPORT, ("out",)),
}
KEYWORDS = {
    "cluster.deploy": {"service": "attrition"},
    "cluster.shift": {"service": "attrition"},
    "cluster.traffic": {"service": "attrition"},
    "outcomes.labels": {"as_of": NOW},
    "models.approve": {"justification": "reviewed"},
    "release.approve": {"justification": "reviewed"},
    "models.delete": {"justification": "of no use any more"},
    "privacy.erase": {"justification": "asked for by letter"},
}

FREE = {
    "experiments.plan": "arithmetic on what the caller expects",
    "close": "ends nothing that others use",
    "ray": "whoever reaches a Ray cluster may use it: that is Ray's own authentication",
    "client": "the endpoint asks for itself",
    "data.extract": "reads the caller's own file, stores nothing",
    "data.check": "reads the caller's own file, stores nothing",
    "data.simulate": "invented people",
    "simulate": "invented people, in a project of its own",
    "monitoring.execution": "says who would read; reads nothing",
    "serving.require_free_port": "looks at a port of this machine",
    "serving.status": "what every probe of the endpoint may know",
    "predictions.recover": "commits what replicas left on this machine; shows nothing",
    "privacy.pseudonym": "whoever has the pseudonym key can compute it; nothing is looked up",
    "predictions.compact": "changes no row; shows nothing",
    "outcomes.compact": "changes no row; shows nothing",
    "access.whoami": "who asks may know who they are",
    "certificates.verify": "reads the caller's own file; a certificate is made to be checked by anybody",
    "audit.verify_exports": "reads the caller's own files",
    "audit.key": "a public key",
}
"""What needs no permission, and why."""


def public_methods(workspace):
    """Names of everything that can be called on a workspace and on what its properties give."""
    owners = {"": Workspace}
    for name, member in inspect.getmembers(Workspace):
        if not name.startswith("_") and not inspect.isfunction(member) and name != "guard":
            owners[name + "."] = type(getattr(workspace, name))
    return {
        prefix + name
        for prefix, owner in owners.items()
        for name, member in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.fixture
def outsider(tmp_path, monkeypatch):
    """A closed project, seen by somebody who is known and may do nothing."""
    config = tmp_path / "access.yaml"
    config.write_text(
        "roles:\n  nobody: {summary: May do nothing., actions: []}\n"
        "  boss: {summary: May manage access., actions: [access.manage]}\n"
    )
    settings = Settings.from_environment({}, home=tmp_path / "home", access="closed", access_config=config)
    settings.prepare_home()
    made = make_key("eve", "nobody", created_by="x", now=datetime.now(UTC))
    KeyStore(settings.database_url).add(made.key)
    monkeypatch.setenv("ATTRITION_API_KEY", made.text)
    monkeypatch.delenv("ATTRITION_TOKEN", raising=False)
    with Workspace(settings) as workspace:
        yield workspace


def test_every_call_has_a_stated_permission(outsider):
    """Or a reason to need none."""
    known = {*GUARDED, *FREE}
    assert public_methods(outsider) == known


def test_a_waiver_opens_no_run_to_whoever_may_not_register(outsider):
    """The run is looked at only then: this one does not exist."""
    with pytest.raises(AccessDenied, match=r"model\.register: is not permitted to eve"):
        outsider.models.register("0" * 32, waive="it is needed today")


@pytest.mark.parametrize("name", GUARDED)
def test_whoever_may_do_nothing_is_refused(outsider, name):
    """Before anything is read, made or asked; the refusal is recorded as that of its action."""
    action, arguments = GUARDED[name]
    station, _, method = name.rpartition(".")
    owner = getattr(outsider, station) if station else outsider
    with pytest.raises(AccessDenied, match=f"{action}: is not permitted to eve"):
        getattr(owner, method)(*arguments, **KEYWORDS.get(name, {}))
    (record,) = outsider.audit.log.records()
    assert (record.action, record.outcome, record.actor) == (action, "denied", "eve")
    left = {path.name for path in outsider.settings.home.iterdir() if not path.name.startswith("governance.db")}
    assert left <= {"keys"}


def test_only_an_approval_gives_its_alias(tmp_path):
    """An alias that says so without one would be a forgery; the champion's alias is a promotion."""
    models = Workspace(home=tmp_path).models
    with pytest.raises(UsageError, match="stands for an approval"):
        models.set_alias("approved-2026-12", "1.0.0")


def test_moving_the_champion_and_waiving_a_gate_need_their_own_permissions(outsider):
    """Whoever may name versions and register runs may not therefore promote or waive."""
    with pytest.raises(AccessDenied, match=r"traffic\.promote"):
        outsider.models.set_alias("champion", "1.0.0")


def test_the_last_key_that_manages_access_cannot_be_revoked(tmp_path, monkeypatch):
    """Otherwise a closed project is closed to everybody; with a second one it can."""
    founder = Workspace(home=tmp_path, access="closed").access
    first = founder.create_key("lead", "ml_lead")
    monkeypatch.setenv("ATTRITION_API_KEY", first.text)
    access = Workspace(home=tmp_path, access="closed").access
    access.create_key("portal", "scorer")
    for ref in ("lead", first.key.id, first.text):
        with pytest.raises(UsageError, match="last one that may manage access"):
            access.revoke_key(ref)
    access.create_key("deputy", "ml_lead")
    assert access.revoke_key("lead").name == "lead"
