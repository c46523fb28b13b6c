"""What the world and the model have become, under guard."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrition.data.tables import Tables
    from attrition.governance.guard import Guard
    from attrition.monitoring.drift import DriftPolicy
    from attrition.monitoring.drift_reports import StoredReport
    from attrition.monitoring.live import LiveDrift
    from attrition.monitoring.run import Execution
    from attrition.monitoring.windows import Window
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings
    from attrition.stations.alerts import Alerts

REPORTS = "drift reports"


class Monitoring:
    """Drift; reached as ``Workspace.monitoring``. Raises ``AccessDenied`` for who may not do it.

    Parameters
    ----------
    settings
        Where Ray, MLflow and the tables are.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    tables
        Gives the project's snapshots.
    ray
        Connects to the project's Ray.
    alerts
        Sends what drifted, where the caller wants that.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        registry: Callable[[], ModelRegistry],
        tables: Callable[[], Tables],
        ray: Callable[[], object],
        alerts: Alerts,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry
        self._tables = tables
        self._ray = ray
        self._alerts = alerts

    def drift(
        self,
        window: str = "7d",
        reference: str = "champion",
        *,
        policy: DriftPolicy | str | Path | None = None,
        schema: str | Path | None = None,
        notify: bool = False,
    ) -> StoredReport:
        """Compare a window with a reference, and store the report; the same comparison again yields the stored one.

        Parameters
        ----------
        window
            ``7d``, ``24h``, ``2w`` of the prediction log; ``2026-01-01..2026-01-31``, both days included; or a CSV or
            Parquet file, a folder of them or a Delta table with columns named as the features.
        reference
            Version or alias: its training rows. Or a file as above.
        policy
            What counts as drift, also as YAML file.
        schema
            YAML file of an own :class:`~attrition.data.schema.FeatureSchema` for a reference that is a file.
        notify
            Send the alert when it drifted, and say of an earlier one that it is over when it did not.

        Raises
        ------
        InputError, UsageError
            Window or reference cannot be used; every fault is named.
        PlatformError
            Ray, MLflow or the storage did not do its part.
        """
        from attrition.data.schema import FeatureSchema
        from attrition.monitoring.drift import DriftPolicy, Level
        from attrition.monitoring.drift_report import scope
        from attrition.monitoring.drift_run import run_drift
        from attrition.settings import load_yaml

        rules = load_yaml(Path(policy), DriftPolicy) if isinstance(policy, (str, Path)) else policy
        features = None if schema is None else FeatureSchema.from_yaml(schema)
        details = {"window": _shown(window), "reference": _shown(reference)}
        with self._guard.acting(Action.DRIFT_VERDICT, "drift", details=details) as entry:
            stored = run_drift(
                self._settings,
                self._registry,
                self._tables(),
                window,
                reference,
                self.execution,
                now=datetime.now(UTC),
                policy=rules,
                schema=features,
            )
            report = stored.report
            entry.model_version = report.model_version or None
            entry.details |= {
                "report": report.report_id,
                "level": report.level.value,
                "drifted": list(report.drifted),
                "rows": report.n_window,
            }
        if notify and report.level is not Level.INSUFFICIENT:  # too few rows end nothing
            self._alerts.settle(scope(report.reference), report.to_alerts())
        return stored

    def live(self, n_rows: int | None = None, *, reference: str | None = None) -> LiveDrift:
        """Drift of the last predictions in the log, as the monitor beside the endpoint exports it; nothing is stored.

        Parameters
        ----------
        n_rows
            Predictions in view; None is the monitor's default.
        reference
            Version or alias that they are compared with; None is the version that answered most of them.

        Raises
        ------
        NotFound
            Nothing was logged yet, or no such version.
        PlatformError
            The log or the registry cannot be read.
        """
        from attrition.data.predictions import PredictionTable
        from attrition.errors import Fault, NotFound
        from attrition.monitoring.live import LIVE_ROWS, LastPredictions, live_drift

        self._guard.require(Action.DATA_VIEW, REPORTS)
        table, now = PredictionTable(self._settings.tables), datetime.now(UTC)
        recent = LastPredictions(table, n_rows or LIVE_ROWS).read(now)
        if recent is None:
            remedy = "they arrive a few seconds after the first answer of `attrition serve up`"
            raise NotFound(Fault("predictions", "none was logged yet", "", remedy))
        version = self._registry().resolve(reference or recent.version).version
        return live_drift(self._registry().load(version).drift_reference, recent, n_ahead=table.n_ahead(now))

    def drift_reports(self, last: int | None = None) -> list[StoredReport]:
        """Stored reports, the newest first.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        from attrition.monitoring.drift_reports import DriftReports

        self._guard.require(Action.DATA_VIEW, REPORTS)
        return DriftReports(self._settings.tables).list(last=last)

    def drift_report(self, report_id: str) -> StoredReport:
        """The stored report with an id, or with one that begins so.

        Raises
        ------
        NotFound
            There is none, or several begin so.
        PlatformError
            The table cannot be read.
        """
        from attrition.monitoring.drift_reports import DriftReports

        self._guard.require(Action.DATA_VIEW, REPORTS)
        return DriftReports(self._settings.tables).get(report_id)

    def drift_page(self, report_id: str) -> str:
        """The page of a stored report: one HTML file with plots, also of the last ones over time.

        Raises
        ------
        NotFound, PlatformError
            See :meth:`drift_report`.
        """
        from attrition.monitoring.drift_page import MAX_POINTS, drift_page
        from attrition.monitoring.drift_reports import DriftReports

        report = self.drift_report(report_id).report
        table = DriftReports(self._settings.tables)
        reports = table.list(reference_digest=report.reference_digest, last=MAX_POINTS)
        return drift_page(report, [stored.report for stored in reports])

    def execution(self, window: Window) -> Execution:
        """Who reads the parts of a window: threads of this process, or tasks of the project's Ray."""
        from attrition.monitoring import run

        # an embedded Ray has this machine's cores only, and takes seconds to start
        if self._settings.ray_address is None or len(window.parts) <= run.SMALL_PARTS:
            return run.in_threads
        self._ray()
        return run.on_ray


def _shown(text: str) -> str:
    """A window or reference for the audit log: of a file its name, as an address may hold a secret."""
    return "".join(c if c.isprintable() else "?" for c in text.rstrip("/").rpartition("/")[2].partition("?")[0])[:200]
