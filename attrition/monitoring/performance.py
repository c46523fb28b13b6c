"""What versions were worth in production: logged predictions against matured outcomes, per version and period.

Which predictions count:

- *Mature ones only.* A metric uses predictions whose horizon has passed (:mod:`attrition.data.maturity`). Leavers are
  known early and stayers late, so whatever is measured before then is measured on leavers. The others are counted as
  censored, and of those how many are known to have left already.
- *One per person and figure.* The earliest prediction of a person in a bucket stands for the person there, and the
  earliest of the whole period in the figure of the whole period (:func:`attrition.monitoring.buckets.first_per_person`
  says why). Buckets of one version share persons, so they are no independent repetitions of each other.
- *Every variant.* A shadow's predictions count for its version: nobody acted on them, so they are the cleaner ones.

What an intervention changes stays invisible here: a flagged person who was talked to and stayed is a false positive.

An alert needs the whole interval of the AUC below the policy's minimum, in the latest measured bucket or over the whole
period, of a version that still predicts. A bad month of two years ago is shown and wakes nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attrition.data.employees import EmployeeTable
from attrition.data.maturity import matured_labels
from attrition.data.predictions import FEATURE
from attrition.evaluation.auc import auc_delong
from attrition.evaluation.calibration import calibration_error
from attrition.evaluation.display import html_figure, html_table, text_table
from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.groups import attributes_of
from attrition.evaluation.intervals import Estimate, proportion
from attrition.evaluation.metrics import Confusion, threshold_metrics
from attrition.monitoring.alerts import Alert, Severity
from attrition.monitoring.buckets import Period, first_per_person, split
from attrition.monitoring.performance_policy import PerformancePolicy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from matplotlib.figure import Figure

    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.fairness import FairnessReport

REALISED = ("auc", "accuracy", "precision", "recall", "f1", "fpr", "fnr", "calibration_error")
"""Names of the realised metrics, in the order of reports."""

WHOLE = "all"
"""Name of the bucket that holds the whole period."""


class Standing(StrEnum):
    """How the AUC of a bucket stands to the policy's minimum."""

    MET = "met"
    """The whole interval is at or above."""
    BELOW = "below"
    """The whole interval is below."""
    INCONCLUSIVE = "inconclusive"
    """The interval contains the minimum, or one class is absent."""
    NOT_MEASURED = "not measured"
    """Too few persons have a label."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What must be known of a version to assess its predictions.

    Attributes
    ----------
    schema : FeatureSchema
        Gives the horizon, and labels for the groups.
    baseline : Estimate or None
        AUC on the version's own holdout, at admission.
    """

    schema: FeatureSchema
    baseline: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Maturity:
    """How many predictions have a label that may be used; persons unless said otherwise.

    Attributes
    ----------
    n_predictions, n_without_person : int
        Rows of the log, and of them those that name nobody and so never get a label.
    n_persons : int
        Persons, each with the earliest prediction.
    n_mature, n_left : int
        Horizon over and label known; of them those who left.
    n_censored, n_censored_left : int
        Horizon not over; of them those who are known to have left.
    n_gone : int
        Had left before they were predicted: no label applies.
    """

    n_predictions: int
    n_without_person: int
    n_persons: int
    n_mature: int
    n_left: int
    n_censored: int
    n_censored_left: int
    n_gone: int

    def to_dict(self) -> dict[str, int]:
        """JSON-ready document."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Bucket:
    """One version in one period.

    Attributes
    ----------
    name : str
        ``2026-04``, ``2026Q2`` or :data:`WHOLE`.
    maturity : Maturity
    standing : Standing
    metrics : mapping of str to Estimate
        Keys :data:`REALISED`; empty when not measured.
    confusion : Confusion or None
        Decisions as they were answered, against outcomes; None when not measured.
    """

    name: str
    maturity: Maturity
    standing: Standing
    metrics: Mapping[str, Estimate]
    confusion: Confusion | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "name": self.name,
            "maturity": self.maturity.to_dict(),
            "standing": str(self.standing),
            "metrics": {name: estimate.to_dict() for name, estimate in self.metrics.items()},
            "confusion": self.confusion and self.confusion.to_dict(),
        }


@dataclass(frozen=True, slots=True)
class VersionPerformance:
    """One version over time.

    Attributes
    ----------
    version : str
    horizon_days : int
    is_active : bool
        It still predicts, see :attr:`PerformancePolicy.active_days`.
    baseline : Estimate or None
        AUC at admission.
    whole : Bucket
    buckets : tuple of Bucket
        Oldest first; those without a prediction are absent.
    fairness : tuple of FairnessReport
        Of the mature predictions of the whole period, by what the log holds of a person: categorical features such as
        the department, and the age band. Other sensitive attributes are not logged. Retention empties the features of
        old predictions; such persons form the group ``(missing)``.
    """

    version: str
    horizon_days: int
    is_active: bool
    baseline: Estimate | None
    whole: Bucket
    buckets: tuple[Bucket, ...]
    fairness: tuple[FairnessReport, ...]

    @property
    def alerting(self) -> tuple[Bucket, ...]:
        """Buckets that raise an alert: the latest measured one and the whole period, of an active version."""
        measured = [bucket for bucket in self.buckets if bucket.standing is not Standing.NOT_MEASURED]
        looked_at = [*measured[-1:], self.whole] if self.is_active else []
        return tuple(bucket for bucket in looked_at if bucket.standing is Standing.BELOW)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "version": self.version,
            "horizon_days": self.horizon_days,
            "is_active": self.is_active,
            "baseline": self.baseline and self.baseline.to_dict(),
            "whole": self.whole.to_dict(),
            "buckets": [bucket.to_dict() for bucket in self.buckets],
            "fairness": [report.to_dict() for report in self.fairness],
        }


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """Realised performance of all versions.

    Attributes
    ----------
    as_of : datetime
        Moment up to which outcomes were taken as complete.
    period : Period
    policy : PerformancePolicy
    versions : tuple of VersionPerformance
        In the order of their names.
    findings : tuple of str
        What was noticed about the data, with counts; nothing of it is silently dropped.
    """

    as_of: datetime
    period: Period
    policy: PerformancePolicy
    versions: tuple[VersionPerformance, ...]
    findings: tuple[str, ...]

    @property
    def alerts(self) -> tuple[str, ...]:
        """One sentence per alert; empty when there is nothing to act on."""
        return tuple(
            f"version {version.version}, {bucket.name}: AUC {bucket.metrics['auc']} lies wholly below "
            f"{self.policy.min_auc:g} (n {bucket.maturity.n_mature:,})"
            for version in self.versions
            for bucket in version.alerting
        )

    def to_alerts(self) -> tuple[Alert, ...]:
        """One notification per version that alarms."""
        remedy = (
            "Compare: attrition performance. Retraining, a rollback or a look at the data are for people to choose."
        )
        return tuple(
            Alert(
                key=f"{scope(version.version)}auc",
                title=f"Version {version.version}: AUC below {self.policy.min_auc:g}",
                body="\n".join([*(text for text in self.alerts if f"version {version.version}," in text), remedy]),
                severity=Severity.CRITICAL,
            )
            for version in self.versions
            if version.alerting
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "as_of": self.as_of.isoformat(),
            "period": str(self.period),
            "policy": self.policy.model_dump(),
            "versions": [version.to_dict() for version in self.versions],
            "findings": list(self.findings),
            "alerts": list(self.alerts),
        }

    header = ("version", "period", "persons", "mature", "left", "censored", *REALISED, "minimum")
    """Titles of :attr:`rows`."""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A line per version and bucket, as text; the whole period follows its buckets."""
        lines = []
        for version in self.versions:
            for bucket in (*version.buckets, version.whole):
                n = bucket.maturity
                counts = (f"{count:,}" for count in (n.n_persons, n.n_mature, n.n_left, n.n_censored))
                figures = (str(bucket.metrics[name]) if bucket.metrics else "-" for name in REALISED)
                lines.append((version.version, bucket.name, *counts, *figures, str(bucket.standing)))
        return lines

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        return f"Realised performance by {self.period}, outcomes up to {self.as_of:%Y-%m-%d}"

    def plot(self) -> Figure:
        """AUC over time with its intervals, one line per version."""
        from attrition.monitoring.performance_plots import auc_over_time

        return auc_over_time(self)

    def to_html(self) -> str:
        """A page that needs no file beside it: alerts, plot, table, fairness, findings."""
        groups = "".join(report._repr_html_() for version in self.versions for report in version.fairness)
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{self.title}</title>'
        return f'{head}<body style="font-family:sans-serif;margin:2em">{self._repr_html_()}{groups}</body></html>'

    def __str__(self) -> str:
        return "\n".join([text_table(self.title, self.header, self.rows), *self.findings, *self.alerts])

    def _repr_html_(self) -> str:
        from html import escape

        from attrition.evaluation.plots import figure_png

        figure = html_figure(figure_png(self.plot()), "AUC over time")
        remarks = "".join(f"<p>{escape(text)}</p>" for text in (*self.alerts, *self.findings))
        return f"<div>{figure}</div>{remarks}{html_table(self.title, self.header, self.rows)}"


