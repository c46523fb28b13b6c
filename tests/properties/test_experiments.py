"""Promises of the judgement of experiments, for any counts: order, partition and peeking do not matter, margins do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attrition.data.predictions import PredictionTable, prediction_schema
from attrition.experiments.collection import collect
from attrition.experiments.epochs import Span
from attrition.experiments.paired import paired_limits
from attrition.experiments.plan import ExperimentPlan, Metric, MetricPlan
from attrition.experiments.ratio_mismatch import check_ratio
from attrition.experiments.samples import LATENCY_EDGES, Arm, Distribution, Epoch, Errors, Labels, Samples
from attrition.experiments.sequential import (
    information,
    mean_evidence,
    mean_limits,
    quantile_limits,
    rate_evidence,
    rate_limits,
)
from attrition.experiments.verdict import Standing, Verdict, judge

START = datetime(2026, 3, 1, 6, tzinfo=UTC)
OLD, NEW = "1.0.0", "1.1.0"
quick = settings(max_examples=25, deadline=None)
costly = settings(max_examples=3, deadline=None)
"""Of limits, which are searched for; each example has many experiments, which costs little more than one."""


@st.composite
def rates(draw, n_min=1, n_max=3_000):
    """Events and units of both variants in several experiments, shape (4, n)."""
    units = st.integers(n_min, n_max)
    seen = draw(st.lists(st.tuples(st.floats(0, 1), units, st.floats(0, 1), units), min_size=8, max_size=8))
    return np.array([(round(p0 * n0), n0, round(p1 * n1), n1) for p0, n0, p1, n1 in seen]).T


@st.composite
def pairs(draw):
    """Pairs on which only the challenger, or only the control, is wrong; and all; shape (3, n)."""
    share = st.floats(0, 0.5)
    seen = draw(st.lists(st.tuples(share, share, st.integers(1, 3_000)), min_size=8, max_size=8))
    return np.array([(int(worse * n), int(better * n), n) for worse, better, n in seen]).T


levels = st.sampled_from([0.001, 0.005, 0.025, 0.2])
weights = st.sampled_from([12.5, 50.0, 200.0])


def bounds(limits, counts, weight, alpha):
    return limits(*counts, weight=weight, alpha_low=alpha, alpha_high=alpha)


@costly
@given(rates(), pairs(), weights, st.tuples(levels, levels))
def test_sequences_contain_what_was_seen_and_each_other(two_groups, same_people, weight, alphas):
    """The estimate always; that of a stricter level the one of a laxer level."""
    k0, n0, k1, n1 = two_groups
    worse, better, n = same_people
    for limits, counts, seen in (
        (rate_limits, two_groups, k1 / n1 - k0 / n0),
        (paired_limits, same_people, (worse - better) / n),
    ):
        (low, high), (wide_low, wide_high) = (bounds(limits, counts, weight, a) for a in sorted(alphas, reverse=True))
        assert (wide_low <= low + 1e-9).all()
        assert (low - 1e-9 <= seen).all()
        assert (seen <= high + 1e-9).all()
        assert (high - 1e-9 <= wide_high).all()


@costly
@given(rates(n_min=20), levels)
def test_sequences_shrink_as_the_same_evidence_grows(counts, alpha):
    """Four times as much of the same, from the plan's minimum on: narrower, about the same difference."""
    weight = 5.0
    low, high = bounds(rate_limits, counts, weight, alpha)
    later_low, later_high = bounds(rate_limits, 4 * counts, weight, alpha)
    assert (later_high - later_low < high - low).all()
    means = [mean_limits(0.1, 1 / np.sqrt(n), n / 25, alpha_low=alpha, alpha_high=alpha) for n in (100, 400)]
    assert means[1][1] - means[1][0] < means[0][1] - means[0][0]


@costly
@given(rates(), weights, levels)
def test_control_and_challenger_change_sides(counts, weight, alpha):
    """What is true of the one is the mirror image for the other."""
    low, high = bounds(rate_limits, counts, weight, alpha)
    other_low, other_high = bounds(rate_limits, counts[[2, 3, 0, 1]], weight, alpha)
    assert other_low == pytest.approx(-high, abs=1e-6)
    assert other_high == pytest.approx(-low, abs=1e-6)


