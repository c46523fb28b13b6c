"""The estimate of one window of the prediction log, and its reconciliation with the outcomes known by now.

Nothing is stored for the reconciliation: an estimate follows from the version's out-of-fold scores and from the logged
scores of the window, so the same window asked for a year later gives the same estimate, beside the outcomes. It is
compared for the persons whose label is mature, with an estimate for exactly these persons. (Persons that were erased in
between are missing from both.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, InsufficientData
from attrition.evaluation.display import text_table
from attrition.monitoring.alerts import Alert
from attrition.monitoring.buckets import first_per_person
from attrition.monitoring.estimation import ESTIMATED, estimate_performance, fit_recalibration, reconcile
from attrition.monitoring.performance import labelled, realised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd
    from numpy.typing import ArrayLike

    from attrition.evaluation.intervals import Estimate
    from attrition.monitoring.estimation import EstimatedPerformance, Recalibration, Reconciliation
    from attrition.monitoring.performance_policy import PerformancePolicy


def scope(version: str) -> str:
    """Prefix of the keys of alerts about a version's estimated performance."""
    return f"estimate/{version}/"


@dataclass(frozen=True, slots=True)
class WindowEstimate:
    """Estimated performance of one version in one window; an estimate wherever it is shown.

    Attributes
    ----------
    version : str
    start, end : datetime
        ``start <= time < end``.
    estimated : EstimatedPerformance
        Of all persons in the window.
    baseline : Estimate or None
        AUC at admission.
    policy : PerformancePolicy
    n_predictions : int
        Rows in the window.
    n_mature : int
        Persons whose label is mature.
    reconciliation : tuple of Reconciliation
        Of the mature persons; empty while there are too few.
    """

    version: str
    start: datetime
    end: datetime
    estimated: EstimatedPerformance
    baseline: Estimate | None
    policy: PerformancePolicy
    n_predictions: int
    n_mature: int
    reconciliation: tuple[Reconciliation, ...]

    @property
    def alerts(self) -> tuple[str, ...]:
        """What the estimate gives reason to look into; never a reason to promote or retrain by itself."""
        auc = self.estimated.metrics["auc"]
        if auc.high >= self.policy.min_auc:
            return ()
        return (f"version {self.version}: ESTIMATED AUC {auc} lies wholly below {self.policy.min_auc:g}",)

    def to_alerts(self) -> tuple[Alert, ...]:
        """The notification of a low estimate: a warning, as it is one."""
        remedy = "An estimate without outcomes. Look at drift and at the data; it is no reason to retrain by itself."
        return tuple(
            Alert(f"{scope(self.version)}auc", f"Version {self.version}: ESTIMATED AUC is low", f"{text}\n{remedy}")
            for text in self.alerts
        )

    @property
    def outside(self) -> tuple[str, ...]:
        """Names of the metrics whose realised figure lies outside its band."""
        return tuple(item.metric for item in self.reconciliation if item.is_within is False)

    header = ("metric", "estimated", "mature persons, estimated", "realised", "difference", "in the band")
    """Titles of :attr:`rows`."""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A line per metric, as text."""
        found = {item.metric: item for item in self.reconciliation}
        lines: list[tuple[str, ...]] = []
        for name in ESTIMATED:
            line = (name, str(self.estimated.metrics[name]))
            item = found.get(name)
            if item is None:
                lines.append((*line, "", "", "", ""))
                continue
            within = {True: "yes", False: "NO", None: "undefined"}[item.is_within]
            difference = "" if item.is_within is None else f"{item.difference:+.3f}"
            lines.append((*line, str(item.estimated), str(item.realised), difference, within))
        return lines

    @property
    def title(self) -> str:
        """What is shown, in one line."""
        span = f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"
        return f"Version {self.version}, {span}: {self.estimated.title}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """How far the outcomes are, and what they say."""
        if not self.reconciliation:
            return (f"Not reconciled: {self.n_mature:,} of {self.estimated.n:,} persons have a mature label.",)
        said = f"outside the band: {', '.join(self.outside)}" if self.outside else "every metric lies in its band"
        return (f"Reconciled with the outcomes of {self.n_mature:,} of {self.estimated.n:,} persons: {said}.",)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document, marked as an estimate."""
        return {
            "version": self.version,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "estimate": self.estimated.to_dict(),
            "baseline": self.baseline and self.baseline.to_dict(),
            "min_auc": self.policy.min_auc,
            "n_predictions": self.n_predictions,
            "n_mature": self.n_mature,
            "reconciliation": [item.to_dict() for item in self.reconciliation],
            "alerts": list(self.alerts),
        }

    def __str__(self) -> str:
        return "\n".join([text_table(self.title, self.header, self.rows), *self.remarks, *self.alerts])


def estimate_window(
    predictions: pd.DataFrame,
    outcomes: pd.DataFrame | None,
    reference: tuple[ArrayLike, ArrayLike],
    *,
    version: str,
    period: tuple[datetime, datetime],
    horizon_days: int,
    as_of: datetime | None,
    policy: PerformancePolicy,
    baseline: Estimate | None = None,
) -> WindowEstimate:
    """Estimated performance of a version's predictions, and how it compares with the outcomes that are mature.

    Parameters
    ----------
    predictions : DataFrame
        Rows of the prediction log of this version and period.
    outcomes : DataFrame or None
        ``employee_id`` and ``left_on``, one row per person, as known at `as_of`; None: nothing is known.
    reference : (y_true, y_score)
        Out-of-fold outcomes and scores of the version.
    period
        Start and end, the end excluded.
    as_of
        Moment up to which outcomes are complete; with `outcomes`.

    Raises
    ------
    InsufficientData
        Fewer persons in the window, or rows in the reference, than the policy asks for.
    """
    persons = first_per_person(predictions)
    if len(persons) < policy.min_persons:
        found = f"{len(persons):,} known persons in {len(predictions):,} predictions of version {version}"
        allowed = f"at least {policy.min_persons:,} persons"
        raise InsufficientData(Fault("window", found, allowed, "name a longer window, or the version that answered"))
    recalibration = fit_recalibration(*reference, min_rows=policy.min_reference)
    reconciled: Sequence[Reconciliation] = ()
    n_mature = 0
    if outcomes is not None and as_of is not None:
        rows = labelled(persons, outcomes, horizon_days, as_of)
        mature = rows[rows["is_mature"]]
        n_mature = len(mature)
        if n_mature >= policy.min_persons:
            reconciled = _reconciled(mature, recalibration, policy)
    return WindowEstimate(
        version=version,
        start=period[0],
        end=period[1],
        estimated=_estimated(persons, recalibration, policy),
        baseline=baseline,
        policy=policy,
        n_predictions=len(predictions),
        n_mature=n_mature,
        reconciliation=tuple(reconciled),
    )


def _estimated(rows: pd.DataFrame, recalibration: Recalibration, policy: PerformancePolicy) -> EstimatedPerformance:
    return estimate_performance(
        rows["probability"].to_numpy(float),
        rows["decision"].to_numpy(bool),
        recalibration,
        coverage=policy.confidence,
        n_simulations=policy.n_simulations,
    )


def _reconciled(
    mature: pd.DataFrame, recalibration: Recalibration, policy: PerformancePolicy
) -> tuple[Reconciliation, ...]:
    labels = (mature["label"] == 1).to_numpy(bool)
    scores, decisions = mature["probability"].to_numpy(float), mature["decision"].to_numpy(bool)
    estimated = _estimated(mature, recalibration, policy)
    return reconcile(estimated.metrics, realised(labels, scores, decisions, policy.confidence))
