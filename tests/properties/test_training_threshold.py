"""The threshold against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from attrition.training.threshold import ThresholdObjective, choose_threshold

OBJECTIVES = st.one_of(
    st.builds(
        ThresholdObjective,
        kind=st.sampled_from(["best_accuracy", "max_f1", "max_balanced_accuracy"]),
        min_recall=st.floats(0, 1),
    ),
    st.builds(
        ThresholdObjective,
        kind=st.just("min_cost"),
        min_recall=st.floats(0, 1),
        false_negative_cost=st.floats(0.1, 20),
    ),
    st.builds(ThresholdObjective, kind=st.just("top_share"), share=st.floats(0.01, 0.99)),
)
ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda k: k / 20)), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(y for y, _ in rows) < len(rows)
)


def value(y, called, objective):
    """The objective by definition."""
    match objective.kind:
        case "best_accuracy":
            return (called == y).mean()
        case "max_f1":
            return f1_score(y, called)
        case "max_balanced_accuracy":
            return balanced_accuracy_score(y, called)
        case "min_cost":
            fp, fn = (called & (y == 0)).sum(), (~called & (y == 1)).sum()
            return -(fp + objective.false_negative_cost * fn) / len(y)
        case "top_share":
            return -abs(called.mean() - objective.share)


@settings(max_examples=60, deadline=None)
@given(ROWS, OBJECTIVES)
def test_no_other_threshold_is_better(rows, objective):
    """Every cut that calls somebody is tried."""
    y, score = (np.array(column) for column in zip(*rows, strict=True))
    choice = choose_threshold(y, score, objective)
    called = score >= choice.threshold
    assert 0 <= choice.threshold <= 1
    assert value(y, called, objective) == pytest.approx(choice.value)
    constrained = objective.kind != "top_share"
    recall = called[y == 1].mean()
    assert not constrained or recall >= objective.min_recall - 1e-9
    for cut in np.unique(score):
        other = score >= cut
        if constrained and other[y == 1].mean() < objective.min_recall - 1e-9:
            continue
        assert value(y, other, objective) <= choice.value + 1e-9
        if value(y, other, objective) >= choice.value:
            # equally good cuts that call more people do not exist
            assert other.sum() <= called.sum()


@settings(max_examples=30, deadline=None)
@given(ROWS, OBJECTIVES, st.randoms(use_true_random=False))
def test_row_order_does_not_matter(rows, objective, random):
    """Ties included."""
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert choose_threshold(*zip(*rows, strict=True), objective) == choose_threshold(
        *zip(*shuffled, strict=True), objective
    )
