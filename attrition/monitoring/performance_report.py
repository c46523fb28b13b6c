"""Realised performance as it is reported: counts, metrics with intervals, where the AUC stands, and what alarms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrition.evaluation.display import html_figure, html_table, text_table
from attrition.monitoring.alerts import Alert, Severity

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from matplotlib.figure import Figure

    from attrition.evaluation.fairness import FairnessReport
    from attrition.evaluation.intervals import Estimate
    from attrition.evaluation.metrics import Confusion
    from attrition.monitoring.buckets import Period
    from attrition.monitoring.performance_policy import PerformancePolicy

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
        Every person once, at the first prediction. Newcomers, whom later buckets bring, weigh more in it than in any
        bucket, so its figures need not lie between theirs: where newcomers are easily told it looks better than all.
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


def scope(version: str | None) -> str:
    """Prefix of the keys of alerts about a version's realised performance, or about that of any."""
    return "performance/" if version is None else f"performance/{version}/"
