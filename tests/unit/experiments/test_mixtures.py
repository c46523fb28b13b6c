"""The martingale: its mean is exactly 1, it knows its side, and the least of a product is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from attrition.experiments.mixtures import farthest, least, log_evidence


@pytest.mark.parametrize("side", [-1, 0, 1])
@pytest.mark.parametrize("p", [1e-4, 0.005, 0.3, 0.999])
@pytest.mark.parametrize("n", [1, 7, 400])
def test_its_mean_under_the_null_is_one(side, p, n):
    """Summed over every possible count: what makes it a test that may be looked at at any time."""
    k = np.arange(n + 1)
    total = np.logaddexp.reduce(binom.logpmf(k, n, p) + log_evidence(k, n, p, weight=25, side=side))
    assert total == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("side", [-1, 1])
def test_its_mean_is_at_most_one_for_every_truth_on_the_other_side(side):
    """So a one-sided hypothesis is one hypothesis, not one for each of its points."""
    k, null = np.arange(301), 0.2
    for truth in null - side * np.array([0.01, 0.05, 0.15]):
        growth = binom.logpmf(k, 300, truth) + log_evidence(k, 300, null, weight=25, side=side)
        assert np.logaddexp.reduce(growth) < 0


def test_one_step_is_a_fair_bet():
    """Given any past, the mean after one more trial is the value before it: also when somebody stops at will."""
    p, weight = 0.1, 25.0
    for k, n in ((0, 0), (3, 10), (10, 10), (0, 50)):
        now = log_evidence(k, n, p, weight=weight, side=0)
        after = log_evidence([k, k + 1], n + 1, p, weight=weight, side=0) + np.log([1 - p, p])
        assert np.logaddexp(*after) == pytest.approx(float(now), abs=1e-10)


@pytest.mark.parametrize(("k", "n"), [(80, 1_000), (0, 100), (500, 1_000)])
def test_one_sided_evidence_is_monotone(k, n):
    """The higher the point, the less speaks for a truth above it; to rounding where the posterior underflows."""
    points = np.linspace(0.0005, 0.9995, 2_000)
    for side in (1, -1):
        evidence = log_evidence(k, n, points, weight=25, side=side)[::side]
        assert (evidence - np.minimum.accumulate(evidence)).max() < 0.05
        counts = evidence > -2.8
        assert (np.diff(evidence[counts]) <= 1e-9).all()


def test_it_is_finite_where_chance_makes_it_extreme():
    """Nothing overflows, and a wrong side costs three nats and no more."""
    values = log_evidence([0, 10**6, 5], [10**6, 10**6, 1_000], [0.0, 1.0, 1.0], weight=25, side=1)
    assert np.isfinite(values).all()
    assert log_evidence(0, 10**6, 0.9, weight=25, side=1) == pytest.approx(np.log(0.05))
    assert log_evidence(0, 0, 0.3, weight=25, side=1) == pytest.approx(0.0, abs=1e-12)


def test_the_least_value_and_the_farthest_point():
    """Of functions whose answer is known, many at once."""
    centres = np.array([-0.3, 0.1, 0.9])
    found = least(lambda x: (x - centres) ** 2 + centres, -1.0, 1.0 + 0 * centres)
    np.testing.assert_allclose(found, centres, atol=1e-8)
    np.testing.assert_allclose(farthest(lambda x: x > 0.25, 0.0, [1.0, 0.5]), 0.25, atol=1e-10)
    assert farthest(lambda x: x > 2, 0.0, 1.0) == 1.0
