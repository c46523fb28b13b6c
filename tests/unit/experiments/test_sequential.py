"""Confidence sequences: level and coverage under peeking, agreement with slow definitions, edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attrition.experiments.mixtures import log_evidence
from attrition.experiments.samples import Distribution
from attrition.experiments.sequential import (
    information,
    mean_evidence,
    mean_limits,
    quantile_evidence,
    quantile_limits,
    rate_evidence,
    rate_limits,
)

LIMIT = math.log(2 / 0.05)


def paths(rng, n_paths, n_looks, batch, p0, p1, share=0.5):
    size = rng.binomial(batch, share, (n_paths, n_looks))
    k1, k0 = rng.binomial(size, p1), rng.binomial(batch - size, p0)
    return tuple(np.cumsum(each, axis=1) for each in (k0, batch - size, k1, size))


@pytest.mark.parametrize(
    ("p0", "p1", "batch", "share"), [(0.005, 0.005, 400, 0.5), (0.15, 0.15, 60, 0.1), (0.12, 0.08, 80, 0.5)]
)
def test_the_truth_is_rarely_ever_refuted(p0, p1, batch, share):
    """At any of 20 looks, in less than 5 % of 250 experiments; of errors of half a per cent, too."""
    counts = paths(np.random.default_rng(3), 250, 20, batch, p0, p1, share)
    above, below = (rate_evidence(*counts, p1 - p0, weight=50, side=side) for side in (1, -1))
    missed = np.any(np.maximum(above, below) >= LIMIT, axis=1).mean()
    assert missed <= 0.05
    k0, n0, k1, n1 = counts
    pooled = (k0 + k1) / (n0 + n1)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (k1 / n1 - k0 / n0 - (p1 - p0)) / np.sqrt(pooled * (1 - pooled) * (1 / n0 + 1 / n1))
    assert np.any(np.abs(z) > 1.96, axis=1).mean() > 0.1  # what peeking at a classical test would do


def test_a_difference_is_found():
    """12 against 8 % of 4,000 persons each, nearly always."""
    counts = paths(np.random.default_rng(4), 200, 10, 800, 0.12, 0.08)
    assert np.any(rate_evidence(*counts, 0.0, weight=50, side=-1) >= LIMIT, axis=1).mean() > 0.95


def test_the_least_over_the_nuisance_is_that_of_a_fine_grid():
    """For sizes, rates and differences of all kinds."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        n0, n1 = (int(10 ** rng.uniform(1, 5)) for _ in range(2))
        p0 = 10 ** rng.uniform(-3, -0.05)
        k0, k1 = rng.binomial(n0, p0), rng.binomial(n1, min(p0 * 10 ** rng.uniform(-0.3, 0.3), 0.999))
        error = math.sqrt(p0 * (1 - p0) * (1 / n0 + 1 / n1))
        delta = float(np.clip(k1 / n1 - k0 / n0 + 3 * error * rng.normal(), -0.9, 0.9))
        near = [
            k / n + shift + 8 * error * np.linspace(-1, 1, 1_001) for k, n, shift in ((k0, n0, 0), (k1, n1, -delta))
        ]
        grid = np.clip(np.concatenate([*near, np.linspace(0, 1, 2_001)]), max(0, -delta), min(1, 1 - delta))
        for side in (-1, 1):
            on_grid = log_evidence(k1, n1, grid + delta, weight=50, side=side)
            on_grid = on_grid + log_evidence(k0, n0, grid, weight=50, side=-side)
            assert rate_evidence(k0, n0, k1, n1, delta, weight=50, side=side) <= on_grid.min() + 1e-6


def test_limits_are_where_the_evidence_crosses_its_threshold():
    """So that interval and p-value never contradict each other."""
    counts = (60, 500, 20, 480)
    low, high = rate_limits(*counts, weight=50, alpha_low=0.01, alpha_high=0.025)
    assert rate_evidence(*counts, low, weight=50, side=1) == pytest.approx(math.log(100), abs=1e-5)
    assert rate_evidence(*counts, high, weight=50, side=-1) == pytest.approx(math.log(40), abs=1e-5)
    assert low < 20 / 480 - 60 / 500 < high < 0


