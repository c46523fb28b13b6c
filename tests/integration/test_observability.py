"""Dashboards and rules against a real Prometheus that scrapes the real application; and what its log says of a failure.

Every expression must have data after a few minutes in which two versions answer, one shadows, callers err, a version
fails, drift and performance are measured and the audit log is exported. An alert's threshold is not met by that, so its
operands are asked for. What a machine on which all is well cannot show is listed, with the reason.
"""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import ray
import yaml
from faulty_versions import replica_environment

from attrition import Workspace
from attrition.cluster.environment import environment, free_ports
from attrition.cluster.ray_token import ray_token
from attrition.data.delta import n_rows
from attrition.data.schema import FeatureSchema
from attrition.data.workforce import simulate, write_extract
from attrition.monitoring.performance_log import PerformanceFigure, PerformanceLog
from attrition.settings import config_file

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

INFRA = Path(__file__).parents[2] / "infra"
NAMES = list(FeatureSchema.default().names)
RULES = sorted((INFRA / "alerts").glob("*.rules.yaml"))
UNSEEN = {"PlacedVariantFailing": "there is a series only where a version was placed on a deployment of its own"}
"""Alerts whose operands have no data here; test_placement.py has the metrics, attrition.rules.test.yaml the alert."""
PATIENCE_SECONDS = 90
IDENTIFIER = "0198a1de-6c1f-7c4b-9d2e-2f1a5f0c7b11"


