"""Plans of experiments: what they may say, and how their level is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from attrition.errors import ConfigError, UsageError
from attrition.experiments.plan import Design, ExperimentPlan, Metric, Role

PLAN = {"name": "retrained", "control": "1.0.0", "challenger": "1.1.0"}


def test_a_plan_needs_names_only():
    """Its metrics are errors, latency, selection and both kinds of wrong decisions, with a lower FPR as the goal."""
    plan = ExperimentPlan(**PLAN)
    assert [each.metric for each in plan.metrics if each.role is Role.GOAL] == [Metric.FPR]
    assert len(plan.metrics) == 5
    assert ExperimentPlan(**PLAN, metrics=[]) == plan


def test_a_shadow_has_no_latency_of_its_own():
    """Neither by default nor on request."""
    names = {each.metric for each in ExperimentPlan(**PLAN, design="shadow").metrics}
    assert not any(name.is_latency for name in names)
    with pytest.raises(ValueError, match="no latency of its own"):
        ExperimentPlan(**PLAN, design=Design.SHADOW, metrics=[{"metric": "latency_p95_ms", "margin": 5}])


def test_alpha_is_spent_on_promotion_and_harm_and_over_the_epochs():
    """Half on each; harm is divided among what decides, promotion is not."""
    metrics = [
        {"metric": "error_rate", "margin": 0.01},
        {"metric": "false_positive_rate", "role": "goal"},
        {"metric": "score_mean", "role": "watch"},
    ]
    plan = ExperimentPlan(**PLAN, metrics=metrics, alpha=0.1, epochs=5)
    assert plan.promote_alpha == pytest.approx(0.01)
    assert plan.harm_alpha == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"control": 0.7, "challenger": 0.7}}, "sum to 1.4; shares sum to 1, or per cent to 100"),
        ({"challenger": "1.0.0"}, "control and challenger are the same version"),
        ({"metrics": [{"metric": "error_rate"}]}, "a guardrail needs a margin"),
        ({"metrics": [{"metric": "error_rate", "role": "watch"}]}, "only watched"),
        ({"metrics": [{"metric": "selection_rate", "role": "goal"}]}, "cannot be a goal"),
        ({"metrics": [{"metric": "error_rate", "margin": 0.1}] * 2}, "given twice: error_rate"),
        ({"metrics": [{"metric": "charm", "margin": 0.1}]}, "'error_rate'"),
        ({"name": "A B"}, "pattern"),
        ({"alpha": 0.7}, "less than 0.5"),
    ],
)
def test_faults_are_named(tmp_path, change, message):
    """With the file they stand in."""
    import yaml

    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **change}))
    with pytest.raises(ConfigError, match=r"plan\.yaml") as caught:
        ExperimentPlan.load(path)
    assert message in str(caught.value)


def test_the_shipped_plan():
    """By its name or its path; run again under another name."""
    plan = ExperimentPlan.load("experiment")
    assert plan == ExperimentPlan.load(Path(__file__).parents[3] / "serve_configs" / "experiment.yaml")
    assert (plan.control, plan.challenger, plan.weights.share) == ("champion", "challenger", pytest.approx(0.3))
    assert plan.renamed("autumn") == plan.model_copy(update={"name": "autumn"})
    with pytest.raises(UsageError, match="name"):
        plan.renamed("Autumn 1")
    with pytest.raises(ConfigError, match="shipped in serve_configs: experiment;"):
        ExperimentPlan.load("nothing")


def test_per_cent_are_shares():
    """90 and 10 mean what 0.9 and 0.1 mean."""
    plan = ExperimentPlan(**PLAN, weights={"control": 90, "challenger": 10})
    assert plan.weights.share == pytest.approx(0.1)
