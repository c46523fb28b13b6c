"""The planner: classical sizes as published formulas have them, and honest stopping times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import NormalDist

import numpy as np
import pytest

from attrition.errors import UsageError
from attrition.experiments import planning
from attrition.experiments.expectation import PUBLISHED, Expectation
from attrition.experiments.outlook import outlook_of
from attrition.experiments.plan import Design, ExperimentPlan, Metric, MetricPlan, Role
from attrition.experiments.planning import fixed_size, plan_sizes
from attrition.experiments.samples import LATENCY_EDGES, Arm, Distribution, Epoch, Samples
from attrition.experiments.verdict import Verdict, judge

Z = NormalDist().inv_cdf(0.975)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_classical_size_has_its_power():
    """In 20,000 simulated experiments of that size, at a share of 30 %."""
    expected = Expectation(Metric.FPR, 0.12, 0.08)
    n1 = fixed_size(expected, share=0.3, alpha=0.025, power=0.8)
    n0 = round(n1 * 0.7 / 0.3)
    rng = np.random.default_rng(1)
    k0, k1 = rng.binomial(n0, 0.12, 20_000), rng.binomial(n1, 0.08, 20_000)
    pooled = (k0 + k1) / (n0 + n1)
    z = (k1 / n1 - k0 / n0) / np.sqrt(pooled * (1 - pooled) * (1 / n0 + 1 / n1))
    assert (z < -NormalDist().inv_cdf(0.975)).mean() == pytest.approx(0.8, abs=0.012)


def size_of(expected, **options):
    return fixed_size(expected, share=0.5, alpha=0.025, power=0.8, **options)


def test_the_classical_size_of_pairs_has_its_power():
    """McNemar's test in 20,000 simulated shadows of that size; agreement makes it small."""
    expected = Expectation(Metric.FPR, 0.12, 0.08)
    n = size_of(expected, design=Design.SHADOW, correlation=0.5)
    both = 0.12 * 0.08 + 0.5 * np.sqrt(0.12 * 0.88 * 0.08 * 0.92)
    rng = np.random.default_rng(2)
    worse, better, _ = rng.multinomial(n, [0.08 - both, 0.12 - both, 1 - 0.2 + 2 * both], 20_000).T
    z = (worse - better) / np.sqrt(np.maximum(worse + better, 1))
    assert (z < -Z).mean() == pytest.approx(0.8, abs=0.02)  # few pairs disagree, so it goes in steps
    assert size_of(expected, design=Design.SHADOW, correlation=0.79) < n < 0.6 * size_of(expected)


def test_the_classical_size_of_means_has_its_power():
    """Of log-normal latencies, and of scores that two versions give the same persons."""
    rng = np.random.default_rng(3)
    n = size_of(Expectation(Metric.LATENCY_MEAN, 9.0, 8.2, spread=0.6))
    one, other = (rng.lognormal(np.log(mean) - 0.18, 0.6, (3_000, n)) for mean in (9.0, 8.2))
    z = (other.mean(1) - one.mean(1)) / np.sqrt((one.var(1) + other.var(1)) / n)
    assert (z < -Z).mean() == pytest.approx(0.8, abs=0.025)
    shift = Expectation(Metric.SCORE_MEAN, 0.2, 0.2, Role.GUARDRAIL, 0.02, spread=0.2)
    n = size_of(shift, design=Design.SHADOW, correlation=0.8)
    differences = rng.normal(0.0, 0.2 * np.sqrt(0.4), (20_000, n)).mean(1)
    within = np.abs(differences) + Z * 0.2 * np.sqrt(0.4 / n) < 0.02
    assert within.mean() == pytest.approx(0.8, abs=0.015)


def test_the_classical_size_of_quantiles_has_its_power():
    """By the error that quantiles of so many log-normal latencies really have."""
    rng = np.random.default_rng(4)
    n = size_of(Expectation(Metric.LATENCY_P95, 20.0, 18.0))
    scale = np.exp(-0.5 * NormalDist().inv_cdf(0.95))
    found = [np.quantile(rng.lognormal(np.log(q * scale), 0.5, (4_000, n)), 0.95, axis=1) for q in (20.0, 18.0)]
    difference = found[1] - found[0]
    assert (difference < -Z * difference.std()).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.slow
