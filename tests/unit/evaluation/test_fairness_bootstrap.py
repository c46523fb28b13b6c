"""Bootstrap intervals of the gaps between groups, against scipy's bootstrap of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attrition.evaluation.fairness_bootstrap import bootstrap_gaps

COUNTS = [[20, 130, 15, 35], [45, 155, 20, 80], [30, 200, 50, 60]]
RATES = {  # over the codes 0 stayer flagged, 1 stayer, 2 leaver missed, 3 leaver flagged
    "difference": lambda codes, axis: np.isin(codes, [0, 3]).mean(axis=axis),
    "ratio": lambda codes, axis: np.isin(codes, [0, 3]).mean(axis=axis),
    "fpr_difference": lambda codes, axis: (codes == 0).sum(axis=axis) / (codes <= 1).sum(axis=axis),
    "fnr_difference": lambda codes, axis: (codes == 2).sum(axis=axis) / (codes >= 2).sum(axis=axis),
}


def rows(counts):
    return tuple(np.repeat(np.arange(4), row) for row in counts)


@pytest.mark.parametrize("name", RATES)
def test_the_limits_are_those_of_scipy(name):
    """Which draws rows of each group, thousands of times."""

    def gap(*groups, axis=-1):
        rates = np.stack([RATES[name](group, axis) for group in groups])
        smallest, largest = rates.min(axis=0), rates.max(axis=0)
        return smallest / largest if name == "ratio" else largest - smallest

    found = stats.bootstrap(
        rows(COUNTS), gap, vectorized=True, paired=False, method="percentile", n_resamples=4_000, batch=500, rng=3
    ).confidence_interval
    ours = bootstrap_gaps(COUNTS, n_resamples=20_000)[name]
    assert ours.value == pytest.approx(float(gap(*rows(COUNTS))))
    assert (ours.low, ours.high) == pytest.approx((found.low, found.high), abs=0.008)


def test_equal_counts_have_equal_limits_and_another_seed_others():
    """Nothing depends on what was drawn before."""
    assert bootstrap_gaps(COUNTS) == bootstrap_gaps(COUNTS)
    assert bootstrap_gaps(COUNTS, seed=1) != bootstrap_gaps(COUNTS)


def test_more_confidence_is_wider():
    """And the value lies within the limits."""
    for name, wide in bootstrap_gaps(COUNTS, confidence=0.99).items():
        narrow = bootstrap_gaps(COUNTS, confidence=0.8)[name]
        assert wide.low <= narrow.low <= narrow.value <= narrow.high <= wide.high


def test_rates_that_too_few_groups_have_are_absent():
    """No leavers, and nobody selected."""
    found = bootstrap_gaps([[0, 80, 0, 0], [0, 60, 0, 0]])
    assert set(found) == {"difference", "fpr_difference"}
    assert found["difference"].high == 0