@pytest.fixture(scope="module")
def observed(ray_cluster, tmp_path_factory):
    """A project that two versions answer for, and its Prometheus, which has seen everything that there is to see."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("observed")
    with environment({"ATTRITION_AUDIT_EXPORT": str(folder / "exports")}), Workspace(home=folder / "home") as workspace:
        frame = simulate(1_500, n_quarters=2, seed=3)
        rows = frame[frame["snapshot_date"] == frame["snapshot_date"].max()]
        write_extract(rows, folder / "extract.csv.gz")
        workspace.data.load(folder / "extract.csv.gz", "workforce")
        champion, challenger, shadow = (_register(workspace, each) for each in (1.0, 0.5, 0.1))
        serve = _serve_config(folder)
        with _prometheus(program, folder, ray_cluster.dashboard_url) as prometheus:
            status = workspace.serving.up(champion, config=serve)
            try:
                with httpx.Client(base_url=status.url, timeout=60) as http:
                    _use(workspace, prometheus, http, rows, (champion, challenger, shadow), folder)
                yield workspace, prometheus, status
            finally:
                workspace.serving.down()


def _register(workspace, strength):
    run = workspace.train("logistic_regression", {"C": strength}, plan="smoke")
    waived = None if run.verdict.admits else "to be looked at by Prometheus"
    return workspace.models.register(run.run_id, waive=waived).version


def _serve_config(folder):
    """The shipped one, but quick to look, with little room for shadows, a log in JSON, and versions that can fail."""
    document = yaml.safe_load(config_file("serve_configs", "local").read_text())
    document["logging_config"] = {"encoding": "JSON", "log_level": "WARNING", "enable_access_log": False}
    gateway, monitor = document["applications"]
    gateway["args"]["limits"]["max_shadow_records"] = 300
    gateway["runtime_env"] = {"env_vars": replica_environment(folder / "faults.json")}
    monitor["args"] = {"refresh_seconds": 1, "live_rows": 1_000}
    (folder / "faults.json").write_text("{}")
    (folder / "serve.yaml").write_text(yaml.safe_dump(document))
    return folder / "serve.yaml"


class _prometheus:  # noqa: N801 - a context manager, read as a verb's object
    """A Prometheus with the project's rules that finds Ray by Ray's own discovery."""

    def __init__(self, program, folder, dashboard):
        self.program, self.folder, self.dashboard = program, folder, dashboard
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self):
        discovery = {"url": f"{self.dashboard}/api/prometheus/sd", "refresh_interval": "5s"}
        if token := ray_token():
            discovery["authorization"] = {"credentials": token}
        document = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
            "rule_files": [str(path) for path in RULES],
            "scrape_configs": [{"job_name": "ray", "http_sd_configs": [discovery]}],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(document))
        arguments = [f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/tsdb"]
        with (self.folder / "prometheus.log").open("w") as log:
            self.process = subprocess.Popen(
                [self.program, *arguments, f"--web.listen-address={self.url.removeprefix('http://')}"], stderr=log
            )
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)

    def ask(self, expression):
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30)
        assert answer.is_success, f"{expression}: {answer.text}"
        return answer.json()["data"]["result"]

    def without_data(self, expressions):
        """Those that have none, after patience."""
        until = time.monotonic() + PATIENCE_SECONDS
        left = list(expressions)
        while left and time.monotonic() < until:
            left = [each for each in left if not self.ask(each)]
            time.sleep(2)
        return left


def _use(workspace, prometheus, http, rows, versions, folder):
    """Everything that leaves a trace in metrics."""
    champion, challenger, shadow = versions
    records = json.loads(rows[NAMES].astype(float).to_json(orient="records"))
    for record in records:  # three features moved by more than 15 % of their mean
        for name in ("tenure", "work_hours", "salary"):
            if record[name] is not None:
                record[name] *= 1.3
    workspace.traffic.shadow([shadow])
    for n_records in (200, 1_000):
        assert http.post("/v1/predict", json={"records": records[:n_records]}).is_success
    workspace.traffic.set({champion: 70, challenger: 30})
    _ask(http, records, challenger, folder)
    # a counter is born with what it has counted: only what comes later is an increase, hence a rate
    first = ["ray_prediction_requests_total", 'ray_prediction_errors_total{kind="internal"}']
    assert prometheus.without_data(first) == []
    _ask(http, records, challenger, folder)
    until = time.monotonic() + 60
    while (found := _logged(workspace)) < 1_300:
        assert time.monotonic() < until, found
        time.sleep(1)
    workspace.monitoring.drift("1d", champion)
    now = datetime.now(UTC)
    PerformanceLog(workspace.settings.tables).add(
        [
            PerformanceFigure(now, champion, kind, "2026-01", now - timedelta(days=1), 500, 0.88, 0.86, 0.9, 0.9)
            for kind in ("realised", "estimated")
        ]
    )
    workspace.audit.export(folder / "exports")


def _ask(http, records, challenger, folder):
    """What callers get answered, their own mistakes, and failures of one version."""
    for number, record in enumerate(records[:150]):
        assert http.post("/v1/predict", json={**record, "employee_id": f"E-{number}"}).is_success
    assert http.post("/v1/predict", json={"age": "x"}).status_code == 422
    assert http.get("/v1/nothing").status_code == 404
    (folder / "faults.json").write_text(json.dumps({challenger: {"error_share": 1.0}}))
    answers = [
        http.post("/v1/predict", json={**record, "employee_id": f"E-{number}"}, headers={"x-request-id": IDENTIFIER})
        for number, record in enumerate(records[:40])
    ]
    assert {each.status_code for each in answers} == {200, 500}
    (folder / "faults.json").write_text("{}")


def _logged(workspace):
    return n_rows(f"{workspace.settings.tables}/predictions")


def operands(expression):
    """What an expression compares and combines at its top level; of ``absent(x)`` the x."""
    parts, depth, start = [], 0, 0
    for found in re.finditer(r"[(\[{]|[)\]}]|\s(?:>=|<=|==|!=|>|<|and|or|unless)\s", expression):
        if found[0] in "([{":
            depth += 1
        elif found[0] in ")]}":
            depth -= 1
        elif depth == 0:
            parts.append(expression[start : found.start()])
            start = found.end()
    parts.append(expression[start:])
    return [re.sub(r"^absent\((.*)\)$", r"\1", part.strip()) for part in parts if re.search(r"ray_|attrition:", part)]


def of_any_kind(expression):
    """With every kind of error for the one that a healthy system does not have."""
    return re.sub(r'\b(kind|error_code)(?:=~|!~|=|!=)"[^"]*"', r'\1!=""', expression)


def test_every_chart_has_data(observed):
    """Every expression of every dashboard, with "All" chosen."""
    _, prometheus, _ = observed
    definition = runpy.run_path(str(INFRA / "dashboards" / "generate.py"))
    wanted = {
        re.sub(r"\$(?!__)\w+", ".*", expression.replace("$__rate_interval", "5m")): where
        for where, expression, unseen in definition["expressions"]()
        if not unseen
    }
    assert len(wanted) > 50
    assert {wanted[each]: each for each in prometheus.without_data(wanted)} == {}


def test_variables_of_dashboards_have_values(observed):
    """What their drop-downs list; `purpose` is a label of the cluster's PodMonitors."""
    _, prometheus, _ = observed
    definition = runpy.run_path(str(INFRA / "dashboards" / "generate.py"))
    for name, query in definition["VARIABLES"].items():
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()
        found = {each["metric"].get(label) for each in prometheus.ask(f"{metric}")}
        assert found
        assert name == "purpose" or found - {None}, name


