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
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.employees import EmployeeTable
from attrition.data.maturity import matured_labels
from attrition.data.predictions import FEATURE
from attrition.evaluation.auc import auc_delong
from attrition.evaluation.calibration import calibration_error
from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.groups import attributes_of
from attrition.evaluation.intervals import Estimate, proportion
from attrition.evaluation.metrics import Confusion, threshold_metrics
from attrition.monitoring.buckets import Period, first_per_person, split
from attrition.monitoring.performance_policy import PerformancePolicy
from attrition.monitoring.performance_report import (
    REALISED,
    WHOLE,
    Bucket,
    Maturity,
    PerformanceReport,
    Standing,
    VersionPerformance,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.fairness import FairnessReport


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
    for version, first in predictions.groupby("version")["time"].min().items():
        model = models.get(str(version))
        if model is not None and (known := first + timedelta(days=model.schema.horizon_days)) >= as_of:
            days = f"{model.schema.horizon_days} days after its first prediction"
            found.append(f"version {version}: no label is mature before {known:%Y-%m-%d}, {days}")
    persons = predictions["employee_id"]
    features = [name for name in predictions if str(name).startswith(FEATURE)]
    emptied = predictions[features].isna().all(axis=1) if features else pd.Series(dtype=bool)
    today = np.datetime64(pd.Timestamp(as_of).tz_convert("UTC").date(), "us")
    counts = (
        ("predictions without a person, which never get a label", int(persons.isna().sum())),
        ("predictions without features (retention), so their groups are unknown", int(emptied.sum())),
        ("predictions in the future; check the clocks of the replicas", int((predictions["time"] > now).sum())),
        ("persons with an outcome who were never predicted", int((~outcomes["employee_id"].isin(persons)).sum())),
        ("outcomes on a day that is still to come, not counted yet", int((outcomes["left_on"] > today).sum())),
    )
    return (*found, *(f"{text}: {count:,}" for text, count in counts if count))
