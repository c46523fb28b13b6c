"""The verdict on a challenger: goals, guardrails and the split itself, at any moment and as often as one likes.

========================  ==========================================================================================
the split is mismatched   INCONCLUSIVE: the two groups differ in more than their version, whatever they show
a metric is worse         ROLL_BACK: the lower limit of its difference lies above the margin
all goals and guardrails  PROMOTE: the upper limit of every goal lies below 0, that of every guardrail below its margin
none of these             CONTINUE until the end of the plan, then INCONCLUSIVE; so ends an experiment without traffic
========================  ==========================================================================================

Scores and selection rates are neither better nor worse: they must stay within the margin on both sides. The limits are
confidence sequences at the levels of :mod:`attrition.experiments.plan`, so that over all looks together a decision is
wrong with a probability of at most `alpha`, provided that each metric's units are independent
(:mod:`attrition.experiments.samples` says what they are). A metric says nothing before its minimum of units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrition.evaluation.intervals import finite_or_none
from attrition.experiments.comparison import compare, discordance, error_counts, rate_counts
from attrition.experiments.fixed_horizon import FixedTest, chi_square, mann_whitney
from attrition.experiments.paired import delong, mcnemar
from attrition.experiments.plan import Design, Metric, Role
from attrition.experiments.ratio_mismatch import check_ratio

if TYPE_CHECKING:
    from datetime import datetime

    from attrition.experiments.comparison import Comparison, Difference
    from attrition.experiments.plan import ExperimentPlan, MetricPlan
    from attrition.experiments.ratio_mismatch import RatioCheck
    from attrition.experiments.samples import Arm, Epoch, Samples


class Verdict(StrEnum):
    """What the evidence says should be done."""

    PROMOTE = "PROMOTE"
    """Every goal is reached and every guardrail holds."""
    ROLL_BACK = "ROLL_BACK"
    """At least one metric is worse by more than its margin."""
    CONTINUE = "CONTINUE"
    """Open, and there is time left."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Open at the end of the plan, or nothing that the data show can count."""


class Standing(StrEnum):
    """What one metric shows."""

    BETTER = "better"
    """Than the control."""
    HOLDS = "holds"
    """Not worse by the margin or more; of a shift, within the margin on both sides."""
    WORSE = "worse"
    """By more than the margin; of a shift, beyond it on one side."""
    OPEN = "open"
    """None of these yet."""
    NOT_MEASURED = "not measured"
    """A variant has no unit of it."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """One metric: values, interval, threshold, n.

    Attributes
    ----------
    metric : Metric
    role : Role
    standing : Standing
    control, challenger, difference : float
        In the unit of the metric; the difference is challenger minus control. NaN when not measured.
    low, high : float
        Of the difference, over all looks together; infinite where nothing bounds it.
    margin : float
        The threshold of harm.
    p_harm, p_good : float, in [0, 1]
        Always-valid p-values: of "not worse by more than the margin", and of what must be refuted to promote.
    n_control, n_challenger : int
        Units.
    min_units : int
        Of each variant, before the metric says anything.
    unit : str
        ``persons`` or ``requests``.
    method : str
        How the interval was made.
    """

    metric: Metric
    role: Role
    standing: Standing
    control: float
    challenger: float
    difference: float
    low: float
    high: float
    margin: float
    p_harm: float
    p_good: float
    n_control: int
    n_challenger: int
    min_units: int
    unit: str
    method: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; what is undefined or infinite is None."""
        numbers = ("control", "challenger", "difference", "low", "high", "margin", "p_harm", "p_good")
        return {
            "metric": str(self.metric),
            "role": str(self.role),
            "standing": str(self.standing),
            **{name: finite_or_none(getattr(self, name)) for name in numbers},
            "n_control": self.n_control,
            "n_challenger": self.n_challenger,
            "min_units": self.min_units,
            "unit": self.unit,
            "method": self.method,
        }


@dataclass(frozen=True, slots=True)
class Analysis:
    """One look at an experiment.

    Attributes
    ----------
    experiment : str
    as_of : datetime
        UTC.
    epoch : int or None
        Which one was judged; None without any.
    started, ends : datetime or None
        Of the epoch: when it began, and when the plan gives up.
    verdict : Verdict
    reasons : tuple of str
        Why.
    metrics : tuple of MetricResult
    ratio : RatioCheck or None
        Of a split; None for a shadow.
    counts : mapping
        Of each variant: persons, records, and what was kept apart.
    fixed : tuple of FixedTest
        Fixed horizon: valid for one look planned beforehand; they decide nothing.
    alpha : mapping of str to float
        How the level is spent.
    notes : tuple of str
        What is not known.
    """

    experiment: str
    as_of: datetime
    epoch: int | None
    started: datetime | None
    ends: datetime | None
    verdict: Verdict
    reasons: tuple[str, ...]
    metrics: tuple[MetricResult, ...]
    ratio: RatioCheck | None
    counts: dict[str, dict[str, Any]]
    fixed: tuple[FixedTest, ...]
    alpha: dict[str, float]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "experiment": self.experiment,
            "as_of": self.as_of.isoformat(),
            "epoch": self.epoch,
            "started": self.started and self.started.isoformat(),
            "ends": self.ends and self.ends.isoformat(),
            "verdict": str(self.verdict),
            "reasons": list(self.reasons),
            "metrics": [each.to_dict() for each in self.metrics],
            "ratio": self.ratio and self.ratio.to_dict(),
            "counts": self.counts,
            "fixed_horizon": [each.to_dict() for each in self.fixed],
            "alpha": self.alpha,
            "notes": list(self.notes),
        }


