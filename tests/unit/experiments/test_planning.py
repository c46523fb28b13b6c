"""The planner: classical sizes as published formulas have them, and honest stopping times."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from attrition.errors import UsageError
from attrition.experiments import planning
from attrition.experiments.plan import Metric, Role
from attrition.experiments.planning import PUBLISHED, Expectation, fixed_size, plan_sizes


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
        ((Metric.SCORE_MEAN, 0.2, 0.1), "is no rate"),
    ],
)
def test_what_cannot_be_expected(arguments, message):
    """Says why."""
    with pytest.raises(UsageError, match=message):
        Expectation(*arguments)


def test_all_faults_at_once():
    """Of shares, levels and rates."""
    with pytest.raises(UsageError) as caught:
        plan_sizes(PUBLISHED, share=1.5, alpha=0.0, leave_rate=2.0, per_day=-1)
    assert len(caught.value.faults) == 4
