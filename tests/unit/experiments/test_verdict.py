"""Verdicts: what promotes, what rolls back, what blocks, and what a plan's end makes of the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from attrition.experiments.plan import ExperimentPlan, Metric
from attrition.experiments.samples import (
    LATENCY_EDGES,
    SCORE_EDGES,
    Arm,
    Distribution,
    Epoch,
    Errors,
    Labels,
    Pairs,
    Samples,
)
from attrition.experiments.verdict import Standing, Verdict, judge

START = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = ExperimentPlan(name="retrained", control="1.0.0", challenger="1.1.0", max_days=10)


def make_arm(version, n=20_000, *, fpr=0.12, fnr=0.15, errors=0.005, latency_ms=8.0, seed=1):
    rng = np.random.default_rng(seed)
    leavers = n // 6
    fp, fn = round((n - leavers) * fpr), round(leavers * fnr)
    return Arm(
        version=version,
        employees=n,
        records=3 * n,
        selected=round(0.2 * n),
        latency=Distribution.of(rng.lognormal(np.log(latency_ms), 0.4, n), LATENCY_EDGES),
        scores=Distribution.of(rng.beta(1, 5, n), SCORE_EDGES),
        labels=Labels(tp=leavers - fn, fp=fp, tn=n - leavers - fp, fn=fn),
        errors=Errors(3 * n, round(3 * n * errors), "a test"),
    )


def samples(control=None, challenger=None, *, days=3.0, number=0, assigned=None, **challenger_changes):
    control = control or make_arm("1.0.0")
    challenger = challenger or make_arm("1.1.0", seed=2, **challenger_changes)
    counts = assigned or {"1.0.0": control.employees, "1.1.0": challenger.employees}
    epoch = Epoch(
        number, START, START + timedelta(days=days), {"1.0.0": 0.5, "1.1.0": 0.5}, counts, control, challenger
    )
    return Samples(START + timedelta(days=days), (epoch,))


def standing(analysis, metric):
    return next(each.standing for each in analysis.metrics if each.metric is metric)


def test_a_better_version_is_promoted():
    """A lower FPR, and everything else within its margin; each with its interval, threshold and n."""
    analysis = judge(PLAN, samples(fpr=0.08))
    assert analysis.verdict is Verdict.PROMOTE
    (goal,) = (each for each in analysis.metrics if each.metric is Metric.FPR)
    assert goal.standing is Standing.BETTER
    assert goal.low < -0.04 < goal.high < 0
    assert (goal.n_control, goal.margin, goal.unit) == (16_667, 0.01, "persons")
    assert goal.p_good < 0.001 < goal.p_harm
    assert len(analysis.reasons) == 5


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"errors": 0.03}, Metric.ERROR_RATE),
        ({"latency_ms": 38.0}, Metric.LATENCY_P95),
        ({"fpr": 0.2}, Metric.FPR),
        ({"fnr": 0.4}, Metric.FNR),
    ],
)
def test_one_harm_is_enough_to_roll_back(change, metric):
    """Also when the goal is reached."""
    analysis = judge(PLAN, samples(**{"fpr": 0.08, **change}))
    assert analysis.verdict is Verdict.ROLL_BACK
    assert standing(analysis, metric) is Standing.WORSE
    assert str(metric) in analysis.reasons[0]


def test_an_equal_version_is_open_until_the_plan_ends():
    """Then it is inconclusive."""
    assert judge(PLAN, samples()).verdict is Verdict.CONTINUE
    assert judge(PLAN, samples(days=10.0)).verdict is Verdict.INCONCLUSIVE
    assert judge(PLAN, replace(samples(), is_complete=True)).verdict is Verdict.INCONCLUSIVE


def test_a_shift_of_scores_counts_on_both_sides():
    """More selected and fewer selected are the same to a guardrail that knows no better."""
    for share in (0.05, 0.45):
        arm = replace(make_arm("1.1.0", seed=2), selected=round(share * 20_000))
        assert judge(PLAN, samples(challenger=arm)).verdict is Verdict.ROLL_BACK


def test_a_mismatched_split_blocks_every_verdict():
    """However good or bad the challenger looks."""
    for change in ({"fpr": 0.08}, {"errors": 0.2}):
        analysis = judge(PLAN, samples(assigned={"1.0.0": 20_000, "1.1.0": 17_000}, **change))
        assert analysis.verdict is Verdict.INCONCLUSIVE
        assert "sample-ratio mismatch" in analysis.reasons[0]
        assert analysis.ratio.mismatch


def test_more_epochs_than_planned_decide_nothing():
    """Alpha was divided among those that were planned."""
    analysis = judge(PLAN, samples(fpr=0.08, number=1))
    assert analysis.verdict is Verdict.INCONCLUSIVE
    assert "planned for 1" in analysis.reasons[0]
    assert judge(PLAN.model_copy(update={"epochs": 2}), samples(fpr=0.08, number=1)).verdict is Verdict.PROMOTE


def test_without_traffic_it_is_inconclusive_at_the_end():
    """Not a failure, and no verdict about the challenger."""
    nobody = samples(challenger=Arm("1.1.0"), assigned={"1.0.0": 0, "1.1.0": 0}, days=10.0)
    analysis = judge(PLAN, nobody)
    assert analysis.verdict is Verdict.INCONCLUSIVE
    assert "no traffic" in analysis.reasons[1]
    assert standing(analysis, Metric.FPR) is Standing.NOT_MEASURED
    assert judge(PLAN, Samples(START)).verdict is Verdict.CONTINUE


def test_what_nobody_counted_keeps_a_challenger_from_being_promoted():
    """A guardrail that was not measured does not hold."""
    silent = replace(make_arm("1.1.0", seed=2, fpr=0.08), errors=None)
    analysis = judge(PLAN, samples(challenger=silent))
    assert analysis.verdict is Verdict.CONTINUE
    assert analysis.reasons == ("error_rate: not measured",)


def test_too_few_units_or_persons_say_nothing():
    """A handful of errors among 400 requests rolls nothing back."""
    few = replace(make_arm("1.1.0", seed=2), errors=Errors(400, 80, "a test"))
    analysis = judge(PLAN, samples(challenger=few))
    assert standing(analysis, Metric.ERROR_RATE) is Standing.OPEN
    assert "only 400 requests; 500 are the minimum" in " ".join(analysis.reasons)
    small = samples(make_arm("1.0.0", 150), make_arm("1.1.0", 150, errors=0.5))
    assert "200 are the minimum" in judge(PLAN, small).reasons[0]


def test_bettering_a_metric_never_turns_a_promotion_into_anything_else():
    """Fewer errors, false alarms, misses or milliseconds cannot hurt."""
    base = {"fpr": 0.08, "fnr": 0.15, "errors": 0.005, "latency_ms": 8.0}
    for name, value in base.items():
        better = {**base, name: value * 0.7}
        assert judge(PLAN, samples(**better)).verdict is Verdict.PROMOTE


def test_the_same_samples_yield_the_same_document():
    """JSON without NaN; what nothing bounds is null."""
    first, second = (judge(PLAN, samples(fpr=0.1)).to_dict() for _ in range(2))
    assert first == second
    json.dumps(first, allow_nan=False)
    assert first["counts"]["challenger"]["matured_labels"] == 20_000
    assert {test["test"] for test in first["fixed_horizon"]} == {"chi-square", "Mann-Whitney"}


def shadow_samples(n=6_000, *, challenger_fpr, seed=3):
    rng = np.random.default_rng(seed)
    left = (rng.random(n) < 0.2).astype(np.int8)
    hard = rng.random(n)
    selected = [np.where(left == 1, hard > 0.2, hard > 1 - fpr) for fpr in (0.12, challenger_fpr)]
    score = np.clip(0.3 * left + 0.3 * hard, 0, 1)
    pairs = Pairs(score, np.clip(score + rng.normal(size=n) / 50, 0, 1), *selected, left)
    arms = [Arm(version, employees=n, errors=Errors(9_000, 40, "a test")) for version in ("1.0.0", "1.1.0")]
    epoch = Epoch(0, START, START + timedelta(days=2), {"1.0.0": 1.0}, {"1.0.0": n}, *arms, pairs)
    return Samples(START + timedelta(days=2), (epoch,))


def test_a_shadow_is_judged_by_pairs():
    """A difference that pairs show at once; McNemar and DeLong stand beside, marked as fixed-horizon."""
    plan = ExperimentPlan(name="shadow", control="1.0.0", challenger="1.1.0", design="shadow")
    analysis = judge(plan, shadow_samples(challenger_fpr=0.10))
    assert analysis.verdict is Verdict.PROMOTE
    assert analysis.ratio is None
    assert {test.test for test in analysis.fixed} == {"chi-square", "McNemar, mid-p", "DeLong, paired"}
    assert judge(plan, shadow_samples(challenger_fpr=0.17)).verdict is Verdict.ROLL_BACK
    json.dumps(analysis.to_dict(), allow_nan=False)
