"""Stored scorers keep their meaning, and loading one needs no training library."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attrition.scoring.compile import compile_candidate
from attrition.scoring.linear import LinearScorer
from attrition.scoring.masks import MaskScorer
from attrition.scoring.scorer import load_scorer
from attrition.scoring.trees import TreeScorer

GOLDEN = Path(__file__).with_name("golden")
KINDS = {"linear": LinearScorer, "boosting": MaskScorer, "forest": TreeScorer}


def _golden(name):
    document = json.loads((GOLDEN / f"{name}.json").read_text())
    files = {name: base64.b64decode(data) for name, data in document["files"].items()}
    records = [[np.nan if value is None else value for value in record] for record in document["records"]]
    return files, records, document["probabilities"]


@pytest.mark.parametrize("name", KINDS)
def test_a_scorer_stored_by_an_earlier_version_scores_as_it_did(name):
    """The format is a promise: these files are never regenerated, new ones are added."""
    files, records, probabilities = _golden(name)
    scorer = load_scorer(files)
    assert isinstance(scorer, KINDS[name])
    np.testing.assert_allclose([scorer.score_one(record) for record in records], probabilities, rtol=1e-13)
    np.testing.assert_allclose(scorer.score(np.array(records)), probabilities, rtol=1e-13)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("logistic_regression", {}),
        ("random_forest", {"n_estimators": 5, "min_samples_leaf": 1}),
        ("hist_gradient_boosting", {"max_iter": 5}),
    ],
)
def test_scoring_accepts_any_layout_of_a_matrix_and_leaves_it_as_it_was(fit, family, parameters):
    """Columns of a larger table, read-only and empty ones."""
    candidate = fit(family, parameters)
    scorer = load_scorer(compile_candidate(candidate))
    records = candidate.features.to_numpy(copy=True)
    expected = scorer.score(records)
    fortran = np.asfortranarray(records)
    fortran.flags.writeable = False
    np.testing.assert_array_equal(scorer.score(fortran), expected)
    np.testing.assert_array_equal(scorer.score(records[::2]), expected[::2])
    np.testing.assert_array_equal(records, candidate.features.to_numpy())
    assert scorer.score(np.empty((0, 4))).shape == (0,)
    assert isinstance(scorer.score_one(tuple(records[0].tolist())), float)


def test_split_points_are_the_values_that_the_model_distinguishes(fit):
    """Sorted thresholds of numbers, codes of categories; a linear model has codes only."""
    boosting = load_scorer(compile_candidate(fit("hist_gradient_boosting", {"max_iter": 5})))
    assert all((np.diff(points) > 0).all() for points in boosting.split_points)
    assert set(boosting.split_points[3]) <= {1.0, 2.0, 5.0, 9.0}
    linear = load_scorer(compile_candidate(fit("logistic_regression")))
    assert [len(points) for points in linear.split_points] == [0, 0, 0, 4]


def test_loading_and_scoring_import_no_training_library(fit, tmp_path):
    """A replica pays for numpy and msgspec only."""
    for name, data in compile_candidate(fit("hist_gradient_boosting", {"max_iter": 3}, "isotonic")).items():
        (tmp_path / name).write_bytes(data)
    program = f"""
import sys
from pathlib import Path
from attrition.scoring.scorer import load_scorer
files = {{path.name: path.read_bytes() for path in Path({str(tmp_path)!r}).iterdir()}}
assert 0 <= load_scorer(files).score_one([1.0, 2.0, float("nan"), 5.0]) <= 1
heavy = {{"sklearn", "pandas", "scipy", "mlflow", "ray", "treelite", "pydantic"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
