"""The spine, end to end: extract, snapshot, search, gates, registry, endpoint, prediction — all parts real."""

from __future__ import annotations

import json
import re
import time

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.errors import IntegrityError, NotFound
from attrition.evaluation.gates import Outcome
from attrition.governance.actions import Action

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, ray_cluster):
    """A project on the shared cluster with one tuned, registered version of a simulated workforce."""
    home = tmp_path_factory.mktemp("spine")
    with Workspace(home=home, ray_address=ray_cluster.address) as project:
        project.data.load(project.data.simulate(n_employees=12_000))
        yield project


@pytest.fixture(scope="module")
def run(workspace):
    """A smoke search of the simulated workforce."""
    steps, trials = [], []
    judged = workspace.tune("smoke", on_trial=trials.append, on_step=steps.append)
    assert trials
    assert steps
    return judged


@pytest.fixture(scope="module")
def version(workspace, run):
    """The search's winner, registered."""
    return workspace.models.register(run.run_id)


def test_search_is_judged_on_the_holdout(run):
    """The winner is a good model, its figures have intervals, and every gate gives a verdict."""
    assert run.evaluation.metrics["auc"].value > 0.85
    assert run.evaluation.metrics["auc"].low < run.evaluation.metrics["auc"].value < run.evaluation.metrics["auc"].high
    assert run.n_train + run.n_holdout == 12_000
    assert {"auc", "accuracy", "latency", "data_quality"} <= {result.gate for result in run.verdict.results}
    assert run.verdict.admits, str(run.verdict)


