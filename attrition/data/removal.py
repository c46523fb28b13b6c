"""Removing rows from Delta tables, and the files behind them.

Two things make this harder than a DELETE. The log of a Delta table keeps the text of every DELETE for ever, with the
pseudonym in it; a MERGE with the pseudonym as *data* records only its condition. And a removed row stays in the old
file, which older versions of the table still read, until that file is deleted.

Pseudonyms are random, so no statistic, partition or order tells which files hold a person: the column of ids is
scanned, and only files with the person are written anew. Measured by ``tests/benchmarks/bench_erasure.py``.
"""

from __future__ import annotations

import contextlib
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attrition.data.delta import ATTEMPTS
from attrition.errors import Fault, PlatformError
from attrition.governance.identity import REPEAT_MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    import pyarrow as pa
    from deltalake import DeltaTable

FENCE = "attrition.erasure"
"""Application transaction that every erasure leaves in every table; its number is the time, Unix microseconds."""

MAX_MERGE_ROWS = 500_000
"""Rows of the days that one merge looks through, some 300 MB of memory; a larger day is looked through alone."""

_COLUMN = "employee_id"


def open_table(uri: str, options: Mapping[str, str] | None = None) -> DeltaTable | None:
    """The latest version; None when nothing was ever written.

    Raises
    ------
    PlatformError
        The storage does not answer, or the table's log is damaged.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(uri, storage_options=dict(options or {}))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise PlatformError(Fault(uri, "the table cannot be read", "", "check the address and the storage")) from error


@contextmanager
def reading(uri: str) -> Iterator[None]:
    """A context in which the files of a table are read.

    Raises
    ------
    PlatformError
        They cannot be read, or were replaced by an erasure that runs at the same time.
    """
    import pyarrow as pa
    from deltalake.exceptions import DeltaError

    try:
        yield
    except (DeltaError, OSError, pa.ArrowException) as error:
        found = f"its files cannot be read ({type(error).__name__})"
        raise PlatformError(Fault(uri, found, "", "check the storage, and repeat the command")) from error


def is_person(ids: pa.ChunkedArray | pa.Array, pseudonym: str) -> pa.ChunkedArray | pa.Array:
    """Mask: ids that are the pseudonym, or a numbered repetition of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = ids.cast(pa.string())
    return pc.or_kleene(pc.equal(texts, pseudonym), pc.starts_with(texts, pattern=pseudonym + REPEAT_MARK))


def fence(uri: str, options: Mapping[str, str] | None, *, now: datetime) -> None:
    """Commit nothing but a note, so that a writer which looked at the table before now is refused and looks again.

    Raises
    ------
    PlatformError
        The table cannot be written.
    """
    import pyarrow as pa
    from deltalake import CommitProperties, Transaction, write_deltalake

    def note(table: DeltaTable) -> None:
        nothing = pa.schema(table.schema().to_arrow()).empty_table()
        moment = int(now.timestamp() * 1e6)
        write_deltalake(
            table,
            nothing,
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(FENCE, moment)]),
        )

    rewritten(uri, options, note)


def remove_rows(
    uri: str,
    options: Mapping[str, str] | None,
    column: str,
    values: Sequence[str],
    *,
    days: Collection[date] | None = None,
) -> int:
    """Delete the rows whose `column` is one of `values`, without a trace of them in the log; how many there were.

    Parameters
    ----------
    days
        Partitions that have such rows, so that the others are not read; None for a table without partitions.

    Raises
    ------
    PlatformError
        The table cannot be written, or others came first `ATTEMPTS` times.
    """
    import pyarrow as pa

    if not values:
        return 0
    if days is not None and len(days) > 1:
        table = open_table(uri, options)
        sizes = {} if table is None else rows_by_day(table)
        chunks = _chunks(days, sizes)
        if len(chunks) > 1:
            return sum(remove_rows(uri, options, column, values, days=chunk) for chunk in chunks)
    source = pa.table({column: pa.array(sorted(set(values)), pa.string())})
    condition = f"target.{column} = source.{column}"
    if days is not None:
        literals = ", ".join(f"DATE '{day}'" for day in sorted(days))
        condition = f"target.day IN ({literals}) AND {condition}"

    def merge(table: DeltaTable) -> int:
        # a streamed source has no statistics, which would stand in the log
        done = (
            table.merge(
                source,
                condition,
                source_alias="source",
                target_alias="target",
                streamed_exec=True,
            )
            .when_matched_delete()
            .execute()
        )
        return int(done["num_target_rows_deleted"])

    return rewritten(uri, options, merge) or 0


def rows_by_day(table: DeltaTable) -> dict[date, int]:
    """Day → rows, of a table that is partitioned by ``day``; from the log, without reading a row."""
    import pyarrow as pa

    counts: dict[date, int] = {}
    for file in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        counts[file["partition.day"]] = counts.get(file["partition.day"], 0) + int(file["num_records"])
    return counts


