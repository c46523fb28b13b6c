"""The decision threshold."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from attrition.errors import InsufficientData
from attrition.training.threshold import ThresholdObjective, choose_threshold

Y = np.array([0, 0, 0, 0, 1, 0, 1, 0, 1, 1])
SCORE = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.6, 0.7, 0.8, 0.9])


def test_default_finds_at_least_half_of_the_leavers():
    """Accuracy alone would call fewer."""
    rng = np.random.default_rng(1)
    y = (rng.random(2000) < 0.2).astype(int)
    score = np.clip(0.2 + 0.05 * y + rng.normal(0, 0.05, 2000), 0, 1)
    choice = choose_threshold(y, score, ThresholdObjective())
    assert choice.recall >= 0.5
    unconstrained = choose_threshold(y, score, ThresholdObjective(min_recall=0))
    assert unconstrained.recall < 0.5
    assert unconstrained.accuracy > choice.accuracy


def test_the_reported_rates_are_those_of_the_threshold():
    """Applying the threshold again gives the same figures."""
    choice = choose_threshold(Y, SCORE, ThresholdObjective(kind="max_f1"))
    called = choice.threshold <= SCORE
    assert choice.recall == pytest.approx((called & (Y == 1)).sum() / Y.sum())
    assert choice.precision == pytest.approx((called & (Y == 1)).sum() / called.sum())
    assert choice.accuracy == pytest.approx((called == Y).mean())
    assert choice.selection_rate == pytest.approx(called.mean())


def test_missed_leavers_that_cost_more_lower_the_threshold():
    """The cost ratio moves the threshold the right way."""
    thresholds = [
        choose_threshold(Y, SCORE, ThresholdObjective(kind="min_cost", false_negative_cost=c, min_recall=0)).threshold
        for c in (0.1, 1.0, 10.0)
    ]
    assert thresholds == sorted(thresholds, reverse=True)
    assert thresholds[0] > thresholds[-1]


def test_top_share_calls_the_wanted_share():
    """A fixed capacity is filled."""
    choice = choose_threshold(Y, SCORE, ThresholdObjective(kind="top_share", share=0.3))
    assert choice.selection_rate == pytest.approx(0.3)


def test_the_threshold_lies_halfway_between_neighbouring_scores():
    """Rounding in another scorer cannot move a row across."""
    assert choose_threshold([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.8], ThresholdObjective()).threshold == pytest.approx(0.5)


def test_neighbours_without_a_number_between_them_keep_their_order():
    """The threshold is then the upper score itself."""
    low = 0.5
    high = np.nextafter(low, 1)
    choice = choose_threshold([0, 0, 1], [0.1, low, high], ThresholdObjective())
    assert choice.threshold == high
    assert choice.accuracy == 1


def test_one_class_is_refused():
    """Nothing can be chosen without leavers."""
    with pytest.raises(InsufficientData, match="one class"):
        choose_threshold([0, 0], [0.1, 0.2], ThresholdObjective())


def test_an_objective_without_its_setting_is_refused():
    """There is no cost ratio that suits everybody."""
    with pytest.raises(ValidationError, match="kind min_cost needs false_negative_cost"):
        ThresholdObjective(kind="min_cost")


def test_a_setting_without_effect_is_refused():
    """A share for an objective that ignores it is a mistake in the plan."""
    with pytest.raises(ValidationError, match="share has no effect with kind max_f1"):
        ThresholdObjective(kind="max_f1", share=0.2)