@costly
@given(rates(), weights, levels, st.floats(-0.5, 0.5))
def test_an_interval_is_what_its_p_values_leave(counts, weight, alpha, delta):
    """A difference is outside when the evidence against it reaches the level."""
    low, high = bounds(rate_limits, counts, weight, alpha)
    above, below = (np.exp(-rate_evidence(*counts, delta, weight=weight, side=side)) for side in (1, -1))
    is_clear = np.minimum(np.abs(delta - low), np.abs(delta - high)) > 1e-4
    assert ((above <= alpha) == (delta < low))[is_clear].all()
    assert ((below <= alpha) == (delta > high))[is_clear].all()


@quick
@given(rates(), weights, st.floats(-0.3, 0.3), st.floats(0, 0.3))
def test_more_is_claimed_with_less_evidence(counts, weight, delta, step):
    """That the difference lies above a value follows from that it lies above a larger one."""
    one, other = (rate_evidence(*counts, each, weight=weight, side=1) for each in (delta, delta + step))
    assert (other <= one + 1e-6).all()


@quick
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60), st.randoms(use_true_random=False))
def test_peeking_changes_no_p_value(people, random):
    """The order of arrival changes no final p-value; whoever looks more often has seen no larger least one."""

    def p_values(order):
        counts = np.cumsum([[e and not a, not a, e and a, a] for a, e in order], axis=0)
        return np.exp(-rate_evidence(*counts.T, 0.0, weight=10.0, side=1))

    shuffled = list(people)
    random.shuffle(shuffled)
    every, other = p_values(people), p_values(shuffled)
    assert every[-1] == pytest.approx(other[-1])
    looked_at = [0, *sorted(random.sample(range(len(people)), len(people) // 2)), len(people) - 1]
    assert every.min() <= every[looked_at].min()
    assert (np.diff(np.minimum.accumulate(every)) <= 0).all()


@quick
@given(st.floats(-2, 2), st.floats(0.01, 1), st.integers(10, 5_000), st.integers(10, 5_000), levels, st.floats(-2, 2))
def test_means_agree_with_their_evidence(difference, error, n0, n1, alpha, delta):
    """The limits are those of the evidence, and lie about the estimate."""
    ratio = information(n0, n1, 25.0)
    low, high = mean_limits(difference, error, ratio, alpha_low=alpha, alpha_high=alpha)
    assert low < difference < high
    assume(min(abs(delta - low), abs(delta - high)) > 1e-6)
    found = float(np.exp(-mean_evidence(difference, error, ratio, delta, side=1)))
    assert (found <= alpha) == (delta < low)


@costly
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), levels)
def test_latencies_may_be_added_in_any_order_and_parts(seed, n_parts, alpha):
    """Counts and limits of quantiles are the same to the last bit, moments to rounding."""
    values = np.random.default_rng(seed).lognormal(2.0, 0.5, (2, 400))

    def distributions(order, parts):
        found = []
        for own in values[:, order]:
            each = Distribution.empty(LATENCY_EDGES)
            for part in np.array_split(own, parts):
                each = each.with_values(part)
            found.append(each)
        return found

    at_once = distributions(np.arange(400), 1)
    in_parts = distributions(np.random.default_rng(seed + 1).permutation(400), n_parts)
    options = {"weight": 50.0, "alpha_low": alpha, "alpha_high": alpha}
    assert quantile_limits(*at_once, 0.5, **options) == quantile_limits(*in_parts, 0.5, **options)
    for one, other in zip(at_once, in_parts, strict=True):
        assert (one.counts == other.counts).all()
        assert (one.mean, one.variance) == pytest.approx((other.mean, other.variance))


person = st.tuples(
    st.integers(0, 11), st.sampled_from([OLD, NEW]), st.floats(0.1, 40), st.floats(0, 1), st.integers(1, 9)
)


@settings(max_examples=5, deadline=None)
@given(st.lists(person, min_size=15, max_size=25), st.randoms(use_true_random=False), st.data())
def test_samples_do_not_depend_on_how_the_log_was_written(tmp_path_factory, rows, random, data):
    """Rows in any order and any number of commits: the same analysis."""
    plan = ExperimentPlan(name="x", control=OLD, challenger=NEW, min_employees=1)
    span = Span(START, START + timedelta(days=2), {OLD: 0.5, NEW: 0.5})
    documents = [
        {
            "prediction_id": f"p{i}",
            "time": START + timedelta(hours=hours),
            "day": (START + timedelta(hours=hours)).date(),
            "version": version,
            "variant": version,
            "reason": "sticky",
            "shadow_of": None,
            "employee_id": f"{number:032x}",
            "probability": score,
            "threshold": 0.5,
            "decision": score >= 0.5,
            "latency_us": 1_000 * ms,
        }
        for i, (number, version, hours, score, ms) in enumerate(rows)
    ]

    def analysis(parts):
        root = str(tmp_path_factory.mktemp("log"))
        for number, part in enumerate(parts):
            PredictionTable(root).append(pa.Table.from_pylist(part, prediction_schema()), {f"s{number}": 1})
        return judge(plan, collect(plan, [span], root, as_of=span.end)).to_dict()

    shuffled = list(documents)
    random.shuffle(shuffled)
    cut = data.draw(st.integers(0, len(rows)))
    parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]
    assert analysis([documents]) == analysis(parts)