def assess_performance(
    predictions: pd.DataFrame,
    outcomes: pd.DataFrame,
    models: Mapping[str, ServedModel],
    *,
    as_of: datetime,
    now: datetime,
    period: Period = Period.MONTH,
    policy: PerformancePolicy | None = None,
) -> PerformanceReport:
    """Realised performance of every version that the log names.

    Parameters
    ----------
    predictions : DataFrame
        Rows of the prediction log, see :mod:`attrition.data.predictions`.
    outcomes : DataFrame
        ``employee_id`` and ``left_on``, one row per person, as known at `as_of`.
    models : mapping
        Version → what is known of it. A version without an entry is named in the findings, and not assessed.
    as_of, now
        Moment up to which outcomes are complete, and the present, which tells predictions made by a wrong clock;
        both with a time zone.
    period
        Length of a bucket.
    policy
        Thresholds; the defaults when None.

    Raises
    ------
    UsageError
        `as_of` has no time zone.
    """
    rules = policy or PerformancePolicy()
    versions = []
    for version, rows in predictions.groupby("version", sort=True):
        model = models.get(str(version))
        if model is not None:
            known = labelled(rows, outcomes, model.schema.horizon_days, as_of)
            versions.append(_version(str(version), known, model, period, rules, as_of))
    findings = _findings(predictions, outcomes, models, as_of, now)
    return PerformanceReport(as_of, period, rules, tuple(versions), findings)


