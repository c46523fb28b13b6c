"""What versions are worth in production, for those who may look."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.data.moments import in_utc
from attrition.errors import Fault, NotFound
from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pandas as pd

    from attrition.governance.guard import Guard
    from attrition.monitoring.performance import ServedModel
    from attrition.monitoring.performance_report import PerformanceReport
    from attrition.monitoring.window_estimate import WindowEstimate
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings
    from attrition.stations.alerts import Alerts

SUBJECT = "predictions"
_COLUMNS = ("employee_id", "time", "version", "probability", "decision")


class Performance:
    """Realised and estimated performance; reached as ``Workspace.performance``.

    Every method raises ``AccessDenied`` for who may not do it.

    Parameters
    ----------
    settings
        Where the tables are.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    alerts
        Sends what alarms, where the caller wants that.
    """

    def __init__(self, settings: Settings, guard: Guard, registry: Callable[[], ModelRegistry], alerts: Alerts) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry
        self._alerts = alerts

    def measure(
        self,
        ref: str | None = None,
        *,
        as_of: datetime | None = None,
        by: str = "month",
        policy: str | Path | None = None,
        notify: bool = False,
        now: datetime | None = None,
    ) -> PerformanceReport:
        """Realised performance of the logged predictions whose horizon has passed; the AUC is stored for the gauges.

        Parameters
        ----------
        ref
            Version or alias; None is every version that the log names.
        as_of
            Moment up to which outcomes are complete: who is not known to have left by then counts as employed. None is
            the latest time at which any recorded outcome was observed; what nobody reported on yet is not guessed.
        by
            ``month`` or ``quarter``.
        policy
            YAML file of a :class:`~attrition.monitoring.performance_policy.PerformancePolicy`.
        notify
            Send the alerts, and say of earlier ones that they are over.
        now
            The present; the clock's when None.

        Raises
        ------
        NotFound
            Nothing was logged or no outcome recorded, or no such version.
        ConfigError
            The policy cannot be used.
        UsageError
            `by` names no period.
        """
        from attrition.data.outcomes import OutcomeTable
        from attrition.monitoring.buckets import Period
        from attrition.monitoring.performance import assess_performance
        from attrition.monitoring.performance_log import PerformanceFigure, PerformanceLog
        from attrition.monitoring.performance_policy import PerformancePolicy
        from attrition.monitoring.performance_report import scope

        period = Period.parse(by)
        rules = PerformancePolicy.load(None if policy is None else Path(policy))
        present = now or datetime.now(UTC)
        with self._guard.acting(Action.PERFORMANCE, SUBJECT) as entry:
            version = None if ref is None else self._registry().resolve(ref).version
            entry.model_version = version
            outcomes = OutcomeTable(self._settings.tables)
            moment = _known_until(outcomes.history(), present) if as_of is None else in_utc(as_of)
            rows = self._predictions(version)
            report = assess_performance(
                rows,
                outcomes.current(moment),
                self._models(rows["version"].unique()),
                as_of=moment,
                now=present,
                period=period,
                policy=rules,
            )
            entry.details |= {"as_of": moment.isoformat(), "rows": len(rows), "alerts": list(report.alerts)}
        if notify:
            self._alerts.settle(scope(version), report.to_alerts(), now=present)
        # last, so that an alert is sent although the figures cannot be kept
        PerformanceLog(self._settings.tables).add(PerformanceFigure.of_report(report, now=present))
        return report

    def estimate(
        self,
        ref: str = "champion",
        *,
        window: str = "30d",
        as_of: datetime | None = None,
        policy: str | Path | None = None,
        notify: bool = False,
        now: datetime | None = None,
    ) -> WindowEstimate:
        """Estimated performance (CBPE) of a version in a window, reconciled with the outcomes that are mature by now.

        An estimate is blind to concept drift, see :mod:`attrition.monitoring.estimation`. The AUC is stored, for the
        gauges.

        Parameters
        ----------
        ref
            Version or alias.
        window
            ``30d``, ``24h``, ``2w`` until now, or ``2026-01-01..2026-01-31``.
        as_of, policy, notify, now
            As in :meth:`measure`; without any outcome there is nothing to reconcile with.

        Raises
        ------
        NotFound
            Nothing was logged, or no such version.
        InsufficientData
            Too few known persons in the window, or too few rows in the version's reference.
        ConfigError, UsageError
            Policy or window cannot be used.
        """
        from attrition.data.outcomes import OutcomeTable, complete_until
        from attrition.monitoring.buckets import parse_span
        from attrition.monitoring.performance_log import PerformanceFigure, PerformanceLog
        from attrition.monitoring.performance_policy import PerformancePolicy
        from attrition.monitoring.window_estimate import estimate_window, scope

        rules = PerformancePolicy.load(None if policy is None else Path(policy))
        present = now or datetime.now(UTC)
        period = parse_span(window, now=present)
        with self._guard.acting(Action.PERFORMANCE, SUBJECT) as entry:
            version = self._registry().resolve(ref).version
            entry.model_version = version
            package = self._registry().load(version)
            outcomes = OutcomeTable(self._settings.tables)
            known = outcomes.history()
            moment = complete_until(known, present) if as_of is None or known.empty else in_utc(as_of)
            estimate = estimate_window(
                self._predictions(version, *period),
                None if moment is None else outcomes.current(moment),
                package.out_of_fold,
                version=version,
                period=period,
                horizon_days=package.schema.horizon_days,
                as_of=moment,
                policy=rules,
                baseline=package.evaluation.metrics.get("auc"),
            )
            entry.details |= {"window": window[:100], "estimate": True, "alerts": list(estimate.alerts)}
        if notify:
            self._alerts.settle(scope(version), estimate.to_alerts(), now=present)
        # last, so that an alert is sent although the figures cannot be kept
        PerformanceLog(self._settings.tables).add(PerformanceFigure.of_estimate(estimate, now=present))
        return estimate

    def _predictions(
        self, version: str | None, start: datetime | None = None, end: datetime | None = None
    ) -> pd.DataFrame:
        from attrition.data.predictions import FEATURE, PredictionTable

        table = PredictionTable(self._settings.tables)
        features = [FEATURE + name for name in table.features()]
        rows = table.between(start, end, columns=[*_COLUMNS, *features])
        return rows if version is None else rows[rows["version"] == version].reset_index(drop=True)

    def _models(self, versions: Iterable[str]) -> dict[str, ServedModel]:
        """What the registry knows of the versions; those that it does not know are absent."""
        from attrition.monitoring.performance import ServedModel

        found = {}
        for version in versions:
            try:
                package = self._registry().load(str(version))
            except NotFound:
                continue
            found[str(version)] = ServedModel(package.schema, package.evaluation.metrics.get("auc"))
        return found


def _known_until(history: pd.DataFrame, now: datetime) -> datetime:
    from attrition.data.outcomes import complete_until

    moment = complete_until(history, now)
    if moment is None:
        remedy = "record who left, and when: attrition outcomes import FILE"
        raise NotFound(Fault("outcomes", "none was recorded, so no prediction has a label", "", remedy))
    return moment
