"""Decisions that fall more evenly over groups, and what that costs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from attrition.errors import ConfigError, InsufficientData
from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.groups import attributes_of
from attrition.scoring.compile import compile_candidate, prove_equal
from attrition.training.candidate import fit_candidate, one_thread
from attrition.training.mitigation import REST, Mitigation, groups_of, rate_gap
from attrition.training.plan import SearchPlan
from attrition.training.reduction import Multipliers
from attrition.training.threshold import ThresholdObjective

FAMILIES = {
    "logistic_regression": {},
    "hist_gradient_boosting": {"max_iter": 30},
    "random_forest": {"n_estimators": 30, "min_samples_leaf": 10},
}


@pytest.fixture(scope="module")
def unfair(make_table):
    """More women leave than their satisfaction explains, and their shorter tenure tells the model who they are."""
    table = make_table(1_600, seed=3)
    frame = table.frame.copy()
    women = frame["gender"] == "f"
    frame["tenure"] = np.where(women, frame["tenure"] * 0.5, 60 + frame["tenure"] * 0.7)
    frame.loc[women & (np.arange(len(frame)) % 4 == 0), "attrition"] = np.int8(1)
    return replace(table, frame=frame)


def selection_gap(candidate, table):
    """Difference of selection rates between the genders."""
    (report,) = assess_fairness(table.target, candidate.decide(table.features), attributes_of(table)[["gender"]])
    return report.difference.value


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, unfair, lineage):
    """A candidate of each family without and with mitigation."""
    family, parameters = request.param, FAMILIES[request.param]
    mitigation = Mitigation(attribute="gender", n_attempts=6, max_accuracy_loss=0.05)
    with one_thread():
        plain = fit_candidate(unfair, family, parameters, n_folds=3, lineage=lineage)
        return plain, fit_candidate(unfair, family, parameters, n_folds=3, mitigation=mitigation, lineage=lineage)


def test_a_mitigated_candidate_decides_more_evenly_and_says_what_it_costs(unfair, pair):
    """The gap narrows out of fold and on the decisions; the loss of accuracy stays within what is allowed."""
    plain, even = pair
    assert plain.mitigation is None
    before, after = even.mitigation["before"], even.mitigation["after"]
    assert after["gap"] < 0.6 * before["gap"]
    assert before["accuracy"] - after["accuracy"] <= 0.05
    assert selection_gap(even, unfair) < selection_gap(plain, unfair)
    assert after["multipliers"]["f"] > 0 > after["multipliers"]["m"]
    assert json.loads(json.dumps(even.mitigation)) == even.mitigation


def test_a_mitigated_candidate_is_an_ordinary_one(unfair, pair):
    """It needs no group to score, compiles, and is calibrated against the true outcomes."""
    _, candidate = pair
    assert prove_equal(compile_candidate(candidate), candidate, unfair.features).max_difference < 1e-6
    assert candidate.oof_score.mean() == pytest.approx(unfair.target.mean(), abs=0.02)
    assert "reduction" not in repr(type(candidate.classifier.calibrated_classifiers_[0].estimator))


def test_without_calibration_the_bare_pipeline_comes_back(unfair, lineage):
    """What scored the groups' rows is not kept."""
    mitigation = Mitigation(attribute="gender", n_attempts=2, max_accuracy_loss=0.1)
    candidate = fit_candidate(
        unfair, "logistic_regression", {}, n_folds=3, calibration="none", mitigation=mitigation, lineage=lineage
    )
    assert type(candidate.classifier).__name__ == "Pipeline"
    assert candidate.score(unfair.features).shape == (len(unfair),)


def test_nothing_changes_when_no_accuracy_may_be_lost_or_nothing_is_uneven(table, lineage):
    """The pipeline as it is wins ties, and the report says so."""
    objective = ThresholdObjective(kind="top_share", share=0.2)
    mitigation = Mitigation(attribute="gender", n_attempts=2, step=0.001, max_accuracy_loss=0.0)
    plain = fit_candidate(table, "logistic_regression", {}, n_folds=3, objective=objective, lineage=lineage)
    even = fit_candidate(
        table, "logistic_regression", {}, n_folds=3, objective=objective, mitigation=mitigation, lineage=lineage
    )
    if even.mitigation["after"] == even.mitigation["before"]:
        np.testing.assert_array_equal(plain.oof_score, even.oof_score)
        assert "the gap stays" in even.mitigation["summary"]
    else:
        assert even.mitigation["after"]["accuracy"] >= even.mitigation["before"]["accuracy"]


