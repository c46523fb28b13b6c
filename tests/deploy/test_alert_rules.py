"""The alert rules: Prometheus accepts them, each fires on what it is for, and they read what the code exports."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import ray
import yaml

from attrition.monitoring.gauges import GAUGES
from attrition.serving.metrics import COUNTERS, DURATION, LOG_GAUGES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "infra" / "alerts").glob("*.rules.yaml"))
OWN = {
    *(f"ray_{name}_total" for name in COUNTERS),
    f"ray_{DURATION}_bucket",
    *(f"ray_prediction_log_{name}" for name in LOG_GAUGES),
    *(f"ray_{name}" for name in GAUGES),
}
OF_RAY = {
    "ray_serve_num_http_error_requests_total",
    "ray_serve_autoscaling_desired_replicas",
    "ray_serve_autoscaling_target_replicas",
    "ray_serve_deployment_replica_healthy",
}


def cases_of(path):
    return path.with_name(path.name.replace(".rules.yaml", ".rules.test.yaml"))


def rules(path=None):
    """Rules of one file or of all; those that record have no alert."""
    files = FILES if path is None else [path]
    return [rule for each in files for group in yaml.safe_load(each.read_text())["groups"] for rule in group["rules"]]


def alerts(path=None):
    return [rule for rule in rules(path) if "alert" in rule]


@pytest.fixture
def promtool():
    """Runs promtool."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")

    def run(*arguments):
        return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_prometheus_accepts_the_rules(promtool, path):
    """Syntax of the file and of every expression and template."""
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_alert_fires_on_what_it_is_for(promtool, path):
    """And none on a healthy day."""
    done = promtool("test", "rules", cases_of(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_alert_is_without_a_case(path):
    """Every alert is expected to fire in one case and to be quiet in another."""
    tests = yaml.safe_load(cases_of(path).read_text())["tests"]
    cases = [each for test in tests for each in test.get("alert_rule_test", [])]
    names = {rule["alert"] for rule in alerts(path)}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_metrics_are_those_that_are_exported():
    """A renamed metric would leave a rule that never fires."""
    used = {name for rule in rules() for name in re.findall(r"\bray_[a-z0-9_]+", rule["expr"])}
    assert used <= OWN | OF_RAY
    home = Path(ray.__file__).parent
    texts = [*(home / "serve" / "_private").glob("*.py"), *(home / "dashboard/modules/metrics/dashboards").glob("*.py")]
    known = "".join(path.read_text() for path in texts)
    for name in OF_RAY:
        assert name in known or f'"{name.removeprefix("ray_")}"' in known, name
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {name for rule in rules() for name in re.findall(r"\battrition:[\w:]+", rule["expr"])}
    assert asked <= recorded


def test_labels_are_those_of_the_metrics():
    """Grouping by a label that a metric lacks gives one alert without a name."""
    for rule in rules():
        for metric in re.findall(r"\bray_([a-z0-9_]+)", rule["expr"]):
            wanted = set(re.findall(r"(model_version|feature_name|variant)", rule["expr"]))
            own = set(GAUGES[metric].labels) if metric in GAUGES else {"model_version", "variant"}
            assert wanted <= own, rule.get("alert", rule.get("record"))


def test_kinds_of_errors_exist():
    """The problem documents' kinds that the rules name are written somewhere in the serving code."""
    source = "".join(path.read_text() for path in (ROOT / "attrition" / "serving").rglob("*.py"))
    for rule in rules():
        for kinds in re.findall(r'kind[=!]~?"([^"]+)"', rule["expr"]):
            missing = [kind for kind in kinds.split("|") if f'"{kind}"' not in source]
            assert not missing, rule.get("alert", rule.get("record"))


def test_budget_is_used_up_by_the_service_alone():
    """The kinds that count for nobody are those that the code answers by 4xx, but its own slowness (408)."""
    sources = [path.read_text() for path in (ROOT / "attrition" / "serving").rglob("*.py")]
    kinds = {kind for text in sources for kind in re.findall(r'Problem\(\s*4(?!08)\d\d,\s*"([\w-]+)"', text)}
    assert len(kinds) > 10
    (failures,) = [rule["expr"] for rule in rules() if rule.get("record") == "attrition:failures:rate5m"]
    (callers,) = re.findall(r'kind!~"([^"]+)"', failures)
    # and a refusal in another protocol's words, and a log that was not written, though the request was answered
    assert set(callers.split("|")) == kinds | {"protocol", "log"}


def test_everybody_can_act_on_an_alert():
    """A severity, a summary and what to do."""
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["for"]
