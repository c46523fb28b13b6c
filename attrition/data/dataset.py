"""A stored snapshot with everything that is known about it; what training and the gates are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrition.data.employees import EmployeeTable
    from attrition.data.findings import QualityReport
    from attrition.data.tables import SnapshotRef


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of a snapshot, the version they are stored as, and what the checks found in them."""

    table: EmployeeTable
    snapshot: SnapshotRef
    quality: QualityReport

    def __str__(self) -> str:
        """One line for terminals."""
        return f"snapshot {self.snapshot.version}: {len(self.table):,} rows from {self.snapshot.source}"

    def _repr_html_(self) -> str:
        return f"<p>{self}</p>{self.table.frame.head().to_html()}"