def judge(plan: ExperimentPlan, samples: Samples) -> Analysis:
    """The verdict on the last epoch of the samples; the same samples always yield the same verdict."""
    epoch = samples.epochs[-1] if samples.epochs else None
    ends = None if epoch is None else epoch.start + timedelta(days=plan.max_days)
    metrics = () if epoch is None else tuple(_result(plan, each, compare(plan, each, epoch)) for each in plan.metrics)
    ratio = None
    if epoch is not None and plan.design is Design.SPLIT and len(epoch.shares) > 1:
        ratio = check_ratio(epoch.assigned, epoch.shares, plan.ratio_alpha)
    is_over = samples.is_complete or (ends is not None and samples.as_of >= ends)
    verdict, reasons = _decide(plan, epoch, metrics, ratio, is_over=is_over)
    return Analysis(
        experiment=plan.name,
        as_of=samples.as_of,
        epoch=None if epoch is None else epoch.number,
        started=None if epoch is None else epoch.start,
        ends=ends,
        verdict=verdict,
        reasons=reasons,
        metrics=metrics,
        ratio=ratio,
        counts={} if epoch is None else {"control": _counts(epoch.control), "challenger": _counts(epoch.challenger)},
        fixed=() if epoch is None else _fixed(epoch),
        alpha={"total": plan.alpha, "promote_each": plan.promote_alpha, "harm_each": plan.harm_alpha},
        notes=samples.notes,
    )


def _decide(
    plan: ExperimentPlan,
    epoch: Epoch | None,
    metrics: tuple[MetricResult, ...],
    ratio: RatioCheck | None,
    *,
    is_over: bool,
) -> tuple[Verdict, tuple[str, ...]]:
    unsettled = Verdict.INCONCLUSIVE if is_over else Verdict.CONTINUE
    over = ("the experiment is over",) if is_over else ()
    if epoch is None:
        return unsettled, (*over, "no traffic: the weights never included both versions")
    if blocked := _blocked(plan, epoch, ratio):
        return Verdict.INCONCLUSIVE, (blocked,)
    persons = _persons(plan, epoch)
    if persons < plan.min_employees:
        found = f"{persons:,} persons met the less frequent version; {plan.min_employees:,} are the minimum"
        return unsettled, (*over, found if persons else "no traffic: nobody met both versions")
    deciding = [each for each in metrics if each.role is not Role.WATCH]
    if harmed := [each for each in deciding if each.standing is Standing.WORSE]:
        return Verdict.ROLL_BACK, tuple(map(_sentence, harmed))
    if pending := [each for each in deciding if not _is_met(each)]:
        return unsettled, (*over, *map(_sentence, pending))
    return Verdict.PROMOTE, tuple(map(_sentence, deciding))


def _blocked(plan: ExperimentPlan, epoch: Epoch, ratio: RatioCheck | None) -> str:
    """Why nothing that the data show can count; empty when it can."""
    if epoch.number >= plan.epochs:
        return f"the weights were set {epoch.number + 1} times, and alpha was planned for {plan.epochs}"
    if ratio is not None and ratio.mismatch:
        return f"sample-ratio mismatch, so no comparison counts; {ratio}"
    return ""


def _result(plan: ExperimentPlan, metric: MetricPlan, found: Comparison | None) -> MetricResult:
    if found is None:
        return MetricResult(
            metric=metric.metric,
            role=metric.role,
            standing=Standing.NOT_MEASURED,
            control=math.nan,
            challenger=math.nan,
            difference=math.nan,
            low=-math.inf,
            high=math.inf,
            margin=metric.margin,
            p_harm=1.0,
            p_good=1.0,
            n_control=0,
            n_challenger=0,
            min_units=metric.min_units,
            unit="",
            method="",
        )
    low, high = found.difference.limits(*_levels(plan, metric))
    p_harm, p_good = _p_values(metric, found.difference)
    is_enough = min(found.n_control, found.n_challenger) >= metric.min_units
    return MetricResult(
        metric=metric.metric,
        role=metric.role,
        standing=_standing(metric, low, high) if is_enough else Standing.OPEN,
        control=found.control,
        challenger=found.challenger,
        difference=found.challenger - found.control,
        low=low,
        high=high,
        margin=metric.margin,
        p_harm=p_harm,
        p_good=p_good,
        n_control=found.n_control,
        n_challenger=found.n_challenger,
        min_units=metric.min_units,
        unit=found.unit,
        method=found.method,
    )


