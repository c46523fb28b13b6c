"""The proof finds what is different."""

from __future__ import annotations

import json

import numpy as np
import pytest

from attrition.errors import ParityError
from attrition.scoring.compile import compile_candidate
from attrition.scoring.parity import Parity, edge_records, prove_equal
from attrition.scoring.scorer import load_scorer


def _changed(files, change):
    document = json.loads(files["scorer.json"])
    change(document)
    return {**files, "scorer.json": json.dumps(document).encode()}


def test_a_weight_that_is_slightly_off_is_found(fit):
    """By a millionth."""
    candidate = fit("logistic_regression")

    def change(document):
        document["numeric"][1]["weight"] *= 1 + 1e-6

    with pytest.raises(ParityError, match="differ from the pipeline"):
        prove_equal(_changed(compile_candidate(candidate), change), candidate, candidate.features)


@pytest.mark.parametrize("part", ["missing", "unknown"])
def test_a_wrong_rule_for_missing_or_unseen_values_is_found_though_no_observed_row_has_one(fit, part):
    """Edge records have them."""
    candidate = fit("logistic_regression", missing=0.0)

    def change(document):
        document["tables"][0][part] += 0.5

    with pytest.raises(ParityError):
        prove_equal(_changed(compile_candidate(candidate), change), candidate, candidate.features)


def test_a_threshold_moved_by_one_floating_point_number_is_found(fit):
    """Edge records lie on both sides of every split."""
    candidate = fit("hist_gradient_boosting", {"max_iter": 1, "max_leaf_nodes": 2})
    files = compile_candidate(candidate)
    data = bytearray(files["trees.bin"])
    threshold = np.frombuffer(data, "<f8", 1)[0]
    data[:8] = np.nextafter(threshold, np.inf).tobytes()
    with pytest.raises(ParityError):
        prove_equal({**files, "trees.bin": bytes(data)}, candidate, candidate.features)


def test_the_tolerance_can_be_given(fit):
    """A difference within it passes and is reported."""
    candidate = fit("logistic_regression")

    def change(document):
        document["intercept"] += 1e-5

    files = _changed(compile_candidate(candidate), change)
    parity = prove_equal(files, candidate, candidate.features, tolerance=1e-4)
    assert 1e-7 < parity.max_difference < 1e-5
    assert "allowed 1e-04" in str(parity)
    assert Parity.from_dict(parity.to_dict()) == parity


def test_other_features_are_refused(fit):
    """Before any score is compared."""
    candidate = fit("logistic_regression")

    def change(document):
        document["features"][0] = "age"

    with pytest.raises(ParityError, match="age"):
        prove_equal(_changed(compile_candidate(candidate), change), candidate, candidate.features)


def test_a_scorer_whose_single_records_differ_from_its_batches_is_refused(fit, monkeypatch):
    """Online and batch scoring must not disagree."""
    candidate = fit("logistic_regression")
    monkeypatch.setattr("attrition.scoring.linear.LinearScorer.score_one", lambda *_: 0.5)
    with pytest.raises(ParityError, match="batch scoring"):
        prove_equal(compile_candidate(candidate), candidate, candidate.features)


def test_edge_records_change_one_feature_each_and_end_with_nothing_known(fit):
    """So that a difference can be traced to a feature."""
    candidate = fit("hist_gradient_boosting", {"max_iter": 3})
    scorer = load_scorer(compile_candidate(candidate))
    observed = candidate.features.to_numpy()[:50]
    edges = edge_records(scorer, observed, [3])
    assert np.isnan(edges[-1]).all()
    for feature in range(4):
        assert np.isnan(edges[:, feature]).sum() > 1
        for point in scorer.split_points[feature]:
            assert {point, np.nextafter(point, -np.inf), np.nextafter(point, np.inf)} <= set(edges[:, feature])


def test_a_large_table_is_sampled_evenly(fit):
    """Two thousand rows are enough, from the first to the last."""
    candidate = fit("logistic_regression")
    many = candidate.features.sample(5000, replace=True, random_state=0)
    parity = prove_equal(compile_candidate(candidate), candidate, many)
    assert 2000 < parity.n_rows < 2300


def test_an_ensemble_read_back_is_the_one_that_was_written(fit):
    """Save, load, score: identical."""
    candidate = fit("extra_trees", {"n_estimators": 4})
    files = compile_candidate(candidate)
    first, second = load_scorer(files), load_scorer({name: bytes(data) for name, data in files.items()})
    records = candidate.features.to_numpy()
    np.testing.assert_array_equal(first.score(records), second.score(records))
