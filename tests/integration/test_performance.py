"""Realised and estimated performance of a trained version, from its logged predictions and recorded outcomes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.data.predictions import FEATURE, prediction_schema
from attrition.errors import NotFound
from attrition.monitoring.monitor import Monitor

MADE = datetime(2024, 3, 10, 9, tzinfo=UTC)
OBSERVED = datetime(2025, 7, 15, tzinfo=UTC)


def _log(workspace, frame, probability, threshold, version, *, spool, left=None):
    """Predictions in the table, as a replica's committer writes them."""
    names = workspace.models.load(version).schema.names
    times = [MADE + timedelta(days=int(30 * (i % 4)), seconds=i) for i in range(len(frame))]
    columns = {
        "prediction_id": [f"{spool}-{i}" for i in range(len(frame))],
        "time": times,
        "day": [time.date() for time in times],
        "version": [version] * len(frame),
        "variant": ["blue"] * len(frame),
        "reason": ["sole"] * len(frame),
        "employee_id": frame["employee_id"].tolist(),
        "probability": probability,
        "threshold": np.full(len(frame), threshold),
        "decision": probability >= threshold,
        "latency_us": [100] * len(frame),
        "shadow_of": [None] * len(frame),
        **{FEATURE + name: frame[name].astype(float) for name in names},
    }
    rows = pa.table(columns, schema=prediction_schema(names))
    assert workspace.predictions.table.append(rows, {spool: 1})
    return times


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A version trained on one workforce, whose predictions about another one were logged and have matured."""
    home = tmp_path_factory.mktemp("performance")
    key = home / "keys" / "pseudonym.key"  # a fixed one: it draws the holdout, and an interval may miss by chance
    key.parent.mkdir(mode=0o700)
    key.write_text("5a" * 32, encoding="ascii")
    key.chmod(0o600)
    with Workspace(home=home) as workspace:
        workspace.data.load(workspace.data.simulate(n_employees=4_000))
        run = workspace.train("hist_gradient_boosting", {"max_iter": 40}, plan="smoke")
        version = workspace.models.register(run.run_id, waive="a test of monitoring").version
        others = workspace.data.extract(workspace.data.simulate(n_employees=3_000, seed=7)).table.frame
        package = workspace.models.load(version)
        scores = package.candidate.score(others[list(package.schema.names)])
        times = _log(workspace, others, scores, package.threshold, version, spool="first")
        left = others["attrition"].to_numpy() == 1
        left_on = pd.Series(pd.DatetimeIndex(times).tz_localize(None).normalize() + pd.Timedelta(days=60))
        statements = pd.DataFrame(
            {
                "employee_id": others["employee_id"].astype("str"),
                "left_on": left_on.where(left).astype("datetime64[us]"),
                "observed_at": pd.Series([pd.Timestamp(OBSERVED)] * len(others), dtype="datetime64[us, UTC]"),
                "source": "test",
            }
        )
        workspace.outcomes.table.record(statements, now=OBSERVED)
        workspace.truth = left, scores
        yield workspace


def _attrition(workspace, *arguments):
    return CliRunner().invoke(app, ["--home", str(workspace.settings.home), *map(str, arguments)])


def test_realised_performance_is_that_of_the_holdout_kind(project):
    """Every label is mature 15 months later; the AUC is scikit-learn's and compatible with admission."""
    report = project.performance.measure("champion", now=OBSERVED)
    (version,) = report.versions
    left, scores = project.truth
    assert version.whole.maturity.n_mature == 3_000
    assert version.whole.metrics["auc"].value == pytest.approx(roc_auc_score(left, scores), abs=1e-12)
    assert [bucket.name for bucket in version.buckets] == ["2024-03", "2024-04", "2024-05", "2024-06"]
    assert version.baseline.low - 0.05 < version.whole.metrics["auc"].value < version.baseline.high + 0.05
    assert "department" in {found.attribute for found in version.fairness}


def test_what_was_not_mature_yet(project):
    """As of a year after the first predictions only those of the first weeks count."""
    report = project.performance.measure(as_of=datetime(2025, 3, 20, tzinfo=UTC), now=OBSERVED)
    maturity = report.versions[0].whole.maturity
    # nothing was observed by then, so nobody is known to have left; the log and the horizon decide what is over
    assert maturity.n_mature == 750
    assert maturity.n_censored == 2_250
    assert maturity.n_left == 0


