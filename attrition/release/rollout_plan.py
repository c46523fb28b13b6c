"""How a challenger gets from nobody to everybody: steps, what decides at each, and when it is withdrawn at once.

A plan is data, read from YAML; ``serve_configs/rollout.yaml`` is the shipped one. Steps only ever widen: a shadow
first, if at all, then growing shares, 100 % last. A step is left for the next one when it has lasted its `dwell`, has
its `min_samples` and nothing speaks against the challenger. The last one before 100 % needs more: the verdict PROMOTE.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from attrition.errors import ConfigError
from attrition.experiments.plan import Design, ExperimentPlan, MetricPlan, Weights
from attrition.settings import ROLLOUT, config_faults, config_file, load_yaml

if TYPE_CHECKING:
    from pathlib import Path

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DAY = 86_400.0
_UNLIMITED_DAYS = 3_660.0
"""Of a step's experiment: the rollout itself ends a step at its limit, and pauses do not count towards that."""


def seconds(value: object) -> object:
    """Seconds of a duration as people write it; anything else is left to the type check.

    Examples
    --------
    >>> seconds("90s"), seconds("2h"), seconds("1.5d"), seconds(5)
    (90.0, 7200.0, 129600.0, 5)
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
    if found is None:
        raise ValueError(f"{value[:20]!r} is no duration; write 90s, 20m, 4h or 2d")
    return float(found[1]) * _UNITS[found[2]]


Duration = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
"""Seconds; in YAML also ``90s``, ``20m``, ``4h``, ``2d``."""

Rate = Annotated[float, Field(ge=0, lt=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardLimits(_Strict):
    """What a challenger must never do. It is looked at all the time, and a breach needs no analysis."""

    max_error_rate: Rate = 0.02
    """Share of its requests that may fail."""
    max_latency_ms: Annotated[float, Field(gt=0, le=20_000)] = 250.0
    """Duration, arrival to answer, in milliseconds ..."""
    max_slow_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """... that this share of its requests may exceed; 0.05 makes it a limit of the 95th percentile."""
    window: Annotated[Duration, Field(gt=0)] = 30.0
    """Seconds of the past that are looked at."""
    poll: Annotated[Duration, Field(ge=0.1)] = 1.0
    """Seconds between two looks."""


class AnalysisPlan(_Strict):
    """What the experiment of a step looks at; see :class:`~attrition.experiments.plan.ExperimentPlan`."""

    metrics: tuple[MetricPlan, ...] = ()
    """Empty means the metrics of an experiment without any. A shadow has no latency of its own, so it skips these."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability of any wrong decision during the whole rollout; the steps share it."""
    ratio_alpha: Annotated[float, Field(gt=0, lt=0.05)] = 0.001
    """Probability of calling a sound split mismatched."""


class Step(_Strict):
    """One stage of the rollout."""

    shadow: bool = False
    """The challenger scores copies and answers nobody."""
    champion: Annotated[float, Field(ge=0)] | None = None
    """Share of the version that answers today: part of 100, or of 1."""
    challenger: Annotated[float, Field(ge=0)] | None = None
    """Share of the new version."""
    min_samples: Annotated[int, Field(ge=1)] = 200
    """Employees of each version before the step can be left."""
    dwell: Duration = 0.0
    """Seconds that it lasts at least; of the last step, the seconds for which the guard still watches."""
    limit: Annotated[Duration, Field(gt=0)] = 14 * _DAY
    """Seconds after which an undecided step ends the rollout as INCONCLUSIVE."""
    approval: bool = False
    """Whether the step begins only when somebody has approved the version."""

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        weights = (self.champion, self.challenger)
        if self.shadow:
            if weights != (None, None):
                raise ValueError("is a shadow and has weights; a shadow answers nobody")
            return self
        if None in weights:
            raise ValueError("needs shadow: true, or both weights, champion and challenger")
        total = sum(weight or 0.0 for weight in weights)
        if min(abs(total - 1.0), abs(total - 100.0)) > 1e-6:
            raise ValueError(f"the weights sum to {total:g}; shares sum to 1, or per cent to 100")
        if self.limit < self.dwell:
            raise ValueError(f"lasts at least {self.dwell:g} s but ends after {self.limit:g} s")
        return self

    @property
    def share(self) -> float:
        """Of the challenger, in [0, 1]."""
        return 0.0 if self.shadow else (self.challenger or 0.0) / ((self.champion or 0.0) + (self.challenger or 0.0))

    @property
    def title(self) -> str:
        """For people: ``shadow``, ``5 %``."""
        return "shadow" if self.shadow else f"{100 * self.share:.4g} %"


