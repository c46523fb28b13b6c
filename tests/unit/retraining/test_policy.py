"""The decision table: which rule decides, with which figures, and what is said when evidence is missing."""

from __future__ import annotations

import json

import pytest
import yaml
from pydantic import ValidationError

from attrition.errors import ConfigError
from attrition.evaluation.intervals import Estimate
from attrition.retraining.policy import Covariates, Evidence, EvidenceRules, Realised, RetrainingPolicy, Verdict, decide

POLICY = RetrainingPolicy.load()
MOVED = {"salary": 21.0, "tenure": -23.0, "work_hours": 15.1}
QUIET: dict[str, float | None] = {}


def estimate(value, half_width=0.01):
    return Estimate(value, value - half_width, value + half_width, 1_000)


def evidence(auc=0.9, accuracy=0.9, drifted=QUIET, **more):
    facts = {
        "baseline_auc": estimate(0.9),
        "baseline_accuracy": estimate(0.9),
        "covariates": Covariates("4f1c09", "7d", 4_000, "MAJOR" if drifted else "STABLE", drifted),
        "realised": Realised("2026Q2", estimate(auc), estimate(accuracy)),
    }
    return Evidence("1.0.0", **(facts | more))


@pytest.mark.parametrize(
    ("found", "verdict", "rule"),
    [
        (evidence(), "HOLD", ""),
        (evidence(auc=0.85), "RETRAIN", "the ranking got worse"),
        (evidence(auc=0.856), "INVESTIGATE", "worse, and no feature moved"),
        (evidence(auc=0.887), "HOLD", ""),
        (evidence(auc=0.856, drifted={"salary": 21.0}), "HOLD", ""),
        (evidence(accuracy=0.849), "RETRAIN", "errors rose"),
        (evidence(accuracy=0.851), "HOLD", ""),
        (evidence(drifted=MOVED), "RETRAIN", "many features moved"),
        (evidence(drifted={**MOVED, "work_hours": 15.0}), "HOLD", ""),
        (evidence(drifted={**MOVED, "work_hours": None}), "HOLD", ""),
        (evidence(auc=0.95), "HOLD", ""),
    ],
)
def test_the_shipped_table(found, verdict, rule):
    """The thresholds of the table, from either side; the first rule that applies decides."""
    decision = decide(found, POLICY)
    assert (decision.verdict, decision.rule) == (verdict, rule)
    assert decision.reasons


def test_a_drop_within_the_noise_is_no_reason():
    """The point may lie 6 % below admission: while the interval reaches up to it, nothing is shown."""
    few = Realised("2026Q2", Estimate(0.84, 0.76, 0.91, 60), Estimate(0.84, 0.76, 0.91, 60))
    assert decide(evidence(realised=few), POLICY).verdict is Verdict.HOLD


def test_the_baseline_is_uncertain_too():
    """A fall that a small holdout's own error explains is none; the same fall against a large holdout is one."""
    real = Realised("2026Q2", Estimate(0.885, 0.87, 0.899, 4_000), estimate(0.9))
    small, large = Estimate(0.916, 0.885, 0.94, 800), Estimate(0.916, 0.91, 0.922, 20_000)
    assert decide(evidence(realised=real, baseline_auc=small), POLICY).verdict is Verdict.HOLD
    assert decide(evidence(realised=real, baseline_auc=large), POLICY).verdict is Verdict.INVESTIGATE


def test_an_estimate_alone_never_retrains():
    """Without labels a low estimate makes a person look, however low it is."""
    decision = decide(evidence(realised=None, estimated_auc=estimate(0.6)), POLICY)
    assert decision.verdict is Verdict.INVESTIGATE
    assert any("ESTIMATED" in reason for reason in decision.reasons)


def test_missing_evidence_is_said_and_is_no_nan():
    """Nothing known: HOLD, every reason for it named, and a document that JSON takes without NaN."""
    missing = ("performance is unknown: no outcome was recorded yet", "drift is unknown: nothing was logged")
    decision = decide(Evidence("1.0.0", missing=missing), POLICY)
    assert decision.verdict is Verdict.HOLD
    assert decision.missing == missing
    undefined = Realised("2026Q2", Estimate(float("nan"), 0, 1, 60), estimate(0.9))
    document = decide(evidence(realised=undefined), POLICY).to_dict()
    json.dumps(document, allow_nan=False)


def test_a_perfect_baseline_has_no_ratio():
    """An error rate of zero at admission has no multiple."""
    found = evidence(accuracy=0.5, baseline_accuracy=estimate(1.0, 0))
    assert "errors rose" not in decide(found, POLICY).rule


def test_the_order_of_the_rules_decides(tmp_path):
    """A project that wants a person first puts INVESTIGATE on top."""
    document = POLICY.model_dump(mode="json")
    document["rules"] = document["rules"][::-1]
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(document))
    assert decide(evidence(auc=0.8), RetrainingPolicy.load(path)).verdict is Verdict.INVESTIGATE


@pytest.mark.parametrize(
    ("when", "verdict", "said"),
    [
        ({}, "RETRAIN", "has no condition"),
        ({"mean_shift_percent_above": 15}, "RETRAIN", "has no condition"),
        ({"auc_drop_above": 0.05, "mean_shift_percent_above": 15}, "RETRAIN", "needs drifted_features_from"),
        ({"performance_falls": True}, "RETRAIN", "an estimate alone never retrains"),
        ({"auc_drop": 0.05}, "RETRAIN", "auc_drop"),
        ({"auc_drop_above": 5}, "RETRAIN", "less than 1"),
        ({"auc_drop_above": 0.05}, "PROMOTE", "verdict"),
    ],
)
def test_faulty_rules_are_refused(tmp_path, when, verdict, said):
    """A rule that cannot be meant is named."""
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"rules": [{"name": "mine", "verdict": verdict, "when": when}]}))
    with pytest.raises(ConfigError, match=said):
        RetrainingPolicy.load(path)


def test_a_window_that_is_no_period_is_refused():
    """It would be taken for a file, and drift would be unknown for ever."""
    with pytest.raises(ValidationError, match="'7days' is none"):
        EvidenceRules(drift_window="7days")
    assert EvidenceRules(drift_window="36h").drift_window == "36h"


def test_an_unknown_policy_names_the_shipped_ones():
    """The message lists policies, and no search plans."""
    with pytest.raises(ConfigError, match=r"retraining, retraining-simulation") as caught:
        RetrainingPolicy.load("absent")
    assert "thorough" not in str(caught.value)
