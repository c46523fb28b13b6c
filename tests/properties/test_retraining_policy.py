"""The decision table: better figures never ask for a retraining, and no evidence never does."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from attrition.evaluation.intervals import Estimate
from attrition.retraining.policy import Covariates, Evidence, Realised, RetrainingPolicy, Verdict, decide

POLICY = RetrainingPolicy.load()
GRAVITY = [Verdict.HOLD, Verdict.INVESTIGATE, Verdict.RETRAIN]


@st.composite
def estimates(draw):
    value, low, high = draw(st.floats(0.5, 1)), draw(st.floats(0, 0.2)), draw(st.floats(0, 0.2))
    return Estimate(value, max(0.0, value - low), min(1.0, value + high), draw(st.integers(50, 10_000)))


shifts = st.one_of(st.none(), st.floats(-200, 200))
moved = st.dictionaries(st.sampled_from(["age", "tenure", "salary", "work_hours", "department_code"]), shifts)
covariates = moved.map(lambda drifted: Covariates("4f1c09", "7d", 4_000, "MAJOR" if drifted else "STABLE", drifted))
realised = st.builds(Realised, st.just("2026Q2"), estimates(), estimates())
evidence = st.builds(
    Evidence,
    st.just("1.0.0"),
    baseline_auc=st.one_of(st.none(), estimates()),
    baseline_accuracy=st.one_of(st.none(), estimates()),
    covariates=st.one_of(st.none(), covariates),
    realised=st.one_of(st.none(), realised),
    estimated_auc=st.one_of(st.none(), estimates()),
)


def lifted(estimate, by):
    return replace(estimate, value=estimate.value + by, low=estimate.low + by, high=estimate.high + by)


@given(evidence, st.floats(0, 0.5))
def test_better_figures_never_make_it_graver(found, by):
    """Whoever ranks and decides better on the same people is not retrained for it, nor investigated."""
    if found.realised is None:
        return
    real = found.realised
    better = replace(found, realised=replace(real, auc=lifted(real.auc, by), accuracy=lifted(real.accuracy, by)))
    before, after = decide(found, POLICY).verdict, decide(better, POLICY).verdict
    assert GRAVITY.index(after) <= GRAVITY.index(before)


@given(evidence)
def test_what_is_not_known_never_retrains(found):
    """Without labels and without a drift report there is no RETRAIN, whatever an estimate says; and never a NaN."""
    blind = replace(found, realised=None, covariates=None)
    assert decide(blind, POLICY).verdict is not Verdict.RETRAIN
    json.dumps(decide(found, POLICY).to_dict(), allow_nan=False)
