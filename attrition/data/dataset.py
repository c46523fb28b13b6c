"""A stored snapshot with everything that is known about it; what training and the gates are given."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrition.data.employees import EmployeeTable
    from attrition.data.findings import QualityReport
    from attrition.data.tables import SnapshotRef


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a snapshot, the version they are stored as, and what the checks found in them.

    There is always a report: rows that were stored without one are checked when they are read.
    """

    table: EmployeeTable = field(repr=False)
    snapshot: SnapshotRef
    quality: QualityReport

    def __str__(self) -> str:
        """One line for terminals."""
        return f"snapshot {self.snapshot.version}: {len(self.table):,} rows from {self.snapshot.source}"

    def _repr_html_(self) -> str:
        # no rows: a notebook is saved and passed on
        return f"<p>{escape(str(self))}</p>{self.quality._repr_html_()}"
