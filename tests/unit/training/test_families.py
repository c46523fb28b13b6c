"""Model families."""

from __future__ import annotations

import numpy as np
import pytest

from attrition.data.schema import FeatureSchema
from attrition.errors import ConfigError
from attrition.training.baseline import BASELINE
from attrition.training.families import FAMILIES

SMALL = {
    "logistic_regression": {"C": 0.5, "class_weight": "balanced"},
    "random_forest": {"n_estimators": 5},
    "extra_trees": {"n_estimators": 5, "max_depth": None},
    "hist_gradient_boosting": {"max_iter": 5},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_learns_with_missing_values(name, table):
    """Missing numbers and categories need no repair before the pipeline."""
    pipeline = FAMILIES[name].build(table.schema, SMALL[name], seed=1)
    pipeline.fit(table.features, table.target)
    score = pipeline.predict_proba(table.features)[:, 1]
    assert np.isfinite(score).all()
    assert score[table.target == 1].mean() > score[table.target == 0].mean() + 0.1
    assert list(pipeline.named_steps) == ["prepare", "model"]
    assert [name for name, _, _ in pipeline["prepare"].transformers_] == ["numeric", "category"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_seed_gives_the_same_model(name, table):
    """To the last bit."""
    first, second = (
        FAMILIES[name].build(table.schema, SMALL[name], seed=7).fit(table.features, table.target) for _ in range(2)
    )
    np.testing.assert_array_equal(first.predict_proba(table.features), second.predict_proba(table.features))


@pytest.mark.parametrize("name", FAMILIES)
def test_an_unseen_category_is_scored(name, table):
    """It has no column of its own, so all codes that training did not see score alike."""
    pipeline = FAMILIES[name].build(table.schema, SMALL[name], seed=1).fit(table.features, table.target)
    rows = table.features.iloc[[0, 0]].copy()
    rows["department_code"] = [77.0, 99.0]
    score = pipeline.predict_proba(rows)[:, 1]
    assert score[0] == score[1]


@pytest.mark.parametrize("columns", [("department_code",), ("tenure", "satisfaction_score", "promotion_flag")])
def test_a_schema_of_one_kind_only_is_fine(columns, table):
    """No empty transformer gets in the way."""
    schema = table.schema.without(*columns)
    pipeline = FAMILIES["logistic_regression"].build(schema, {}, seed=1)
    pipeline.fit(table.features[list(schema.names)], table.target)
    assert len(pipeline["prepare"].transformers_) == 1


def test_a_column_without_values_keeps_its_place():
    """Positions after the preparation do not depend on the data."""
    schema = FeatureSchema.default().without("department_code")
    pipeline = FAMILIES["logistic_regression"].build(schema, {}, seed=1)
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(40, len(schema.names)))
    matrix[:, 0] = np.nan
    import pandas as pd

    pipeline["prepare"].fit(pd.DataFrame(matrix, columns=list(schema.names)))
    assert len(pipeline["prepare"].named_transformers_["numeric"]["impute"].statistics_) == len(schema.names)


def test_every_fault_of_a_configuration_is_named():
    """Unknown names and bad values in one message, with what is allowed."""
    with pytest.raises(ConfigError) as caught:
        FAMILIES["random_forest"].validate({"n_tree": 5, "n_estimators": 0, "criterion": "entropie"})
    assert len(caught.value.faults) == 3
    message = str(caught.value)
    assert "random_forest.n_tree: unknown parameter" in message
    assert "whole numbers from 1 to 2000" in message
    assert '"gini", "entropy", "log_loss"' in message


@pytest.mark.parametrize(
    ("family", "parameters", "valid"),
    [
        ("random_forest", {"max_depth": None}, True),
        ("random_forest", {"max_depth": 3}, True),
        ("random_forest", {"max_depth": 2.5}, False),
        ("random_forest", {"max_features": "sqrt"}, True),
        ("random_forest", {"max_features": 1.5}, False),
        ("random_forest", {"bootstrap": True}, True),
        ("random_forest", {"n_estimators": True}, False),
        ("random_forest", {"n_estimators": None}, False),
        ("logistic_regression", {"C": float("nan")}, False),
        ("logistic_regression", {"C": float("inf")}, False),
        ("hist_gradient_boosting", {"max_bins": 256}, False),
    ],
)
def test_values_are_checked(family, parameters, valid):
    """Ranges, whole numbers, choices and None."""
    assert (not FAMILIES[family].faults(parameters)) is valid


def test_the_baseline_is_a_balanced_logistic_regression():
    """As promised in the documentation."""
    family, parameters = BASELINE
    FAMILIES[family].validate(parameters)
    assert parameters["class_weight"] == "balanced"
    assert parameters["max_iter"] == 1000
