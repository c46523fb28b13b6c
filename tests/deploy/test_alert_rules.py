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
RULES = ROOT / "infra" / "alerts" / "attrition.rules.yaml"
CASES = ROOT / "infra" / "alerts" / "attrition.rules.test.yaml"
OWN = {
    *(f"ray_{name}_total" for name in COUNTERS),
    f"ray_{DURATION}_bucket",
    *(f"ray_prediction_log_{name}" for name in LOG_GAUGES),
    *(f"ray_{name}" for name in GAUGES),
}
OF_RAY = {"ray_serve_num_http_error_requests_total"}


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture
def promtool():
    """Runs promtool."""
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")

    def run(*arguments):
        return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)

    return run


def test_prometheus_accepts_the_rules(promtool):
    """Syntax of the file and of every expression and template."""
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_on_what_it_is_for(promtool):
    """And none on a healthy day."""
    done = promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_case():
    """Every alert is expected to fire in one case and to be quiet in another."""
    cases = [each for test in yaml.safe_load(CASES.read_text())["tests"] for each in test["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


def test_metrics_are_those_that_are_exported():
    """A renamed metric would leave a rule that never fires."""
    used = {name for rule in rules() for name in re.findall(r"\bray_[a-z0-9_]+", rule["expr"])}
    assert used <= OWN | OF_RAY
    panels = (
        Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards" / "serve_dashboard_panels.py"
    )
    assert all(name in panels.read_text() for name in used & OF_RAY)


def test_labels_are_those_of_the_metrics():
    """Grouping by a label that a metric lacks gives one alert without a name."""
    for rule in rules():
        for metric in re.findall(r"\bray_([a-z0-9_]+)", rule["expr"]):
            wanted = set(re.findall(r"(model_version|feature_name|variant)", rule["expr"]))
            own = set(GAUGES[metric].labels) if metric in GAUGES else {"model_version", "variant"}
            assert wanted <= own, rule["alert"]


def test_kinds_of_errors_exist():
    """The problem documents' kinds that the rules name are written somewhere in the serving code."""
    source = "".join(path.read_text() for path in (ROOT / "attrition" / "serving").rglob("*.py"))
    for rule in rules():
        for kinds in re.findall(r'kind=~"([^"]+)"', rule["expr"]):
            assert all(f'"{kind}"' in source for kind in kinds.split("|")), rule["alert"]


def test_everybody_can_act_on_an_alert():
    """A severity, a summary and what to do."""
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["for"]
