"""The table of drift reports, in Delta: one row per report, its document as JSON beside what is searched for.

=================  ==================================================================================
report_id          str; see :mod:`attrition.monitoring.drift_report`
created_at         timestamp, microseconds, UTC
reference          str; version, or name of a file
model_version      str; empty when the reference is a file
reference_digest   str; SHA-256 of the reference's distributions
window             str; as asked for
window_start,      timestamp or null; of a period
window_end
n_window           int64; rows compared
level              str; of the whole
drifted            list of str; features that drifted
run_id             str; run of MLflow with the pages and metrics
document           str; the report as JSON
=================  ==================================================================================

A report holds distributions and figures of populations, and nothing about one person, so it is not erased with persons.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.data.delta import ProjectTable, transaction
from attrition.errors import Fault, NotFound, PlatformError
from attrition.monitoring.drift_report import DriftReport

if TYPE_CHECKING:
    import builtins
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import pyarrow as pa
    from deltalake import DeltaTable

DRIFT_REPORTS = "drift_reports"
"""Name of the table, and of its folder under the root."""


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A report with the run of MLflow that shows it."""

    report: DriftReport
    run_id: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**self.report.to_dict(), "run_id": self.run_id}


def _schema() -> pa.Schema:
    import pyarrow as pa

    moment = pa.timestamp("us", "UTC")
    return pa.schema(
        [
            pa.field("report_id", pa.string(), nullable=False),
            pa.field("created_at", moment, nullable=False),
            pa.field("reference", pa.string(), nullable=False),
            pa.field("model_version", pa.string(), nullable=False),
            pa.field("reference_digest", pa.string(), nullable=False),
            pa.field("window", pa.string(), nullable=False),
            pa.field("window_start", moment),
            pa.field("window_end", moment),
            pa.field("n_window", pa.int64(), nullable=False),
            pa.field("level", pa.string(), nullable=False),
            pa.field("drifted", pa.list_(pa.string()), nullable=False),
            pa.field("run_id", pa.string(), nullable=False),
            pa.field("document", pa.string(), nullable=False),
        ]
    )


class DriftReports(ProjectTable):
    """The stored drift reports of a project: add, find, list."""

    _NAME = DRIFT_REPORTS
    _columns = staticmethod(_schema)
    _STATISTICS = ("created_at",)

    def add(self, report: DriftReport, run_id: str) -> bool:
        """Store a report; False when it is stored already.

        Raises
        ------
        PlatformError
            The table cannot be written.
        """
        import pyarrow as pa

        row = {
            "report_id": report.report_id,
            "created_at": report.created_at,
            "reference": report.reference,
            "model_version": report.model_version,
            "reference_digest": report.reference_digest,
            "window": report.window,
            "window_start": report.start,
            "window_end": report.end,
            "n_window": report.n_window,
            "level": report.level.value,
            "drifted": list(report.drifted),
            "run_id": run_id,
            "document": json.dumps(report.to_dict(), allow_nan=False),
        }

        def unless_stored(table: DeltaTable) -> tuple[pa.Table, Mapping[str, int]] | None:
            name = f"drift-{report.report_id}"
            if transaction(table, name) >= 0:
                return None
            return pa.Table.from_pylist([row], _schema()), {name: 0}

        return self._table.append(unless_stored)

    def get(self, report_id: str) -> StoredReport:
        """The report with an id, or with an id that begins so.

        Raises
        ------
        NotFound
            There is none, or several begin so.
        PlatformError
            The table cannot be read.
        """
        from pyarrow import compute, dataset

        found = self._read(compute.starts_with(dataset.field("report_id"), report_id) if report_id else None)
        if len(found) != 1:
            what = "there is no such report" if not found else f"{len(found)} reports begin so"
            raise NotFound(Fault(f"drift report {report_id}", what, "", "`attrition drift list` names them"))
        return found[0]

    def find(self, report_id: str) -> StoredReport | None:
        """The report with this very id, or None."""
        from pyarrow import dataset

        found = self._read(dataset.field("report_id") == report_id)
        return found[0] if found else None

    def list(self, *, reference_digest: str | None = None, last: int | None = None) -> builtins.list[StoredReport]:
        """Reports, the newest first.

        Parameters
        ----------
        reference_digest
            Only those against this reference.
        last
            At most so many; None is all. No document of another is read.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        from pyarrow import dataset

        wanted = None if reference_digest is None else dataset.field("reference_digest") == reference_digest
        if last is not None:
            made = sorted(self._rows(["report_id", "created_at"], wanted), key=_created_at, reverse=True)[:last]
            if not made:
                return []  # no list of ids: an empty one has no type, which no column is compared with
            wanted = dataset.field("report_id").isin([row["report_id"] for row in made])
        return self._read(wanted)

    def standing(self) -> tuple[datetime, StoredReport] | None:
        """When the last run against a registered version was made, and of such reports the one that reaches furthest.

        A look back at an old period must not pass for the present. None without any; one document is read.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        from pyarrow import dataset

        of_a_version = dataset.field("model_version") != ""
        rows = self._rows(["report_id", "created_at", "window_end"], of_a_version)
        if not rows:
            return None
        latest = max(rows, key=lambda row: (row["window_end"] or row["created_at"], row["created_at"]))
        (stored,) = self._read(dataset.field("report_id") == latest["report_id"])
        return max(row["created_at"] for row in rows), stored

    def _read(self, wanted: Any) -> builtins.list[StoredReport]:
        rows = self._rows(["created_at", "run_id", "document"], wanted)
        rows.sort(key=_created_at, reverse=True)
        return [StoredReport(DriftReport.from_dict(json.loads(row["document"])), row["run_id"]) for row in rows]

    def _rows(self, columns: Sequence[str], wanted: Any) -> builtins.list[dict[str, Any]]:
        try:
            data = self._table.open().to_pyarrow_dataset()
            rows: builtins.list[dict[str, Any]] = data.to_table(columns=columns, filter=wanted).to_pylist()
        except NotFound:
            return []
        except OSError as error:
            raise PlatformError(Fault(self.uri, "cannot be read", "", "try again")) from error
        return rows


def _created_at(row: Mapping[str, Any]) -> datetime:
    moment: datetime = row["created_at"]
    return moment