def _levels(plan: ExperimentPlan, metric: MetricPlan) -> tuple[float, float]:
    """Levels of the lower and of the upper limit."""
    if metric.metric.is_shift:  # each limit both finds harm, on its side, and excludes it
        level = min(plan.promote_alpha, plan.harm_alpha / 2)
        return level, level
    return plan.harm_alpha, plan.promote_alpha


def _p_values(metric: MetricPlan, difference: Difference) -> tuple[float, float]:
    """Always-valid p-values of no harm, and of what must be refuted to promote."""
    margin = metric.margin
    if metric.metric.is_shift:
        harm = max(difference.evidence(margin, 1), difference.evidence(-margin, -1))
        good = min(difference.evidence(margin, -1), difference.evidence(-margin, 1))
        return min(1.0, 2 * math.exp(-harm)), min(1.0, math.exp(-good))
    harm = difference.evidence(margin, 1)
    good = difference.evidence(0.0 if metric.role is Role.GOAL else margin, -1)
    return min(1.0, math.exp(-harm)), min(1.0, math.exp(-good))


def _standing(metric: MetricPlan, low: float, high: float) -> Standing:
    margin = metric.margin
    if low > margin or (metric.metric.is_shift and high < -margin):
        return Standing.WORSE
    if metric.metric.is_shift:
        return Standing.HOLDS if -margin < low and high < margin else Standing.OPEN
    if high < 0:
        return Standing.BETTER
    return Standing.HOLDS if high < margin else Standing.OPEN


def _is_met(result: MetricResult) -> bool:
    if result.role is Role.GOAL:
        return result.standing is Standing.BETTER
    return result.standing in {Standing.BETTER, Standing.HOLDS}


def _sentence(result: MetricResult) -> str:
    if result.standing is Standing.NOT_MEASURED:
        return f"{result.metric}: not measured"
    smaller = min(result.n_control, result.n_challenger)
    told = f"{result.difference:+.4g} [{result.low:+.4g}, {result.high:+.4g}]"
    if smaller < result.min_units:
        return f"{result.metric}: {told}, but only {smaller:,} {result.unit}; {result.min_units:,} are the minimum"
    wanted = f"below {result.margin:g}"
    if result.role is Role.GOAL:
        wanted = f"below 0, harm above {result.margin:g}"
    elif result.metric.is_shift:
        wanted = f"within {result.margin:g} on both sides"
    return f"{result.metric} {result.standing}: {told} ({result.role}: {wanted})"


def _persons(plan: ExperimentPlan, epoch: Epoch) -> int:
    if plan.design is Design.SHADOW:
        return 0 if epoch.pairs is None else len(epoch.pairs)
    return min(epoch.control.employees, epoch.challenger.employees)


def _counts(arm: Arm) -> dict[str, Any]:
    return {
        "version": arm.version,
        "employees": arm.employees,
        "records": arm.records,
        "selected": arm.selected,
        "pinned_apart": arm.pinned,
        "idless_apart": arm.idless,
        "requests": arm.errors and arm.errors.requests,
        "errors": arm.errors and arm.errors.failed,
        "errors_from": arm.errors and arm.errors.source,
        "matured_labels": arm.labels.tp + arm.labels.fp + arm.labels.tn + arm.labels.fn,
    }


def _fixed(epoch: Epoch) -> tuple[FixedTest, ...]:
    tests = []
    if (errors := error_counts(epoch)) is not None:
        tests.append(chi_square(Metric.ERROR_RATE, *errors))
    if epoch.pairs is not None:
        for name in (Metric.SELECTION_RATE, Metric.FPR, Metric.FNR):
            found = discordance(name, epoch.pairs)
            if found.n:
                effect = (found.only_challenger - found.only_control) / found.n
                p_value = mcnemar(found.only_challenger, found.only_control).mid
                tests.append(FixedTest(name, "McNemar, mid-p", p_value, effect))
        if (auc := delong(epoch.pairs)) is not None:
            tests.append(FixedTest("auc", "DeLong, paired", auc.p_value, auc.difference.value))
        return tuple(tests)
    for name in (Metric.SELECTION_RATE, Metric.FPR, Metric.FNR):
        counts = rate_counts(name, epoch.control, epoch.challenger)
        if counts.n0 and counts.n1:
            tests.append(chi_square(name, *counts))
    for label, one, other in (
        ("latency_ms", epoch.control.latency, epoch.challenger.latency),
        ("score", epoch.control.scores, epoch.challenger.scores),
    ):
        if one is not None and other is not None and one.n and other.n:
            tests.append(mann_whitney(label, one, other))
    return tuple(tests)