def an_arm(version, employees, counts, labels):
    k, n = counts
    return Arm(version, employees, n, errors=Errors(n, k, "a test"), labels=labels)


@st.composite
def epochs(draw):
    """An epoch with errors and labels of both versions."""
    arms = []
    for version in (OLD, NEW):
        n, negatives = draw(st.integers(300, 20_000)), draw(st.integers(300, 5_000))
        k, fp = int(n * draw(st.floats(0, 0.1))), int(negatives * draw(st.floats(0, 0.5)))
        arms.append(an_arm(version, 5_000, (k, n), Labels(tp=10, fp=fp, tn=negatives - fp, fn=5)))
    shares = {OLD: 0.5, NEW: 0.5}
    end = START + timedelta(days=1)
    return Epoch(0, START, end, shares, {OLD: 5_000, NEW: 5_000}, *arms)


def judged(epoch, margin=0.02, **changed):
    plan = ExperimentPlan(
        name="x",
        control=OLD,
        challenger=NEW,
        metrics=[
            MetricPlan(metric=Metric.ERROR_RATE, margin=margin, min_units=200),
            MetricPlan(metric=Metric.FPR, margin=margin, min_units=200),
        ],
        **changed,
    )
    return judge(plan, Samples(epoch.end, (epoch,)))


ORDER = [Standing.WORSE, Standing.OPEN, Standing.HOLDS, Standing.BETTER]


@settings(max_examples=4, deadline=None)
@given(epochs(), st.floats(0.001, 0.2), st.floats(0, 0.2))
def test_a_wider_margin_never_speaks_against_the_challenger(epoch, margin, more):
    """No metric stands worse, and no promotion becomes a rollback."""
    narrow, wide = judged(epoch, margin), judged(epoch, margin + more)
    for one, other in zip(narrow.metrics, wide.metrics, strict=True):
        assert ORDER.index(other.standing) >= ORDER.index(one.standing)
        assert (other.low, other.high) == (one.low, one.high)
    verdicts = [Verdict.ROLL_BACK, Verdict.CONTINUE, Verdict.PROMOTE]
    assert verdicts.index(wide.verdict) >= verdicts.index(narrow.verdict)


@settings(max_examples=4, deadline=None)
@given(epochs(), st.floats(0, 1))
def test_fewer_errors_never_speak_against_the_challenger(epoch, part):
    """The fewer of its requests fail, the better it stands."""
    errors = epoch.challenger.errors
    fewer = replace(epoch.challenger, errors=replace(errors, failed=int(part * errors.failed)))
    before, after = judged(epoch), judged(replace(epoch, challenger=fewer))
    assert ORDER.index(after.metrics[0].standing) >= ORDER.index(before.metrics[0].standing)
    assert after.metrics[0].high <= before.metrics[0].high + 1e-9


@settings(max_examples=4, deadline=None)
@given(epochs(), st.integers(2, 10))
def test_more_epochs_never_decide_more(epoch, n_epochs):
    """The level is divided among them: what is decided then was decided without."""
    alone, divided = judged(epoch), judged(epoch, epochs=n_epochs)
    if divided.verdict in {Verdict.PROMOTE, Verdict.ROLL_BACK}:
        assert alone.verdict is divided.verdict


@quick
@given(st.lists(st.integers(0, 5_000), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_split_is_checked_whatever_the_order_of_versions(counts, random):
    """Both p-values are of the counts, not of their places."""
    names = [f"1.{i}.0" for i in range(len(counts))]
    shares = dict.fromkeys(names, 1 / len(names))
    assigned = dict(zip(names, counts, strict=True))
    order = list(names)
    random.shuffle(order)
    one, other = check_ratio(assigned, shares), check_ratio(assigned, {name: shares[name] for name in order})
    assert (other.p_value, other.p_chi_square) == pytest.approx((one.p_value, one.p_chi_square))
