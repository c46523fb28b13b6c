"""The guard: authorised, recorded, done, recorded; and not done when it cannot be recorded."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from attrition.errors import (
    AccessDenied,
    AccessUnavailable,
    AuditUnavailable,
    ConfigError,
    NotAuthenticated,
    NotFound,
    UsageError,
)
from attrition.governance.access_keys import KeyStore, make_key
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog
from attrition.governance.audit_events import Outcome
from attrition.governance.credentials import local_user
from attrition.governance.guard import Guard
from attrition.settings import Settings


@pytest.fixture
def project(tmp_path):
    """Function that gives a guard: of an open project, or of a closed one in which somebody has a role."""
    guards = []

    def make(role=None, name="ada", **environ):
        settings = Settings.from_environment({}, home=tmp_path / "home", access="closed" if role else "open")
        settings.prepare_home()
        if role:
            key = make_key(name, role, created_by="x", now=datetime.now(UTC))
            KeyStore(settings.database_url).add(key.key)
            environ = {"ATTRITION_API_KEY": key.text, **environ}
        guards.append(Guard(settings, environ=environ))
        return guards[-1]

    yield make
    for guard in guards:
        guard.close()


def events(guard):
    return [(record.action, record.outcome, record.actor) for record in guard.audit.records()]


def test_what_is_done_leaves_two_events(project):
    """With one correlation, and what was learned meanwhile in the second."""
    guard = project("ml_engineer")
    with guard.acting(Action.ROLLBACK, "endpoint", justification="errors since 14:00") as entry:
        entry.model_version = "1.0.0"
        entry.details["generation"] = 7
        assert [record.outcome for record in guard.audit.records()] == [Outcome.STARTED]
    started, ended = guard.audit.records()
    assert (started.outcome, ended.outcome) == ("started", "succeeded")
    assert started.correlation == ended.correlation
    assert (ended.action, ended.subject, ended.actor) == ("traffic.rollback", "endpoint", "ada")
    assert (ended.justification, ended.model_version) == ("errors since 14:00", "1.0.0")
    assert ended.details["generation"] == 7
    assert ended.details["via"].startswith("key ")
    assert guard.audit.verify().intact


@pytest.mark.parametrize("error", [NotFound("no."), ValueError("age 41"), KeyboardInterrupt()])
def test_what_fails_is_recorded_by_its_kind(project, error):
    """Without its message, which may say anything."""
    guard = project()
    with pytest.raises(type(error)), guard.acting(Action.TRAIN, "plan default"):
        raise error
    started, ended = guard.audit.records()
    assert (started.outcome, ended.outcome) == ("started", "failed")
    assert ended.details["error"] == type(error).__name__
    assert "41" not in str(ended.details)


def test_what_is_not_permitted_is_not_done(project):
    """And leaves one event."""
    guard, done = project("scorer"), []
    with (
        pytest.raises(AccessDenied, match=r"traffic.change: is not permitted to ada \(scorer\)"),
        guard.acting(Action.TRAFFIC_CHANGE, "endpoint"),
    ):
        done.append(1)
    assert done == []
    assert events(guard) == [("traffic.change", "denied", "ada")]


def test_nobody_is_refused_and_recorded(project):
    """Without a name."""
    project("ml_lead")
    guard = project("scorer", "bob")
    nobody = Guard(guard._settings, environ={"ATTRITION_API_KEY": ""})
    with pytest.raises(NotAuthenticated, match="set ATTRITION_API_KEY"), nobody.acting(Action.TRAIN, "plan default"):
        raise AssertionError
    nobody.close()
    assert events(guard) == [("model.train", "denied", "not authenticated")]


def test_open_access_is_recorded_as_the_user(project):
    """Who may do everything."""
    guard = project()
    for action in set(Action) - {Action.ACCESS_DENIED, Action.EXPLAIN, Action.ERASE, Action.PRIVACY_REPORT}:
        with guard.acting(action, "x"):
            pass
    assert {actor for _, _, actor in events(guard)} == {local_user().name}
    assert guard.audit.records()[0].details["via"] == "user"


def test_a_mere_look_leaves_no_event(project):
    """Unless it is refused."""
    guard = project("compliance_auditor")
    assert guard.require(Action.TRAFFIC_VIEW, "endpoint").name == "ada"
    assert events(guard) == []
    with pytest.raises(AccessDenied):
        guard.require(Action.PREDICT, "endpoint")
    assert events(guard) == [("prediction.score", "denied", "ada")]


def test_a_database_that_is_down(tmp_path):
    """Open access: the action is refused, not performed unaudited."""
    broken = tmp_path / "governance.db"
    broken.write_bytes(b"no database" * 1000)
    settings = Settings.from_environment({}, home=tmp_path, database_url=f"sqlite:///{broken}")
    done = []
    with pytest.raises(AuditUnavailable), Guard(settings, environ={}).acting(Action.DATA_IMPORT, "extract hr.csv"):
        done.append(1)
    assert done == []


def test_a_database_of_keys_that_is_down(tmp_path, unused_port):
    """Closed access: nobody can be recognised, so nobody acts."""
    url = f"postgresql://attrition:hidden-word@127.0.0.1:{unused_port}/attrition"
    settings = Settings.from_environment({}, home=tmp_path, access="closed", database_url=url)
    guard = Guard(settings, environ={"ATTRITION_API_KEY": "attr_0123456789ab_" + 43 * "x"})
    with pytest.raises(AccessUnavailable) as caught, guard.acting(Action.TRAIN, "plan default"):
        raise AssertionError
    assert "hidden-word" not in str(caught.value)


def test_a_log_that_fails_after_the_deed(project, monkeypatch, caplog):
    """The deed stands, its start is recorded, and the process says that the end is not."""
    guard = project()
    append, calls = AuditLog.append, []

    def fail_second(log, event, **options):
        calls.append(event.outcome)
        if len(calls) > 1:
            raise AuditUnavailable("down.")
        return append(log, event, **options)

    monkeypatch.setattr(AuditLog, "append", fail_second)
    with caplog.at_level(logging.ERROR), guard.acting(Action.ROLLBACK, "endpoint"):
        pass
    assert calls == ["started", "succeeded"]
    assert "only its start is in the audit log" in caplog.text


def test_a_key_that_is_revoked_meanwhile(project):
    """Is asked for anew with each action."""
    guard = project("ml_lead")
    guard.require(Action.APPROVE, "x")
    KeyStore(guard._settings.database_url).revoke("ada", datetime.now(UTC))
    with pytest.raises(NotAuthenticated, match="was revoked"):
        guard.require(Action.APPROVE, "x")


def test_a_key_that_expires(project):
    """By the guard's clock."""
    guard = project("ml_lead")
    now = datetime.now(UTC)
    made = make_key("bob", "ml_lead", created_by="x", now=now, expires_at=now + timedelta(hours=1))
    KeyStore(guard._settings.database_url).add(made.key)
    environ = {"ATTRITION_API_KEY": made.text}
    assert Guard(guard._settings, environ=environ).identify().name == "bob"
    later = Guard(guard._settings, environ=environ, clock=lambda: now + timedelta(hours=1))
    with pytest.raises(NotAuthenticated, match="expired on"):
        later.require(Action.APPROVE, "x")
    later.close()