class RolloutPlan(_Strict):
    """A rollout, before it begins.

    Examples
    --------
    >>> [step.title for step in RolloutPlan.load("rollout").steps]
    ['shadow', '5 %', '30 %', '100 %']
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=2, max_length=20)]
    """In order; the last one gives the challenger everything."""
    guard: GuardLimits = GuardLimits()
    analysis: AnalysisPlan = AnalysisPlan()
    look: Annotated[Duration, Field(ge=0.5)] = 60.0
    """Seconds between two analyses; as often as one likes, the evidence may be peeked at."""

    @model_validator(mode="after")
    def _widens(self) -> Self:
        faults = []
        shares = [step.share for step in self.steps]
        if abs(shares[-1] - 1.0) > 1e-9:
            faults.append(f"the last step gives the challenger {self.steps[-1].title}; it must be 100 %")
        if any(step.shadow for step in self.steps[1:]):
            faults.append("only the first step can be a shadow")
        answering = [share for step, share in zip(self.steps, shares, strict=True) if not step.shadow]
        if any(later <= earlier for earlier, later in pairwise(answering)):
            faults.append("the challenger's shares must grow from step to step")
        if answering and answering[0] <= 0:
            faults.append("a step gives the challenger nothing; write shadow: true for a step without answers")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """The plan in a YAML file, by path or by the name of a shipped one.

        Raises
        ------
        ConfigError
            No such file, an unknown key, weights that do not sum, a metric that does not fit; all faults at once.
        """
        path = config_file("serve_configs", name, kind=lambda stem: stem.startswith(ROLLOUT))
        plan = load_yaml(path, cls)
        for number, step in enumerate(plan.steps[:-1]):
            try:
                plan.experiment(number, name="check", champion="a", challenger="b")
            except ValidationError as error:
                where = f"{path}, analysis of the step {step.title}"
                raise ConfigError(config_faults(where, error, ExperimentPlan)) from error
        return plan

    @property
    def asks_approval(self) -> bool:
        """Whether somebody must approve the version on its way."""
        return any(step.approval for step in self.steps)

    @property
    def last(self) -> int:
        """Number of the step at which the challenger becomes the champion."""
        return len(self.steps) - 1

    def experiment(self, number: int, *, name: str, champion: str, challenger: str) -> ExperimentPlan:
        """The experiment of a step: what its samples are judged by.

        Raises
        ------
        ValidationError
            The metrics do not fit the step.
        """
        step = self.steps[number]
        fields: dict[str, Any] = {
            "name": name,
            "control": champion,
            "challenger": challenger,
            "metrics": tuple(each for each in self.analysis.metrics if not (step.shadow and each.metric.is_latency)),
            "alpha": self.analysis.alpha,
            "ratio_alpha": self.analysis.ratio_alpha,
            "epochs": self.last,
            "min_employees": step.min_samples,
            "max_days": _UNLIMITED_DAYS,
        }
        if step.shadow:
            return ExperimentPlan(design=Design.SHADOW, **fields)
        weights = Weights(control=1.0 - step.share, challenger=step.share)
        return ExperimentPlan(design=Design.SPLIT, weights=weights, **fields)