def test_search_is_logged(workspace, run):
    """A parent run with one child per trial; parameters, figures, plots and the data version on the parent."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=workspace.settings.tracking_uri)
    parent = client.get_run(run.run_id)
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.run_id}'")
    assert len(children) == len(run.search.trials)
    assert {child.info.status for child in (*children, parent)} == {"FINISHED"}
    assert "attrition.manifest_sha256" in parent.data.tags
    assert "auc" in parent.data.metrics
    assert parent.inputs.dataset_inputs
    artifacts = {item.path for folder in ("", "plots") for item in client.list_artifacts(run.run_id, folder)}
    assert any("roc" in path for path in artifacts)
    assert {"shap.json", "shap.csv", "plots/shap_summary.png", "plots/shap_importance.png"} <= artifacts


def test_first_version(workspace, version):
    """The first version is 1.0.0, the champion, and traceable to its snapshot."""
    assert version.version == "1.0.0"
    assert "champion" in version.aliases
    assert version.lineage.snapshot.content_hash == workspace.data.read().snapshot.content_hash
    assert workspace.models.verify("1.0.0").n_files > 5


def test_nothing_changed(workspace, version):
    """The same data, plan and code would make the same version again."""
    assert workspace.unchanged("smoke").version == version.version
    assert workspace.unchanged("default") is None


def test_validate_repeats_the_judgement(workspace, version, run):
    """Validating the version sees the same holdout and reaches the same figures; a stricter gate holds it."""
    judgement = workspace.validate("champion")
    assert judgement.evaluation.metrics["auc"].value == pytest.approx(run.evaluation.metrics["auc"].value, abs=1e-12)
    strict = workspace.validate(version.version, min_auc=0.99)
    assert strict.verdict["auc"].outcome is Outcome.FAIL
    assert not strict.verdict.admits


def test_a_second_version_is_compared_with_the_champion(workspace, version):
    """The baseline has another architecture, so it would be a major version; the gate compares it with the champion."""
    baseline = workspace.train(plan="smoke")
    compared = baseline.verdict["champion"]
    assert compared.outcome is not Outcome.NOT_APPLICABLE
    second = workspace.models.register(baseline.run_id, waive="test of the version rule")
    assert second.version == "2.0.0"
    assert "champion" not in second.aliases
    assert [item.version for item in workspace.models.list()] == ["2.0.0", "1.0.0"]
    comparison = workspace.models.compare("1.0.0", "2.0.0")
    assert "auc" in str(comparison)
    assert not re.search(r"\d\.\d{5}", str(comparison))  # nobody reads seventeen digits
    assert comparison.differences[0][0] == "family"
    versions = workspace.models.list()
    assert str(versions).splitlines()[3].startswith("2.0.0")
    assert versions._repr_html_().count("<tr>") == 3


def test_command_line_sees_the_same(workspace, version):
    """The commands print what the SDK knows, as JSON, with the documented exit codes."""

    def attrition(*arguments):
        return CliRunner().invoke(app, ["--home", str(workspace.settings.home), *arguments])

    shown = attrition("models", "show", "champion", "--json")
    assert json.loads(shown.stdout)["version"] == version.version
    assert attrition("validate", "1.0.0").exit_code == 0
    held = attrition("validate", "1.0.0", "--min-auc", "0.99", "--json")
    assert held.exit_code == 3
    assert json.loads(held.stdout)["verdict"]
    assert attrition("models", "verify", "1.0.0").exit_code == 0
    assert attrition("models", "unchanged", "--config", "smoke").stdout.split() == [version.version]
    assert json.loads(attrition("models", "unchanged", "--json").stdout) is None
    missing = attrition("models", "show", "9.9.9")
    assert missing.exit_code == 4
    assert "9.9.9" in missing.output


def test_unknown_version(workspace):
    """A version that does not exist is named."""
    with pytest.raises(NotFound, match=r"7\.0\.0"):
        workspace.validate("7.0.0")


def test_served_version_scores_like_the_pipeline(workspace, version, run):
    """What HTTP answers equals what the scikit-learn pipeline says, record by record."""
    status = workspace.serving.up(version.version)
    assert status.running
    frame = workspace.data.read().table.frame.head(200)
    answered = workspace.client(status.url).predict(frame)
    assert answered["probability"].to_numpy() == pytest.approx(run.candidate.score(frame), abs=1e-6)
    assert set(answered["model_version"]) == {version.version}
    explained = _explain_what_was_answered(workspace, status.url, frame, answered)
    workspace.serving.down()
    _await_logged(workspace, frame, answered)
    # the same from the table as from the spool
    assert workspace.explain(answered["prediction_id"].iloc[0]) == explained


def _explain_what_was_answered(workspace, url, frame, answered):
    """Explanations over HTTP add up to what was served and are those of the registry; bad requests are problems."""
    client = workspace.client(url)
    found = [client.explain(prediction_id) for prediction_id in answered["prediction_id"].head(3)]
    assert [one.probability for one in found] == answered["probability"].head(3).tolist()
    assert {len(one.contributions) for one in found} == {len(workspace.data.read().table.schema.names)}
    assert workspace.explain(answered["prediction_id"].iloc[0]) == found[0]
    row = frame[list(workspace.data.read().table.schema.names)].iloc[0]
    values = {name: None if np.isnan(value) else float(value) for name, value in row.items()}
    again = client.explain(record=values)
    assert (again.contributions, again.prediction_id) == (found[0].contributions, None)
    assert workspace.explain(record=values) == again
    some = answered["prediction_id"].iloc[0]
    for body, status, kind in (
        ({"prediction_id": some, "record": values}, 422, "invalid-request"),
        ({"prediction_id": "018e2f5c-7a10-7cc3-98c4-dc0c0c07398f"}, 404, "unknown-prediction"),
        ({"record": values, "version": "7.0.0"}, 409, "version-not-served"),
        ({"record": {"age": 400}}, 422, "invalid-records"),
    ):
        answer = httpx.post(f"{url}/v1/explain", json=body)
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:attrition:problem:{kind}")
    events = workspace.guard.audit.records(action=Action.EXPLAIN, subject=f"prediction {some}")
    # by the endpoint, which knows nobody while access is open, and by this workspace
    assert [event.outcome for event in events] == ["started", "succeeded"] * 2
    assert len({event.actor for event in events}) == 2
    assert {event.client_address for event in events} == {"127.0.0.1", None}
    return found[0]


def test_explanations_on_the_command_line(workspace, version, tmp_path):
    """A version as a whole, and a record from a file."""

    def attrition(*arguments):
        return CliRunner().invoke(app, ["--home", str(workspace.settings.home), "explain", *arguments])

    whole = attrition("--global", "champion", "--json")
    assert json.loads(whole.stdout)["features"][0]["feature"] == workspace.explain_global().features[0].feature
    assert "What champion relies on" in attrition("--global", "champion").stdout
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"age": 31, "tenure": 4, "work_hours": 58}))
    shown = attrition("--record", str(record))
    assert f"estimated by version {version.version}" in shown.stdout
    found = json.loads(attrition("--record", str(record), "--version", "champion", "--json").stdout)
    assert found["difference"] <= 1e-9
    record.write_text(json.dumps({"age": 310}))
    refused = attrition("--record", str(record))
    assert refused.exit_code == 4
    assert "record/age" in refused.stderr


def test_one_flipped_byte_refuses_to_load(workspace, version, tmp_path):
    """A changed artifact is found by `verify` and refused by `load` before anything is deserialised."""
    stored = workspace.settings.home / "mlartifacts"
    victim = max(
        (path for path in stored.rglob("*.pkl") if path.is_file()), key=lambda path: path.stat().st_size, default=None
    )
    assert victim is not None
    content = victim.read_bytes()
    victim.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    try:
        broken = [ref for ref in ("1.0.0", "2.0.0") if not _loads(workspace, ref)]
        assert len(broken) == 1
    finally:
        victim.write_bytes(content)
    assert _loads(workspace, "1.0.0")


def _await_logged(workspace, frame, answered, seconds=30):
    """Every answer is in the prediction table once, under the person's pseudonym."""
    limit = time.monotonic() + seconds
    logged = workspace.predictions.tail(1_000)
    while len(logged) < len(answered) and time.monotonic() < limit:
        time.sleep(0.5)
        logged = workspace.predictions.tail(1_000)
    assert sorted(logged["prediction_id"]) == sorted(answered["prediction_id"])
    assert set(logged["employee_id"]) == set(frame["employee_id"])


def _loads(workspace, ref):
    try:
        workspace.models.load(ref)
    except IntegrityError:
        return False
    except NotFound:
        return True
    return True
