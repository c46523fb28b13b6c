"""What an experiment compares and what decides it: written down before it begins, as data.

The two kinds of error are kept apart, as Schultzberg, Ankargren & Frånberg (2024, arXiv:2402.11609) propose for
experiments with several metrics. *Promoting* needs every goal and every guardrail to agree, so for a false promotion at
least one of them must be wrong, and each may be judged at the whole of the level (intersection-union test: Berger 1982,
Technometrics 24(4)). *Rolling back* needs one metric only, so there the level is divided among them (Bonferroni). Half
of `alpha` is spent on each, and both are divided by the number of epochs: a change of weights starts the evidence anew.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from attrition.errors import UsageError
from attrition.settings import EXPERIMENT, config_faults, config_file, load_yaml

if TYPE_CHECKING:
    from pathlib import Path

Count = Annotated[int, Field(ge=1)]
Ref = Annotated[str, Field(min_length=1, max_length=64)]


class Design(StrEnum):
    """How the challenger meets the people."""

    SPLIT = "split"
    """Each person is answered by one of the two, drawn by the traffic's weights."""
    SHADOW = "shadow"
    """The control answers everybody and the challenger scores a copy: the same people twice, hence pairs."""


class Role(StrEnum):
    """What a metric is for."""

    GOAL = "goal"
    """The challenger must be shown to be better."""
    GUARDRAIL = "guardrail"
    """It must be shown not to be worse by the margin or more."""
    WATCH = "watch"
    """Reported; decides nothing."""


class Metric(StrEnum):
    """What is compared. A difference is always challenger minus control."""

    ERROR_RATE = "error_rate"
    """Requests answered by a problem, of all requests."""
    LATENCY_MEAN = "latency_mean_ms"
    """Mean of the time from arrival to answer, in milliseconds."""
    LATENCY_P50 = "latency_p50_ms"
    """Median latency."""
    LATENCY_P95 = "latency_p95_ms"
    """95th percentile of latency."""
    LATENCY_P99 = "latency_p99_ms"
    """99th percentile of latency."""
    SCORE_MEAN = "score_mean"
    """Mean probability of leaving that was answered."""
    SELECTION_RATE = "selection_rate"
    """Persons expected to leave, of all."""
    FPR = "false_positive_rate"
    """Stayers expected to leave, of all stayers."""
    FNR = "false_negative_rate"
    """Leavers expected to stay, of all leavers."""

    @property
    def is_shift(self) -> bool:
        """Neither more nor less is better: any difference beyond the margin counts."""
        return self in {Metric.SCORE_MEAN, Metric.SELECTION_RATE}

    @property
    def is_latency(self) -> bool:
        """In milliseconds."""
        return self.quantile is not None or self is Metric.LATENCY_MEAN

    @property
    def quantile(self) -> float | None:
        """Which quantile of the latency it is, in (0, 1); None when it is none."""
        return {Metric.LATENCY_P50: 0.5, Metric.LATENCY_P95: 0.95, Metric.LATENCY_P99: 0.99}.get(self)


class MetricPlan(BaseModel):
    """A metric, what it is for, and how much worse is too much."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Metric
    role: Role = Role.GUARDRAIL
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """In the unit of the metric: a rate's 0.01 is one percentage point. Worse by more than this is harm; of a metric
    that is neither better nor worse, a difference beyond it on either side."""
    min_units: Count = 100
    """Units of each variant before this metric says anything; its intervals are tightest from there to some thirty
    times as many. Of rare events take more: a rate of 0.5 % says nothing about a hundred requests."""


_DEFAULT = (
    MetricPlan(metric=Metric.ERROR_RATE, margin=0.005, min_units=500),
    MetricPlan(metric=Metric.LATENCY_P95, margin=10.0, min_units=200),
    MetricPlan(metric=Metric.SELECTION_RATE, margin=0.1, min_units=200),
    MetricPlan(metric=Metric.FPR, role=Role.GOAL, margin=0.01, min_units=200),
    MetricPlan(metric=Metric.FNR, margin=0.05, min_units=50),
)
_NOT_PAIRED = frozenset({Metric.LATENCY_MEAN, Metric.LATENCY_P50, Metric.LATENCY_P95, Metric.LATENCY_P99})


class Weights(BaseModel):
    """Shares of the traffic: parts of 1, or of 100."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    control: Annotated[float, Field(gt=0)] = 0.5
    challenger: Annotated[float, Field(gt=0)] = 0.5

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.control + self.challenger
        if min(abs(total - 1.0), abs(total - 100.0)) > 1e-6:
            raise ValueError(f"sum to {total:g}; shares sum to 1, or per cent to 100")
        return self

    @property
    def share(self) -> float:
        """Of the challenger, in (0, 1)."""
        return self.challenger / (self.control + self.challenger)