def test_the_simulated_size_is_that_of_the_verdict():
    """p95 of raw latencies, judged at every look as an experiment is; 40 of them stop as the planner says."""
    expected = Expectation(Metric.LATENCY_P95, 20.0, 20.0, Role.GUARDRAIL, 3.0)
    (size,) = plan_sizes([expected])
    metric = MetricPlan(metric=Metric.LATENCY_P95, margin=3.0, min_units=size.min_units)
    plan = ExperimentPlan(name="p95", control="1.0.0", challenger="1.1.0", metrics=[metric], min_employees=1)
    rng = np.random.default_rng(5)
    scale = 20.0 * np.exp(-0.5 * NormalDist().inv_cdf(0.95))
    looks = np.geomspace(size.min_units, 8 * size.fixed, 25).astype(int)
    stops = []
    for _ in range(40):
        values = rng.lognormal(np.log(scale), 0.5, (2, looks[-1]))
        for n in looks:
            arms = [
                Arm(version, n, n, latency=Distribution.of(own[:n], LATENCY_EDGES))
                for version, own in zip(("1.0.0", "1.1.0"), values, strict=True)
            ]
            shares, assigned = {"1.0.0": 0.5, "1.1.0": 0.5}, {arm.version: arm.employees for arm in arms}
            epoch = Epoch(0, NOW, NOW + timedelta(days=1), shares, assigned, *arms)
            if judge(plan, Samples(NOW, (epoch,))).verdict is Verdict.PROMOTE:
                stops.append(n)
                break
    assert len(stops) == 40
    assert np.median(stops) == pytest.approx(size.median, rel=0.3)


def test_every_metric_is_planned_in_every_design_that_has_it(monkeypatch):
    """A shadow lacks latency alone, and of what it pairs it needs fewer records."""
    monkeypatch.setattr(planning, "N_PATHS", 10)
    expectations = [
        Expectation(metric, 0.2, 0.2, Role.GUARDRAIL, 0.05)
        if not metric.is_latency
        else Expectation(metric, 10.0, 10.0, Role.GUARDRAIL, 2.0)
        for metric in Metric
    ]
    split, shadow = (plan_sizes(expectations, design=design) for design in Design)
    assert [size.expectation.metric for size in split] == list(Metric)
    assert [size.expectation.metric for size in shadow] == [m for m in Metric if not m.is_latency]
    for size in (*split, *shadow):
        assert 10 <= size.min_units <= size.median <= size.late
        assert size.fixed / 2 < size.mean < 6 * size.fixed, size
    of_split = {size.expectation.metric: size for size in split}
    for size in shadow:
        assert size.records_mean < 0.6 * of_split[size.expectation.metric].records_mean


def test_two_versions_are_only_as_alike_as_their_rates_allow():
    """A correlation beyond that counts as that: one never errs where the other does not."""
    expected = Expectation(Metric.FPR, 0.12, 0.08)
    outlook = outlook_of(expected, Design.SHADOW, 0.99)
    assert (outlook.worse, outlook.better) == (pytest.approx(0, abs=1e-12), pytest.approx(0.04))


def test_the_published_case(monkeypatch):
    """The large difference takes thousands of records, the small ones hundreds of thousands."""
    monkeypatch.setattr(planning, "N_PATHS", 60)
    fpr, fnr, errors = plan_sizes(per_day=1_000)
    assert [fpr.fixed, fnr.fixed, errors.fixed] == [882, 19_461, 70_321]
    assert fpr.records_fixed == 2_100  # 882 stayers of either version among 84 % stayers
    for size in (fpr, fnr, errors):
        assert size.min_units <= size.median <= size.late
        assert size.fixed < size.mean < 2.5 * size.fixed
        assert size.undecided < 0.05
    assert errors.days == pytest.approx(errors.records_mean / 1_000, rel=0.01)
    assert fpr.days == pytest.approx(fpr.records_mean / 1_000 + 180, rel=0.01)
    assert fpr.to_dict()["fixed_records"] == 2_100


def test_a_wide_margin_needs_few(monkeypatch):
    """A guardrail is decided when harm is excluded, also without any difference."""
    monkeypatch.setattr(planning, "N_PATHS", 60)
    sizes = [
        plan_sizes([Expectation(Metric.FNR, 0.15, 0.15, Role.GUARDRAIL, margin)])[0].mean for margin in (0.05, 0.1)
    ]
    assert sizes[0] > 3 * sizes[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Metric.FPR, 0.1, 0.1), "not below 0.1"),
        ((Metric.FPR, 1.2, 0.0), "between 0 and 1"),
        ((Metric.SCORE_MEAN, 0.2, 0.1), "neither better nor worse"),
        ((Metric.SELECTION_RATE, 0.2, 0.3, Role.GUARDRAIL, 0.08), "difference of 0.1 does not lie within 0.08"),
        ((Metric.LATENCY_P95, 0.0, 5.0), "milliseconds, above 0"),
        ((Metric.FPR, 0.2, 0.1, Role.GOAL, 0.0, 0.3), "a rate has none"),
        ((Metric.LATENCY_MEAN, 9.0, 8.0, Role.GOAL, 0.0, -1.0), "above 0, below 10"),
    ],
)
def test_what_cannot_be_expected(arguments, message):
    """Says why."""
    with pytest.raises(UsageError, match=message):
        Expectation(*arguments)


def test_all_faults_at_once():
    """Of shares, levels and rates."""
    with pytest.raises(UsageError) as caught:
        plan_sizes(PUBLISHED, share=1.5, alpha=0.0, leave_rate=2.0, per_day=-1, correlation=1.0)
    assert len(caught.value.faults) == 5
    with pytest.raises(UsageError, match="no latency of its own"):
        size_of(Expectation(Metric.LATENCY_P95, 20.0, 18.0), design=Design.SHADOW)