@pytest.mark.parametrize("constraint", ["equalized_odds", "true_positive_rate_parity", "false_positive_rate_parity"])
def test_error_rates_can_be_evened_too(unfair, lineage, constraint):
    """Each constraint judges the rates that it evens; multipliers name the outcome where there are two."""
    mitigation = Mitigation(attribute="gender", constraint=constraint, n_attempts=4, max_accuracy_loss=0.1)
    candidate = fit_candidate(unfair, "logistic_regression", {}, n_folds=3, mitigation=mitigation, lineage=lineage)
    assert candidate.mitigation["after"]["gap"] <= candidate.mitigation["before"]["gap"]
    names = candidate.mitigation["attempts"][0]["multipliers"]
    assert len(names) == (4 if constraint == "equalized_odds" else 2)


def test_the_gap_is_of_the_rates_that_the_constraint_names():
    """Four people per group; group a flags both leavers and a stayer, group b nobody; (rest) is not compared."""
    y_true = np.tile(np.array([1, 1, 0, 0], np.int8), 3)
    y_pred = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1], bool)
    groups = np.repeat(np.array(["a", "b", REST], object), 4)
    assert rate_gap(y_true, y_pred, groups, "demographic_parity") == pytest.approx(0.75)
    assert rate_gap(y_true, y_pred, groups, "true_positive_rate_parity") == pytest.approx(1.0)
    assert rate_gap(y_true, y_pred, groups, "false_positive_rate_parity") == pytest.approx(0.5)
    assert rate_gap(y_true, y_pred, groups, "equalized_odds") == pytest.approx(1.0)


def test_small_and_missing_groups_are_pooled(table):
    """Balancing five people would balance noise."""
    frame = table.frame.copy()
    frame.loc[:4, "gender"] = "x"
    frame.loc[5:9, "gender"] = None
    groups = groups_of(replace(table, frame=frame), Mitigation(attribute="gender"))
    assert set(groups) == {"f", "m", REST}
    assert (groups[:10] == REST).all()


def test_an_unknown_attribute_names_those_there_are(table):
    """A typing error is not silently unfair."""
    with pytest.raises(ConfigError, match="these data have: department, gender"):
        groups_of(table, Mitigation(attribute="sex"))


def test_one_group_is_nothing_to_balance(table):
    """Says how many groups are large enough."""
    with pytest.raises(InsufficientData, match="1 groups of 50 rows or more"):
        groups_of(replace(table, frame=table.frame.assign(gender="f")), Mitigation(attribute="gender"))


def test_a_plan_may_ask_for_it_and_without_it_keeps_its_digest():
    """Versions registered before there was mitigation are still found unchanged."""
    plan = SearchPlan.load("default")
    asked = SearchPlan.model_validate(plan.model_dump(mode="json") | {"mitigation": {"attribute": "gender"}})
    assert asked.digest != plan.digest
    assert "mitigation" not in json.dumps(plan.model_dump(mode="json", exclude_none=True))


def test_strangers_are_not_evened_out(table):
    """The pool of small and missing groups gets no cost, however it is flagged."""
    groups = np.where(np.arange(len(table)) % 10 == 0, REST, table.frame["gender"].to_numpy(object))
    start = Multipliers.none("demographic_parity", table.target, groups)
    costs = start.ascend(np.isin(groups, [REST, "f"]), 1.0).costs
    assert costs[REST] == 0.0
    assert costs["f"] > 0 > costs["m"]


def test_one_group_with_the_outcome_is_not_even():
    """There is nothing to compare it with."""
    y_true, groups = np.array([1, 1, 0, 0], np.int8), np.array(["a", "a", "b", "b"], object)
    with pytest.raises(InsufficientData, match="fewer than two groups"):
        rate_gap(y_true, y_true == 1, groups, "true_positive_rate_parity")
