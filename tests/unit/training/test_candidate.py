"""Fitting one configuration."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from attrition.errors import ConfigError, InsufficientData
from attrition.training.candidate import fit_candidate
from attrition.training.threshold import ThresholdObjective, choose_threshold


def test_a_candidate_ranks_and_decides(candidate, table, make_table):
    """Better than chance on persons it has not seen, and by its threshold."""
    unseen = make_table(seed=1)
    score = candidate.score(unseen.features)
    assert roc_auc_score(unseen.target, score) > 0.8
    np.testing.assert_array_equal(candidate.decide(unseen.features), score >= candidate.threshold)
    assert len(candidate.oof_score) == len(table)
    assert ((candidate.oof_score >= 0) & (candidate.oof_score <= 1)).all()


def test_the_threshold_is_the_objective_on_out_of_fold_scores(candidate):
    """And what it reached is recorded."""
    choice = choose_threshold(candidate.oof_true, candidate.oof_score, ThresholdObjective())
    assert candidate.threshold == choice.threshold
    assert candidate.objective["kind"] == "best_accuracy"
    assert candidate.objective["reached"]["recall"] >= 0.5


def test_out_of_fold_scores_are_more_modest_than_scores_in_hindsight(table, lineage):
    """A forest knows its own rows by heart."""
    forest = fit_candidate(table, "random_forest", {"n_estimators": 30}, n_folds=3, lineage=lineage)
    hindsight = roc_auc_score(table.target, forest.score(table.features))
    assert hindsight > 0.97 > roc_auc_score(forest.oof_true, forest.oof_score)


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic", "none"])
@pytest.mark.parametrize("family", ["logistic_regression", "random_forest", "hist_gradient_boosting"])
def test_every_calibration_gives_probabilities(calibration, family, table, lineage):
    """With every kind of raw score; a calibrated mean is near the share of leavers."""
    small = {"random_forest": {"n_estimators": 5}, "hist_gradient_boosting": {"max_iter": 5}}.get(family, {})
    candidate = fit_candidate(table, family, small, n_folds=2, calibration=calibration, lineage=lineage)
    score = candidate.score(table.features)
    assert ((score >= 0) & (score <= 1)).all()
    if calibration != "none":
        assert candidate.oof_score.mean() == pytest.approx(table.target.mean(), abs=0.01)


def test_other_columns_and_their_order_do_not_matter(candidate, table):
    """The schema says what is read."""
    shuffled = table.frame[list(reversed(table.frame.columns))]
    np.testing.assert_array_equal(candidate.score(shuffled), candidate.score(table.features))


@pytest.mark.parametrize("family", ["logistic_regression", "extra_trees", "hist_gradient_boosting"])
def test_the_same_seed_gives_the_same_candidate(family, table, lineage):
    """Scores and threshold, to the last bit, however the folds were scheduled."""
    small = {"extra_trees": {"n_estimators": 9}, "hist_gradient_boosting": {"max_iter": 9}}.get(family, {})
    first, second = (fit_candidate(table, family, small, n_folds=3, lineage=lineage) for _ in range(2))
    np.testing.assert_array_equal(first.oof_score, second.oof_score)
    assert first.threshold == second.threshold


def test_a_candidate_is_small_and_scores_the_same_after_pickling(candidate, table):
    """The folds it was calibrated on are not carried along."""
    content = pickle.dumps(candidate)
    assert len(content) < 20_000 + 12 * len(table)
    np.testing.assert_array_equal(pickle.loads(content).score(table.features), candidate.score(table.features))


def test_unpickling_needs_neither_ray_nor_mlflow(candidate, tmp_path):
    """A candidate is used where training is not installed."""
    path = tmp_path / "candidate.pkl"
    path.write_bytes(pickle.dumps(candidate))
    code = (
        "import pickle, sys, pathlib\npickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(sorted({'ray', 'mlflow', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_person_is_in_one_fold_only(make_table, lineage):
    """Rows of one person do not vouch for each other."""
    table = make_table(200)
    frame = pd.concat([table.frame, table.frame], ignore_index=True)
    twice = type(table)(frame, table.schema)
    forest = fit_candidate(twice, "random_forest", {"n_estimators": 20}, n_folds=3, lineage=lineage)
    np.testing.assert_array_equal(forest.oof_score[:200], forest.oof_score[200:])
    assert roc_auc_score(forest.oof_true, forest.oof_score) < 0.97


@pytest.mark.parametrize(
    ("n_rows", "leavers", "message"),
    [
        (20, 10, "10 persons who left among 20 rows; 3 folds need at least 15"),
        (200, 0, "0 persons who left.*both outcomes must occur"),
        (200, 200, "0 persons who stayed"),
    ],
)
def test_too_few_rows_or_one_class_are_refused(n_rows, leavers, message, make_table, lineage):
    """Before anything is fitted, with the counts."""
    table = make_table(n_rows)
    table.frame["attrition"] = np.r_[np.ones(leavers), np.zeros(n_rows - leavers)].astype(np.int8)
    with pytest.raises(InsufficientData, match=message):
        fit_candidate(table, "logistic_regression", {}, n_folds=3, lineage=lineage)


def test_unknown_outcomes_are_refused(make_table, lineage):
    """Scoring input is not training data."""
    table = make_table(100)
    with pytest.raises(InsufficientData, match="outcomes are unknown"):
        fit_candidate(
            type(table)(table.frame.drop(columns="attrition"), table.schema), "extra_trees", {}, lineage=lineage
        )


def test_unknown_families_and_parameters_are_refused(table, lineage):
    """With what there is."""
    with pytest.raises(ConfigError, match=r"unknown family.*random_forest"):
        fit_candidate(table, "perceptron", {}, lineage=lineage)
    with pytest.raises(ConfigError, match="unknown parameter"):
        fit_candidate(table, "extra_trees", {"trees": 3}, lineage=lineage)


def test_fitting_leaves_no_setting_behind(table, lineage):
    """Whoever uses joblib next finds it as it was."""
    import joblib

    for family, small in (("logistic_regression", {}), ("extra_trees", {"n_estimators": 3})):
        fit_candidate(table, family, small, n_folds=2, lineage=lineage)
        assert joblib.effective_n_jobs(None) == 1
