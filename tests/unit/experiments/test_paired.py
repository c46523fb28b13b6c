"""Pairs: McNemar as statsmodels and SciPy have it, DeLong as a bootstrap has it, and the sequential form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, rankdata

from attrition.experiments.mixtures import log_evidence
from attrition.experiments.paired import delong, mcnemar, paired_evidence, paired_limits
from attrition.experiments.samples import Pairs

# statsmodels 0.15.0, stats.contingency_tables.mcnemar: exact, and chi-square with continuity correction
STATSMODELS = [
    (5, 15, 0.04138946533203125, 0.04417134490844271),
    (3, 0, 0.25, 0.24821307898992026),
    (40, 62, 0.037066767438560584, 0.0375888812610745),
    (150, 120, 0.07738939898021849, 0.07758329748513149),
]


@pytest.mark.parametrize(("worse", "better", "exact", "chi_square"), STATSMODELS)
def test_mcnemar_is_that_of_statsmodels(worse, better, exact, chi_square):
    """Exact and with continuity correction; the exact one is SciPy's binomial test, too."""
    found = mcnemar(worse, better)
    assert found.exact == pytest.approx(exact, rel=1e-12)
    assert found.chi_square == pytest.approx(chi_square, rel=1e-12)
    assert found.exact == pytest.approx(binomtest(worse, worse + better).pvalue, rel=1e-9)


@pytest.mark.parametrize(("worse", "better"), [(5, 15), (7, 7), (0, 3), (300, 290)])
def test_the_mid_p_value_counts_what_was_seen_by_half(worse, better):
    """As Fagerland, Lydersen and Laake define it."""
    n = worse + better
    fewer = min(worse, better)
    expected = min(1.0, 2 * binom.cdf(fewer, n, 0.5)) - binom.pmf(fewer, n, 0.5)
    if worse == better:
        expected = 1 - binom.pmf(fewer, n, 0.5)
    assert mcnemar(worse, better).mid == pytest.approx(expected, rel=1e-9)


def test_without_disagreement_there_is_nothing_to_test():
    """All p-values are 1."""
    found = mcnemar(0, 0)
    assert (found.exact, found.mid, found.chi_square) == (1.0, 1.0, 1.0)
    assert found.to_dict()["p_mid"] == 1.0


def make_pairs(rng, n, quality=0.8, known=True):
    left = (rng.random(n) < 0.2).astype(np.int8)
    control = 1 / (1 + np.exp(-(left * 1.0 + rng.normal(size=n))))
    challenger = 1 / (1 + np.exp(-(left * 1.0 + quality * np.log(control / (1 - control)) + rng.normal(size=n) / 2)))
    if not known:
        left = np.full(n, -1, np.int8)
    return Pairs(control, challenger, control > 0.6, challenger > 0.6, left)


def test_delong_is_the_u_statistic_written_out_and_a_bootstrap():
    """Placements by ranks, their covariance, and the spread of 800 resampled persons."""
    rng = np.random.default_rng(2)
    pairs = make_pairs(rng, 900)
    found = delong(pairs)
    left = pairs.left == 1

    def auc(which, score):
        ranks = rankdata(score[which])
        m = left[which].sum()
        return (ranks[left[which]].sum() - m * (m + 1) / 2) / (m * (len(which) - m))

    everybody = np.arange(len(pairs))
    difference = auc(everybody, pairs.challenger) - auc(everybody, pairs.control)
    assert found.difference.value == pytest.approx(difference, abs=1e-12)
    wins = [
        np.greater.outer(s[left], s[~left]) + 0.5 * np.equal.outer(s[left], s[~left])
        for s in (pairs.control, pairs.challenger)
    ]
    gain = wins[1] - wins[0]
    error = math.sqrt(gain.mean(axis=1).var(ddof=1) / left.sum() + gain.mean(axis=0).var(ddof=1) / (~left).sum())
    assert found.p_value == pytest.approx(math.erfc(abs(difference) / error / math.sqrt(2)), rel=0.05)
    draws = rng.integers(0, len(pairs), (800, len(pairs)))
    spread = np.std([auc(which, pairs.challenger) - auc(which, pairs.control) for which in draws])
    assert error == pytest.approx(spread, rel=0.1)


def test_delong_needs_leavers_and_stayers():
    """Without labels, or with one class, there is no AUC."""
    assert delong(make_pairs(np.random.default_rng(2), 50, known=False)) is None


def test_pairs_keep_their_level_under_peeking():
    """15 looks at 300 experiments in which both versions are equally often wrong."""
    rng = np.random.default_rng(3)
    worse = rng.binomial(60, 0.04, (300, 15))
    better = rng.binomial(60 - worse, 0.04 / 0.96).cumsum(axis=1)
    worse, n = worse.cumsum(axis=1), 60 * np.arange(1, 16)
    found = [paired_evidence(worse, better, n, 0.0, weight=25, side=side) for side in (1, -1)]
    assert np.any(np.maximum(*found) >= math.log(40), axis=1).mean() <= 0.05


def test_the_least_over_the_share_of_disagreement_is_that_of_a_grid():
    """For small and large counts."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        n = int(10 ** rng.uniform(1, 5))
        disagreeing = rng.binomial(n, 10 ** rng.uniform(-2.5, -0.2))
        worse = rng.binomial(disagreeing, rng.uniform(0.1, 0.9))
        delta = float(np.clip((2 * worse - disagreeing) / n + rng.normal() * 3 * math.sqrt(disagreeing) / n, -0.9, 0.9))
        shares = np.geomspace(max(abs(delta), 1e-9), 1, 5_001)
        for side in (-1, 1):
            grid = log_evidence(worse, disagreeing, (1 + delta / shares) / 2, weight=2.5, side=side)
            grid = grid + log_evidence(disagreeing, n, shares, weight=25, side=0)
            found = paired_evidence(worse, disagreeing - worse, n, delta, weight=25, side=side)
            assert found <= grid.min() + 1e-6


def test_pairing_needs_fewer_persons():
    """Of versions that mostly agree, pairs tell a difference that two groups of the same size do not."""
    from attrition.experiments.sequential import rate_limits

    low, high = paired_limits(5, 45, 1_000, weight=50, alpha_low=0.025, alpha_high=0.025)
    assert low < -0.04 < high < 0
    apart = rate_limits(150, 1_000, 110, 1_000, weight=50, alpha_low=0.025, alpha_high=0.025)
    assert apart[1] > 0
