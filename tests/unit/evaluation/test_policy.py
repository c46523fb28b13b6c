"""Gate thresholds as data."""

from __future__ import annotations

import pytest

from attrition.errors import ConfigError
from attrition.evaluation.gates import GatePolicy


def test_the_shipped_policy_asks_what_the_design_asks():
    """AUC 0.85, accuracy 0.80, four fifths, ten points, fifty people."""
    policy = GatePolicy.default()
    assert (policy.auc.minimum, policy.accuracy.minimum) == (0.85, 0.80)
    assert (policy.fairness.ratio.minimum, policy.fairness.difference.maximum) == (0.8, 0.1)
    assert policy.fairness.min_group_size == 50
    assert (policy.auc.on_inconclusive, policy.fairness.ratio.on_inconclusive) == ("hold", "warn")


def test_a_typo_is_named(tmp_path):
    """An unknown key is an error with its path, not a silently ignored wish."""
    path = tmp_path / "gates.yaml"
    path.write_text(
        "auc: {minimun: 0.9}\nfairness: {ratio: {minimum: 2}, difference: {maximum: 0.1}}\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError) as caught:
        GatePolicy.load(path)
    message = str(caught.value)
    assert "auc.minimun" in message
    assert "fairness.ratio.minimum" in message


def test_an_unknown_name_lists_the_shipped_ones():
    """The message says which policies exist."""
    with pytest.raises(ConfigError, match="gates"):
        GatePolicy.load("gatez")


def test_overrides_replace_only_what_is_given():
    """None keeps the policy."""
    policy = GatePolicy.default()
    assert policy.with_overrides() == policy
    changed = policy.with_overrides(min_auc=0.9, min_accuracy=0.7, bias_threshold=0.2, check_fairness=False)
    assert (changed.auc.minimum, changed.accuracy.minimum) == (0.9, 0.7)
    assert changed.fairness.difference.maximum == 0.2
    assert not changed.fairness.check
    assert changed.fairness.ratio == policy.fairness.ratio
    assert changed.auc.on_inconclusive == "hold"


def test_an_override_asks_a_gate_that_was_left_out():
    """A threshold on the command line is a wish to be judged by it."""
    policy = GatePolicy.default().model_copy(update={"auc": None})
    assert policy.with_overrides(min_auc=0.9).auc.minimum == 0.9


def test_overrides_out_of_range_are_all_named():
    """85 is not a share."""
    with pytest.raises(ConfigError) as caught:
        GatePolicy.default().with_overrides(min_auc=85, bias_threshold=-1)
    assert len(caught.value.faults) == 2
