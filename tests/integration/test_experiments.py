"""An experiment from start to verdict: registered versions, a log on disk, MLflow, the audit log, the commands."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.data.predictions import prediction_schema
from attrition.errors import NotFound, ServingError, UsageError
from attrition.experiments.plan import ExperimentPlan
from attrition.experiments.records import ExperimentRecords
from attrition.experiments.verdict import Verdict
from attrition.registry.bundle import BundleRef
from attrition.serving import changes
from attrition.serving.traffic_history import ChangeOutcome, TrafficChange, TrafficHistory

START = datetime(2025, 1, 6, 8, tzinfo=UTC)
HORIZON = timedelta(days=366)
N = 6_000
METRICS = [
    {"metric": "false_positive_rate", "role": "goal", "margin": 0.01, "min_units": 200},
    {"metric": "latency_p95_ms", "margin": 10, "min_units": 200},
    {"metric": "selection_rate", "margin": 0.15, "min_units": 200},
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two versions, half of the traffic each, of which the second raises fewer false alarms; everybody's outcome."""
    with Workspace(home=tmp_path_factory.mktemp("experiments")) as workspace:
        workspace.data.load(workspace.data.simulate(n_employees=1_500))
        for c in (0.01, 1.0):
            run = workspace.train("logistic_regression", {"C": c}, plan="smoke")
            workspace.models.register(run.run_id, waive="a test of experiments")
        first, second = sorted(version.version for version in workspace.models.list())
        workspace.versions = first, second
        refs = [BundleRef(f"b/{version}", version, str(i) * 64) for i, version in enumerate(workspace.versions)]
        traffic = changes.shift(None, [(refs[0], 0.5), (refs[1], 0.5)], experiment="fewer-alarms")
        change = TrafficChange(START, "ann", "attrition", "set", ChangeOutcome.APPLIED, "", 2.0, traffic)
        TrafficHistory(workspace.settings.tables).record(change)
        rng = np.random.default_rng(1)
        arm, left = rng.random(N) < 0.5, rng.random(N) < 0.15
        selected = np.where(left, rng.random(N) < 0.85, rng.random(N) < np.where(arm, 0.07, 0.13))
        times = [START + timedelta(minutes=float(m)) for m in np.sort(rng.uniform(1, 4 * 1_440, N))]
        persons = [f"{i:032x}" for i in range(N)]
        rows = {
            "prediction_id": [f"p{i}" for i in range(N)],
            "time": times,
            "day": [moment.date() for moment in times],
            "version": [workspace.versions[int(a)] for a in arm],
            "variant": ["green" if a else "blue" for a in arm],
            "reason": ["sticky"] * N,
            "shadow_of": [None] * N,
            "employee_id": persons,
            "probability": np.where(selected, 0.8, 0.1),
            "threshold": [0.5] * N,
            "decision": selected,
            "latency_us": np.round(rng.lognormal(np.log(8_000), 0.3, N)).astype(int),
        }
        workspace.predictions.table.append(pa.table(rows, schema=prediction_schema()), {"s": 1})
        day = pd.Series(pd.DatetimeIndex(times).tz_localize(None).normalize() + pd.Timedelta(days=90))
        statements = pd.DataFrame(
            {
                "employee_id": persons,
                "left_on": day.where(left).astype("datetime64[us]"),
                "observed_at": pd.Series([pd.Timestamp(START + HORIZON + timedelta(days=9))] * N).dt.as_unit("us"),
                "source": "test",
            }
        )
        workspace.outcomes.table.record(statements, now=START + HORIZON + timedelta(days=9))
        yield workspace


def _attrition(workspace, *arguments):
    return CliRunner().invoke(app, ["--home", str(workspace.settings.home), *map(str, arguments)])


def _plan(workspace, name="fewer-alarms", **options):
    control, challenger = workspace.versions
    return ExperimentPlan(
        **{"name": name, "control": control, "challenger": challenger, "metrics": METRICS, "max_days": 500, **options}
    )


