"""``attrition predictions`` and ``attrition outcomes``, seen from outside."""

from __future__ import annotations

import json
from collections import namedtuple

import pandas as pd
import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.serving.identifiers import new_prediction_id
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.settings import Settings
from attrition.workspace import Workspace

Scores = namedtuple(
    "Scores",
    "version variant threshold features prediction_ids employee_ids reasons probabilities matrix shadow_of",
    defaults=[()],
)


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for variable in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "ATTRITION_RAY_ADDRESS", "ATTRITION_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return Settings.from_environment({}, home=tmp_path / "home")


@pytest.fixture
def run(settings):
    """Runs `attrition` in the test's home."""
    return lambda *arguments: CliRunner().invoke(app, ["--home", str(settings.home), *map(str, arguments)])


def test_a_shadow_is_shown_beside_what_it_copied(settings, run):
    """In the view only when there are shadows, in JSON and in an export always."""
    log = PredictionLog(LogConfig.of(settings))
    answered, copied = new_prediction_id(), new_prediction_id()

    def append(version, prediction_id, reason, shadow_of=()):
        made = ([prediction_id], [None], [reason], (0.2,), (40.5,), shadow_of)
        log.append([Scores(version, "blue", 0.5, ("age",), *made)], 1)

    append("1.0.0", answered, "sole")
    log._spool.seal()
    run("predictions", "recover")
    assert "shadow of" not in run("predictions", "tail").stdout
    append("1.1.0", copied, "shadow", [answered])
    log._spool.close()
    run("predictions", "recover")
    assert "shadow of" in run("predictions", "tail").stdout
    rows = json.loads(run("predictions", "tail", "--json").stdout)
    assert {row["prediction_id"]: row["shadow_of"] for row in rows} == {answered: None, copied: answered}
    target = settings.home / "all.csv"
    assert run("predictions", "export", target).exit_code == 0
    assert pd.read_csv(target).set_index("prediction_id").loc[copied, "shadow_of"] == answered


@pytest.fixture
def answered(settings):
    """Four predictions of a replica that ended without committing."""
    log = PredictionLog(LogConfig.of(settings))
    for number in range(4):
        scores = Scores(
            "1.0.0", "blue", 0.5, ("age",), [new_prediction_id()], [number], ["sole"], (0.2 * number,), (40.5,)
        )
        assert log.append([scores], 1500)
    log._spool.close()


@pytest.mark.usefixtures("answered")
def test_what_a_killed_replica_left_is_recovered_and_shown(run):
    """In the view without features, in JSON with them."""
    assert run("predictions", "tail").exit_code == 4
    assert json.loads(run("predictions", "recover", "--json").stdout) == {"n_records": 4, "n_outcomes": 0}
    shown = run("predictions", "tail", "-n", "2")
    assert shown.exit_code == 0
    assert "1.0.0" in shown.stdout
    assert "leave" in shown.stdout
    assert "40.5" not in shown.stdout
    rows = json.loads(run("predictions", "tail", "-n", "2", "--json").stdout)
    assert [row["probability"] for row in rows] == [0.4, pytest.approx(0.6)]
    assert rows[0]["feature_age"] == 40.5
    assert len(rows[0]["employee_id"]) == 32


@pytest.mark.usefixtures("answered")
def test_export(run, tmp_path):
    """A period of days in UTC; another kind of file is a usage error."""
    run("predictions", "recover")
    everything, nothing = tmp_path / "all.csv", tmp_path / "none.parquet"
    assert run("predictions", "export", everything).exit_code == 0
    assert len(pd.read_csv(everything)) == 4
    done = run("predictions", "export", nothing, "--until", "2020-01-01", "--json")
    assert json.loads(done.stdout) == {"file": str(nothing), "n_rows": 0}
    assert run("predictions", "export", tmp_path / "all.xlsx").exit_code == 2


@pytest.mark.usefixtures("answered")
def test_outcomes_mature_predictions(run, settings, tmp_path):
    """From a file with the HR system's numbers; the second import changes nothing."""
    run("predictions", "recover")
    file = tmp_path / "leavers.csv"
    today = pd.Timestamp.now("UTC").strftime("%Y-%m-%d")
    file.write_text(f"employee_id,left_on\n2,{today}\n3,\n")
    for n_new in (2, 0):
        done = run("outcomes", "import", file, "--json")
        assert json.loads(done.stdout) == {"n_rows": 2, "n_new": n_new, "n_persons": n_new}
    labels = Workspace(settings).outcomes.labels(30, as_of=pd.Timestamp.now("UTC").to_pydatetime())
    assert labels["label"].fillna(-1).tolist() == [-1, -1, 1, -1]
    later = (pd.Timestamp.now("UTC") + pd.Timedelta(days=60)).to_pydatetime()
    assert Workspace(settings).outcomes.labels(30, as_of=later)["label"].tolist() == [0, 0, 1, 0]


def test_a_faulty_file_of_outcomes(run, tmp_path):
    """Exit code 4, and nothing of it is recorded."""
    file = tmp_path / "leavers.csv"
    file.write_text("employee_id,left_on\n2,soon\n")
    done = run("outcomes", "import", file)
    assert done.exit_code == 4
    assert "1 of 1 cells hold no date" in done.stderr
    assert "soon" not in done.stderr


def test_small_files_become_few(settings, run):
    """Of predictions and of outcomes; the rows are the same, and a day that is not over is left alone unless asked."""
    for number in range(3):
        log = PredictionLog(LogConfig.of(settings))
        log.append([Scores("1.0.0", "blue", 0.5, ("age",), [f"id-{number}"], [None], ["sole"], (0.2,), (40.5,))], 1)
        log._spool.close()
        run("predictions", "recover")
        file = settings.home / "left.csv"
        file.write_text(f"employee_id,left_on,observed_at\nE{number},2024-03-31,2024-04-01T00:00:00Z\n")
        assert run("outcomes", "import", file).exit_code == 0
    assert json.loads(run("predictions", "compact", "--json").stdout) == {"n_before": 3, "n_after": 3, "n_deleted": 0}
    done = run("predictions", "compact", "--today")
    assert "3 files became 1; 0 old ones were deleted." in done.stderr
    assert json.loads(run("outcomes", "compact", "--json").stdout) == {"n_before": 3, "n_after": 1, "n_deleted": 0}
    workspace = Workspace(settings)
    assert sorted(workspace.predictions.tail()["prediction_id"]) == ["id-0", "id-1", "id-2"]
    assert len(workspace.outcomes.table.current()) == 3


def test_nothing_to_compact(run):
    """Says what to do first."""
    assert run("predictions", "compact").exit_code == 4
    assert run("outcomes", "compact").exit_code == 4
