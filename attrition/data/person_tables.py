"""The Delta tables as places that hold something about a person: snapshots, predictions, outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.data.holdings import Holding, json_rows
from attrition.data.outcomes import OUTCOMES
from attrition.data.predictions import PREDICTIONS
from attrition.data.removal import DataFiles, fence, is_person, open_table, reading, remove_rows, vacuum
from attrition.data.tables import SNAPSHOTS, StoredVersion, Tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    import pyarrow as pa
    from deltalake import DeltaTable

    from attrition.data.retention import RetentionPolicy

OLD_FILES = "old files"
"""Place of rows that no current version reads, in files that are not deleted yet."""

_ID = "employee_id"
_FILE = "__filename"  # pyarrow's own column


class LogStore:
    """Rows of a table that appends make: predictions or outcomes.

    Parameters
    ----------
    root
        Folder or URI that holds one folder per table.
    name
        Of the table.
    date_column
        Column with the time of a row.
    policy
        Says for how long old files stay.
    storage_options
        Credentials and options of the object store; by default they come from the environment.
    """

    def __init__(
        self,
        root: str,
        name: str,
        date_column: str,
        policy: RetentionPolicy,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._uri = f"{root.rstrip('/')}/{name}"
        self._date = date_column
        self._policy = policy
        self._options = storage_options

    def holdings(self, pseudonym: str) -> list[Holding]:
        """The rows of the latest version, and those in files that wait for their deletion."""
        table = open_table(self._uri, self._options)
        if table is None:
            return []
        rows = _scan(table, self._uri, pseudonym, [_ID, self._date])
        found = []
        if rows.num_rows:
            columns = tuple(name for name in table.to_pyarrow_dataset().schema.names)
            place = f"version {table.version()}"
            found = [Holding(self.name, place, rows.num_rows, columns, *_period(rows[self._date]))]
        return found + _old_holdings(self.name, self._uri, self._options, table.file_uris(), pseudonym)

    def values(self, pseudonym: str) -> list[dict[str, Any]]:
        """Rows of the latest version."""
        table = open_table(self._uri, self._options)
        return [] if table is None else json_rows(_scan(table, self._uri, pseudonym).to_pandas())

    def fence(self, *, now: datetime) -> None:
        """See :func:`attrition.data.removal.fence`."""
        fence(self._uri, self._options, now=now)

    def erase(self, pseudonym: str) -> int:
        """Remove the rows, then the old files."""
        table = open_table(self._uri, self._options)
        if table is None:
            return 0
        is_partitioned = "day" in table.metadata().partition_columns
        rows = _scan(table, self._uri, pseudonym, [_ID, *(["day"] if is_partitioned else [])])
        days = set(rows["day"].to_pylist()) if is_partitioned else None
        n_rows = remove_rows(self._uri, self._options, _ID, rows[_ID].to_pylist(), days=days)
        hours = self._policy.old_file_hours
        vacuum(self._uri, self._options, hours=hours, stray_hours=self._policy.stray_file_hours)
        if not hours:
            current = open_table(self._uri, self._options)
            assert current is not None
            _delete_strays(self._uri, self._options, current.file_uris(), pseudonym)
        return n_rows


class SnapshotStore:
    """Rows of every snapshot version.

    Parameters
    ----------
    tables
        The project's tables.
    policy
        Says for how long old files stay.
    """

    name = SNAPSHOTS

    def __init__(self, tables: Tables, policy: RetentionPolicy) -> None:
        self._tables = tables
        self._policy = policy

    def holdings(self, pseudonym: str) -> list[Holding]:
        """One for each version with the person, and those in files that wait for their deletion."""
        found = []
        for stored in self._tables.stored():
            table = self._tables.open_commit(stored.commit)
            rows = _scan(table, self._tables.uri, pseudonym, [_ID, "snapshot_date"])
            if rows.num_rows:
                columns = tuple(name for name in table.to_pyarrow_dataset().schema.names if name != "row_number")
                place = f"version {stored.ref.version}"
                note = f"from {stored.ref.source}"
                period = _period(rows["snapshot_date"])
                found.append(Holding(self.name, place, rows.num_rows, columns, *period, note))
        if open_table(self._tables.uri, self._tables.options) is None:
            return found
        return found + _old_holdings(self.name, self._tables.uri, self._tables.options, self._live(), pseudonym)

    def values(self, pseudonym: str) -> list[dict[str, Any]]:
        """Rows of every version, with its number."""
        rows: list[dict[str, Any]] = []
        for stored in self._tables.stored():
            found = _scan(self._tables.open_commit(stored.commit), self._tables.uri, pseudonym).to_pandas()
            rows += [{"version": stored.ref.version, **row} for row in json_rows(found)]
        return rows

    def fence(self, *, now: datetime) -> None:
        """See :func:`attrition.data.removal.fence`."""
        fence(self._tables.uri, self._tables.options, now=now)

    def erase(self, pseudonym: str) -> int:
        """Write every version with the person again, then delete the old files."""
        if open_table(self._tables.uri, self._tables.options) is None:
            return 0
        n_rows = 0
        for version in self._tables.stored():
            ids = self._ids(version, pseudonym)
            if ids:
                n_rows += self._tables.erase_rows(version.ref.version, ids)
        self._restore_latest()
        self.clean()
        if not self._policy.old_file_hours:
            _delete_strays(self._tables.uri, self._tables.options, self._live(), pseudonym)
        return n_rows

    def clean(self, *, dry_run: bool = False) -> int:
        """Delete the files that no version needs; how many there are."""
        return vacuum(
            self._tables.uri,
            self._tables.options,
            hours=self._policy.old_file_hours,
            stray_hours=self._policy.stray_file_hours,
            keep_versions=lambda: [stored.commit for stored in self._tables.stored()],
            dry_run=dry_run,
        )

    def _restore_latest(self) -> None:
        """Make the latest version the table's content again: rewriting an older one, now or before a crash, hid it."""
        head = open_table(self._tables.uri, self._tables.options)
        stored = self._tables.stored()
        if not stored or head is None:
            return
        current = stored[-1]
        if set(head.file_uris()) != set(self._tables.open_commit(current.commit).file_uris()):
            self._tables.erase_rows(current.ref.version, frozenset())

    def _ids(self, version: StoredVersion, pseudonym: str) -> frozenset[str]:
        ids = _scan(self._tables.open_commit(version.commit), self._tables.uri, pseudonym, [_ID])[_ID]
        return frozenset(ids.to_pylist())

    def _live(self) -> list[str]:
        """Files of the commits that stand for the versions."""
        return [uri for stored in self._tables.stored() for uri in self._tables.open_commit(stored.commit).file_uris()]


