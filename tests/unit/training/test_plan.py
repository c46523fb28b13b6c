"""Search plans and their spaces."""

from __future__ import annotations

import pytest
import yaml

from attrition.errors import ConfigError
from attrition.training.families import FAMILIES
from attrition.training.plan import SearchPlan

MINIMAL = {"name": "mine", "families": {"logistic_regression": {"C": {"type": "loguniform", "low": 0.01, "high": 1}}}}


def load(tmp_path, **changes):
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return SearchPlan.load(path)


@pytest.mark.parametrize("name", ["smoke", "default", "thorough"])
def test_shipped_plans_load_and_start_from_valid_configurations(name):
    """Every family's first trial can be built."""
    plan = SearchPlan.load(name)
    assert plan.name == name
    for family in plan.families:
        FAMILIES[family].validate(plan.first_parameters(family))
    assert plan.n_trials >= len(plan.families)


def test_the_default_plan_searches_all_families():
    """And asks for half of the leavers."""
    plan = SearchPlan.load("default")
    assert set(plan.families) == set(FAMILIES)
    assert plan.objective.min_recall == 0.5


def test_a_bare_value_is_a_constant_and_the_middle_is_the_first_value(tmp_path):
    """On the scale of the space."""
    spaces = {
        "learning_rate": {"type": "loguniform", "low": 0.01, "high": 1},
        "max_features": {"type": "uniform", "low": 0.5, "high": 1},
        "max_leaf_nodes": {"type": "int", "low": 4, "high": 64, "log": True},
        "class_weight": {"type": "choice", "values": [None, "balanced"], "default": "balanced"},
        "max_iter": 50,
    }
    first = load(tmp_path, families={"hist_gradient_boosting": spaces}).first_parameters("hist_gradient_boosting")
    assert first == {
        "learning_rate": pytest.approx(0.1),
        "max_features": 0.75,
        "max_leaf_nodes": 16,
        "class_weight": "balanced",
        "max_iter": 50,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_trails": 5}, "unknown key n_trails"),
        ({"n_trials": 0}, "n_trials"),
        ({"families": {}}, "name at least one of logistic_regression"),
        ({"families": {"forest": {}}}, "unknown family; allowed: logistic_regression, random_forest"),
        ({"families": {"logistic_regression": {"c": 1.0}}}, "logistic_regression.c: unknown parameter"),
        ({"families": {"logistic_regression": {"C": -1}}}, "numbers from 1e-06 to 1e\\+06"),
        ({"families": {"logistic_regression": {"C": [0.1, 1]}}}, "type: choice"),
        ({"families": {"logistic_regression": {"C": {"low": 0.1, "high": 1}}}}, "type"),
        (
            {"families": {"logistic_regression": {"C": {"type": "uniform", "low": 2, "high": 1}}}},
            "low must be below high",
        ),
        (
            {"families": {"logistic_regression": {"C": {"type": "loguniform", "low": 0, "high": 1}}}},
            "needs low above 0",
        ),
        (
            {"families": {"logistic_regression": {"C": {"type": "uniform", "low": 1, "high": 2, "default": 3}}}},
            "default is 3; allowed: 1 to 2",
        ),
        (
            {"families": {"logistic_regression": {"C": {"type": "uniform", "low": 1, "high": 1e9}}}},
            "C: 1000000000.0; allowed",
        ),
        (
            {"families": {"logistic_regression": {"class_weight": {"type": "choice", "values": []}}}},
            "at least 1 item",
        ),
        (
            {"families": {"logistic_regression": {"class_weight": {"type": "choice", "values": ["heavy"]}}}},
            "'heavy'; allowed: null, \"balanced\"",
        ),
        ({"grace_folds": 6}, "must not exceed n_folds 5"),
        ({"metric": "accuracy"}, "'auc' or 'average_precision'"),
        ({"calibration": "platt"}, "'sigmoid', 'isotonic' or 'none'"),
        ({"objective": {"kind": "best"}}, "objective.kind"),
        ({"name": "../elsewhere"}, "name"),
    ],
)
def test_a_faulty_plan_says_what_is_wrong(changes, message, tmp_path):
    """The file, the key and what is allowed."""
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, **changes)
    assert "plan.yaml" in str(caught.value)


def test_all_unknown_families_are_named_at_once(tmp_path):
    """One run of the command is enough to find every typo."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, families={"forest": {}, "boosting": {}}, n_trails=3)
    assert len(caught.value.faults) == 3


def test_the_digest_follows_what_decides_the_result(tmp_path):
    """Names do not, budgets do."""
    plan = load(tmp_path)
    assert load(tmp_path, name="other", description="words").digest == plan.digest
    assert load(tmp_path, n_trials=21).digest != plan.digest


def test_an_unknown_name_lists_the_shipped_plans():
    """So that a typo is quickly mended."""
    with pytest.raises(ConfigError, match=r"default, .*smoke, thorough"):
        SearchPlan.load("thorogh")
