"""Estimates without outcomes: what they equal, how often their band holds, and what they cannot see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from attrition.errors import InsufficientData, UsageError
from attrition.evaluation.intervals import Estimate
from attrition.monitoring.estimation import (
    ESTIMATED,
    METHOD,
    Recalibration,
    estimate_performance,
    fit_recalibration,
    reconcile,
)
from attrition.monitoring.performance import realised

IDENTITY = Recalibration((1.0, 1.0, 0.0), tuple(map(tuple, (np.eye(3) * 1e-12).tolist())), 1_000)


def expit(x):
    return 1 / (1 + np.exp(-x))


def sample(rng, n, *, centre=-1.5, spread=1.5, slope=1.0, shift=0.0):
    """Logits of served scores, and outcomes whose dependence on them is (slope, shift); (1, 0) is calibrated."""
    logit = rng.normal(centre, spread, n)
    return expit(logit), rng.random(n) < expit(slope * logit + shift)


def coverage(rng, n_windows, *, reference, window, n=800, n_reference=4_000, n_simulations=300):
    """Share of windows in which the realised metric falls into its band, per metric."""
    hits = dict.fromkeys(ESTIMATED, 0)
    for seed in range(n_windows):  # one seed for all would give every band the same error of simulation
        score, left = sample(rng, n_reference, **reference)
        recalibration = fit_recalibration(left, score)
        score, left = sample(rng, n, **window)
        flagged = score >= 0.4
        estimated = estimate_performance(score, flagged, recalibration, n_simulations=n_simulations, seed=seed)
        for item in reconcile(estimated.metrics, realised(left, score, flagged, 0.95)):
            hits[item.metric] += bool(item.is_within)
    return {name: count / n_windows for name, count in hits.items()}


def test_expected_confusion_by_hand():
    """Two flagged with 0.9 and 0.6, two not with 0.3 and 0.1: expectations add up."""
    found = estimate_performance([0.1, 0.3, 0.6, 0.9], [0, 0, 1, 1], IDENTITY).metrics
    tp, fp, fn, tn = 1.5, 0.5, 0.4, 1.6
    expected = {
        "accuracy": (tp + tn) / 4,
        "precision": tp / 2,
        "recall": tp / (tp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
        "fpr": fp / (fp + tn),
        "fnr": fn / (fn + tp),
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected, abs=1e-9)
    assert all(estimate.method == METHOD for estimate in found.values())


def test_expected_auc_is_the_weighted_one():
    """Each person counts as a leaver with p and as a stayer with 1 - p; ties count one half."""
    score = np.round(np.random.default_rng(1).uniform(0.02, 0.98, 300), 2)
    weighted = roc_auc_score(
        np.r_[np.ones(300), np.zeros(300)], np.r_[score, score], sample_weight=np.r_[score, 1 - score]
    )
    assert estimate_performance(score, score > 0.5, IDENTITY).metrics["auc"].value == pytest.approx(weighted, abs=1e-9)


def test_recalibration_finds_the_dependence():
    """Overconfident scores are corrected; the error lies within what the covariance says."""
    rng = np.random.default_rng(2)
    score, left = sample(rng, 60_000, slope=0.5, shift=-0.3)
    fitted = fit_recalibration(left, score)
    deviation = np.sqrt(np.diag(fitted.covariance))
    assert np.all(np.abs(np.array(fitted.parameters) - [0.5, 0.5, -0.3]) < 4 * deviation)
    grid = np.array([0.05, 0.2, 0.5, 0.8])
    np.testing.assert_allclose(fitted(grid), expit(0.5 * np.log(grid / (1 - grid)) - 0.3), atol=0.02)


def test_scores_of_zero_and_one():
    """A sure model, right or wrong, gives finite probabilities."""
    rng = np.random.default_rng(3)
    left = rng.random(2_000) < 0.5
    fitted = fit_recalibration(left, np.where(rng.random(2_000) < 0.9, left, ~left).astype(float))
    assert fitted([0.0, 1.0]) == pytest.approx([0.1, 0.9], abs=0.03)


def test_the_band_covers_without_concept_drift():
    """Miscalibrated scores and another population than in the reference; 60 windows, so a loose bound."""
    found = coverage(
        np.random.default_rng(4), 60, reference={"slope": 0.7}, window={"slope": 0.7, "centre": -0.8}, n=400
    )
    assert all(share >= 0.85 for share in found.values()), found


@pytest.mark.slow
def test_the_band_covers_at_its_nominal_rate():
    """500 windows each, calibrated, miscalibrated, and with covariate drift: 95 % but for chance (3 sigma: 2.9 %)."""
    rng = np.random.default_rng(5)
    worlds = {
        "calibrated": ({}, {}),
        "overconfident": ({"slope": 0.6, "shift": 0.2}, {"slope": 0.6, "shift": 0.2}),
        "covariate drift": ({}, {"centre": -0.5, "spread": 1.0}),
        "small reference": ({}, {}),
    }
    for name, (reference, window) in worlds.items():
        n_reference = 600 if name == "small reference" else 4_000
        found = coverage(rng, 500, reference=reference, window=window, n_reference=n_reference)
        print(name, found)  # noqa: T201 (the figures are the point)
        assert all(abs(share - 0.95) < 0.03 for share in found.values()), (name, found)


def test_concept_drift_is_not_seen():
    """The scores stay, what they mean changes: the estimate does not move, and the outcomes contradict it."""
    rng = np.random.default_rng(6)
    score, left = sample(rng, 5_000)
    recalibration = fit_recalibration(left, score)
    same_score, drifted = sample(rng, 3_000, slope=0.2, shift=0.5)
    before = estimate_performance(score[:3_000], score[:3_000] >= 0.4, recalibration).metrics["auc"]
    during = estimate_performance(same_score, same_score >= 0.4, recalibration).metrics
    assert during["auc"].value == pytest.approx(before.value, abs=0.02)
    auc = reconcile(during, realised(drifted, same_score, same_score >= 0.4, 0.95))[0]
    assert auc.metric == "auc"
    assert auc.is_within is False
    assert auc.difference < -0.1


def test_a_smaller_reference_widens_the_band():
    """What the reference does not determine is uncertain in the band."""
    rng = np.random.default_rng(7)
    score, left = sample(rng, 40_000)
    window = score[:5_000]

    def width(n):
        band = estimate_performance(window, window >= 0.4, fit_recalibration(left[-n:], score[-n:])).metrics["auc"]
        return band.high - band.low

    assert width(500) > 1.5 * width(30_000)


def test_equal_input_gives_equal_output():
    """The simulation is seeded, and chunks do not change it much."""
    rng = np.random.default_rng(8)
    score, _ = sample(rng, 500)
    first, second = (estimate_performance(score, score > 0.4, IDENTITY, seed=1).to_dict() for _ in range(2))
    assert first == second
    assert first["is_estimate"] is True


def test_nobody_flagged():
    """Precision is undefined, not an error."""
    found = estimate_performance([0.1, 0.2], [False, False], IDENTITY).metrics
    assert not found["precision"].defined
    assert (found["precision"].low, found["precision"].high) == (0.0, 1.0)


def test_undefined_figures_are_not_reconciled():
    """Neither within nor outside."""
    undefined = Estimate(math.nan, 0.0, 1.0, 10)
    (item,) = reconcile({"precision": undefined}, {"precision": Estimate(0.5, 0.4, 0.6, 10)})
    assert item.is_within is None
    assert item.to_dict()["difference"] is None


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (InsufficientData, lambda: fit_recalibration([0, 1] * 20, [0.5] * 40)),
        (InsufficientData, lambda: fit_recalibration([0] * 600, [0.5] * 600)),
        (InsufficientData, lambda: estimate_performance([], [], IDENTITY)),
        (UsageError, lambda: fit_recalibration([0, 1] * 300, [1.5] * 600)),
        (UsageError, lambda: estimate_performance([0.5, math.nan], [1, 0], IDENTITY)),
        (UsageError, lambda: estimate_performance([0.5], [1, 0], IDENTITY)),
        (UsageError, lambda: estimate_performance([0.5], [1], IDENTITY, n_simulations=10)),
    ],
)
def test_bad_input(error, call):
    """Refused with what is wrong."""
    with pytest.raises(error):
        call()


def test_constant_scores():
    """A reference whose scores do not vary determines one probability."""
    left = np.arange(1_000) % 4 == 0
    fitted = fit_recalibration(left, np.full(1_000, 0.4))
    assert fitted([0.4])[0] == pytest.approx(0.25, abs=0.01)
    assert estimate_performance(np.full(50, 0.4), np.ones(50), fitted).metrics["auc"].value == 0.5
