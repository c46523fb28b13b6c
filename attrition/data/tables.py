"""Snapshots in Delta Lake: what a model was trained on, immutable, numbered and hashed.

The table ``snapshots`` holds one snapshot at a time; each write replaces the content and thereby makes a version. The
Delta version is the data version, and with the content hash it is the lineage of a model. What a frame cannot say
(schema, labels, sensitive attributes, quality report) stands in the metadata of the commit, so that a version is
complete in itself and written in one atomic step. :mod:`attrition.data.journal` reads them.

Erasing a person from a version means to write its remaining rows again and to delete the old files. The new commit
*stands for* the version: it keeps its number, and tells the content hashes that it had before, so that a model which
was trained on it still finds its data and learns why they differ. A version past its retention is struck off by a note
in the metadata of a later commit.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.delta import STATISTICS
from attrition.data.employees import EmployeeTable
from attrition.data.findings import QualityReport
from attrition.data.journal import (
    SNAPSHOT,
    SNAPSHOTS,
    STRUCK,
    Journal,
    SnapshotRef,
    Snapshots,
    StoredVersion,
    describe,
    facts,
    says_the_same,
)
from attrition.data.removal import rewritten
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, FeatureSchema
from attrition.data.tombstones import Tombstones
from attrition.errors import Fault, IntegrityError, NotFound, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from deltalake import CommitProperties, DeltaTable
    from numpy.typing import NDArray

__all__ = ["SNAPSHOTS", "SnapshotRef", "Snapshots", "StoredVersion", "Tables"]

_POSITION = "row_number"
_ATTEMPTS = 8

# Delta forgets old versions after 30 days unless told otherwise; a data version must outlive its models
_KEEP = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
    STATISTICS: SNAPSHOT_DATE,
}


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
        self.uri = f"{root.rstrip('/')}/{SNAPSHOTS}"
        self.options = dict(storage_options or {})
        self.tombstones = Tombstones(root, storage_options)

    def without_erased(self, table: EmployeeTable) -> EmployeeTable:
        """The rows of everybody who was not erased; `table` itself when that is all of them.

        Raises
        ------
        PlatformError
            The tombstones cannot be read.
        """
        erased = self.erased_rows(table)
        return table.take(~erased) if erased.any() else table

    def erased_rows(self, table: EmployeeTable) -> NDArray[np.bool_]:
        """Mask, shape (n_rows,): rows of persons who were erased.

        Raises
        ------
        PlatformError
            The tombstones cannot be read.
        """
        return self.tombstones.erased().mask(table.frame[EMPLOYEE_ID].to_list())

    def write_snapshot(self, table: EmployeeTable, report: QualityReport | None = None) -> SnapshotRef:
        """Reference to `table` in the store; written unless it is the latest snapshot already, with the same report.

        Rows of erased persons are left out.

        Equal rows with another report (of newer checks, say) make a new version with the same content hash; without a
        report the latest snapshot keeps the one that it has. An older snapshot of the same content is written again:
        the latest one is always what was imported last. The content hash says that both are the same data.

        Raises
        ------
        PlatformError
            The store cannot be written, or other writers came first `_ATTEMPTS` times.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        for attempt in range(_ATTEMPTS):
            store, journal = self._look()
            # looked at after the store: an erasure in between makes the commit fail, and the next look sees it
            table = self.without_erased(table)
            description = describe(table, report) | {"write_id": uuid.uuid4().hex}
            latest = journal.find(None)
            if latest is not None and says_the_same(latest.description, description):
                return latest.ref
            try:
                self._commit(store, table, {SNAPSHOT: description})
            except CommitFailedError:
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 (spreads the writers, hides nothing)
                continue
            except (DeltaError, OSError) as error:
                raise self._unwritable() from error
            # not simply the latest one: another writer may have followed already
            written = description["write_id"]
            return next(v.ref for v in self._look()[1].versions if v.description["write_id"] == written)
        raise PlatformError(Fault(self.uri, f"other writers came first {_ATTEMPTS} times", "", "try again"))

    def erase_rows(self, version: int, persons: frozenset[str]) -> int:
        """Write a version again without the rows of `persons` (by pseudonym); how many rows that were.

        The version keeps its number and becomes the latest commit of the table: write the latest version last. One
        that was struck off meanwhile is left alone.

        Raises
        ------
        IntegrityError
            The stored rows are damaged.
        PlatformError
            The store cannot be written.
        """

        def rewrite(store: DeltaTable, journal: Journal) -> int:
            stored = journal.find(version)
            if stored is None:
                return 0
            table, ref = self._read(stored), stored.ref
            gone = table.frame[EMPLOYEE_ID].isin(persons).to_numpy(bool)
            n_erased = int(gone.sum())
            kept = table.take(~gone)
            description = stored.rewritten(
                **facts(kept),
                write_id=uuid.uuid4().hex,
                n_erased=ref.n_erased + n_erased,
                earlier_hashes=[*ref.earlier_hashes, *([ref.content_hash] if n_erased else [])],
            )
            self._commit(store, kept, {SNAPSHOT: description})
            return n_erased

        return int(self._changed(rewrite) or 0)

    def strike(self, versions: Sequence[int], reason: str) -> None:
        """Take versions off the list; their rows stay until the files are deleted.

        Parameters
        ----------
        reason
            A few words that :meth:`read_snapshot` gives when somebody asks for one of them.

        Raises
        ------
        PlatformError
            The store cannot be written.
        """

        def note(store: DeltaTable, journal: Journal) -> None:
            struck = {STRUCK: {str(version): reason for version in versions}}
            latest = next((stored for stored in journal.versions if stored.ref.version not in versions), None)
            if latest is None:
                self._empty(store, struck)
            else:  # the latest of the others becomes the table's content
                self._commit(store, self._read(latest), {SNAPSHOT: latest.rewritten(), **struck})

        if versions:
            self._changed(note)

    def _changed(self, change: Callable[[DeltaTable, Journal], Any]) -> Any:
        """What `change` returns for the store and its journal; again when another writer came first."""

        def look_and_change(_: DeltaTable) -> Any:
            store, journal = self._look()
            assert store is not None
            return change(store, journal)

        return rewritten(self.uri, self.options, look_and_change)

    def _commit(self, store: DeltaTable | None, table: EmployeeTable, metadata: Mapping[str, Any]) -> None:
        """Make `table` the content, on top of the very version that `store` is."""
        import pyarrow as pa
        from deltalake import write_deltalake

        data = pa.Table.from_pandas(table.frame, preserve_index=False).replace_schema_metadata(None)
        write_deltalake(
            store if store is not None else self.uri,
            data.append_column(_POSITION, pa.array(np.arange(len(table)))),
            mode="overwrite",
            schema_mode="overwrite",
            name=SNAPSHOTS,
            configuration=_KEEP,
            commit_properties=_properties(metadata),
            storage_options=self.options or None,
        )

    def _empty(self, store: DeltaTable, metadata: Mapping[str, Any]) -> None:
        import pyarrow as pa
        from deltalake import write_deltalake

        nothing = pa.schema(store.schema().to_arrow()).empty_table()
        write_deltalake(store, nothing, mode="overwrite", commit_properties=_properties(metadata))

    def read_snapshot(self, version: int | None = None) -> tuple[EmployeeTable, SnapshotRef]:
        """Table and reference of a version, the latest when `version` is None; rows in the order they were written.

        Raises
        ------
        NotFound
            There is no snapshot, or none of that version; the existing versions are named.
        IntegrityError
            The stored rows are damaged, or not those that were written.
        """
        stored = self._stored(version)
        try:
            return self._read(stored), stored.ref
        except IntegrityError:
            again = self._stored(stored.ref.version)
            if again.commit == stored.commit:
                raise
            return self._read(again), again.ref  # somebody was erased between the look and the read

    def _read(self, stored: StoredVersion) -> EmployeeTable:
        ref, description = stored.ref, stored.description
        schema = FeatureSchema.from_dict(description["schema"])
        table = EmployeeTable.of(
            self._rows(stored.commit, ref.version),
            schema,
            sensitive=tuple(description["sensitive"]),
            surrogate_ids=description["surrogate_ids"],
            source=description["source"],
        )
        if table.content_hash() != ref.content_hash:
            raise IntegrityError(
                Fault(
                    f"{self.uri}, version {ref.version}",
                    "the rows are not those that were written",
                    "",
                    "import the extract again",
                )
            )
        return table

    def quality(self, version: int | None = None) -> QualityReport | None:
        """Quality report that was stored with a version; None when it was written without one.

        Raises
        ------
        NotFound
            As in :meth:`read_snapshot`.
        """
        document = self._stored(version).description["quality"]
        return None if document is None else QualityReport.from_dict(document)

    def snapshots(self) -> Snapshots:
        """Every snapshot, the oldest first; empty when there is none."""
        return Snapshots(version.ref for version in self.stored())

    def stored(self) -> list[StoredVersion]:
        """Every snapshot and where its rows lie, the oldest first."""
        return list(reversed(self._look()[1].versions))

    def open_commit(self, commit: int) -> DeltaTable:
        """The Delta table as of a commit, see :attr:`StoredVersion.commit`.

        Raises
        ------
        PlatformError
            The store does not answer.
        """
        return self._open(commit)

    def _rows(self, commit: int, version: int) -> pd.DataFrame:
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            data = self._open(commit).to_pyarrow_table()
        except (pa.ArrowException, DeltaError, OSError) as error:
            remedy = "import the extract again"
            raise IntegrityError(
                Fault(f"{self.uri}, version {version}", "files of it are missing or damaged", "", remedy)
            ) from error
        frame: pd.DataFrame = data.sort_by(_POSITION).drop_columns(_POSITION).to_pandas()
        return frame

    def _stored(self, version: int | None) -> StoredVersion:
        journal = self._look()[1]
        stored = journal.find(version)
        if stored is not None:
            return stored
        reason = None if version is None else journal.struck.get(version)
        if reason is not None:
            raise NotFound(Fault(f"{self.uri}, version {version}", reason, "", "import an extract of today"))
        if not journal.versions:
            raise NotFound(Fault(self.uri, "holds no snapshot yet", "", "attrition data import FILE stores one"))
        versions = ", ".join(str(other.ref.version) for other in journal.versions[:10])
        raise NotFound(Fault(self.uri, f"has no snapshot version {version}", f"the latest versions are {versions}"))

    def _look(self) -> tuple[DeltaTable | None, Journal]:
        """The table as it is, and its journal; both of the same version."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(self.uri, storage_options=self.options):
            return None, Journal()
        table = self._open()
        while True:
            history = table.history()
            latest = self._open()
            if latest.version() == table.version():
                return table, Journal.read(history)
            table = latest  # a commit in between shifts the numbers that history() counts down from the version

    def _open(self, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return DeltaTable(self.uri, version=version, storage_options=self.options)
        except DeltaError as error:
            raise PlatformError(
                Fault(self.uri, "the table cannot be read", "", "check the address and the storage")
            ) from error

    def _unwritable(self) -> PlatformError:
        remedy = "check that the folder exists and may be written"
        return PlatformError(Fault(self.uri, "the snapshot cannot be written", "", remedy))


def _properties(metadata: Mapping[str, Any]) -> CommitProperties:
    from deltalake import CommitProperties

    return CommitProperties({key: json.dumps(value) for key, value in metadata.items()}, max_commit_retries=0)