@pytest.mark.parametrize("options", [{"justification": "x" * 3_000}, {"details": {"employee_id": 7}}])
def test_what_cannot_be_recorded_is_not_done(project, options):
    """Too long, or with a person's data."""
    with pytest.raises(UsageError), project().acting(Action.TRAIN, "plan default", **options):
        raise AssertionError


def test_a_configuration_that_cannot_be_used_opens_nothing(tmp_path):
    """Also with open access: nobody knows what was meant."""
    path = tmp_path / "access.yaml"
    path.write_text("rolls: {}\n")
    guard = Guard(Settings.from_environment({}, home=tmp_path, access_config=path), environ={})
    with pytest.raises(ConfigError, match="unknown key rolls"), guard.acting(Action.TRAIN, "x"):
        raise AssertionError


def test_a_token_of_the_provider(tmp_path, provider):
    """Instead of a key, with the roles that the provider gives."""
    path = tmp_path / "access.yaml"
    path.write_text(f"oidc: {{issuer: 'https://id.example', audience: attrition, key_set: '{provider.url}'}}\n")
    settings = Settings.from_environment({}, home=tmp_path, access="closed", access_config=path)
    guard = Guard(settings, environ={"ATTRITION_TOKEN": provider.token(roles=["ml_engineer"])})
    with guard.acting(Action.DEPLOY, "endpoint"):
        pass
    with pytest.raises(AccessDenied):
        guard.require(Action.APPROVE, "version 1.0.0")
    assert events(guard)[-1] == ("model.approve", "denied", "ada")
    assert guard.audit.records()[0].details["via"] == "token"
    guard.close()


def test_two_logs_and_a_store_in_one_process_keep_their_locks(project):
    """To open the file a second time must not release what the first has locked: another process would clean up."""
    guard = project("ml_lead")
    settings = guard._settings
    with guard.acting(Action.DEPLOY, "endpoint"):
        pass
    again = Guard(settings, environ=guard._environ)
    assert len(again.audit.records()) == 2
    KeyStore(settings.database_url).keys()
    path = settings.home / "governance.db"
    code = (
        f"import sqlite3; c = sqlite3.connect({str(path)!r}); c.execute('select * from api_keys').fetchall(); c.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert path.with_name("governance.db-wal").exists()
    with again.acting(Action.DEPLOY, "endpoint"):
        pass
    assert guard.audit.verify().intact
    again.close()