def test_every_rule_has_data(observed):
    """What records, whole; what alerts, operand by operand, where need be with another kind of error."""
    _, prometheus, _ = observed
    rules = [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    wanted = {}
    for rule in rules:
        if "record" in rule:
            wanted[rule["record"]] = rule["record"]
        elif rule["alert"] not in UNSEEN:
            wanted |= {of_any_kind(each): rule["alert"] for each in operands(rule["expr"])}
    assert {rule["alert"] for rule in rules if "alert" in rule} >= UNSEEN.keys()
    assert {wanted[each]: each for each in prometheus.without_data(wanted)} == {}


def test_figures_are_those_of_the_requests(observed):
    """Not only some data: counts by version are what was sent, and failures are the challenger's."""
    _, prometheus, _ = observed
    failed = prometheus.ask('sum by (model_version, kind) (ray_prediction_errors_total{kind="internal"})')
    assert len(failed) == 1
    answered = prometheus.ask("sum(ray_prediction_requests_total)")
    n_failed, n_answered = (int(float(each[0]["value"][1])) for each in (failed, answered))
    assert n_failed + n_answered == 2 + 2 * (150 + 40)
    (ratio,) = prometheus.ask("attrition:failure_ratio:rate1h")
    assert float(ratio["value"][1]) == pytest.approx(n_failed / (n_failed + n_answered), abs=0.05)


def test_rules_are_evaluated_without_errors(observed):
    """By Prometheus itself, every few seconds; and it reaches every target."""
    _, prometheus, _ = observed
    groups = httpx.get(f"{prometheus.url}/api/v1/rules", timeout=30).json()["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 30
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
    targets = httpx.get(f"{prometheus.url}/api/v1/targets", timeout=30).json()["data"]["activeTargets"]
    assert len(targets) >= 3


def test_a_failure_is_in_the_log_by_request_and_version(observed):
    """A line of JSON in Serve's files: which request, which version, where; no value and no id of a person."""
    logs = Path(ray._private.worker._global_node.get_logs_dir_path()) / "serve"
    lines = [
        json.loads(line)
        for path in logs.glob("replica_attrition_Gateway_*.log")
        for line in path.read_text().splitlines()
        if line.startswith("{")
    ]
    failures = [line for line in lines if line["message"] == "A scoring request failed"]
    assert failures
    for line in failures:
        assert line["request_id"] == IDENTIFIER
        assert re.fullmatch(r"\d+\.\d+\.\d+", line["model_version"])
        assert {"asctime", "levelname", "replica", "deployment"} <= line.keys()
        assert not re.search(r"\b(?:age|salary|tenure|employee_id)\b\W{0,3}[:=]|E-\d", json.dumps(line))