def scope(version: str | None) -> str:
    """Prefix of the keys of alerts about a version's realised performance, or about that of any."""
    return "performance/" if version is None else f"performance/{version}/"


def realised(labels: np.ndarray, scores: np.ndarray, decisions: np.ndarray, confidence: float) -> dict[str, Estimate]:
    """Every metric of :data:`REALISED` with its interval.

    Parameters
    ----------
    labels : ndarray of shape (n_rows,), bool
        True where the person left within the horizon.
    scores : ndarray of shape (n_rows,), float64, in [0, 1]
    decisions : ndarray of shape (n_rows,), bool
        As they were answered.
    confidence : float
        In (0, 1), of each interval by itself.

    Returns
    -------
    mapping of str to Estimate
        With one class only, the AUC and the rates of the other class are undefined.
    """
    counts = Confusion.count(labels, decisions)
    figures = threshold_metrics(counts, confidence)
    figures["fpr"] = proportion(counts.fp, counts.fp + counts.tn, confidence)
    figures["fnr"] = proportion(counts.fn, counts.fn + counts.tp, confidence)
    figures["calibration_error"] = calibration_error(labels, scores, confidence)
    if 0 < labels.sum() < len(labels):
        figures["auc"] = auc_delong(labels, scores, confidence)
    else:
        figures["auc"] = Estimate(float("nan"), 0.0, 1.0, len(labels), confidence, "one class")
    return {name: figures[name] for name in REALISED}


def labelled(rows: pd.DataFrame, outcomes: pd.DataFrame, horizon_days: int, as_of: datetime) -> pd.DataFrame:
    """Predictions with the columns of :func:`~attrition.data.maturity.matured_labels` and two more.

    ``is_over`` (bool): the horizon has passed; ``is_mature`` (bool): it has, and there is a label. Metrics are computed
    on mature rows only.
    """
    labels = matured_labels(rows, outcomes, horizon_days=horizon_days, as_of=as_of)
    is_over = labels["horizon_end"] < pd.Timestamp(as_of).tz_convert("UTC").tz_localize(None).normalize()
    return rows.join(labels).assign(is_over=is_over, is_mature=is_over & labels["label"].notna())


