"""Reliability bins and the calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from attrition.evaluation.calibration import calibration_error, reliability_bins


def outcomes(scores, truth, seed=0):
    return np.random.default_rng(seed).random(len(scores)) < truth


def test_bins_hold_equal_mass_and_all_rows():
    """Ten bins of a tenth each, in the order of the score; the means are the rows' own."""
    scores = np.random.default_rng(1).random(1_000)
    labels = outcomes(scores, scores)
    bins = reliability_bins(labels, scores)
    assert bins.n == (100,) * 10
    assert list(bins.predicted) == sorted(bins.predicted)
    assert np.average(bins.observed, weights=bins.n) == pytest.approx(labels.mean())
    assert all(low <= share <= high for low, share, high in zip(bins.low, bins.observed, bins.high, strict=True))


def test_equal_scores_share_a_bin():
    """A score with few distinct values has at most so many bins."""
    scores = np.repeat([0.1, 0.4, 0.8], 200)
    assert reliability_bins(outcomes(scores, scores), scores).n == (200, 200, 200)


def test_few_rows_get_few_bins():
    """Bins below twenty rows would be noise."""
    scores = np.random.default_rng(1).random(60)
    assert len(reliability_bins(outcomes(scores, scores), scores).n) == 3


def test_a_calibrated_score_shows_an_error_near_zero():
    """Where the plug-in ECE reports noise, the corrected value is close to nothing."""
    scores = np.random.default_rng(3).beta(1, 4, 2_000)
    found = [calibration_error(outcomes(scores, scores, seed), scores) for seed in range(40)]
    assert np.median([estimate.value for estimate in found]) < 0.01
    assert np.mean([estimate.low == 0 for estimate in found]) >= 0.9


@pytest.mark.parametrize("shift", [0.05, 0.15, -0.1])
def test_a_shifted_score_shows_its_shift(shift):
    """Everybody's probability off by the same amount is a calibration error of that amount."""
    scores = np.random.default_rng(4).uniform(0.2, 0.8, 20_000)
    found = calibration_error(outcomes(scores, scores + shift), scores)
    assert found.value == pytest.approx(abs(shift), abs=0.01)
    assert found.low <= abs(shift) <= found.high


def test_certain_and_wrong_is_an_error_of_one():
    """The worst case reaches the end of the range and stays inside it."""
    found = calibration_error(np.zeros(100, bool), np.ones(100))
    assert found.value == pytest.approx(1.0, abs=0.005)
    assert found.value <= found.high == 1.0


def test_certain_and_right_is_no_error_but_no_proof_either():
    """A hundred hits leave room for a few errors in a hundred."""
    labels = np.arange(100) >= 50
    found = calibration_error(labels, labels.astype(float))
    assert (found.value, found.low) == pytest.approx((0.0, 0.0), abs=1e-4)
    assert 0 <= found.high < 0.05
