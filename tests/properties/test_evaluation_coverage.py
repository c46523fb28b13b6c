"""Simulated truth: how often intervals contain it, and how often a fair model is called unfair.

The bounds allow for the noise of the simulation: at 300 replications a coverage of 0.95 has a standard error of 0.013.
The slow versions repeat it more often, for more sizes and shapes, with tighter bounds.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from attrition.evaluation.calibration import calibration_error
from attrition.evaluation.fairness import gaps
from attrition.evaluation.fairness_bootstrap import bootstrap_gaps
from attrition.evaluation.intervals import quantile_estimate
from attrition.evaluation.metrics import METRICS, compare_auc, measure

THRESHOLD = 0.4


def population(n, slope, rng):
    """Outcomes and scores of people; a slope of 1 is calibrated, below 1 over-confident."""
    risk = -2 + 2 * rng.standard_normal(n)
    return (rng.random(n) < 1 / (1 + np.exp(-slope * risk))).astype(int), 1 / (1 + np.exp(-risk))


def true_metrics(slope):
    """Metrics of a population so large that their noise does not matter."""
    y, score = population(1_000_000, slope, np.random.default_rng(99))
    decided = score >= THRESHOLD
    order = np.argsort(score)
    gap = [abs(part.mean()) for part in np.array_split((y - score)[order], 10)]
    return {
        "auc": sk.roc_auc_score(y, score),
        "accuracy": sk.accuracy_score(y, decided),
        "balanced_accuracy": sk.balanced_accuracy_score(y, decided),
        "precision": sk.precision_score(y, decided),
        "recall": sk.recall_score(y, decided),
        "f1": sk.f1_score(y, decided),
        "average_precision": sk.average_precision_score(y, score),
        "brier": sk.brier_score_loss(y, score),
        "calibration_error": np.mean(gap),
    }


def metric_coverage(n_rows, slope, replications, seed=0):
    """Share of replications whose interval contains the truth, per metric."""
    truth, rng, hits = true_metrics(slope), np.random.default_rng(seed), dict.fromkeys(METRICS, 0)
    for replication in range(replications):
        y, score = population(n_rows, slope, rng)
        for name, estimate in measure(y, score, THRESHOLD, n_resamples=200, seed=replication).items():
            hits[name] += estimate.low <= truth[name] <= estimate.high
    return {name: count / replications for name, count in hits.items()}


def test_intervals_of_every_metric_contain_the_truth():
    """A holdout of 300 rows: nine metrics near 95 %."""
    coverage = metric_coverage(300, 0.8, 300)
    assert min(coverage.values()) > 0.91, coverage


@pytest.mark.slow
@pytest.mark.parametrize("slope", [1.0, 0.7])
@pytest.mark.parametrize("n_rows", [80, 400, 3_000])
def test_intervals_of_every_metric_contain_the_truth_at_many_sizes(n_rows, slope):
    """From a slice of 80 rows to a holdout, calibrated and not."""
    coverage = metric_coverage(n_rows, slope, 1_500, seed=1)
    assert min(coverage.values()) > 0.925, coverage


def paired_coverage(n_rows, replications):
    """Coverage of the paired AUC difference; scores are normal, so that the truth is known in closed form."""
    rng, hits = np.random.default_rng(3), 0
    # classes one apart in signal 1.0 and 1.3; the shared part makes the scores alike
    truth = stats.norm.cdf(1.3 / np.sqrt(4)) - stats.norm.cdf(1.0 / np.sqrt(4))
    for _ in range(replications):
        y = np.arange(n_rows) < n_rows // 5
        shared, own = rng.standard_normal(n_rows), rng.standard_normal((2, n_rows))
        found = compare_auc(y, 1.0 * y + shared + own[0], 1.3 * y + shared + own[1])
        hits += found.low <= truth <= found.high
    return hits / replications


def test_the_paired_difference_contains_the_truth():
    """60 leavers among 300."""
    assert paired_coverage(300, 600) > 0.925


@pytest.mark.slow
@pytest.mark.parametrize("n_rows", [60, 1_000])
def test_the_paired_difference_contains_the_truth_at_many_sizes(n_rows):
    """12 leavers, and 200."""
    assert 0.935 < paired_coverage(n_rows, 4_000) < 0.97


@pytest.mark.parametrize(
    "truth",
    [
        pytest.param(lambda s: s, id="calibrated"),
        pytest.param(lambda s: s + 0.03, id="spread over all bins"),
        pytest.param(lambda s: np.where(s > 0.369, s - 0.3, s), id="concentrated in one bin"),
    ],
)
def test_the_calibration_error_contains_the_truth_for_any_pattern(truth):
    """Where the error sits must not matter, as the data cannot tell it well."""
    rng = np.random.default_rng(5)
    many = np.sort(rng.beta(1, 4, 1_000_000))
    error = np.mean([abs(part.mean()) for part in np.array_split(truth(many) - many, 10)])
    hits = 0
    for _ in range(200):
        score = rng.beta(1, 4, 2_000)
        found = calibration_error(rng.random(2_000) < truth(score), score)
        hits += found.low <= error + 1e-6 and error <= found.high
    assert hits / 200 > 0.92


def fairness_shares(rates, sizes, replications, seed=0):
    """Shares of replications: gap wholly beyond 0.1, within it; ratio wholly below 0.8, above it."""
    rng, counts = np.random.default_rng(seed), np.zeros(4)
    for _ in range(replications):
        difference, ratio = gaps(rng.binomial(sizes, rates), sizes, 0.95)
        counts += [difference.low > 0.1, difference.high <= 0.1, ratio.high < 0.8, ratio.low >= 0.8]
    return counts / replications


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("sizes", [[50] * 2, [60] * 10, [1_500, 800, 300, 120, 60, 50], [2_000] * 6])
def test_equal_treatment_is_seldom_called_unfair(sizes, rate):
    """Ten small departments with equal rates differ by chance; the gate fails them in at most 5 % of the cases."""
    unfair_difference, _, unfair_ratio, _ = fairness_shares([rate] * len(sizes), np.array(sizes), 1_000)
    assert unfair_difference <= 0.05
    assert unfair_ratio <= 0.05


@pytest.mark.parametrize("n_groups", [2, 5, 10])
def test_on_the_threshold_neither_outcome_is_claimed_too_often(n_groups):
    """True gap exactly 0.1, or true ratio exactly 0.8: FAIL and PASS are both mistakes, each below 5 %."""
    sizes = np.full(n_groups, 800)
    half = n_groups // 2
    fail, passed, _, _ = fairness_shares([0.25] * half + [0.35] * (n_groups - half), sizes, 1_000)
    assert max(fail, passed) <= 0.05
    _, _, fail, passed = fairness_shares([0.4] * half + [0.5] * (n_groups - half), sizes, 1_000)
    assert max(fail, passed) <= 0.05


def gap_coverage(rates, sizes, replications, seed=7):
    """How often limits contain the true difference of selection rates: those of the gates, those of the bootstrap."""
    rng, hits = np.random.default_rng(seed), np.zeros(2)
    truth, sizes = max(rates) - min(rates), np.array(sizes)
    for replication in range(replications):
        selected = rng.binomial(sizes, rates)
        difference, _ = gaps(selected, sizes, 0.95)
        counts = np.stack([selected, sizes - selected, 0 * sizes, 0 * sizes], axis=1)
        drawn = bootstrap_gaps(counts, n_resamples=400, seed=replication)["fpr_difference"]
        hits += [found.low <= truth <= found.high for found in (difference, drawn)]
    return hits / replications


@pytest.mark.parametrize("sizes", [[200] * 2, [200] * 6, [60] * 10, [1_500, 300, 60, 50]])
def test_why_gates_do_not_decide_by_the_bootstrap_of_a_gap(sizes):
    """Where nothing is unfair it claims a gap, the surer the more groups there are; the pairs' limits hold."""
    ours, bootstrap = gap_coverage([0.2] * len(sizes), sizes, 300)
    assert ours > 0.9
    assert bootstrap < ours - 0.2
    assert bootstrap < 0.05 or len(sizes) < 6


