"""Whether a new version is worth training: an ordered table of rules over evidence. Pure.

The first rule whose conditions all hold decides, otherwise the verdict is HOLD. A condition for which there is no
evidence is *unknown*, which is neither true nor false: its rule does not apply, and the decision names what was
missing. An estimate of performance without labels can make a rule say INVESTIGATE, never RETRAIN: conditions on AUC and
errors look at matured labels only, and the policy refuses a RETRAIN rule that rests on a mere fall.

A fall is called one by a 95 % interval, so a version that is as good as ever looks worse in one period of forty, and in
more of them when its holdout happened to look too good, as all its periods are compared with that. In 60 simulated
companies in which nothing changes INVESTIGATE came in 2.7 % of the quarters and RETRAIN in none
(tests/benchmarks/bench_retraining.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from math import hypot
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from attrition.errors import UsageError
from attrition.monitoring.buckets import Period, parse_span
from attrition.settings import RETRAINING, config_file, load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from attrition.evaluation.intervals import Estimate

Unknown = None
"""Answer of a condition for which there is no evidence."""


class Verdict(StrEnum):
    """What is to be done."""

    RETRAIN = "RETRAIN"
    """Train a new version."""
    INVESTIGATE = "INVESTIGATE"
    """Something is wrong that a retraining would not explain; a person should look."""
    HOLD = "HOLD"
    """Nothing speaks for a new version."""


class Conditions(BaseModel):
    """What must hold for a rule to apply; those that are given, all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    auc_drop_above: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the AUC at admission that was lost on matured labels; the loss must be beyond chance."""
    error_ratio_from: Annotated[float, Field(gt=1)] | None = None
    """Error rate on matured labels as a multiple of that at admission; the rise must be beyond chance."""
    drifted_features_from: Annotated[int, Field(ge=1)] | None = None
    """At least so many features drifted, each with a mean shift above `mean_shift_percent_above`."""
    mean_shift_percent_above: Annotated[float, Field(ge=0)] = 0.0
    """Percent of the reference's mean, up or down; for `drifted_features_from`."""
    drifted_features_up_to: Annotated[int, Field(ge=0)] | None = None
    """At most so many features drifted, whatever their mean; 0: covariates are quiet."""
    performance_falls: bool | None = None
    """The AUC lies below that at admission, beyond chance; the estimated one where no label is mature."""

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        asked = self.model_dump(exclude={"mean_shift_percent_above"}, exclude_none=True)
        if not asked:
            raise ValueError("has no condition; a rule that always applies would decide everything")
        if self.mean_shift_percent_above and self.drifted_features_from is None:
            raise ValueError("mean_shift_percent_above needs drifted_features_from")
        return self


class Rule(BaseModel):
    """One row of the table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=80)]
    verdict: Verdict
    when: Conditions

    @model_validator(mode="after")
    def _no_estimate_retrains(self) -> Self:
        hard = (self.when.auc_drop_above, self.when.error_ratio_from, self.when.drifted_features_from)
        if self.verdict is Verdict.RETRAIN and self.when.performance_falls is not None and not any(hard):
            raise ValueError("performance_falls may rest on an estimate, and an estimate alone never retrains")
        return self


class EvidenceRules(BaseModel):
    """What a decision looks at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    drift_window: str = "7d"
    """Window of the prediction log that is compared with the champion's training rows, and estimated."""
    period: Period = Period.QUARTER
    """Length of the buckets of matured predictions; the latest measured one is judged."""
    min_persons: Annotated[int, Field(ge=50)] = 200
    """Persons with a label below which a bucket is not measured."""

    @field_validator("drift_window")
    @classmethod
    def _is_a_period(cls, text: str) -> str:
        try:
            parse_span(text, now=datetime(2000, 1, 1, tzinfo=UTC))
        except UsageError as error:
            raise ValueError(str(error)) from error
        return text


class DataRules(BaseModel):
    """What a version is retrained on, beside the latest imported snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_age_days: Annotated[int, Field(ge=30)] | None = None
    """Records older than this against the newest one are dropped; None drops none."""
    half_life_days: Annotated[float, Field(ge=30)] | None = None
    """Age at which a record is kept with a probability of one half; None keeps all."""
    one_per: Period = Period.MONTH
    """A person's first prediction in each such period becomes a record."""
    holdout_days: Annotated[int, Field(ge=1)] = 30
    """The newest records, of so many days, are judged on, and the champion on the same ones."""
    embargo_days: Annotated[int, Field(ge=0)] = 0
    """Days before the holdout that training leaves out."""


