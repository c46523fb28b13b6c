"""`attrition access`, and how refusals look on the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from attrition.cli.access import duration
from attrition.cli.main import app
from attrition.errors import UsageError
from attrition.governance.access import RolePolicy
from attrition.governance.access_keys import parse_key

VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "RAY_ADDRESS",
    "ATTRITION_RAY_ADDRESS",
    "ATTRITION_HOME",
    "ATTRITION_DATABASE_URL",
    "ATTRITION_ACCESS_CONFIG",
    "ATTRITION_ACCESS",
    "ATTRITION_API_KEY",
    "ATTRITION_TOKEN",
)


@pytest.fixture
def attrition(tmp_path, monkeypatch):
    """Runs `attrition` in a fresh home, closed unless the test says otherwise, as whoever has a key."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)

    def run(*arguments, key="", access="closed", **environ):
        environ = {"ATTRITION_ACCESS": access, "ATTRITION_API_KEY": key, **environ}
        return CliRunner().invoke(app, ["--home", str(tmp_path / "home"), *map(str, arguments)], env=environ)

    return run


@pytest.fixture
def lead(attrition):
    """Text of the first key."""
    result = attrition("access", "key", "create", "lead", "--role", "ml_lead")
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_the_first_key_and_those_after_it(attrition, lead):
    """The key alone on stdout, so that it can be piped into a secret; shown once."""
    assert parse_key(lead)
    made = attrition("access", "key", "create", "portal", "--role", "scorer", "--expires", "90d", "--json", key=lead)
    document = json.loads(made.stdout)
    assert (document["name"], document["role"], document["state"]) == ("portal", "scorer", "active")
    assert document["created_by"] == "lead"
    listed = attrition("access", "key", "list", "--json", key=lead)
    assert [key["name"] for key in json.loads(listed.stdout)] == ["lead", "portal"]
    for text in (lead, document["key"]):
        assert parse_key(text)[1] not in listed.output


def test_a_key_is_revoked(attrition, lead):
    """By its name; then it opens nothing."""
    portal = attrition("access", "key", "create", "portal", "--role", "scorer", key=lead).stdout.strip()
    assert json.loads(attrition("access", "whoami", "--json", key=portal).stdout)["roles"] == ["scorer"]
    assert attrition("access", "key", "revoke", "portal", "--reason", "lost", key=lead).exit_code == 0
    refused = attrition("access", "whoami", key=portal)
    assert refused.exit_code == 4
    assert "was revoked" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["key", "create", "x", "--role", "ml_led"], 4, "role 'ml_led': does not exist"),
        (["key", "create", "lead", "--role", "scorer"], 2, "an active key has it"),
        (["key", "create", "a b", "--role", "scorer"], 2, "name of a key"),
        (["key", "create", "x", "--role", "scorer", "--expires", "soon"], 2, "12h, 90d, 8w"),
        (["key", "revoke", "nobody"], 4, "active: lead"),
    ],
)
def test_mistakes(attrition, lead, arguments, code, message):
    """An unknown role, a name that is taken or none, a time that is none, an unknown key."""
    result = attrition("access", *arguments, key=lead)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


def test_nobody_and_somebody_without_the_right(attrition, lead, tmp_path):
    """Exit code 4, one message that says what to do, nothing done."""
    scorer = attrition("access", "key", "create", "sam", "--role", "scorer", key=lead).stdout.strip()
    for arguments in (
        ["data", "import", "hr.csv"],
        ["models", "list"],
        ["access", "key", "list"],
        ["traffic", "rollback"],
    ):
        nobody = attrition(*arguments)
        assert (nobody.exit_code, nobody.stderr.count("Error:")) == (4, 1)
        assert "set ATTRITION_API_KEY" in nobody.stderr
    for arguments in (["data", "import", "hr.csv"], ["data", "snapshots"], ["traffic", "rollback"], ["serve", "up"]):
        refused = attrition(*arguments, key=scorer)
        assert (refused.exit_code, refused.stderr.count("Error:")) == (4, 1)
        assert "is not permitted to sam (scorer)" in refused.stderr
    assert not (tmp_path / "home" / "tables").exists()
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_a_closed_project_without_keys_says_how_to_begin(attrition):
    """The first key; and a first key that could not make others is refused and recorded."""
    assert "attrition access key create NAME --role ml_lead" in " ".join(attrition("access", "whoami").stderr.split())
    refused = attrition("access", "key", "create", "sam", "--role", "scorer")
    assert refused.exit_code == 4
    events = json.loads(attrition("audit", "list", "--json", access="open").stdout)
    assert ("access.manage", "denied") in [(event["action"], event["outcome"]) for event in events]


