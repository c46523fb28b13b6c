"""Interval estimates of proportions, their functions, and quantiles."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from attrition.errors import UsageError
from attrition.evaluation.intervals import (
    Estimate,
    difference_limits,
    exact_proportion_limits,
    mean_of_proportions,
    normal_quantile,
    proportion,
    quantile_estimate,
    ratio_limits,
    wilson_limits,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (1, 10), (5, 10), (10, 10), (37, 400), (0, 1), (1, 1)])
def test_a_proportion_has_scipys_wilson_interval(successes, trials):
    """Wilson's limits equal those of scipy's binomial test."""
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, "wilson")
    found = proportion(successes, trials)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (4, 10), (10, 10)])
def test_exact_limits_are_scipys(successes, trials):
    """Clopper-Pearson limits equal those of scipy's binomial test."""
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, "exact")
    assert exact_proportion_limits(successes / trials, trials, 0.95) == pytest.approx((expected.low, expected.high))


def test_a_proportion_of_nothing_is_undefined_and_unbounded():
    """Without trials there is no value, and every value is possible."""
    found = proportion(0, 0)
    assert not found.defined
    assert (found.low, found.high) == (0.0, 1.0)
    assert str(found) == "undefined [0.000, 1.000]"


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95])
def test_a_confidence_outside_zero_and_one_is_refused(confidence):
    """A confidence given in percent is a mistake, not a wide interval."""
    with pytest.raises(UsageError, match="between 0 and 1"):
        normal_quantile(confidence)


def test_an_estimate_survives_json_even_when_undefined():
    """NaN becomes null and comes back as NaN."""
    estimate = Estimate(math.nan, 0.0, 1.0, 3, method="one class")
    document = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
    assert document["value"] is None
    assert Estimate.from_dict(document) == estimate


def test_the_difference_interval_is_newcombes():
    """Newcombe (1998), table II, method 10: 56/70 minus 48/80 has limits 0.0524 and 0.3339."""
    z = normal_quantile(0.95)
    low, high = difference_limits(wilson_limits(56, 70, z), wilson_limits(48, 80, z))
    assert (float(low), float(high)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_the_ratio_interval_contains_its_ratio_and_stays_finite_unless_the_divisor_may_be_zero():
    """The low limit never divides by zero; the high one is infinite only above a possible zero."""
    z = normal_quantile(0.95)
    counts, size = np.arange(0, 31), np.full(31, 30)
    for k in counts:
        low, high = ratio_limits(wilson_limits(counts, size, z), wilson_limits(np.full(31, k), size, z))
        assert np.isfinite(low).all()
        assert np.isfinite(high).all() == (k > 0)
        if k:
            assert (low <= counts / k + 1e-12).all()
            assert (counts / k <= high + 1e-12).all()


def test_swapping_the_groups_inverts_the_ratio_interval():
    """The limits of a/b are the inverse limits of b/a."""
    z = normal_quantile(0.95)
    a, b = wilson_limits(20, 60, z), wilson_limits(35, 80, z)
    low, high = ratio_limits(a, b)
    inverse_low, inverse_high = ratio_limits(b, a)
    assert (float(low), float(high)) == pytest.approx((1 / float(inverse_high), 1 / float(inverse_low)))


def test_the_mean_of_two_proportions_is_undefined_when_one_is():
    """Balanced accuracy does not exist without one of the classes."""
    assert not mean_of_proportions(proportion(3, 4), proportion(0, 0)).defined
    both = mean_of_proportions(proportion(3, 4), proportion(9, 10))
    assert both.value == pytest.approx(0.825)
    assert 0 <= both.low < both.value < both.high <= 1


def test_a_quantile_is_an_order_statistic_with_its_binomial_interval():
    """The limits of the median of 1..100 are the ranks that the binomial distribution gives."""
    found = quantile_estimate(np.arange(1.0, 101.0), 0.5)
    assert (found.low, found.value, found.high) == (40.0, 50.0, 61.0)
    covered = stats.binom.cdf(60, 100, 0.5) - stats.binom.cdf(39, 100, 0.5)
    assert covered >= 0.95


def test_too_few_values_for_an_extreme_quantile_are_refused():
    """p99 cannot be bounded from above by 100 values; the message says how many it takes."""
    with pytest.raises(UsageError, match="at least 368"):
        quantile_estimate(np.arange(100.0), 0.99)
    assert math.isfinite(quantile_estimate(np.arange(368.0), 0.99).high)
