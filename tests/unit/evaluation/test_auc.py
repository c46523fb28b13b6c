"""DeLong's AUC: equality with references, and what happens at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from attrition.errors import InsufficientData, UsageError
from attrition.evaluation.metrics import auc_delong, compare_auc


def sample(n, seed, *, ties=False):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.25).astype(int)
    scores = rng.standard_normal((2, n)) + np.array([[1.2], [0.9]]) * y + 0.5 * rng.standard_normal(n)
    return (y, *np.round(scores, 0 if ties else 9))


def delong_by_pairs(y, score_a, score_b):
    """Difference of the AUCs and its variance from the definition, one pair at a time."""
    placements = []
    for score in (score_a, score_b):
        above = score[y == 1][:, None] - score[y == 0][None, :]
        placements.append((above > 0) + 0.5 * (above == 0))
    difference = placements[1] - placements[0]
    m, n = difference.shape
    return difference.mean(), difference.mean(1).var(ddof=1) / m + difference.mean(0).var(ddof=1) / n


@pytest.mark.parametrize("ties", [False, True])
def test_auc_equals_scikit_learns(ties):
    """The value is scikit-learn's to 1e-12, with and without ties."""
    for seed in range(20):
        y, score, _ = sample(157, seed, ties=ties)
        assert auc_delong(y, score).value == pytest.approx(roc_auc_score(y, score), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_the_paired_variance_is_delongs_by_definition(ties):
    """Midranks give what the quadratic definition gives."""
    y, a, b = sample(400, 3, ties=ties)
    difference, variance = delong_by_pairs(y, a, b)
    found = compare_auc(y, a, b)
    assert found.value == pytest.approx(difference, abs=1e-12)
    # Student's t with some hundred degrees of freedom is within 2 % of the normal quantile
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.02)


def test_the_paired_interval_agrees_with_a_bootstrap_of_persons():
    """The half-width is the bootstrap's standard error times 1.96, within the noise of 600 resamples."""
    y, a, b = sample(600, 5)
    rng = np.random.default_rng(0)
    differences = []
    for _ in range(600):
        rows = rng.integers(0, len(y), len(y))
        differences.append(roc_auc_score(y[rows], b[rows]) - roc_auc_score(y[rows], a[rows]))
    found = compare_auc(y, a, b)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.std(differences), rel=0.12)


def test_comparing_is_antisymmetric_and_zero_for_equal_rankings():
    """Swapping the scores flips the sign; a monotone transformation changes nothing."""
    y, a, b = sample(300, 7)
    forth, back = compare_auc(y, a, b), compare_auc(y, b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))
    same = compare_auc(y, a, np.exp(a))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_pairing_beats_two_separate_intervals():
    """Correlated scores are told apart although their own intervals overlap."""
    y, a, _ = sample(800, 11)
    b = a + 0.3 * y + 0.05 * np.random.default_rng(1).standard_normal(800)
    assert compare_auc(y, a, b).low > 0
    assert auc_delong(y, a).high > auc_delong(y, b).low


@pytest.mark.parametrize(("y", "value"), [([0] * 30 + [1] * 10, 1.0), ([1] * 10 + [0] * 30, 0.0)])
def test_perfect_separation_keeps_an_honest_interval(y, value):
    """Ten disjoint pairs without an error show an AUC beyond 0.69 (exact binomial), not an AUC of exactly 1."""
    found = auc_delong(y, np.arange(40.0))
    assert found.value == value
    assert found.method == "exact binomial of disjoint pairs"
    assert max(found.low, 1 - found.high) == pytest.approx(0.025 ** (1 / 10))
    assert found.low <= value <= found.high


def test_a_constant_score_is_worth_one_half_with_a_wide_interval():
    """All ties: AUC 0.5, and the interval says how little ten leavers can show."""
    found = auc_delong([0] * 30 + [1] * 10, [0.2] * 40)
    assert found.value == 0.5
    assert found.low < 0.2
    assert found.high > 0.8


def test_a_single_leaver_gives_no_interval():
    """One placement has no variance: anything is possible."""
    found = auc_delong([0, 0, 0, 1], [0.1, 0.5, 0.3, 0.4])
    assert found.value == pytest.approx(2 / 3)
    assert (found.low, found.high) == (0.0, 1.0)
    gain = compare_auc([0, 0, 0, 1], [0.1, 0.5, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    assert (gain.low, gain.high) == (-1.0, 1.0)


def test_few_leavers_widen_the_interval():
    """Limits stay inside [0, 1] and are the wider the fewer leavers there are, on average."""
    rng = np.random.default_rng(2)
    widths = []
    for leavers in (3, 12, 100):
        y = np.r_[np.ones(leavers), np.zeros(400)]
        found = [auc_delong(y, rng.standard_normal(len(y)) + 1.5 * y) for _ in range(30)]
        assert all(0 <= estimate.low <= estimate.value <= estimate.high <= 1 for estimate in found)
        widths.append(np.mean([estimate.high - estimate.low for estimate in found]))
    assert widths[0] > 1.5 * widths[1] > 2.5 * widths[2]


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_has_no_auc(y):
    """The AUC of one class does not exist; the message counts, it does not guess."""
    with pytest.raises(InsufficientData, match="leavers and stayers are both needed"):
        auc_delong(y, [0.5] * len(y))


def test_every_fault_of_the_input_is_reported_at_once():
    """Foreign labels and missing scores appear in one message."""
    with pytest.raises(UsageError) as caught:
        auc_delong([0, 1, 2, 1], [0.1, np.nan, np.inf, 0.3])
    assert len(caught.value.faults) == 2
    with pytest.raises(UsageError, match="one label and one score per row"):
        auc_delong([0, 1], [0.1])