def _chunks(days: Collection[date], sizes: Mapping[date, int]) -> list[list[date]]:
    """Days in runs of at most `MAX_MERGE_ROWS` rows, or of one day: a merge holds what it looks through in memory."""
    chunks: list[list[date]] = []
    n_rows = 0
    for day in sorted(days):
        n_rows += sizes.get(day, 0)
        if not chunks or n_rows > MAX_MERGE_ROWS:
            chunks.append([])
            n_rows = sizes.get(day, 0)
        chunks[-1].append(day)
    return chunks


def rewritten(uri: str, options: Mapping[str, str] | None, change: Callable[[DeltaTable], Any]) -> Any:
    """What `change` returns for the latest version, tried again when another writer came first; None without a table.

    Raises
    ------
    PlatformError
        The table cannot be written, or others came first `ATTEMPTS` times.
    """
    from deltalake.exceptions import CommitFailedError, DeltaError

    for attempt in range(ATTEMPTS):
        table = open_table(uri, options)
        if table is None:
            return None
        try:
            return change(table)
        except CommitFailedError:
            time.sleep(random.uniform(0.5, 1.0) * min(0.02 * 2**attempt, 4.0))  # noqa: S311 (spreads the writers)
        except (DeltaError, OSError) as error:
            remedy = "check the address, the storage and its free space, and repeat"
            raise PlatformError(Fault(uri, "the table cannot be written", "", remedy)) from error
    raise PlatformError(Fault(uri, f"other writers came first {ATTEMPTS} times", "", "repeat the command"))


class DataFiles:
    """The Parquet files in the folder of a table, whether a version of it names them or not.

    Parameters
    ----------
    uri, options
        Of the table.
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        from deltalake.fs import DeltaStorageHandler
        from pyarrow import fs

        self.uri = uri
        self._fs = fs.PyFileSystem(DeltaStorageHandler(uri, dict(options or {})))

    def unused(self, live: Iterable[str]) -> list[str]:
        """Files that are not among `live`, as paths inside the folder.

        They were removed by a later version, or left behind by a write that never became one.

        Parameters
        ----------
        live
            Addresses of files, as :meth:`deltalake.DeltaTable.file_uris` gives them.
        """
        used = set(map(_name, live))
        return [path for path in self._paths() if _name(path) not in used]

    def existing(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` whose file is there: the log goes on naming files that a vacuum deleted."""
        there = set(map(_name, self._paths()))
        return [path for path in paths if _name(path) in there]

    def _paths(self) -> list[str]:
        from pyarrow import fs

        with reading(self.uri):
            found = self._fs.get_file_info(fs.FileSelector("", recursive=True))
        paths = [info.path for info in found if info.type == fs.FileType.File]
        return [path for path in paths if path.endswith(".parquet") and not path.startswith("_delta_log/")]

    def rows_of(self, path: str, pseudonym: str) -> int:
        """Rows of a person in a file; 0 also when the file was deleted meanwhile or was never completed."""
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import parquet

        try:
            with reading(self.uri), self._fs.open_input_file(path) as file:
                try:
                    ids = parquet.read_table(file, columns=[_COLUMN])[_COLUMN]
                except (pa.ArrowInvalid, KeyError):  # a write that was cut off holds no readable row
                    return 0
        except PlatformError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return 0
            raise
        return int(pc.sum(is_person(ids, pseudonym)).as_py() or 0)

    def delete(self, path: str) -> None:
        """Delete a file for good."""
        with reading(self.uri), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(path)


def _name(path: str) -> str:
    """Last part of a path or address, which holds a UUID: unique in a table."""
    return path.rpartition("/")[2]


def vacuum(
    uri: str,
    options: Mapping[str, str] | None,
    *,
    hours: int,
    stray_hours: int,
    keep_versions: Callable[[], Sequence[int]] | None = None,
    dry_run: bool = False,
) -> int:
    """Delete the files that no version needs any more; how many there are.

    Parameters
    ----------
    hours
        For which files outlive their removal, so that a reader which is under way can finish; >= 0.
    stray_hours
        For which files that no version ever named are spared: their writer may be about to commit; >= 1.
    keep_versions
        Gives the versions besides the latest whose files stay; called once the table was looked at, so that a version
        that is written meanwhile is among them or too new to be touched.
    dry_run
        Count, and delete nothing.

    Raises
    ------
    PlatformError
        The storage does not answer.
    """

    def clean(table: DeltaTable) -> int:
        keep = list(keep_versions()) if keep_versions is not None else None
        files, found = DataFiles(uri, options), set[str]()
        for age, full in ((hours, False), (max(stray_hours, hours, 1), True)):
            common = {"retention_hours": age, "enforce_retention_duration": False, "full": full, "keep_versions": keep}
            unneeded = set(files.existing(table.vacuum(dry_run=True, **common)))
            if unneeded and not dry_run:
                table.vacuum(dry_run=False, **common)
            found |= unneeded
        return len(found)

    return int(rewritten(uri, options, clean) or 0)