def _version(
    version: str,
    rows: pd.DataFrame,
    model: ServedModel,
    period: Period,
    policy: PerformancePolicy,
    as_of: datetime,
) -> VersionPerformance:
    return VersionPerformance(
        version=version,
        horizon_days=model.schema.horizon_days,
        is_active=rows["time"].max() >= as_of - timedelta(days=policy.active_days),
        baseline=model.baseline,
        whole=_bucket(WHOLE, rows, policy),
        buckets=tuple(_bucket(name, members, policy) for name, members in split(rows, period)),
        fairness=_fairness(rows, model.schema, policy),
    )


def _bucket(name: str, rows: pd.DataFrame, policy: PerformancePolicy) -> Bucket:
    persons = first_per_person(rows)
    mature = persons[persons["is_mature"]]
    labels = (mature["label"] == 1).to_numpy(bool)
    open_left = ~persons["is_over"] & (persons["label"] == 1).fillna(value=False)
    maturity = Maturity(
        n_predictions=len(rows),
        n_without_person=int(rows["employee_id"].isna().sum()),
        n_persons=len(persons),
        n_mature=len(mature),
        n_left=int(labels.sum()),
        n_censored=int((~persons["is_over"]).sum()),
        n_censored_left=int(open_left.sum()),
        n_gone=int((persons["is_over"] & persons["label"].isna()).sum()),
    )
    if len(mature) < policy.min_persons:
        return Bucket(name, maturity, Standing.NOT_MEASURED, {}, None)
    decisions = mature["decision"].to_numpy(bool)
    metrics = realised(labels, mature["probability"].to_numpy(float), decisions, policy.confidence)
    standing = _standing(metrics["auc"], policy.min_auc)
    return Bucket(name, maturity, standing, metrics, Confusion.count(labels, decisions))


def _standing(auc: Estimate, minimum: float) -> Standing:
    if auc.high < minimum:
        return Standing.BELOW
    return Standing.MET if auc.low >= minimum else Standing.INCONCLUSIVE


def _fairness(rows: pd.DataFrame, schema: FeatureSchema, policy: PerformancePolicy) -> tuple[FairnessReport, ...]:
    persons = first_per_person(rows)
    mature = persons[persons["is_mature"]].reset_index(drop=True)
    if len(mature) < policy.min_persons:
        return ()
    logged = [name for name in schema.names if FEATURE + name in mature]
    absent = [name for name in schema.names if name not in logged]
    if len(absent) == len(schema.names):
        return ()
    frame = mature[[FEATURE + name for name in logged]].set_axis(logged, axis=1)
    attributes = attributes_of(EmployeeTable(frame, schema.without(*absent), source="prediction log"))
    return assess_fairness(
        (mature["label"] == 1).to_numpy(bool),
        mature["decision"].to_numpy(bool),
        attributes,
        min_group_size=policy.min_group_size,
        confidence=policy.confidence,
    )


def _findings(
    predictions: pd.DataFrame,
    outcomes: pd.DataFrame,
    models: Mapping[str, ServedModel],
    as_of: datetime,
    now: datetime,
) -> tuple[str, ...]:
    found = [
        f"version {version}: {count:,} predictions not assessed; it is not in the registry, so its horizon is unknown"
        for version, count in predictions["version"].value_counts().sort_index().items()
        if version not in models
    ]
    persons = predictions["employee_id"]
    features = [name for name in predictions if str(name).startswith(FEATURE)]
    emptied = predictions[features].isna().all(axis=1) if features else pd.Series(dtype=bool)
    today = np.datetime64(pd.Timestamp(as_of).tz_convert("UTC").date(), "us")
    counts = (
        (int(persons.isna().sum()), "predictions name no person and never get a label"),
        (int(emptied.sum()), "predictions have no features any more (retention), so their groups are unknown"),
        (int((predictions["time"] > now).sum()), "predictions lie in the future; check the clocks of the replicas"),
        (int((~outcomes["employee_id"].isin(persons)).sum()), "persons with an outcome were never predicted"),
        (int((outcomes["left_on"] > today).sum()), "outcomes name a last day that is still to come; not counted yet"),
    )
    return (*found, *(f"{count:,} {text}" for count, text in counts if count))
