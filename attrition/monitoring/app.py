"""The monitor as a Serve application of its own: ``import_path: attrition.monitoring.app:build`` in the YAML files.

A gauge lives as long as its process, so those of monitoring are set by one that Serve keeps alive: it is restarted when
it dies, and has no route. It shares nothing with the gateway but the tables.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrition.errors import ConfigError
from attrition.governance.audit import AuditLog
from attrition.governance.audit_export import Archive
from attrition.monitoring.gauges import GAUGES
from attrition.monitoring.live import LIVE_ROWS
from attrition.monitoring.monitor import Monitor
from attrition.serving.logs import join_serve
from attrition.settings import Settings, config_faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.monitor import Labels, Reading

logger = logging.getLogger(__name__)

MONITOR = "Monitor"
"""Name of the deployment."""

_PATIENCE_SECONDS = 300.0
"""Beyond its period, until a reading counts as hung and Serve gets to start another process."""


class MonitorOptions(BaseModel):
    """Arguments of the application."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refresh_seconds: Annotated[float, Field(ge=1, le=3_600)] = 30.0
    """Between two readings; Prometheus usually scrapes every 15 to 60 s."""
    live_rows: Annotated[int, Field(ge=1, le=1_000_000)] = LIVE_ROWS
    """Predictions in the live view."""
    addresses: dict[str, str] = {}
    """Fields of :class:`~attrition.settings.Settings` that win over the replica's environment."""


class GaugeExport:
    """Sets the gauges of Ray; made inside a replica."""

    def __init__(self) -> None:
        from ray.serve import metrics

        self._gauges = {name: metrics.Gauge(name, spec.description, spec.labels) for name, spec in GAUGES.items()}
        self._shown: set[tuple[str, Labels]] = set()

    def show(self, readings: Sequence[Reading]) -> None:
        """Set what was read; what was set before and was not read any more becomes NaN, as Ray's gauges stay."""
        values = {(name, labels): value for name, labels, value in readings}
        gone = dict.fromkeys(self._shown - values.keys(), math.nan)
        for (name, labels), value in {**values, **gone}.items():
            self._gauges[name].set(value, dict(zip(GAUGES[name].labels, labels, strict=True)))
        self._shown |= values.keys()


class MonitorReplica:
    """What Serve runs.

    Parameters
    ----------
    options
        Fields of :class:`MonitorOptions`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        join_serve()
        self._options = MonitorOptions.model_validate(options)
        overrides: dict[str, Any] = dict(self._options.addresses)
        self._settings = Settings.from_environment(**overrides)
        self._monitor = Monitor(
            self._settings.tables, self._reference, live_rows=self._options.live_rows, exported=self._exported
        )
        self._export = GaugeExport()
        self._read_at = time.monotonic()
        threading.Thread(target=self._run, name="attrition-monitor", daemon=True).start()

    def check_health(self) -> None:
        """Serve calls this; raises when nothing was read for too long, and Serve starts another process."""
        if time.monotonic() - self._read_at > self._options.refresh_seconds + _PATIENCE_SECONDS:
            raise RuntimeError("the monitor does not read its sources any more")

    def _run(self) -> None:
        while True:
            try:
                self._export.show(self._monitor.read(datetime.now(UTC)))
                self._read_at = time.monotonic()
            except Exception:  # a fault in one reading must not end the thread; check_health sees when it stays
                logger.exception("A reading of the monitor failed")
            time.sleep(self._options.refresh_seconds)

    def _reference(self, version: str) -> DriftReference:
        from attrition.registry.models import ModelRegistry  # it brings MLflow, which nothing else here needs

        return ModelRegistry(self._settings).load(version).drift_reference

    def _exported(self) -> datetime | None:
        """Until when the audit log is exported: now, when every event is."""
        if not self._settings.audit_export:
            return None
        newest = Archive(self._settings.audit_export).newest()
        if newest is None:
            return None
        with AuditLog.open(self._settings.database_url) as log:
            last = log.records(limit=1)
        is_complete = not last or last[-1].sequence <= newest.head.sequence
        return datetime.now(UTC) if is_complete else datetime.fromisoformat(newest.head.time)


def build(args: dict[str, Any]) -> Any:
    """The application, for Serve's declarative deployment.

    Parameters
    ----------
    args
        Fields of :class:`MonitorOptions`.

    Raises
    ------
    ConfigError
        An unknown key or a value out of range.
    """
    from ray import serve

    try:
        options = MonitorOptions.model_validate(args)
    except ValidationError as error:
        raise ConfigError(config_faults("args", error, MonitorOptions)) from error
    return serve.deployment(name=MONITOR)(MonitorReplica).bind(options.model_dump())
