"""What the gauges say: read from what runs have stored, and from the last predictions, again and again.

Drift is that of the newest report against a registered version; a comparison of two files says nothing about what is
served. A source that cannot be read keeps its last figures, and is counted: one storage that does not answer must not
silence the rest.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from attrition.data.delta import n_rows
from attrition.data.outcomes import OUTCOMES
from attrition.data.predictions import PREDICTIONS, PredictionTable
from attrition.errors import AttritionError, InputError
from attrition.monitoring.drift import DriftPolicy, Level
from attrition.monitoring.drift_reports import DRIFT_REPORTS, DriftReports
from attrition.monitoring.live import LIVE_ROWS, LastPredictions, live_drift
from attrition.monitoring.performance_log import PERFORMANCE, PerformanceLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from attrition.data.delta import ProjectTable
    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.drift import FeatureDrift

T = TypeVar("T")

logger = logging.getLogger(__name__)

Labels = tuple[str, ...]
"""Values of a gauge's labels, in the order of :data:`attrition.monitoring.gauges.GAUGES`."""

Reading = tuple[str, Labels, float]

_LEVELS = {Level.STABLE: 0.0, Level.MODERATE: 1.0, Level.MAJOR: 2.0, Level.INSUFFICIENT: math.nan}
_RETRY = timedelta(minutes=5)
"""Pause before a version's reference is asked for again that could not be had."""


class Monitor:
    """Reads what the gauges say; for one thread.

    Parameters
    ----------
    tables
        Folder or URI of the project's tables.
    reference
        Gives the drift reference of a version; asked once for each version that is met among the last predictions.
    live_rows
        Predictions in the live view.
    policy
        What counts as drift there.
    exported
        Gives the time until which the audit log is exported; None: it never was.
    """

    def __init__(
        self,
        tables: str,
        reference: Callable[[str], DriftReference],
        *,
        live_rows: int = LIVE_ROWS,
        policy: DriftPolicy | None = None,
        exported: Callable[[], datetime | None] = lambda: None,
    ) -> None:
        self._root = tables
        self._policy = policy or DriftPolicy()
        self._reports = DriftReports(tables)
        self._performance = PerformanceLog(tables)
        self._last = LastPredictions(PredictionTable(tables), live_rows)
        self._reference = reference
        self._exported = exported
        self._references: dict[str, DriftReference] = {}
        self._refused: dict[str, datetime] = {}
        self._known: dict[str, list[Reading]] = {}
        self._read: dict[str, tuple[int | None, Any]] = {}

    def read(self, now: datetime) -> list[Reading]:
        """Every gauge's value.

        Parameters
        ----------
        now
            With a time zone.
        """
        failed = 0
        for name, source in (
            ("drift", self._drift),
            ("live", self._live),
            ("performance", self._figures),
            ("tables", self._tables),
            ("the audit log", self._audit),
        ):
            try:
                self._known[name] = list(source(now))
            except AttritionError as error:
                failed += 1
                logger.warning("Monitoring of %s keeps its last figures: %s", name, error)
        readings = [reading for known in self._known.values() for reading in known]
        own = [("monitor_timestamp_seconds", (), now.timestamp()), ("monitor_failed_sources", (), float(failed))]
        return [*readings, *own]

    def _drift(self, now: datetime) -> Iterator[Reading]:
        found = self._unless_unchanged(self._reports, self._reports.standing)
        if found is None:
            return
        completed, stored = found
        yield "drift_run_timestamp_seconds", (), completed.timestamp()
        yield "drift_run_age_seconds", (), (now - completed).total_seconds()
        yield "drift_level", (), _LEVELS[stored.report.level]
        yield "drift_window_rows", (), float(stored.report.n_window)
        yield from _of_features("data_drift_magnitude", "feature_mean_shift_percent", stored.report.features)

    def _live(self, now: datetime) -> Iterator[Reading]:
        recent = self._last.read(now)
        yield "live_rows", (), float(recent.n_rows if recent else 0)
        if recent is None or recent.n_rows < self._policy.min_rows:
            return
        reference = self._reference_of(recent.version, now)
        if reference is None:
            return
        live = live_drift(reference, recent, self._policy)
        yield "live_drift_level", (), _LEVELS[live.level]
        yield from _of_features("live_drift_magnitude", "live_mean_shift_percent", live.features)

    def _reference_of(self, version: str, now: datetime) -> DriftReference | None:
        if version not in self._references and now >= self._refused.get(version, now):
            try:
                self._references = {version: self._reference(version)}  # the one in use: a reference is not small
            except InputError as error:
                self._refused = {version: now + _RETRY}
                logger.warning("No live view of %s: %s", version, error)
        return self._references.get(version)

    def _figures(self, _: datetime) -> Iterator[Reading]:
        admission: dict[str, float] = {}
        for (kind, version), figure in self._unless_unchanged(self._performance, self._performance.latest).items():
            yield f"{kind}_auc", (version,), figure.auc
            yield f"{kind}_auc_high", (version,), figure.high
            if figure.admission_auc is not None:
                admission[version] = figure.admission_auc
        for version, auc in admission.items():
            yield "admission_auc", (version,), auc

    def _unless_unchanged(self, table: ProjectTable, read: Callable[[], T]) -> T:
        """What is read of a table; what was read of it before while nobody has written to it."""
        version = table.version  # before the reading: what is written meanwhile is then read again
        known = self._read.get(table.uri)
        if known is None or known[0] != version:
            known = self._read[table.uri] = version, read()
        found: T = known[1]
        return found

    def _tables(self, _: datetime) -> Iterator[Reading]:
        for name in (PREDICTIONS, OUTCOMES, DRIFT_REPORTS, PERFORMANCE):
            yield "table_rows", (name,), float(n_rows(f"{self._root.rstrip('/')}/{name}"))

    def _audit(self, _: datetime) -> Iterator[Reading]:
        exported = self._exported()
        if exported is not None:
            yield "audit_export_timestamp_seconds", (), exported.timestamp()


def _of_features(magnitude: str, shift: str, features: tuple[FeatureDrift, ...]) -> Iterator[Reading]:
    for each in features:
        if each.level is Level.INSUFFICIENT:  # a handful of rows is far from everything, and must not alarm
            continue
        if each.psi is not None:
            yield magnitude, (each.feature,), each.psi
        if each.mean_shift_percent is not None:
            yield shift, (each.feature,), each.mean_shift_percent
