"""``attrition data``: own schemas, and what the commands print for programs."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.data.workforce import simulate

SCHEMA = """
name: own
horizon_days: 180
features:
  - {name: commute_minutes, kind: continuous, minimum: 0, maximum: 240}
  - {name: age, kind: integer, minimum: 16, maximum: 75}
"""


@pytest.fixture
def run(tmp_path):
    def invoke(*arguments):
        result = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def own(tmp_path):
    """Schema and extract of a project with features of its own."""
    frame = simulate(300, seed=5)
    columns = ["employee_id", "snapshot_date", "age", "attrition"]
    extract = tmp_path / "own.csv"
    frame[columns].assign(commute_minutes=frame["tenure"] % 60 + 300 * (frame.index == 0)).to_csv(extract, index=False)
    (tmp_path / "own.yaml").write_text(SCHEMA)
    return extract, tmp_path / "own.yaml"


def test_an_own_schema_is_imported(run, own, tmp_path):
    """Its features are stored in its order, with its horizon, and come back from the snapshot."""
    extract, schema = own
    document = json.loads(run("data", "import", extract, "--schema", schema, "--json").stdout)
    assert document["snapshot"]["version"] == 0
    stored = Workspace(home=tmp_path / "home").data.read().table.schema
    assert stored.names == ("commute_minutes", "age")
    assert stored.horizon_days == 180


def test_an_own_schema_is_checked(run, own):
    """Its ranges count."""
    extract, schema = own
    findings = json.loads(run("data", "check", extract, "--schema", schema, "--json").stdout)["findings"]
    assert ("range.outside", "commute_minutes") in {(item["code"], item["column"]) for item in findings}


def test_simulate_says_what_it_wrote(run, tmp_path):
    """On stdout for programs, and the remark for people stays on stderr."""
    path = tmp_path / "w.csv.gz"
    result = run("data", "simulate", path, "--employees", 200, "--quarters", 2, "--json")
    expected = {"path": str(path), "employees": 200, "quarters": 2, "seed": 42, "scenario": None}
    assert json.loads(result.stdout) == expected
    assert len(pd.read_csv(path)) > 200
    assert "attrition data import" in result.stderr


def test_a_snapshot_without_a_report_is_checked_when_it_is_read(own, tmp_path):
    """Nobody looked is not the same as nothing was found."""
    extract, schema = own
    data = Workspace(home=tmp_path / "home").data
    data.tables.write_snapshot(data.extract(extract, schema=schema).table)
    assert data.tables.quality() is None
    assert data.read().quality.by_code("range.outside")
