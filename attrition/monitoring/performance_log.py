"""The table of measured and estimated performance, in Delta: what a process that lives on shows between two runs.

=============  ==========================================================================
created_at     timestamp, microseconds, UTC
version        str; semantic version
kind           str; ``realised`` or ``estimated``
period         str; bucket, or the window's first and last day
until          timestamp, UTC; up to which outcomes were complete, or the window's end
n              int64; persons behind the AUC
auc, low, high float64; with its 95 % interval, or the estimate's band
admission_auc  float64 or null; on the holdout when the version was admitted
=============  ==========================================================================

Figures of populations, and nothing about one person, so nothing here is erased with persons.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from attrition.data.delta import ProjectTable
from attrition.errors import Fault, NotFound, PlatformError
from attrition.monitoring.performance_report import Standing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pyarrow as pa

    from attrition.evaluation.intervals import Estimate
    from attrition.monitoring.performance_report import PerformanceReport
    from attrition.monitoring.window_estimate import WindowEstimate

PERFORMANCE = "performance"
"""Name of the table, and of its folder under the root."""

REALISED, ESTIMATED = "realised", "estimated"


@dataclass(frozen=True, slots=True)
class PerformanceFigure:
    """AUC of a version in a period; the attributes are the table's columns."""

    created_at: datetime
    version: str
    kind: str
    period: str
    until: datetime
    n: int
    auc: float
    low: float
    high: float
    admission_auc: float | None

    @classmethod
    def of_report(cls, report: PerformanceReport, *, now: datetime) -> tuple[Self, ...]:
        """Of each version the latest period with enough mature labels; a version without one is left out."""
        found = []
        for each in report.versions:
            measured = [bucket for bucket in each.buckets if bucket.standing is not Standing.NOT_MEASURED]
            if measured and measured[-1].metrics["auc"].defined:
                figures = _auc(measured[-1].metrics["auc"], each.baseline)
                found.append(cls(now, each.version, REALISED, measured[-1].name, report.as_of, *figures))
        return tuple(found)

    @classmethod
    def of_estimate(cls, estimate: WindowEstimate, *, now: datetime) -> tuple[Self, ...]:
        """Of the window; empty when the estimate is undefined."""
        auc = estimate.estimated.metrics["auc"]
        if not auc.defined:
            return ()
        period = f"{estimate.start:%Y-%m-%d}..{estimate.end:%Y-%m-%d}"
        figures = _auc(auc, estimate.baseline)
        return (cls(now, estimate.version, ESTIMATED, period, estimate.end, *figures),)


def _auc(auc: Estimate, admission: Estimate | None) -> tuple[int, float, float, float, float | None]:
    admitted = None if admission is None else float(admission.value)
    return auc.n, float(auc.value), float(auc.low), float(auc.high), admitted


def _schema() -> Any:
    import pyarrow as pa

    moment = pa.timestamp("us", "UTC")
    kinds: dict[str, pa.DataType] = {
        "created_at": moment,
        "version": pa.string(),
        "kind": pa.string(),
        "period": pa.string(),
        "until": moment,
        "n": pa.int64(),
        "auc": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]
    return pa.schema([*fields, pa.field("admission_auc", pa.float64())])


class PerformanceLog(ProjectTable):
    """Figures of a project: add, and the latest ones."""

    _NAME = PERFORMANCE
    _columns = staticmethod(_schema)
    _STATISTICS = ("created_at",)

    def add(self, figures: Sequence[PerformanceFigure]) -> None:
        """Store figures.

        Raises
        ------
        PlatformError
            The table cannot be written.
        """
        import pyarrow as pa

        if figures:
            rows = pa.Table.from_pylist([asdict(figure) for figure in figures], _schema())
            self._table.append(lambda _: (rows, {}))

    def latest(self) -> dict[tuple[str, str], PerformanceFigure]:
        """By kind and version, the figure that reaches furthest; of several the newest.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        try:
            rows = self._table.open().to_pyarrow_dataset().to_table().to_pylist()
        except NotFound:
            return {}
        except OSError as error:
            raise PlatformError(Fault(self.uri, "cannot be read", "", "try again")) from error
        figures = sorted((PerformanceFigure(**row) for row in rows), key=lambda each: (each.until, each.created_at))
        return {(figure.kind, figure.version): figure for figure in figures}
