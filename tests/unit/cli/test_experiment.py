"""The commands about experiments, as far as they need no project."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from attrition.cli.main import app
from attrition.experiments import planning


@pytest.fixture(autouse=True)
def _few_paths(monkeypatch):
    monkeypatch.setattr(planning, "N_PATHS", 20)


def attrition(tmp_path, *arguments):
    return CliRunner().invoke(app, ["--home", str(tmp_path / "home"), "experiment", *arguments])


def test_the_planner_shows_the_published_case(tmp_path):
    """Three rates, how many records each takes in both designs, and what the figures mean; nothing is stored."""
    done = attrition(tmp_path, "plan", "--per-day", "1000")
    assert done.exit_code == 0, done.output
    for text in (
        "12.00% → 8.00%",
        "15.00% → 14.00%",
        "0.50% → 0.40%",
        "2,100",
        "243,263",
        "140,642",
        "334",
        "correlate by 0.7",
    ):
        assert text in done.stdout
    assert not (tmp_path / "home").exists()


def test_the_planner_takes_other_expectations(tmp_path):
    """Goals, and guardrails with a margin, as JSON."""
    done = attrition(
        tmp_path,
        "plan",
        "--expect",
        "false_positive_rate=0.2:0.15",
        "--expect",
        "false_negative_rate=0.15:0.15:0.05",
        "--expect",
        "latency_p95_ms=20:20:2~0.4",
        "--share",
        "0.1",
        "--json",
    )
    found = json.loads(done.stdout)
    assert [each["role"] for each in found] == ["goal", "guardrail", "guardrail", "goal", "guardrail"]
    assert [each["design"] for each in found] == ["split"] * 3 + ["shadow"] * 2
    assert found[2]["spread"] == 0.4
    assert found[0]["fixed_records"] == pytest.approx(10 / 0.84 * found[0]["fixed_units"], abs=10)
    assert found[1]["expected_days"] is None


@pytest.mark.parametrize(
    "text",
    ["charm=0.1:0.2", "error_rate=0.1", "error_rate=a:b", "error_rate=0.1:0.2:0.3:0.4", "score_mean=0.1:0.2~x", ""],
)
def test_what_cannot_be_read(tmp_path, text):
    """Exit code 2, and the form that is expected."""
    done = attrition(tmp_path, "plan", "--expect", text)
    assert done.exit_code == 2
    assert "METRIC=CONTROL:CHALLENGER[:MARGIN][~SPREAD]" in " ".join(done.output.split())


def test_a_shadow_without_anything_to_show(tmp_path):
    """Its latency is not its own."""
    done = attrition(tmp_path, "plan", "--expect", "latency_p95_ms=20:18", "--design", "shadow")
    assert done.exit_code == 2
    assert "has no latency of its own" in " ".join(done.output.split())


@pytest.mark.parametrize("command", ["status", "analyze", "stop"])
def test_without_an_experiment(tmp_path, command):
    """Exit code 4, and how to start one."""
    done = attrition(tmp_path, command)
    assert done.exit_code == 4
    assert "attrition experiment start" in " ".join(done.output.split())
