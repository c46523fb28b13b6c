"""Plans of rollouts: what is refused, and what is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from attrition.errors import ConfigError
from attrition.experiments.plan import Design, Metric
from attrition.release.rollout_plan import RolloutPlan

SHIPPED = Path(__file__).parents[3] / "serve_configs" / "rollout.yaml"


@pytest.fixture
def load(tmp_path):
    """Function that loads the shipped plan after a change."""

    def load(change):
        document = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
        change(document)
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return RolloutPlan.load(path)

    return load


def test_the_shipped_plan():
    """By path and by name; every duration is in seconds."""
    plan = RolloutPlan.load(SHIPPED)
    assert plan == RolloutPlan.load("rollout")
    assert [step.title for step in plan.steps] == ["shadow", "5 %", "30 %", "100 %"]
    assert (plan.look, plan.guard.window, plan.steps[1].dwell, plan.steps[0].limit) == (60, 30, 14_400, 172_800)
    assert plan.asks_approval


def test_the_experiments_of_the_steps():
    """A shadow has no latency; alpha is shared among the steps that are judged."""
    plan = RolloutPlan.load("rollout")
    names = {"name": "r", "champion": "1.0.0", "challenger": "1.1.0"}
    shadow, split = plan.experiment(0, **names), plan.experiment(2, **names)
    assert (shadow.design, split.design, split.epochs) == (Design.SHADOW, Design.SPLIT, 3)
    assert Metric.LATENCY_P95 in {each.metric for each in split.metrics} - {each.metric for each in shadow.metrics}
    assert split.weights.share == pytest.approx(0.3)
    assert split.min_employees == 2_000
    # the rollout ends a step, pauses apart
    assert all(each.max_days * 86_400 > step.limit for each, step in ((shadow, plan.steps[0]), (split, plan.steps[2])))


def step(number, **changed):
    return lambda document: document["steps"][number].update(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (step(1, challenger=10), r"steps\.1: the weights sum to 105; shares sum to 1, or per cent to 100"),
        (step(1, champion=0.9), "the weights sum to 5.9"),
        (step(1, champion=-5, challenger=105), r"steps\.1\.champion"),
        (step(2, champion=97, challenger=3), "shares must grow from step to step"),
        (step(3, champion=10, challenger=90), "the last step gives the challenger 90 %; it must be 100 %"),
        (lambda d: d["steps"].append({"shadow": True}), "the last step gives the challenger shadow"),
        (step(0, champion=100), "is a shadow and has weights"),
        (step(1, champion=100, challenger=0), "a step gives the challenger nothing"),
        (lambda d: d["steps"][1].pop("champion"), "needs shadow: true, or both weights"),
        (step(1, dwell="8d"), "lasts at least 691200 s but ends after 604800 s"),
        (step(1, dwell="4 hours"), "'4 hours' is no duration; write 90s, 20m, 4h or 2d"),
        (step(1, dwel="4h"), r"unknown key steps\.1\.dwel"),
        (lambda d: d["guard"].update(max_error_rate=2), r"guard\.max_error_rate"),
        (lambda d: d["analysis"]["metrics"][0].update(margin=0), "a guardrail needs a margin"),
        (lambda d: d["analysis"]["metrics"].append(d["analysis"]["metrics"][0]), "metrics given twice: error_rate"),
        (lambda d: d.update(steps=[]), "steps"),
    ],
)
def test_what_cannot_be_a_plan(load, change, message):
    """The message names the place and what is allowed."""
    with pytest.raises(ConfigError, match=message):
        load(change)


def test_all_faults_at_once(load):
    """So that a plan is repaired in one go."""

    def change(document):
        document["steps"][1]["challenger"] = 10
        document["look"] = "soon"
        document["guard"]["windw"] = "5s"

    with pytest.raises(ConfigError) as raised:
        load(change)
    assert len(raised.value.faults) == 3


def test_weights_may_be_shares_of_one(load):
    """As everywhere else."""
    assert load(step(1, champion=0.95, challenger=0.05)).steps[1].title == "5 %"
