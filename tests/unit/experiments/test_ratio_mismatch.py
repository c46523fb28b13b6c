"""Sample-ratio mismatch: level at every look, power, SciPy's chi-square, bad shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chisquare, multinomial

from attrition.errors import UsageError
from attrition.experiments.ratio_mismatch import check_ratio, ratio_evidence


def test_the_bayes_factor_has_mean_one():
    """Over every possible count of 60 persons in two and in three versions."""
    shares = np.array([0.7, 0.3])
    counts = np.array([[k, 60 - k] for k in range(61)])
    growth = multinomial.logpmf(counts, 60, shares) + ratio_evidence(counts, shares)
    assert np.logaddexp.reduce(growth) == pytest.approx(0.0, abs=1e-9)
    shares = np.array([0.5, 0.3, 0.2])
    counts = np.array([[i, j, 12 - i - j] for i in range(13) for j in range(13 - i)])
    growth = multinomial.logpmf(counts, 12, shares) + ratio_evidence(counts, shares)
    assert np.logaddexp.reduce(growth) == pytest.approx(0.0, abs=1e-9)


def test_a_sound_split_is_rarely_ever_called_mismatched():
    """2,000 splits of 95:5, 100 looks each, at 1 %; chi-square at 1 % errs far more often."""
    rng, shares = np.random.default_rng(1), np.array([0.95, 0.05])
    counts = rng.multinomial(100, shares, (2_000, 100)).cumsum(axis=1)
    assert np.any(ratio_evidence(counts, shares) >= math.log(100), axis=1).mean() <= 0.01
    n = counts.sum(axis=-1, keepdims=True)
    statistic = ((counts - n * shares) ** 2 / (n * shares)).sum(axis=-1)
    assert np.any(statistic > 6.635, axis=1).mean() > 0.04


def test_a_leak_is_found():
    """A challenger that loses a tenth of its people."""
    found = check_ratio({"1.0.0": 5_000, "1.1.0": 4_500}, {"1.0.0": 0.5, "1.1.0": 0.5})
    assert found.mismatch
    assert "MISMATCH" in str(found)
    assert found.p_chi_square == pytest.approx(chisquare([5_000, 4_500]).pvalue, rel=1e-9)


def test_nobody_yet_is_no_mismatch():
    """And a version that nobody met counts with zero."""
    assert not check_ratio({}, {"1.0.0": 0.9, "1.1.0": 0.1}).mismatch
    assert check_ratio({"1.0.0": 900}, {"1.0.0": 0.9, "1.1.0": 0.1}).mismatch


@pytest.mark.parametrize("shares", [{"a": 0.5, "b": 0.6}, {"a": 1.0, "b": 0.0}, {}])
def test_shares_must_add_up(shares):
    """To 1, each above 0."""
    with pytest.raises(UsageError, match="each above 0, together 1"):
        check_ratio({"a": 1}, shares)