def test_a_wide_gap_is_contained_by_both():
    """Two groups far apart have no bias: the bootstrap is as good as it is elsewhere, and the limits agree."""
    ours, bootstrap = gap_coverage([0.2, 0.4], [400, 400], 600)
    assert min(ours, bootstrap) > 0.92


def test_unequal_treatment_is_found():
    """Twice the rate in groups of a few hundred is not missed."""
    fail_difference, _, fail_ratio, _ = fairness_shares([0.2, 0.4, 0.2], np.array([400, 400, 400]), 300)
    assert fail_difference > 0.8
    assert fail_ratio > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("n_groups", [2, 3, 6, 12])
@pytest.mark.parametrize("size", [50, 200, 1_000])
def test_equal_treatment_is_seldom_called_unfair_at_many_sizes(size, n_groups, rate):
    """The promise of at most 5 %, over the range of holdouts."""
    difference, _, ratio, _ = fairness_shares([rate] * n_groups, np.full(n_groups, size), 10_000)
    assert max(difference, ratio) <= 0.05


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_a_latency_quantile_contains_the_truth(quantile):
    """Skewed times, as latencies are."""
    rng, truth = np.random.default_rng(4), np.exp(stats.norm.ppf(quantile))
    hits = [quantile_estimate(rng.lognormal(size=600), quantile) for _ in range(500)]
    assert np.mean([found.low <= truth <= found.high for found in hits]) > 0.93
