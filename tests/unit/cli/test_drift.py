"""``attrition drift``, seen from outside."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.data.workforce import simulate
from attrition.settings import Settings
from attrition.training.connection import connect


@pytest.fixture(scope="module")
def quarters():
    """A workforce before and after a restructuring."""
    frame = simulate(1_200, n_quarters=7, seed=4, scenario="restructuring")
    return [rows for _, rows in frame.groupby("snapshot_date")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """One for all tests: to make an MLflow takes seconds."""
    return tmp_path_factory.mktemp("drift") / "home"


@pytest.fixture
def run(home, monkeypatch):
    """Runs `attrition` with no addresses from outside."""
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return lambda *arguments: CliRunner().invoke(app, ["--home", str(home), *map(str, arguments)])


def test_run_list_and_show(run, home, quarters, tmp_path):
    """0 when stable, 3 when drifted; the same comparison again is stored once, in the table and in MLflow."""
    for name, place in (("before", 0), ("later", 1), ("after", -1)):
        quarters[place].to_parquet(tmp_path / f"{name}.parquet")
    stable = run("drift", "run", "--window", tmp_path / "later.parquet", "--reference", tmp_path / "before.parquet")
    assert stable.exit_code == 0, stable.output
    assert "is stable" in stable.stdout
    arguments = ("--window", tmp_path / "after.parquet", "--reference", tmp_path / "before.parquet", "--json")
    drifted = run("drift", "run", *arguments, "--html", tmp_path / "pages" / "drift.html")
    assert drifted.exit_code == 3
    document = json.loads(drifted.stdout)
    assert {"satisfaction_score", "work_hours"} <= set(document["drifted"])
    assert not {"age", "promotion_flag", "department_code", "projects_count"} & set(document["drifted"])
    assert document["separability"]["low"] > 0.6
    assert "satisfaction score" in (tmp_path / "pages" / "drift.html").read_text()
    again = run("drift", "run", *arguments)
    assert (again.exit_code, json.loads(again.stdout)) == (3, document)
    listed = json.loads(run("drift", "list", "--json").stdout)
    assert listed[0]["report_id"] == document["report_id"]
    assert len(listed) == 2
    shown = run("drift", "show", document["report_id"][:12], "--html", tmp_path / "again.html")
    assert shown.exit_code == 0
    assert "satisfaction_score" in shown.stdout
    assert "2 reports against the same reference" in (tmp_path / "again.html").read_text()
    assert "drifted" in run("drift", "list").stdout
    client = connect(Settings.from_environment({}, home=home))
    logged = client.get_run(document["run_id"])
    assert logged.info.status == "FINISHED"
    (psi,) = [each["psi"] for each in document["features"] if each["feature"] == "work_hours"]
    assert logged.data.metrics["psi.work_hours"] == pytest.approx(psi)
    assert logged.data.tags["attrition.drift_level"] == document["level"]
    assert {file.path for file in client.list_artifacts(document["run_id"])} == {"drift.json", "drift.html"}
    assert "monitoring.drift" in run("audit", "list", "--json").stdout
    assert abs((datetime.now(UTC) - datetime.fromisoformat(document["created_at"])).total_seconds()) < 300


def test_before_the_first_run(tmp_path):
    """The list is empty, and says how to fill it."""
    done = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "drift", "list", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    assert "attrition drift run" in done.stderr


def test_few_rows_are_no_verdict(run, quarters, tmp_path):
    """Neither 0 nor 3, and said so."""
    quarters[0].to_parquet(tmp_path / "before.parquet")
    quarters[-1].head(50).to_parquet(tmp_path / "few.parquet")
    done = run("drift", "run", "--window", tmp_path / "few.parquet", "--reference", tmp_path / "before.parquet")
    assert done.exit_code == 4
    assert "too few rows" in done.output
    assert "6 have too few rows to say" in done.output


def test_bad_input(run, quarters, tmp_path):
    """Exits 4, names every fault, stores nothing."""
    quarters[0].to_parquet(tmp_path / "before.parquet")
    quarters[1].drop(columns=["age", "salary"]).to_csv(tmp_path / "gone.csv", index=False)
    quarters[1].assign(age="unknown").to_csv(tmp_path / "text.csv", index=False)
    quarters[1][["employee_id"]].to_csv(tmp_path / "other.csv", index=False)
    quarters[1].head(0).to_parquet(tmp_path / "empty.parquet")
    before = tmp_path / "before.parquet"
    n_stored = len(json.loads(run("drift", "list", "--json").stdout))
    for arguments, said in (
        (("--window", tmp_path / "gone.csv", "--reference", before), ("no column age", "no column salary")),
        (("--window", tmp_path / "text.csv", "--reference", before), ("column age", "numbers are needed")),
        (("--window", tmp_path / "absent.csv", "--reference", before), ("no such file",)),
        (("--window", tmp_path / "empty.parquet", "--reference", before), ("has no rows",)),
        (("--window", before, "--reference", tmp_path / "empty.parquet"), ("has no rows",)),
        (("--window", "7d", "--reference", before), ("no prediction was logged yet",)),
        (("--window", before, "--reference", tmp_path / "other.csv"), ("none of the features",)),
        (("--window", before, "--reference", "champion"), ("champion", "does not exist")),
    ):
        done = run("drift", "run", *arguments)
        assert done.exit_code == 4, done.output
        assert all(words in " ".join(done.output.split()) for words in said), done.output
        assert "unknown" not in done.output
        assert "Traceback" not in done.output
    assert run("drift", "run", "--window", "2026-01-02..2026-01-01", "--reference", before).exit_code == 2
    assert len(json.loads(run("drift", "list", "--json").stdout)) == n_stored
    assert run("drift", "show", "xyz").exit_code == 4


def test_a_policy_from_a_file(run, quarters, tmp_path):
    """Stricter bands, and a key that does not exist."""
    quarters[0].to_parquet(tmp_path / "before.parquet")
    quarters[-1].to_parquet(tmp_path / "after.parquet")
    arguments = ("drift", "run", "--window", tmp_path / "after.parquet", "--reference", tmp_path / "before.parquet")
    policy = tmp_path / "policy.yaml"
    policy.write_text("moderate: 5\nmajor: 9\nmax_missing_points: 100\n")
    assert run(*arguments, "--policy", policy).exit_code == 0
    policy.write_text("modrate: 5\n")
    done = run(*arguments, "--policy", policy)
    assert done.exit_code == 4
    assert "modrate" in done.output