class ExperimentPlan(BaseModel):
    """An experiment, before it begins.

    Examples
    --------
    >>> plan = ExperimentPlan(name="retrained", control="1.0.0", challenger="1.1.0")
    >>> plan.promote_alpha, plan.harm_alpha
    (0.025, 0.005)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    """Names the comparison everywhere; people are assigned anew for a new name."""
    control: Ref
    """Version or alias that answers now."""
    challenger: Ref
    """Version or alias that may replace it."""
    design: Design = Design.SPLIT
    weights: Weights = Weights()
    """Of a split."""
    metrics: Annotated[tuple[MetricPlan, ...], Field(min_length=1)] = ()
    """What decides; empty means errors, p95 latency, selection rate, FPR and FNR, with a lower FPR as the goal, less
    what the design cannot tell."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability of any wrong decision, promotion or rollback, however often one looks and whenever one stops."""
    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    """Settings of the weights among which alpha is divided, for a rollout in steps; more of them than this decide
    nothing."""
    ratio_alpha: Annotated[float, Field(gt=0, lt=0.05)] = 0.001
    """Probability of calling a sound split mismatched, however often one looks."""
    min_employees: Count = 200
    """Unique persons of each variant before any verdict: whoever comes in the first minutes is not everybody."""
    max_days: Annotated[float, Field(gt=0, le=3_660)] = 14.0
    """From the start of the epoch; what is open then stays open: INCONCLUSIVE."""

    @model_validator(mode="before")
    @classmethod
    def _fills_in_the_metrics(cls, values: object) -> object:
        if isinstance(values, dict) and not values.get("metrics"):
            shadow = values.get("design") == Design.SHADOW
            kept = [each for each in _DEFAULT if not (shadow and each.metric in _NOT_PAIRED)]
            return {**values, "metrics": tuple(kept)}
        return values

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [each.metric for each in self.metrics]
        faults = []
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            faults.append(f"metrics given twice: {', '.join(repeated)}")
        if not any(each.role is not Role.WATCH for each in self.metrics):
            faults.append("every metric is only watched; a goal or guardrail is needed to decide anything")
        if shifts := [each.metric for each in self.metrics if each.role is Role.GOAL and each.metric.is_shift]:
            faults.append(f"{', '.join(shifts)}: neither more nor less is better, so it cannot be a goal")
        if unbounded := [e.metric for e in self.metrics if e.role is Role.GUARDRAIL and not e.margin]:
            faults.append(f"{', '.join(unbounded)}: a guardrail needs a margin, as no data show exact equality")
        if self.design is Design.SHADOW and (blind := [name for name in names if name in _NOT_PAIRED]):
            faults.append(f"{', '.join(blind)}: a shadow has no latency of its own")
        if self.control == self.challenger:
            faults.append("control and challenger are the same version")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """The plan in a YAML file, by path or by the name of a shipped one.

        Raises
        ------
        ConfigError
            No such file, unreadable, an unknown key or a value out of range; every fault is named.
        """
        return load_yaml(config_file("serve_configs", name, kind=lambda stem: stem.startswith(EXPERIMENT)), cls)

    def renamed(self, name: str) -> Self:
        """The same plan under another name.

        Raises
        ------
        UsageError
            The name has another form.
        """
        try:
            return type(self).model_validate({**self.model_dump(), "name": name})
        except ValidationError as error:
            raise UsageError(config_faults("experiment", error, type(self))) from error

    @property
    def deciding(self) -> tuple[MetricPlan, ...]:
        """Goals and guardrails."""
        return tuple(each for each in self.metrics if each.role is not Role.WATCH)

    @property
    def promote_alpha(self) -> float:
        """Level at which each metric must speak for the challenger, one-sided."""
        return self.alpha / 2 / self.epochs

    @property
    def harm_alpha(self) -> float:
        """Level at which one metric speaks against it, one-sided."""
        return self.alpha / 2 / self.epochs / len(self.deciding)
