"""The dashboards: as their definition has them, with expressions that Prometheus parses, over metrics that exist."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from attrition.monitoring.gauges import GAUGES
from attrition.serving.metrics import COUNTERS, DURATION, IN_FLIGHT, LOG_GAUGES

FOLDER = Path(__file__).parents[2] / "infra" / "dashboards"
DEFINITION = runpy.run_path(str(FOLDER / "generate.py"))
DASHBOARDS = DEFINITION["DASHBOARDS"]
EXPRESSIONS = list(DEFINITION["expressions"]())
OWN = {
    *(f"ray_{name}_total" for name in COUNTERS),
    *(f"ray_{name}" for name in (f"{DURATION}_bucket", IN_FLIGHT, *GAUGES)),
    *(f"ray_prediction_log_{name}" for name in LOG_GAUGES),
}
OURS = re.compile(
    r"\bray_(?:prediction|placed|shadow|data|feature|drift|live|realised|estimated|admission|table|monitor|audit)_\w+"
)


def test_files_are_up_to_date():
    """`python infra/dashboards/generate.py` would change nothing, and no file is left over."""
    generated = DEFINITION["generated"]()
    assert {path: path.read_text() for path in FOLDER.glob("*.json")} == generated


def test_the_five_pages_are_there():
    """Serving by version, A/B, drift and performance, tuning, cluster."""
    assert {each.name for each in DASHBOARDS} == {"serving", "experiments", "monitoring", "tuning", "cluster"}
    for dashboard in DASHBOARDS:
        titles = [panel.title for panel in dashboard.panels]
        assert len(set(titles)) == len(titles)
        assert all(panel.description.endswith(".") for panel in dashboard.panels)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_grafana_finds_what_a_page_needs(dashboard):
    """Every variable that an expression uses is defined; panels do not overlap; every query has its data source."""
    document = json.loads((FOLDER / f"{dashboard.name}.json").read_text())
    defined = {variable["name"] for variable in document["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(document["panels"]))) - {"__rate_interval"}
    assert used == defined
    cells = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        covered = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & covered
        assert at["x"] + at["w"] <= 24
        cells |= covered
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_our_metrics_are_those_that_are_exported():
    """A renamed metric would leave an empty chart. And every gauge of monitoring has a place."""
    shown = {name for _, expression, _ in EXPRESSIONS for name in OURS.findall(expression)}
    assert shown <= OWN
    assert {f"ray_{name}" for name in GAUGES} - shown <= {"ray_live_drift_level", "ray_drift_run_age_seconds"}


def test_recorded_series_exist():
    """Charts of the objective read what the rules record."""
    rules = yaml.safe_load((FOLDER.parent / "alerts" / "attrition-slo.rules.yaml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    asked = {name for _, expression, _ in EXPRESSIONS for name in re.findall(r"\battrition:[\w:]+", expression)}
    assert asked
    assert asked <= recorded


def test_prometheus_parses_every_expression(tmp_path):
    """With the variables put in as Grafana puts them in."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    rules = [
        {"record": f"panel:{number}", "expr": filled(expression)}
        for number, (_, expression, _) in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


def filled(expression):
    """An expression with "All" for every variable."""
    return re.sub(r"\$(?!__)\w+", ".*", expression.replace("$__rate_interval", "1m"))