def test_the_estimate_and_its_reconciliation(project):
    """Without outcomes the estimate stands alone; with them realised and estimated AUC agree."""
    window = "2024-03-01..2024-06-30"
    found = project.performance.estimate(window=window, now=OBSERVED)
    assert found.n_mature == 3_000
    assert {item.metric: item.is_within for item in found.reconciliation}["auc"] is True
    early = project.performance.estimate(window=window, as_of=datetime(2024, 7, 1, tzinfo=UTC), now=OBSERVED)
    assert early.reconciliation == ()
    assert early.estimated == found.estimated


def test_the_commands(project, tmp_path):
    """JSON, a page with the plot, and exit code 3 once the AUC lies below what the policy asks for."""
    done = _attrition(project, "performance", "--by", "quarter", "--html", tmp_path / "page.html", "--json")
    assert done.exit_code in {0, 3}, done.stderr
    document = json.loads(done.stdout)
    assert [bucket["name"] for bucket in document["versions"][0]["buckets"]] == ["2024Q1", "2024Q2"]
    assert "data:image/png" in (tmp_path / "page.html").read_text()
    strict = tmp_path / "strict.yaml"
    strict.write_text("min_auc: 0.999\nactive_days: 3650\n")
    held = _attrition(project, "performance", "--policy", strict)
    assert held.exit_code == 3
    assert "ALERT" in held.stderr
    window = ("--window", "2024-03-01..2024-06-30")
    estimated = _attrition(project, "performance", "estimate", *window, "--policy", strict)
    assert estimated.exit_code == 3
    assert "ESTIMATED" in estimated.stdout
    assert _attrition(project, "performance", "estimate", "--window", "soon").exit_code == 2
    assert _attrition(project, "performance", "--by", "week").exit_code == 2
    assert _attrition(project, "performance", "estimate", "--window", "30d").exit_code == 4


def test_an_alert_arrives_once_and_is_resolved(project, tmp_path, monkeypatch):
    """Over a real HTTP address: low, still low, and no longer low."""
    pytest.importorskip("apprise", reason="the extra `alerts` is not installed")
    titles = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            titles.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["title"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("ATTRITION_ALERT_URLS", f"json://127.0.0.1:{server.server_address[1]}/")
        strict = tmp_path / "strict.yaml"
        strict.write_text("min_auc: 0.999\nactive_days: 3650\n")
        for policy in (("--policy", strict), ("--policy", strict), ()):
            done = _attrition(project, "performance", "--notify", *policy)
            assert done.exit_code in {0, 3}, done.stderr
        estimate = ("estimate", "--window", "2024-03-01..2024-06-30", "--policy", strict, "--notify")
        assert _attrition(project, "performance", *estimate).exit_code == 3
        server.shutdown()
    low = "Version 1.0.0: AUC below 0.999"
    assert titles == [f"[CRITICAL] {low}", f"[RESOLVED] {low}", "[WARNING] Version 1.0.0: ESTIMATED AUC is low"]


def test_what_was_measured_last_is_shown_by_the_monitor(project):
    """As gauges, also after the process that measured has ended: from the table of figures."""
    report = project.performance.measure(now=OBSERVED)
    estimate = project.performance.estimate(window="2024-03-01..2024-06-30", now=OBSERVED)
    monitor = Monitor(project.settings.tables, lambda _: pytest.fail("no live view is asked for"), live_rows=1)
    found = {(name, labels): value for name, labels, value in monitor.read(OBSERVED)}
    (version,) = report.versions
    realised = version.buckets[-1].metrics["auc"]
    assert found["realised_auc", (version.version,)] == realised.value
    assert found["realised_auc_high", (version.version,)] == realised.high
    assert found["estimated_auc", (version.version,)] == estimate.estimated.metrics["auc"].value
    assert found["admission_auc", (version.version,)] == version.baseline.value
    assert found["table_rows", ("predictions",)] == 3_000


def test_every_look_is_recorded(project):
    """With figures of the run, and without persons."""
    project.performance.measure(now=OBSERVED)
    record = project.audit.records(action="monitoring.performance")[-1]
    assert record.details["rows"] == 3_000


def test_without_outcomes(tmp_path):
    """Says what is missing and how to add it."""
    with Workspace(home=tmp_path) as workspace, pytest.raises(NotFound, match="attrition outcomes import"):
        workspace.performance.measure()
