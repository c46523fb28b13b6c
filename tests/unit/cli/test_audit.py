"""``attrition audit``: what people see of the log, and which exit code a broken one has."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.governance.actions import Action
from attrition.governance.audit import Event, Outcome


@pytest.fixture
def home(tmp_path, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("ATTRITION_DATABASE_URL", raising=False)
    return tmp_path / "home"


@pytest.fixture
def run(home):
    """Runs `attrition audit` on the project, and checks the exit code."""

    def invoke(*arguments, code=0, at=home):
        result = CliRunner().invoke(app, ["--home", str(at), "audit", *map(str, arguments)])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def recorded(home):
    """A project in which three things happened."""
    with Workspace(home=home) as ws:
        log = ws.audit.log
        moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
        log.append(Event(Action.REGISTER, "1.0.0", Outcome.SUCCEEDED, actor="ada"), now=moment)
        change = Event(Action.TRAFFIC_CHANGE, "1.0.0", Outcome.STARTED, actor="bob", justification="[bold]pilot[/]")
        log.append(change, now=moment.replace(hour=13))
        log.append(Event(Action.PROMOTE, "1.1.0", Outcome.DENIED, actor="bob"), now=moment.replace(month=2, day=1))


@pytest.fixture
def tampered(home, recorded):
    """The same, after the owner of the database changed the second event."""
    with closing(sqlite3.connect(home / "governance.db")) as connection, connection:
        connection.execute("DROP TRIGGER audit_events_no_update")
        connection.execute("UPDATE audit_events SET actor = 'm\x1b[2J' WHERE sequence = 2")


def sequences(result):
    return [row["sequence"] for row in json.loads(result.stdout)]


def test_list_filters(run, recorded):
    """By every condition, together."""
    assert sequences(run("list", "--json")) == [1, 2, 3]
    assert sequences(run("list", "--json", "--since", "2026-02-01")) == [3]
    assert sequences(run("list", "--json", "--until", "2026-01-31T13:00:00")) == [1]
    assert sequences(run("list", "--json", "--actor", "bob", "--limit", 1)) == [3]
    assert sequences(run("list", "--json", "--action", "traffic.change")) == [2]
    assert sequences(run("list", "--json", "--subject", "1.0.0")) == [1, 2]
    assert sequences(run("list", "--json", "--outcome", "denied")) == [3]
    assert sequences(run("list", "--json", "--unfinished")) == [2]
    (row,) = json.loads(run("list", "--json", "--actor", "ada").stdout)
    assert sequences(run("list", "--json", "--correlation", row["correlation"])) == [1]


def test_list_for_people(run, recorded):
    """One line each; what somebody wrote is no markup."""
    output = run("list").stdout
    assert "2026-01-31 13:00:00" in output
    assert "[bold]pilot[/]" in output
    assert run("list", "--actor", "nobody").stdout == "No event fits.\n"


def test_an_empty_log(run):
    """Is one, not an error."""
    assert run("list", "--json").stdout == "[]\n"
    assert "intact, no events" in run("verify").stdout
    run("show", 1, code=4)


def test_conditions_that_cannot_be_meant(run):
    """Exit 2; the known ones are listed."""
    assert "traffic.change" in run("list", "--action", "traffic.chagne", code=2).stderr
    run("list", "--outcome", "good", code=2)
    run("list", "--limit", 0, code=2)
    run("show", 0, code=2)
    run("export", "x", "--from", 0, code=2)


def test_show(run, recorded):
    """Everything that was recorded about one event."""
    assert json.loads(run("show", 2, "--json").stdout)["justification"] == "[bold]pilot[/]"
    output = run("show", 2).stdout
    assert "traffic.change" in output
    assert "data version" not in output
    assert "holds the events 1 to 3" in run("show", 4, code=4).stderr


def test_verify(run, recorded):
    """Says how much is signed."""
    assert "events 1 to 3, the last 2 not signed yet" in run("verify").stdout
    run("head")
    assert "events 1 to 3, all signed" in run("verify").stdout
    assert json.loads(run("verify", "--json").stdout)["covered"] == 3


def test_verify_names_the_first_broken_event(run, tampered):
    """Exit 4; what somebody put into the database moves no cursor."""
    result = run("verify", code=4)
    assert "BROKEN" in result.stdout
    assert "event 2: hash mismatch" in result.stdout
    assert json.loads(run("verify", "--json", code=4).stdout)["breaks"][0]["sequence"] == 2
    assert "\x1b" not in run("list").stdout
    assert "\x1b" not in run("show", 2).stdout
    assert "event 2" in run("head", code=4).stderr
    assert "event 2" in run("export", "nowhere.jsonl", code=4).stderr


def test_a_head_is_kept_and_compared(run, home, recorded, tmp_path):
    """A log that was made anew does not extend it."""
    run("head", "--out", tmp_path / "head.json")
    run("verify", "--head", tmp_path / "head.json")
    assert "File exists" in run("head", "--out", tmp_path / "head.json", code=2).stderr
    for path in home.glob("governance.db*"):
        path.unlink()
    assert "event 1: truncated" in run("verify", "--head", tmp_path / "head.json", code=4).stdout
    run("verify", "--head", tmp_path / "absent.json", code=4)


def test_exports_are_verified_elsewhere(run, recorded, tmp_path):
    """With the public key, on a machine that has neither the log nor its key, and gets none by that."""
    run("export", tmp_path / "out")
    assert "nothing to export" in run("export", tmp_path / "out").stderr
    run("verify", "--head", *(tmp_path / "out").iterdir())
    run("key", "--out", tmp_path / "audit.pub")
    (file,) = (tmp_path / "out").iterdir()
    assert "all signed" in run("verify", file).stdout
    elsewhere = tmp_path / "elsewhere"
    assert "all signed" in run("verify", file, "--public-key", tmp_path / "audit.pub", at=elsewhere).stdout
    assert "unknown key" in run("verify", file, at=elsewhere, code=4).stdout
    assert not list(elsewhere.rglob("*"))
    (row,) = json.loads(run("verify", file, "--json").stdout)
    assert (row["name"], row["last"]) == (str(file), 3)


def test_key(run, recorded):
    """PEM on stdout, for other tools."""
    assert run("key").stdout.startswith("-----BEGIN PUBLIC KEY-----\n")
    document = json.loads(run("key", "--json").stdout)
    assert set(document) == {"key_id", "public_key", "pem"}


def test_a_database_that_is_down(run, monkeypatch, unused_port):
    """Exit 5 with its address, and without its password."""
    monkeypatch.setenv("ATTRITION_DATABASE_URL", f"postgresql://hr:s3cret@127.0.0.1:{unused_port}/governance")
    for arguments in (["list"], ["show", 1], ["verify"], ["head"], ["export", "x"]):
        result = run(*arguments, code=5)
        assert f"127.0.0.1:{unused_port}/governance" in result.stderr.replace("\n", "")
        assert "s3cret" not in result.output