def test_without_units_nothing_is_bounded():
    """The interval is everything a difference can be; one variant alone bounds what its own rate bounds."""
    assert rate_limits(0, 0, 0, 0, weight=50, alpha_low=0.025, alpha_high=0.025) == (-1.0, 1.0)
    low, high = rate_limits(5, 5, 0, 0, weight=50, alpha_low=0.025, alpha_high=0.025)
    assert low == -1.0
    assert 0.9 < high < 1.0


def test_no_event_at_all_still_bounds():
    """Zero of 5,000 against zero of 5,000: equal within half a per cent."""
    low, high = rate_limits(0, 5_000, 0, 5_000, weight=125, alpha_low=0.025, alpha_high=0.025)
    assert -0.005 < low < 0 < high < 0.005


def test_exchanging_the_variants_mirrors_the_interval():
    """And levels go with their side."""
    low, high = rate_limits(30, 400, 50, 300, weight=50, alpha_low=0.01, alpha_high=0.02)
    back = rate_limits(50, 300, 30, 400, weight=50, alpha_low=0.02, alpha_high=0.01)
    np.testing.assert_allclose((low, high), (-back[1], -back[0]), atol=1e-9)


def test_a_mean_keeps_its_level_from_a_hundred_units_on():
    """Skewed values, both sides, 40 looks in 500 experiments."""
    rng = np.random.default_rng(6)
    values = rng.lognormal(2.0, 0.6, (2, 500, 4_000))
    looks = np.arange(100, 4_001, 100)
    means = values.cumsum(axis=2)[..., looks - 1] / looks
    squares = (values**2).cumsum(axis=2)[..., looks - 1]
    error = np.sqrt(((squares - looks * means**2) / (looks - 1) / looks).sum(axis=0))
    ratio = information(looks, looks, 25.0)
    low, high = mean_limits(means[1] - means[0], error, ratio, alpha_low=0.025, alpha_high=0.025)
    missed = np.any((low > 0) | (high < 0), axis=1).mean()
    assert missed <= 0.05
    evidence = [mean_evidence(means[1] - means[0], error, ratio, 0.0, side=side) for side in (1, -1)]
    np.testing.assert_array_equal(evidence[0] >= LIMIT, low >= 0)
    np.testing.assert_array_equal(evidence[1] >= LIMIT, high <= 0)


def _uniform(rng, n, edges, shift=0.0):
    return Distribution.of(np.clip(rng.random(n) + shift, 1e-9, edges[-1]), edges)


def test_a_quantile_keeps_its_level():
    """In each of 15 looks, in 150 experiments."""
    rng, edges = np.random.default_rng(7), np.arange(1, 201) / 200
    missed = 0
    for _ in range(150):
        one, other = Distribution.empty(edges), Distribution.empty(edges)
        for _look in range(15):
            one, other = one.with_values(rng.random(80)), other.with_values(rng.random(80))
            found = [quantile_evidence(one, other, 0.95, 0.0, weight=50, side=side) for side in (1, -1)]
            if max(found) >= LIMIT:
                missed += 1
                break
    assert missed <= 0.05 * 150


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_a_shifted_quantile_is_found_and_bounded(quantile):
    """0.1 later, to the width of two cells; the p-value agrees with the interval."""
    rng, edges = np.random.default_rng(8), np.arange(1, 1_301) / 1_000
    one, other = _uniform(rng, 20_000, edges), _uniform(rng, 8_000, edges, shift=0.1)
    low, high = quantile_limits(one, other, quantile, weight=50, alpha_low=0.025, alpha_high=0.025)
    assert 0.05 < low < 0.1 < high < 0.15
    assert quantile_evidence(one, other, quantile, low - 0.004, weight=50, side=1) >= LIMIT
    assert quantile_evidence(one, other, quantile, low + 0.004, weight=50, side=1) < LIMIT
    assert quantile_evidence(one, other, quantile, high + 0.004, weight=50, side=-1) >= LIMIT


def test_a_few_values_bound_no_p99():
    """The interval is open upwards, not wrong."""
    edges = np.arange(1, 11) / 10
    few = Distribution.of(np.full(20, 0.5), edges)
    low, high = quantile_limits(few, few, 0.99, weight=50, alpha_low=0.025, alpha_high=0.025)
    assert (low, high) == (-math.inf, math.inf)
