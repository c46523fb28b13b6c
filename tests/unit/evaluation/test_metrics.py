"""Every metric against scikit-learn, and the edges of their intervals."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn import metrics as sk

from attrition.errors import InsufficientData, UsageError
from attrition.evaluation.metrics import METRICS, Confusion, measure


def test_measuring_4000_rows_takes_well_under_two_seconds(holdout):
    """All metrics with 1,000 resamples, in processor time."""
    y, score = holdout(4_000)
    started = time.process_time()
    measure(y, score, 0.4, n_resamples=1_000)
    assert time.process_time() - started < 2


def test_every_metric_has_its_value_inside_its_interval(holdout):
    """All nine, in the order of reports, within the unit interval."""
    y, score = holdout(500)
    found = measure(y, score, 0.4)
    assert tuple(found) == METRICS
    for estimate in found.values():
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_the_interval_narrows_with_rows_and_widens_with_confidence(holdout):
    """Sixteen times the rows give about a quarter of the width."""
    y, score = holdout(8_000)
    few, many = measure(y[:500], score[:500], 0.4), measure(y, score, 0.4)
    sure = measure(y, score, 0.4, confidence=0.99)

    def width(estimate):
        return estimate.high - estimate.low

    for name in METRICS:
        if name != "calibration_error":
            assert 2.5 < width(few[name]) / width(many[name]) < 6
        assert width(sure[name]) > width(many[name])


def test_equal_input_gives_equal_output(holdout):
    """The bootstrap is seeded; another seed moves its limits only."""
    y, score = holdout(300)
    assert measure(y, score, 0.4) == measure(y, score, 0.4)
    other = measure(y, score, 0.4, seed=7)
    assert other["average_precision"] != measure(y, score, 0.4)["average_precision"]
    assert other["auc"] == measure(y, score, 0.4)["auc"]


def test_nobody_flagged_leaves_precision_undefined(holdout):
    """Zero over zero is not zero."""
    y, score = holdout(300)
    found = measure(y, score, 1.0)
    assert not found["precision"].defined
    assert found["recall"].value == 0
    assert found["accuracy"].value == pytest.approx(1 - y.mean())


def test_a_perfect_score_keeps_honest_lower_limits():
    """Ten leavers ranked first prove little more than 0.7."""
    y = np.r_[np.zeros(90), np.ones(10)]
    found = measure(y, y, 0.5)
    for name in ("auc", "average_precision", "recall", "precision", "f1"):
        assert found[name].value == 1
        assert 0.6 < found[name].low < 0.9
    assert found["brier"].value == 0
    assert found["brier"].high > 0


def test_a_single_leaver_is_measured_without_pretence():
    """What needs a variance among leavers says [0, 1]."""
    y = np.r_[np.zeros(30), 1]
    found = measure(y, np.linspace(0, 1, 31), 0.5)
    assert (found["auc"].low, found["auc"].high) == (0.0, 1.0)
    assert (found["average_precision"].low, found["average_precision"].high) == (0.0, 1.0)


def test_average_precision_treats_ties_like_scikit_learn():
    """Equal scores enter together."""
    rng = np.random.default_rng(8)
    y, score = rng.integers(0, 2, 200), rng.integers(0, 5, 200) / 4
    found = measure(y, score, 0.5)["average_precision"]
    assert found.value == pytest.approx(sk.average_precision_score(y, score), abs=1e-12)


def test_faults_are_reported_together(holdout):
    """A score that is no probability and a bootstrap that is none."""
    y, score = holdout(100)
    with pytest.raises(UsageError) as caught:
        measure(y, score * 2, 0.5, n_resamples=10)
    assert len(caught.value.faults) == 2


def test_one_class_is_refused():
    """Metrics of a holdout without leavers would be about nothing."""
    with pytest.raises(InsufficientData):
        measure(np.zeros(50), np.full(50, 0.2), 0.5)


def test_confusion_counts_like_scikit_learn(holdout):
    """Same cells, same names."""
    y, score = holdout(200)
    counts = Confusion.count(y, score >= 0.4)
    assert (counts.tn, counts.fp, counts.fn, counts.tp) == tuple(sk.confusion_matrix(y, score >= 0.4).ravel())
    assert Confusion.from_dict(counts.to_dict()) == counts
