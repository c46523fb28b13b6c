"""Snapshots in Delta Lake: what a model was trained on, immutable, numbered and hashed.

The table ``snapshots`` holds one snapshot at a time; each write replaces the content and thereby makes a version. The
Delta version is the data version, and with the content hash it is the lineage of a model. What a frame cannot say
(schema, labels, sensitive attributes, quality report) stands in the metadata of the commit, so that a version is
complete in itself and written in one atomic step.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.employees import EmployeeTable
from attrition.data.findings import QualityReport
from attrition.data.schema import FeatureSchema
from attrition.errors import Fault, IntegrityError, NotFound, PlatformError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from deltalake import DeltaTable

SNAPSHOTS = "snapshots"
"""Name of the table, and of its folder under the root."""

_METADATA = "attrition"
_POSITION = "row_number"
_ATTEMPTS = 8
_ESSENCE = ("content_hash", "schema", "sensitive", "surrogate_ids")

# Delta forgets old versions after 30 days unless told otherwise; a data version must outlive its models
_KEEP = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """Which data: enough to read them again and to notice that they are others.

    Attributes
    ----------
    table : str
        Name of the table.
    version : int
        Delta version.
    content_hash : str
        Of :meth:`~attrition.data.employees.EmployeeTable.content_hash`.
    n_rows : int
    first_date, last_date : str or None
        ISO dates of the earliest and latest snapshot; None when the extract had no date.
    source : str
        File name or simulator run.
    schema_digest : str
        Of the feature schema.
    """

    table: str
    version: int
    content_hash: str
    n_rows: int
    first_date: str | None
    last_date: str | None
    source: str
    schema_digest: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SnapshotRef:
        """Inverse of :meth:`to_dict`."""
        return cls(**document)


class Tables:
    """The Delta tables of a project.

    Parameters
    ----------
    root
        Folder or URI (``abfss://...``) that holds one folder per table.
    storage_options
        Credentials and options of the object store; by default they come from the environment.

    Notes
    -----
    Safe to use from several threads and processes at once: a writer that another one overtook tries again.
    """

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self._uri = f"{root.rstrip('/')}/{SNAPSHOTS}"
        self._options = dict(storage_options or {})

    def write_snapshot(self, table: EmployeeTable, report: QualityReport | None = None) -> SnapshotRef:
        """Reference to `table` in the store; written unless it is the latest snapshot already, with the same report.

        Equal rows with another report (of newer checks, say) make a new version with the same content hash; without a
        report the latest snapshot keeps the one that it has. An older snapshot of the same content is written again:
        the latest one is always what was imported last. The content hash says that both are the same data.

        Raises
        ------
        PlatformError
            The store cannot be written, or other writers came first `_ATTEMPTS` times.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        description = _description(table, report) | {"write_id": uuid.uuid4().hex}
        for attempt in range(_ATTEMPTS):
            latest = self._history()[:1]
            if latest and _says_the_same(latest[0][_METADATA], description):
                return _ref(latest[0])
            try:
                self._commit(table, description)
            except CommitFailedError:
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 (spreads the writers, hides nothing)
                continue
            except (DeltaError, OSError) as error:
                remedy = "check that the folder exists and may be written"
                raise PlatformError(Fault(self._uri, "the snapshot cannot be written", "", remedy)) from error
            # not simply the latest one: another writer may have followed already
            return next(_ref(e) for e in self._history() if e[_METADATA]["write_id"] == description["write_id"])
        raise PlatformError(Fault(self._uri, f"other writers came first {_ATTEMPTS} times", "", "try again"))

    def _commit(self, table: EmployeeTable, description: Mapping[str, Any]) -> None:
        import pyarrow as pa
        from deltalake import CommitProperties, write_deltalake

        data = pa.Table.from_pandas(table.frame, preserve_index=False).replace_schema_metadata(None)
        write_deltalake(
            self._uri,
            data.append_column(_POSITION, pa.array(np.arange(len(table)))),
            mode="overwrite",
            schema_mode="overwrite",
            name=SNAPSHOTS,
            configuration=_KEEP,
            commit_properties=CommitProperties({_METADATA: json.dumps(description)}, max_commit_retries=0),
            storage_options=self._options,
        )

    def read_snapshot(self, version: int | None = None) -> tuple[EmployeeTable, SnapshotRef]:
        """Table and reference of a version, the latest when `version` is None; rows in the order they were written.

        Raises
        ------
        NotFound
            There is no snapshot, or none of that version; the existing versions are named.
        IntegrityError
            The stored rows are damaged, or not those that were written.
        """
        entry = self._entry(version)
        ref = _ref(entry)
        description = entry[_METADATA]
        schema = FeatureSchema.from_dict(description["schema"])
        table = EmployeeTable.of(
            self._rows(ref.version),
            schema,
            sensitive=tuple(description["sensitive"]),
            surrogate_ids=description["surrogate_ids"],
            source=description["source"],
        )
        if table.content_hash() != ref.content_hash:
            raise IntegrityError(
                Fault(
                    f"{self._uri}, version {ref.version}",
                    "the rows are not those that were written",
                    "",
                    "import the extract again",
                )
            )
        return table, ref

    def quality(self, version: int | None = None) -> QualityReport | None:
        """Quality report that was stored with a version; None when it was written without one.

        Raises
        ------
        NotFound
            As in :meth:`read_snapshot`.
        """
        document = self._entry(version)[_METADATA]["quality"]
        return None if document is None else QualityReport.from_dict(document)

    def snapshots(self) -> list[SnapshotRef]:
        """Every snapshot, the oldest first; empty when there is none."""
        return [_ref(entry) for entry in reversed(self._history())]

    def _rows(self, version: int) -> pd.DataFrame:
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            data = self._open(version).to_pyarrow_table()
        except (pa.ArrowException, DeltaError, OSError) as error:
            remedy = "import the extract again"
            raise IntegrityError(
                Fault(f"{self._uri}, version {version}", "files of it are missing or damaged", "", remedy)
            ) from error
        frame: pd.DataFrame = data.sort_by(_POSITION).drop_columns(_POSITION).to_pandas()
        return frame

    def _entry(self, version: int | None) -> dict[str, Any]:
        history = self._history()
        for entry in history:
            if version is None or entry["version"] == version:
                return entry
        if not history:
            raise NotFound(Fault(self._uri, "holds no snapshot yet", "", "attrition data import FILE stores one"))
        versions = ", ".join(str(entry["version"]) for entry in history[:10])
        raise NotFound(Fault(self._uri, f"has no snapshot version {version}", f"the latest versions are {versions}"))

    def _history(self) -> list[dict[str, Any]]:
        """Commits that wrote a snapshot, the latest first, with their metadata decoded."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(self._uri, storage_options=self._options):
            return []
        table = self._open()
        while True:
            history = table.history()
            latest = self._open()
            if latest.version() == table.version():
                break
            table = latest  # a commit in between shifts the numbers that history() counts down from the version
        entries = [entry for entry in history if _METADATA in entry]
        return [{**entry, _METADATA: json.loads(entry[_METADATA])} for entry in entries]

    def _open(self, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return DeltaTable(self._uri, version=version, storage_options=self._options)
        except DeltaError as error:
            raise PlatformError(
                Fault(self._uri, "the table cannot be read", "", "check the address and the storage")
            ) from error


def _description(table: EmployeeTable, report: QualityReport | None) -> dict[str, Any]:
    dates = table.dates.dropna()
    return {
        "content_hash": table.content_hash(),
        "n_rows": len(table),
        "first_date": dates.min().date().isoformat() if len(dates) else None,
        "last_date": dates.max().date().isoformat() if len(dates) else None,
        "source": table.source,
        "schema_digest": table.schema.digest,
        "schema": table.schema.to_dict(),
        "sensitive": list(table.sensitive),
        "surrogate_ids": table.surrogate_ids,
        "quality": report.to_dict() if report else None,
    }


def _says_the_same(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    reported = new["quality"] is None or stored["quality"] == new["quality"]
    return reported and all(stored[key] == new[key] for key in _ESSENCE)


def _ref(entry: Mapping[str, Any]) -> SnapshotRef:
    names = ("content_hash", "n_rows", "first_date", "last_date", "source", "schema_digest")
    return SnapshotRef(
        table=SNAPSHOTS, version=int(entry["version"]), **{name: entry[_METADATA][name] for name in names}
    )
