"""Bettering the evidence never makes a verdict worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.gates import Evidence, GatePolicy, Outcome, judge
from attrition.evaluation.metrics import Estimate
from attrition.evaluation.reports import evaluate

RANK = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
POLICY = GatePolicy.default()
ROWS = np.arange(200)
EVALUATION = evaluate(ROWS % 5 == 0, (ROWS * 7 % 200) / 200, 0.5, n_resamples=100)
FAIRNESS = assess_fairness(ROWS % 5 == 0, ROWS % 3 == 0, pd.DataFrame({"team": np.where(ROWS % 2, "a", "b")}))[0]


@st.composite
def bettered(draw, *, low=0.0, high=1.0, falling=False):
    """An interval, and another one whose value and limits are all at least as good."""
    first = sorted(draw(st.lists(st.floats(low, high), min_size=3, max_size=3)))
    steps = draw(st.lists(st.floats(0, (high - low) / 4), min_size=3, max_size=3))
    moved = [min(max(x + (-s if falling else s), low), high) for x, s in zip(first, steps, strict=True)]
    second = np.maximum.accumulate(moved).tolist() if not falling else np.minimum.accumulate(moved[::-1])[::-1].tolist()
    return tuple(Estimate(value, lo, hi, 500) for lo, value, hi in (first, second))


@settings(max_examples=200, deadline=None)
@given(
    auc=bettered(),
    accuracy=bettered(),
    calibration=bettered(falling=True),
    ratio=bettered(),
    difference=bettered(falling=True),
    latency=bettered(low=0.001, high=20, falling=True),
    champion=bettered(low=-0.1, high=0.1),
)
def test_bettering_never_turns_a_pass_into_anything_worse(
    auc, accuracy, calibration, ratio, difference, latency, champion
):
    """Gate by gate and for the whole: better figures, at least as good an outcome."""
    verdicts = []
    for step in (0, 1):
        metrics = {"auc": auc[step], "accuracy": accuracy[step], "calibration_error": calibration[step]}
        evidence = Evidence(
            evaluation=replace(EVALUATION, metrics=metrics),
            fairness=(replace(FAIRNESS, ratio=ratio[step], difference=difference[step]),),
            findings=(),
            latency=latency[step],
            champion=champion[step],
        )
        verdicts.append(judge(POLICY, evidence))
    worse, better = verdicts
    for before, after in zip(worse.results, better.results, strict=True):
        assert RANK[after.outcome] >= RANK[before.outcome], before.gate
        assert before.holds or not after.holds, before.gate
    assert RANK[better.outcome] >= RANK[worse.outcome]
    assert better.admits or not worse.admits


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), bettered())
def test_a_stricter_threshold_never_admits_more(first, second, auc):
    """Raising the minimum can only take away."""
    evidence = Evidence(evaluation=replace(EVALUATION, metrics={**EVALUATION.metrics, "auc": auc[0]}), findings=())
    loose, strict = (
        judge(POLICY.with_overrides(min_auc=minimum, min_accuracy=0.0), evidence)["auc"]
        for minimum in sorted((first, second))
    )
    assert RANK[strict.outcome] <= RANK[loose.outcome]


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_an_outcome_says_where_the_interval_lies(a, b, minimum):
    """PASS: no part below; FAIL: no part at or above; else the threshold lies inside."""
    low, high = sorted((a, b))
    estimate = Estimate((low + high) / 2, low, high, 100)
    evidence = Evidence(evaluation=replace(EVALUATION, metrics={**EVALUATION.metrics, "auc": estimate}), findings=())
    outcome = judge(POLICY.with_overrides(min_auc=minimum), evidence)["auc"].outcome
    assert (outcome is Outcome.PASS) == (low >= minimum)
    assert (outcome is Outcome.FAIL) == (high < minimum)
