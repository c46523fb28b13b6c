"""`attrition traffic`: what the arguments mean and what is told when they mean nothing."""

from __future__ import annotations

import pytest
from rich.console import Console
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.cli.traffic import parse_shares, read_options
from attrition.cli.traffic_views import traffic_view
from attrition.cluster import endpoint
from attrition.cluster.traffic import TrafficState
from attrition.errors import ConfigError, UsageError
from attrition.serving.control import ServeStatus
from attrition.serving.deployed import VariantStatus
from attrition.serving.placement import Placement
from attrition.serving.traffic import Traffic, Variant


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
        (["place", "1.1.0", "deployment"], 5, "attrition serve up"),
        (["place", "1.1.0", "elsewhere"], 2, "in_process"),
        (["place", "1.1.0", "deployment", "--options", "no-such.yaml"], 4, "cannot be read"),
        (["place", "1.1.0", "deployment", "--replicas", "3", "--max-replicas", "2"], 4, "is below num_replicas 3"),
    ],
)
def test_exit_codes(run, arguments, code, message):
    """2 for what cannot be meant, 5 when nothing is served; one readable message."""
    result = run(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())


def test_options_of_a_deployment(tmp_path):
    """From a file, with what the command line says about their number in front; nothing given is no options."""
    path = tmp_path / "placement.yaml"
    path.write_text("num_replicas: 1\nnum_cpus: 2\nruntime_env: {pip: [polars]}\n")
    options = read_options(path, num_replicas=3, max_replicas=None)
    assert (options.num_replicas, options.num_cpus, options.runtime_env) == (3, 2.0, {"pip": ["polars"]})
    assert read_options(None, num_replicas=None, max_replicas=None) is None
    path.write_text("replicas: 1\ntimeout_seconds: 0\n")
    with pytest.raises(ConfigError) as caught:
        read_options(path)
    assert len(caught.value.faults) == 2


def test_a_placed_variant_is_shown(capsys):
    """Where it is scored, and what became of its deployment; without one there is no such column."""
    blue = Variant(name="blue", version="1.0.0", bundle="b", manifest_sha256="0" * 64)
    green = {"name": "green", "version": "1.1.0", "bundle": "c", "manifest_sha256": "1" * 64, "weight": 0.0}
    statuses = (
        VariantStatus("blue", "1.0.0", 1.0),
        VariantStatus("green", "1.1.0", 0.0, Placement.DEPLOYMENT, "DEPLOYING", 1),
    )
    status = ServeStatus(running=True, state="RUNNING", url="", variants=statuses, replicas=1)
    for placement, shown in ((Placement.DEPLOYMENT, True), (Placement.IN_PROCESS, False)):
        traffic = Traffic(variants=(blue, Variant(**green, placement=placement)))
        Console(width=200).print(traffic_view(TrafficState(traffic, status)))
        assert ("deployment: DEPLOYING, 1 replica" in capsys.readouterr().out) is shown


def test_an_empty_history(run):
    """Is no error."""
    result = run("history")
    assert (result.exit_code, "No change" in result.stdout) == (0, True)
    assert run("history", "--json").stdout.strip() == "[]"
