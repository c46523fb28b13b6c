"""`attrition traffic`: what the arguments mean and what is told when they mean nothing."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.cli.traffic import parse_shares
from attrition.cluster import endpoint
from attrition.errors import UsageError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `attrition traffic` where nothing is served."""
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(endpoint, "active_session", lambda: None)
    return lambda *arguments: CliRunner().invoke(app, ["--home", str(tmp_path), "traffic", *arguments])


def test_shares():
    """Versions with shares, with or without the sign; one alone gets everything."""
    assert parse_shares(["1.0.0=70", "challenger=30%"]) == {"1.0.0": 70.0, "challenger": 30.0}
    assert parse_shares(["1.1.0"]) == {"1.1.0": 1.0}


def test_all_mistakes_in_shares_at_once():
    """No number, no version, the same version again."""
    with pytest.raises(UsageError) as caught:
        parse_shares(["1.0.0=x", "=3", "1.1.0=1", "1.1.0=2"])
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["set", "1.0.0=70", "1.1.0=20"], 2, "sums to 90"),
        (["set", "1.0.0=x"], 2, "is no share"),
        (["pin", "x-user-group", "1.1.0"], 2, "HEADER=VALUE"),
        (["shadow"], 2, "either versions or --stop"),
        (["shadow", "1.1.0", "--stop"], 2, "either versions or --stop"),
        (["show"], 5, "attrition serve up"),
        (["rollback"], 5, "attrition serve up"),
        (["switch", "1.1.0"], 5, "attrition serve up"),
    ],
)
def test_exit_codes(run, arguments, code, message):
    """2 for what cannot be meant, 5 when nothing is served; one readable message."""
    result = run(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_an_empty_history(run):
    """Is no error."""
    result = run("history")
    assert (result.exit_code, "No change" in result.stdout) == (0, True)
    assert run("history", "--json").stdout.strip() == "[]"
