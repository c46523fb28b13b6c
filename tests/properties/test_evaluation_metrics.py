"""Metrics, curves and rates against scikit-learn and fairlearn on random input."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fl
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from attrition.evaluation.fairness import FairnessReport, assess_fairness
from attrition.evaluation.metrics import auc_delong, compare_auc, measure
from attrition.evaluation.reports import Evaluation, evaluate

# few distinct scores make ties likely
rows = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=4, max_size=120)


def columns(pairs):
    y = np.array([label for label, _ in pairs], int)
    assume(0 < y.sum() < len(y))
    return y, np.array([score for _, score in pairs]) / 12


@settings(max_examples=50, deadline=None)
@given(rows, st.integers(0, 13))
def test_every_value_is_scikit_learns(pairs, cut):
    """Values agree to 1e-12 and lie inside their intervals, whatever the threshold and the ties."""
    y, score = columns(pairs)
    threshold = cut / 12
    decided = score >= threshold
    found = measure(y, score, threshold, n_resamples=100)
    expected = {
        "auc": sk.roc_auc_score(y, score),
        "accuracy": sk.accuracy_score(y, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(y, decided),
        "recall": sk.recall_score(y, decided),
        "f1": sk.f1_score(y, decided),
        "average_precision": sk.average_precision_score(y, score),
        "brier": sk.brier_score_loss(y, score),
    }
    if decided.any():
        expected["precision"] = sk.precision_score(y, decided)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
    for name, estimate in found.items():
        if estimate.defined:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1, name


@settings(max_examples=50, deadline=None)
@given(rows)
def test_reversing_a_score_mirrors_the_auc(pairs):
    """The interval of the reversed score is the mirrored interval."""
    y, score = columns(pairs)
    forth, back = auc_delong(y, score), auc_delong(y, -score)
    assert (back.value, back.low, back.high) == pytest.approx(
        (1 - forth.value, 1 - forth.high, 1 - forth.low), abs=1e-9
    )


@settings(max_examples=50, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_the_paired_difference_is_the_difference(pairs, random):
    """Its value is the difference of the AUCs; its sign follows the order of the arguments."""
    y, score = columns(pairs)
    other = np.array(random.sample(list(score), len(score)))
    found, back = compare_auc(y, score, other), compare_auc(y, other, score)
    assert found.value == pytest.approx(sk.roc_auc_score(y, other) - sk.roc_auc_score(y, score), abs=1e-12)
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(rows)
def test_row_order_does_not_matter(pairs):
    """What is computed without chance is equal for any order of the rows."""
    y, score = columns(pairs)
    forth, back = evaluate(y, score, 0.5, n_resamples=100), evaluate(y[::-1], score[::-1], 0.5, n_resamples=100)
    for name in ("auc", "accuracy", "precision", "f1"):
        one, other = forth.metrics[name], back.metrics[name]
        assert one.defined == other.defined, name
        assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-9), name
        assert not one.defined or one.value == pytest.approx(other.value, abs=1e-12), name
    assert (forth.confusion, forth.curves.fpr, forth.curves.tpr) == (back.confusion, back.curves.fpr, back.curves.tpr)


@settings(max_examples=25, deadline=None)
@given(rows, st.integers(1, 4))
def test_stored_and_read_back_is_equal(pairs, n_groups):
    """Evaluations and reports survive JSON without NaN, with undefined figures and all."""
    y, score = columns(pairs)
    groups = pd.DataFrame({"team": [f"t{i % n_groups}" for i in range(len(y))]})
    evaluation = evaluate(y, score, 0.5, groups=groups, n_resamples=100, min_slice_size=2)
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))) == evaluation
    for report in assess_fairness(y, score >= 0.5, groups, min_group_size=2):
        assert FairnessReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(10, 60)), min_size=2, max_size=6))
def test_gaps_are_fairlearns_and_lie_inside_their_limits(groups):
    """Difference and ratio agree with fairlearn for any rates, also none."""
    sizes = [size for _, size in groups]
    selected = [min(k, size) for k, size in groups]
    names = np.repeat([f"g{i}" for i in range(len(groups))], sizes)
    decided = np.concatenate([np.arange(n) < k for n, k in zip(sizes, selected, strict=True)]).astype(int)
    y = np.arange(len(names)) % 2
    report = assess_fairness(y, decided, pd.DataFrame({"team": names}), min_group_size=10)[0]
    assert report.difference.value == pytest.approx(
        fl.demographic_parity_difference(y, decided, sensitive_features=names), abs=1e-12
    )
    assert 0 <= report.difference.low <= report.difference.value <= report.difference.high <= 1
    if decided.any():
        ratio = fl.demographic_parity_ratio(y, decided, sensitive_features=names)
        assert report.ratio.value == pytest.approx(ratio, abs=1e-12)
        assert 0 <= report.ratio.low <= report.ratio.value + 1e-12
        assert report.ratio.value - 1e-12 <= report.ratio.high <= 1