class RetrainingPolicy(BaseModel):
    """The decision table, the data, and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = RETRAINING
    description: str = ""
    rules: tuple[Rule, ...]
    """The first that applies decides."""
    evidence: EvidenceRules = EvidenceRules()
    data: DataRules = DataRules()
    plan: str = "default"
    """Search plan, by path or shipped name."""
    gates: str = "gates"
    """Gate thresholds, by path or shipped name."""
    cooldown_days: Annotated[float, Field(ge=0)] = 14
    """Days after an attempt that reached a verdict in which there is no other; labels arrive slowly."""
    runs_per_day: Annotated[int, Field(ge=1)] = 2
    """Attempts per day (UTC), failed ones included."""
    minutes_per_day: Annotated[float, Field(gt=0)] = 240
    """Wall-clock minutes of training after which no further attempt begins on that day (UTC)."""
    lease_minutes: Annotated[float, Field(gt=0)] = 60
    """Minutes after the last sign of life of a retraining until another process may take over."""

    @classmethod
    def load(cls, name_or_path: str | Path = RETRAINING) -> RetrainingPolicy:
        """The policy in a YAML file, or a shipped one by name.

        Raises
        ------
        ConfigError
            No such file, or one that cannot be used; every fault is named.
        """
        return load_yaml(config_file("tune_configs", name_or_path, kind=lambda name: name.startswith(RETRAINING)), cls)


@dataclass(frozen=True, slots=True)
class Covariates:
    """Whether the people who are scored are still those that the version learned from.

    Attributes
    ----------
    report_id, window : str
        Of the drift report.
    n_rows : int
    level : str
    drifted : mapping of str to float or None
        Features that drifted, and their mean shift in percent; None for a category or without values.
    """

    report_id: str
    window: str
    n_rows: int
    level: str
    drifted: Mapping[str, float | None]

    def shifted(self, percent: float) -> list[str]:
        """Drifted features whose mean moved by more than `percent`; with 0, a category counts too."""
        return [
            name
            for name, shift in self.drifted.items()
            if (shift is not None and abs(shift) > percent) or (shift is None and not percent)
        ]


@dataclass(frozen=True, slots=True)
class Realised:
    """Performance on matured labels of one period.

    Attributes
    ----------
    bucket : str
        ``2026Q2``.
    auc, accuracy : Estimate
    """

    bucket: str
    auc: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the version in production.

    Attributes
    ----------
    version : str
    baseline_auc, baseline_accuracy : Estimate or None
        On the version's own holdout, at admission.
    covariates : Covariates or None
    realised : Realised or None
    estimated_auc : Estimate or None
        Without labels.
    missing : tuple of str
        Why what is None is not known, as sentences.
    """

    version: str
    baseline_auc: Estimate | None = None
    baseline_accuracy: Estimate | None = None
    covariates: Covariates | None = None
    realised: Realised | None = None
    estimated_auc: Estimate | None = None
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; what is not known is None."""

        def of(estimate: Estimate | None) -> dict[str, Any] | None:
            return None if estimate is None else estimate.to_dict()

        moved, real = self.covariates, self.realised
        return {
            "version": self.version,
            "baseline": {"auc": of(self.baseline_auc), "accuracy": of(self.baseline_accuracy)},
            "covariates": moved
            and {
                "report": moved.report_id,
                "window": moved.window,
                "rows": moved.n_rows,
                "level": moved.level,
                "drifted": dict(moved.drifted),
            },
            "realised": real and {"bucket": real.bucket, "auc": of(real.auc), "accuracy": of(real.accuracy)},
            "estimated_auc": of(self.estimated_auc),
        }


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its reasons.

    Attributes
    ----------
    verdict : Verdict
    rule : str
        Name of the rule that decided; empty when none applied.
    reasons : tuple of str
        What was found, as sentences with figures.
    missing : tuple of str
        What could not be looked at, and why.
    evidence : Evidence
    """

    verdict: Verdict
    rule: str
    reasons: tuple[str, ...]
    missing: tuple[str, ...]
    evidence: Evidence

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; no value in it is NaN."""
        return {
            "verdict": str(self.verdict),
            "rule": self.rule,
            "reasons": list(self.reasons),
            "missing": list(self.missing),
            "evidence": self.evidence.to_dict(),
        }


def decide(evidence: Evidence, policy: RetrainingPolicy) -> Decision:
    """The verdict of the first rule that applies; HOLD when none does.

    Examples
    --------
    >>> decide(Evidence("1.0.0", missing=("no outcome was recorded",)), RetrainingPolicy.load()).verdict
    <Verdict.HOLD: 'HOLD'>
    """
    seen: list[str] = []
    for rule in policy.rules:
        answers = list(_answers(rule.when, evidence))
        if all(holds for holds, _ in answers):
            return Decision(rule.verdict, rule.name, tuple(text for _, text in answers), evidence.missing, evidence)
        seen += [text for holds, text in answers if holds is not Unknown and text not in seen]
    return Decision(Verdict.HOLD, "", tuple(seen), evidence.missing, evidence)


def _answers(when: Conditions, evidence: Evidence) -> Iterator[tuple[bool | None, str]]:
    """Of each condition whether it holds, and what was found."""
    if when.auc_drop_above is not None:
        yield _auc_drop(evidence, when.auc_drop_above)
    if when.error_ratio_from is not None:
        yield _error_ratio(evidence, when.error_ratio_from)
    moved = evidence.covariates
    if when.drifted_features_from is not None:
        percent = when.mean_shift_percent_above
        names = moved.shifted(percent) if moved else []
        found = _listed(names, f"drifted with a mean shift above {percent:g} %")
        yield (None if moved is None else len(names) >= when.drifted_features_from), found
    if when.drifted_features_up_to is not None:
        found = _listed(list(moved.drifted) if moved else [], "drifted")
        yield (None if moved is None else len(moved.drifted) <= when.drifted_features_up_to), found
    if when.performance_falls is not None:
        falls, found = _falls(evidence)
        yield (None if falls is None else falls is when.performance_falls), found


def _auc_drop(evidence: Evidence, limit: float) -> tuple[bool | None, str]:
    real, base = evidence.realised, evidence.baseline_auc
    if real is None or base is None or not (real.auc.defined and base.defined):
        return Unknown, ""
    drop = 1 - real.auc.value / base.value
    found = f"AUC {real.auc} in {real.bucket} is {_change(-drop)} against {base.value:.3f} at admission"
    return drop > limit and _shown_below(real.auc, base), found


def _error_ratio(evidence: Evidence, limit: float) -> tuple[bool | None, str]:
    real, base = evidence.realised, evidence.baseline_accuracy
    if real is None or base is None or not (real.accuracy.defined and base.defined) or base.value >= 1:
        return Unknown, ""
    ratio = (1 - real.accuracy.value) / (1 - base.value)
    found = f"error rate {1 - real.accuracy.value:.3f} in {real.bucket} is {ratio:.2f} times that at admission"
    return ratio >= limit and _shown_below(real.accuracy, base), found


def _falls(evidence: Evidence) -> tuple[bool | None, str]:
    base = evidence.baseline_auc
    auc = evidence.realised.auc if evidence.realised else evidence.estimated_auc
    if base is None or auc is None or not (auc.defined and base.defined):
        return Unknown, ""
    kind = "AUC" if evidence.realised else "ESTIMATED AUC"
    falls = _shown_below(auc, base)
    return falls, f"{kind} {auc} {'lies below' if falls else 'is not shown to lie below'} that at admission, {base}"


def _shown_below(found: Estimate, base: Estimate) -> bool:
    """Whether the interval of ``base - found`` lies above 0; the two are of different people, so independent.

    Both are uncertain: a holdout of a thousand knows its AUC to some two points, and against the bare point every other
    quarter of a company in which nothing changed would look worse. MOVER (Zou & Donner 2008, Stat. Med. 27(10)).
    """
    margin = hypot(base.value - base.low, found.high - found.value)
    return base.value - found.value > margin


def _change(share: float) -> str:
    return f"{abs(share):.1%} {'lower' if share < 0 else 'higher'}"


def _listed(names: list[str], what: str) -> str:
    count = f"{len(names)} feature{'' if len(names) == 1 else 's'}"
    return f"{count} {what}" + (f": {', '.join(names)}" if names else "")