def test_from_start_to_promotion(project, tmp_path):
    """Open while labels are missing, promoted once they are mature; each look is kept, logged and drawn."""
    experiments, (control, challenger) = project.experiments, project.versions
    started = experiments.start(_plan(project), change_traffic=False, now=START - timedelta(minutes=1))
    assert started.running
    looks = [experiments.analyze(now=START + timedelta(days=days)) for days in (0.5, 2, 5)]
    assert [look.analysis.verdict for look in looks] == [Verdict.CONTINUE] * 3
    assert looks[-1].analysis.counts["control"]["matured_labels"] == 0
    final = experiments.analyze(now=START + HORIZON + timedelta(days=10))
    assert final.analysis.verdict is Verdict.PROMOTE
    assert sum(arm["matured_labels"] for arm in final.analysis.counts.values()) == N
    assert not final.analysis.ratio.mismatch

    client = MlflowClient(project.settings.tracking_uri)
    run = client.get_run(final.run_id)
    assert run.data.tags["attrition.verdict"] == "PROMOTE"
    assert [m.step for m in client.get_metric_history(final.run_id, "low.selection_rate")] == [0, 1, 2, 3]
    assert {each.path for each in client.list_artifacts(final.run_id)} >= {"analysis.json", "experiment.html"}

    page = tmp_path / "page.html"
    shown = _attrition(project, "experiment", "status", "--html", page, "--json")
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert (document["n_looks"], document["last_look"]["verdict"]) == (4, "PROMOTE")
    text = page.read_text()
    assert "data:image/png;base64," in text
    assert "http" not in text.replace("http://www.w3.org", "")
    assert f"Version {challenger} beside {control}" in " ".join(text.split())
    assert persons_in(text) == 0

    with pytest.raises(UsageError, match="fewer-alarms is running"):
        experiments.start(_plan(project, "other"), change_traffic=False)
    stopped = _attrition(project, "experiment", "stop", "--reason", "decided")
    assert stopped.exit_code == 0, stopped.output
    assert client.get_run(final.run_id).info.status == "FINISHED"
    assert "PROMOTE" in _attrition(project, "experiment", "status").output
    assert _attrition(project, "experiment", "stop").exit_code == 2
    assert "stopped" in _attrition(project, "experiment", "list").output

    recorded = [r for r in project.audit.records() if r.action == "experiment.run" and r.outcome == "succeeded"]
    assert [r.details.get("verdict") for r in recorded[1:5]] == ["CONTINUE"] * 3 + ["PROMOTE"]
    assert recorded[-1].justification == "decided"


def persons_in(text):
    """How many of the pseudonyms stand in a text."""
    return sum(f"{i:032x}" in text for i in range(N))


def test_what_cannot_be_started(project, tmp_path):
    """A missing version, one that is no other, weights that do not sum, nothing served: nothing is left behind."""
    control, _ = project.versions
    before = [each.plan.name for each in project.experiments.list()]
    with pytest.raises(NotFound, match=r"9\.9\.9"):
        project.experiments.start(_plan(project, "missing", challenger="9.9.9"), change_traffic=False)
    project.models.set_alias("pilot", control)
    with pytest.raises(UsageError, match="are both version"):
        project.experiments.start(_plan(project, "alias", challenger="pilot"), change_traffic=False)
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: heavy\ncontrol: 1.0.0\nchallenger: 1.1.0\nweights: {control: 0.9, challenger: 0.2}\n")
    refused = _attrition(project, "experiment", "start", "--plan", plan)
    assert refused.exit_code == 4
    assert "weights: sum to 1.1" in " ".join(refused.output.split())
    missing = _attrition(project, "experiment", "start", "--plan", tmp_path / "none.yaml")
    assert missing.exit_code == 4
    with pytest.raises(ServingError, match="nothing is served"):
        project.experiments.start(_plan(project, "unserved"))
    runs = MlflowClient(project.settings.tracking_uri).search_runs(
        [project_experiment(project)], "tags.`attrition.ab_experiment` = 'unserved'"
    )
    assert [run.info.status for run in runs] == ["FAILED"]
    assert [each.plan.name for each in project.experiments.list()] == before


def project_experiment(project):
    """Id of the project's experiment in MLflow."""
    client = MlflowClient(project.settings.tracking_uri)
    return client.get_experiment_by_name(project.settings.experiment).experiment_id


def test_the_records_on_postgresql(postgres_url):
    """One runs at a time there, too."""
    records, others = ExperimentRecords(postgres_url), ExperimentRecords(postgres_url)
    plan = ExperimentPlan(name="first", control="1.0.0", challenger="1.1.0")
    records.start(plan, actor="ann", now=START)
    with pytest.raises(UsageError, match="first is running"):
        others.start(plan.model_copy(update={"name": "second"}), actor="bob", now=START)
    assert records.add_look("first", {"verdict": "CONTINUE"}) == 0
    assert records.stop("first", START + timedelta(hours=1))
    assert records.get("first").verdict == "CONTINUE"
    records.start(plan.model_copy(update={"name": "second"}), actor="bob", now=START)