@pytest.mark.usefixtures("lead")
def test_what_is_no_key_is_not_taken_for_a_token(attrition):
    """The message names the variable's kind, and does not repeat it."""
    result = attrition("access", "whoami", key="hunter2")
    assert result.exit_code == 4
    assert "API key: has not the form of one" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize("what", ["database", "keys"])
def test_a_wiped_database_does_not_begin_anew(attrition, lead, tmp_path, what):
    """Nobody becomes the founder of a project whose log or keys are gone; what to do is said."""
    assert lead
    database = tmp_path / "home" / "governance.db"
    if what == "keys":
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DELETE FROM api_keys")
    else:
        for path in database.parent.glob("governance.db*"):
            path.unlink()
    result = attrition("access", "key", "create", "mallory", "--role", "ml_lead")
    assert result.exit_code == 4
    assert "restore the database" in " ".join(result.stderr.split())
    assert "attr_" not in result.stdout


def test_a_token_for_another_audience(attrition, lead, provider, tmp_path):
    """Is refused with the reason; a good one is somebody."""
    config = tmp_path / "access.yaml"
    config.write_text(f"oidc: {{issuer: 'https://id.example', audience: attrition, key_set: '{provider.url}'}}\n")
    environ = {"ATTRITION_ACCESS_CONFIG": str(config)}
    refused = attrition("access", "whoami", ATTRITION_TOKEN=provider.token(aud="payroll"), **environ)
    assert refused.exit_code == 4
    assert "is for another audience" in refused.stderr
    known = attrition("access", "whoami", "--json", ATTRITION_TOKEN=provider.token(), **environ)
    assert json.loads(known.stdout)["via"] == "token"


def test_a_database_that_does_not_answer(attrition, unused_port):
    """Exit code 5, and the action is not performed."""
    url = f"postgresql://attrition:hidden-word@127.0.0.1:{unused_port}/attrition"
    for access in ("open", "closed"):
        key = "attr_0123456789ab_" + 43 * "x"
        result = attrition("models", "show", "champion", key=key, access=access, ATTRITION_DATABASE_URL=url)
        assert result.exit_code == 5
        assert "hidden-word" not in result.output
        assert "ATTRITION_DATABASE_URL" in result.stderr


def test_open_access_is_everybody(attrition):
    """The user of the operating system, who may do everything."""
    document = json.loads(attrition("access", "whoami", "--json", access="open").stdout)
    assert (document["access"], document["via"]) == ("open", "user")
    assert "model.approve" in document["actions"]


def test_an_access_mode_that_is_none(attrition):
    """Is no open door."""
    result = attrition("access", "whoami", access="ajar")
    assert result.exit_code == 4
    assert "ATTRITION_ACCESS" in result.stderr


def test_the_table_of_roles(attrition):
    """As people read it, and as JSON."""
    shown = attrition("access", "roles").stdout
    assert all(role in shown for role in RolePolicy.default().roles)
    assert json.loads(attrition("access", "roles", "--json").stdout) == RolePolicy.default().to_dict()


def test_durations():
    """Hours, days, weeks."""
    assert duration("12h") == timedelta(hours=12)
    assert duration(" 8w ") == timedelta(weeks=8)
    for text in ("", "0d", "-1d", "1", "d", "1.5d", "9999999d", "4000d", "1y", "\uff11d"):
        with pytest.raises(UsageError):
            duration(text)
