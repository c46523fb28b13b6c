"""Verdicts: each gate passes, fails, cannot tell, or does not apply."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attrition.data.findings import Finding, Severity
from attrition.evaluation.gates import Evidence, GatePolicy, Outcome, Verdict, judge
from attrition.evaluation.metrics import Estimate

GOLDEN = Path(__file__).parent / "golden"
PASS, FAIL, INCONCLUSIVE, NOT_APPLICABLE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.NOT_APPLICABLE


def estimate(low, high, n=1_000):
    return Estimate((low + high) / 2, low, high, n)


@pytest.fixture
def good(evaluation):
    """Evidence that passes every gate."""
    metrics = {
        **evaluation.metrics,
        "auc": estimate(0.88, 0.92),
        "accuracy": estimate(0.84, 0.88),
        "calibration_error": estimate(0.0, 0.02),
    }
    return Evidence(
        evaluation=replace(evaluation, metrics=metrics),
        findings=(),
        latency=estimate(0.01, 0.05),
        champion=estimate(-0.004, 0.006),
    )


def with_metric(evidence, **metrics):
    return replace(
        evidence, evaluation=replace(evidence.evaluation, metrics={**evidence.evaluation.metrics, **metrics})
    )


def test_good_evidence_is_admitted(good):
    """Every gate that applies passes."""
    verdict = judge(GatePolicy.default(), good)
    assert verdict.admits
    assert verdict.outcome is PASS
    assert {result.outcome for result in verdict.results} == {PASS, NOT_APPLICABLE}


@pytest.mark.parametrize(
    ("gate", "intervals"),
    [
        ("auc", {PASS: (0.85, 0.9), FAIL: (0.7, 0.849), INCONCLUSIVE: (0.84, 0.9)}),
        ("accuracy", {PASS: (0.8, 0.9), FAIL: (0.7, 0.799), INCONCLUSIVE: (0.79, 0.9)}),
        ("calibration_error", {PASS: (0.0, 0.05), FAIL: (0.051, 0.1), INCONCLUSIVE: (0.04, 0.06)}),
    ],
)
def test_a_metric_gate_compares_the_interval(good, gate, intervals):
    """The whole interval on one side decides; a threshold inside it does not."""
    for outcome, (low, high) in intervals.items():
        result = judge(GatePolicy.default(), with_metric(good, **{gate: estimate(low, high)}))[gate]
        assert result.outcome is outcome
        assert (result.low, result.high, result.n) == (low, high, 1_000)


def test_what_inconclusive_does_is_the_policys_choice(good):
    """Hold keeps the candidate out, warn lets it pass and says so."""
    evidence = with_metric(good, auc=estimate(0.84, 0.9))
    held = judge(GatePolicy.default(), evidence)
    assert not held.admits
    assert held.outcome is INCONCLUSIVE
    policy = GatePolicy.default()
    lenient = policy.model_copy(update={"auc": policy.auc.model_copy(update={"on_inconclusive": "warn"})})
    warned = judge(lenient, evidence)
    assert warned.admits
    assert [result.gate for result in warned.warnings] == ["auc"]
    assert "warns" in str(warned)


def test_a_failed_gate_holds_whatever_the_others_say(good):
    """One FAIL is a FAIL of the whole, also where inconclusive only warns."""
    verdict = judge(GatePolicy.default(), with_metric(good, calibration_error=estimate(0.06, 0.09)))
    assert verdict.outcome is FAIL
    assert not verdict.admits


def test_an_undefined_figure_is_inconclusive(good):
    """No value is no evidence, even if the threshold is trivial."""
    evidence = with_metric(good, auc=Estimate(math.nan, 0.0, 1.0, 40))
    assert judge(GatePolicy.default().with_overrides(min_auc=0.0), evidence)["auc"].outcome is INCONCLUSIVE


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [((-0.009, 0.02), PASS), ((-0.03, -0.011), FAIL), ((-0.02, 0.02), INCONCLUSIVE), (None, NOT_APPLICABLE)],
)
def test_not_worse_than_the_champion(good, interval, outcome):
    """A loss wholly beyond one point fails; a gain is not needed."""
    champion = estimate(*interval) if interval else None
    result = judge(GatePolicy.default(), replace(good, champion=champion))["champion"]
    assert result.outcome is outcome


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [((0.01, 0.04), PASS), ((5.1, 9.0), FAIL), ((4.0, 6.0), INCONCLUSIVE), (None, NOT_APPLICABLE)],
)
def test_latency(good, interval, outcome):
    """The interval of p99 against the limit in milliseconds."""
    result = judge(GatePolicy.default(), replace(good, latency=estimate(*interval) if interval else None))["latency"]
    assert result.outcome is outcome


def test_an_error_in_the_data_fails_and_is_named(good):
    """Codes and columns appear; warnings do not fail."""
    warning = Finding("outlier", Severity.WARNING, "salary", "A few salaries are far out.", 3, 0.01)
    error = Finding("leakage.single", Severity.ERROR, "status", "One column nearly determines the outcome.", 900, 1.0)
    assert judge(GatePolicy.default(), replace(good, findings=(warning,)))["data_quality"].outcome is PASS
    result = judge(GatePolicy.default(), replace(good, findings=(warning, error)))["data_quality"]
    assert result.outcome is FAIL
    assert "leakage.single (status)" in result.message


def test_data_that_nobody_checked_do_not_pass(good):
    """Not looking is not the same as finding nothing."""
    assert judge(GatePolicy.default(), replace(good, findings=None))["data_quality"].outcome is NOT_APPLICABLE


def test_fairness_is_judged_per_attribute(good, fairness):
    """Two gates per attribute; small gaps on few rows warn."""
    verdict = judge(GatePolicy.default(), replace(good, fairness=fairness))
    gates = [result.gate for result in verdict.results if result.gate.startswith("fairness")]
    assert gates == [
        "fairness_ratio.department",
        "fairness_difference.department",
        "fairness_ratio.gender",
        "fairness_difference.gender",
    ]
    assert verdict["fairness_ratio.department"].outcome is INCONCLUSIVE
    assert verdict.admits


@pytest.mark.parametrize(
    ("ratio", "difference", "outcomes"),
    [
        ((0.85, 1.0), (0.0, 0.04), (PASS, PASS)),
        ((0.4, 0.7), (0.12, 0.2), (FAIL, FAIL)),
        ((0.6, 0.9), (0.05, 0.15), (INCONCLUSIVE, INCONCLUSIVE)),
    ],
)
def test_fairness_outcomes(good, fairness, ratio, difference, outcomes):
    """Intervals of ratio and difference against four fifths and ten points; the groups are named."""
    report = replace(fairness[1], ratio=estimate(*ratio), difference=estimate(*difference))
    verdict = judge(GatePolicy.default(), replace(good, fairness=(report,)))
    found = verdict["fairness_ratio.gender"], verdict["fairness_difference.gender"]
    assert tuple(result.outcome for result in found) == outcomes
    assert "f: " in found[0].message
    assert verdict.admits == (FAIL not in outcomes)


def test_error_rates_are_judged_when_the_policy_asks(good, fairness):
    """Each limit that is given becomes a gate of its own; without the outcome it does not apply."""
    policy = GatePolicy.default()
    asked = {"fpr_difference": {"maximum": 0.1}, "fnr_difference": {"maximum": 0.1}}
    policy = GatePolicy.model_validate(policy.model_dump() | {"fairness": policy.fairness.model_dump() | asked})
    report = replace(fairness[1], fpr_difference=estimate(0.15, 0.25), fnr_difference=None, attribute="gender")
    verdict = judge(policy, replace(good, fairness=(report,)))
    assert verdict["fairness_fpr_difference.gender"].outcome is FAIL
    assert verdict["fairness_fnr_difference.gender"].outcome is NOT_APPLICABLE
    assert not verdict.admits


def test_an_attribute_that_is_only_reported_never_holds(good, fairness):
    """Its figures stand in the message; as the only attribute it is no evidence of fairness either."""
    apart = replace(fairness[1], difference=estimate(0.4, 0.6), attribute="age_band")
    verdict = judge(GatePolicy.default(), replace(good, fairness=(apart,)))
    result = verdict["fairness_difference.age_band"]
    assert (result.outcome, result.holds) == (NOT_APPLICABLE, False)
    assert "0.500 [0.400, 0.600]" in result.message
    required = judge(GatePolicy.default().with_overrides(check_fairness=True), replace(good, fairness=(apart,)))
    assert not required.admits


def test_fairness_does_not_apply_without_groups_or_when_switched_off(good, fairness):
    """Both are said, neither passes."""
    lone = replace(fairness[1], groups=fairness[1].groups[:1], ratio=None, difference=None)
    verdict = judge(GatePolicy.default(), replace(good, fairness=(lone,)))
    assert verdict["fairness_ratio.gender"].outcome is NOT_APPLICABLE
    off = judge(GatePolicy.default().with_overrides(check_fairness=False), replace(good, fairness=fairness))
    assert off["fairness"].outcome is NOT_APPLICABLE
    assert judge(GatePolicy.default(), good)["fairness"].outcome is NOT_APPLICABLE


def test_a_verdict_about_nothing_does_not_admit(good):
    """When no gate applies, nothing was shown."""
    silent = {"auc": None, "accuracy": None, "calibration_error": None, "latency": None, "champion": None}
    policy = GatePolicy.default().with_overrides(check_fairness=False)
    verdict = judge(policy.model_copy(update={**silent, "data_quality": False}), good)
    assert verdict.outcome is NOT_APPLICABLE
    assert not verdict.admits
    assert len(verdict.results) == 7


def test_an_inconclusive_message_says_how_many_observations_would_tell(good):
    """Half-width 0.02 at a distance of 0.01 takes four times the rows."""
    result = judge(GatePolicy.default(), with_metric(good, auc=estimate(0.84, 0.88)))["auc"]
    assert "About 4,000 would" in result.message
    hopeless = judge(GatePolicy.default(), with_metric(good, auc=estimate(0.83, 0.8701)))["auc"]
    assert "would" not in hopeless.message


def test_a_verdict_survives_json(good, fairness):
    """Also where figures are missing."""
    verdict = judge(GatePolicy.default(), replace(good, fairness=fairness, findings=None, champion=None))
    assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict(), allow_nan=False))) == verdict


def test_a_stored_verdict_of_the_first_format_loads():
    """Versions registered long ago stay readable."""
    document = json.loads((GOLDEN / "verdict.json").read_text(encoding="utf-8"))
    assert Verdict.from_dict(document).to_dict() == document


def test_it_reads_well_in_a_terminal_and_in_a_notebook(good):
    """One line per gate."""
    verdict = judge(GatePolicy.default(), good)
    assert len(str(verdict).splitlines()) == len(verdict.results) + 3
    assert verdict._repr_html_().count("<tr>") == len(verdict.results) + 1
    with pytest.raises(KeyError):
        verdict["speed"]


def test_importing_the_gates_stays_light():
    """A command line that only shows a stored verdict does not wait for scientific libraries."""
    heavy = {"pandas", "sklearn", "scipy", "fairlearn", "matplotlib", "ray", "mlflow"}
    modules = "attrition.evaluation.gates, attrition.evaluation.reports, attrition.evaluation.plots"
    script = f"import sys, {modules}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not heavy & set(found.stdout.split())


def test_fairness_that_was_asked_for_must_be_shown(good, fairness):
    """`--check-fairness` does not pass by having nothing to compare."""
    asked = GatePolicy.default().with_overrides(check_fairness=True)
    lone = replace(fairness[1], groups=fairness[1].groups[:1], ratio=None, difference=None)
    for reports in ((), (lone,)):
        verdict = judge(asked, replace(good, fairness=reports))
        assert verdict["fairness"].outcome is INCONCLUSIVE
        assert verdict["fairness"].holds
        assert not verdict.admits
    assert judge(asked, replace(good, fairness=fairness)).admits


def test_doubt_alone_does_not_admit(good):
    """A verdict in which no gate passed is inconclusive, although no gate holds."""
    silent = {"auc": None, "accuracy": None, "latency": None, "champion": None, "data_quality": False}
    policy = GatePolicy.default().with_overrides(check_fairness=False).model_copy(update=silent)
    verdict = judge(policy, with_metric(good, calibration_error=estimate(0.01, 0.09)))
    assert verdict.outcome is INCONCLUSIVE
    assert not verdict.admits