def person_tables(tables: Tables, root: str, policy: RetentionPolicy) -> list[LogStore | SnapshotStore]:
    """The tables of a project in the order of an erasure: what still grows first, what others point at last."""
    return [
        LogStore(root, PREDICTIONS, "time", policy),
        LogStore(root, OUTCOMES, "recorded_at", policy),
        SnapshotStore(tables, policy),
    ]


def _scan(table: DeltaTable, uri: str, pseudonym: str, columns: list[str] | None = None) -> pa.Table:
    """Rows of a person; other columns than the ids are read only of files in which the person stands."""
    import pyarrow as pa

    found = []
    with reading(uri):
        dataset = table.to_pyarrow_dataset()
        names = columns or list(dataset.schema.names)
        schema = pa.schema([dataset.schema.field(name) for name in names])
        files = _files_with(dataset, pseudonym)
        for fragment in dataset.get_fragments() if files else ():
            if fragment.path in files:
                rows = fragment.to_table(schema=dataset.schema, columns=list({_ID, *names}))
                found.append(rows.filter(is_person(rows[_ID], pseudonym)).select(names).cast(schema))
    return pa.concat_tables(found) if found else schema.empty_table()


def _files_with(dataset: Any, pseudonym: str) -> set[str]:
    """Paths of the files in which a person stands: no statistic tells, so every id is compared."""
    import pyarrow.compute as pc

    found = set()
    # compared here and not by a filter: rewritten files hold another kind of text, which filters do not take
    for batch in dataset.to_batches(columns=[_ID, _FILE]):
        if pc.any(is_person(batch[_ID], pseudonym)).as_py():
            found.add(batch[_FILE][0].as_py())  # a batch is of one file
    return found


def _period(moments: pa.ChunkedArray) -> tuple[str | None, str | None]:
    import pyarrow.compute as pc

    edges = pc.min_max(moments).as_py()
    first, last = edges["min"], edges["max"]
    return (first.date().isoformat(), last.date().isoformat()) if first is not None else (None, None)


def _old_holdings(
    name: str, uri: str, options: Mapping[str, str] | None, live: Iterable[str], pseudonym: str
) -> list[Holding]:
    files = DataFiles(uri, options)
    counts = [n_rows for path in files.unused(live) if (n_rows := files.rows_of(path, pseudonym))]
    note = f"{len(counts)} files that no version reads and that are not deleted yet"
    return [Holding(name, OLD_FILES, sum(counts), note=note)] if counts else []


def _delete_strays(uri: str, options: Mapping[str, str] | None, live: Iterable[str], pseudonym: str) -> None:
    """Delete the files with the person that no version names.

    Their writers were refused, or are about to be: the tombstone and the fence stand. So no age has to be waited for.
    """
    files = DataFiles(uri, options)
    for path in files.unused(live):
        if files.rows_of(path, pseudonym):
            files.delete(path)
