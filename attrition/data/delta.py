"""Growing Delta tables: made on first use, written by many processes, each write exactly once or not at all.

A writer looks at one version of the table, decides from it what is to be added, and commits on top of that very
version. When somebody else was faster the storage refuses, and the writer looks again. So a decision ("this segment is
not in the table yet") still holds at the moment it is acted upon.

A write that carries application transactions (`txn` actions of the Delta protocol: an application's name and a rising
number) records them in the same atomic commit as the rows. Asking for the number afterwards tells whether an
interrupted write arrived.

Rows leave only by erasure and retention, see :mod:`attrition.data.removal`. The log of a Delta table is never
rewritten, so nothing about a person may stand in it: files have statistics of the columns named, and of no others, as
the extremes of every other column would be one person's values.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from attrition.errors import Fault, NotFound, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa
    from deltalake import DeltaTable

ATTEMPTS = 12
"""Tries of one write; with the pauses between them about 20 s, enough for dozens of writers."""

STATISTICS = "delta.dataSkippingStatsColumns"
"""Table property: the columns whose extremes per file the log keeps."""

MERGED_BYTES = 32 * 2**20
"""Size of a file that merging makes, about 300,000 predictions: small enough that a reader of a period skips most."""

NEVER = -1
"""Number of an application transaction that never happened."""


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did to the files of a table.

    Attributes
    ----------
    n_before, n_after : int
        Files that the table consists of.
    n_deleted : int
        Files deleted that no version of the last seven days needs.
    """

    n_before: int
    n_after: int
    n_deleted: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)


class AppendOnlyTable:
    """One Delta table that appends make.

    Safe to use from several threads, processes and machines at once.

    Parameters
    ----------
    uri
        Folder or address (``abfss://...``).
    schema
        Columns of a new table; a write may add more.
    statistics
        Columns of which the log keeps the extremes per file; none that is about a person.
    partition_by
        Columns that divide the files into folders.
    storage_options
        Credentials and options of the object store; by default they come from the environment.
    """

    def __init__(
        self,
        uri: str,
        schema: pa.Schema,
        *,
        statistics: Sequence[str],
        partition_by: Sequence[str] = (),
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = uri
        self._schema = schema
        self._statistics = ",".join(statistics)
        self._partition_by = list(partition_by)
        self._options = dict(storage_options or {})

    def exists(self) -> bool:
        """Whether anything was ever written.

        Raises
        ------
        PlatformError
            The storage does not answer.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return bool(DeltaTable.is_deltatable(self.uri, storage_options=self._options))
        except (DeltaError, OSError) as error:
            raise self._unreadable() from error

    def open(self) -> DeltaTable:
        """The latest version.

        Raises
        ------
        NotFound
            Nothing was ever written.
        PlatformError
            The storage does not answer, or the table's log is damaged.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return DeltaTable(self.uri, storage_options=self._options)
        except TableNotFoundError as error:
            raise NotFound(Fault(self.uri, "there is no such table yet")) from error
        except (DeltaError, OSError) as error:
            raise self._unreadable() from error

    def append(self, rows: Callable[[DeltaTable], tuple[pa.Table, Mapping[str, int]] | None]) -> bool:
        """Add what `rows` makes of the latest version, exactly once; False when it makes nothing.

        Parameters
        ----------
        rows
            Called with the table as it is, again whenever another writer came first. Returns the rows to add and the
            application transactions (name → number) to record with them, or None.

        Raises
        ------
        PlatformError
            The table cannot be written, or others came first `ATTEMPTS` times.
        """
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError

        for attempt in range(ATTEMPTS):
            try:
                table = self._open_or_create()
                made = rows(table)
                if made is None:
                    return False
                data, transactions = made
                write_deltalake(
                    table,
                    data,
                    mode="append",
                    schema_mode="merge",
                    commit_properties=CommitProperties(
                        app_transactions=[Transaction(name, number) for name, number in transactions.items()],
                        max_commit_retries=0,  # a retry would append on top of a version that nobody looked at
                    ),
                )
            except CommitFailedError:
                time.sleep(random.uniform(0.5, 1.0) * min(0.02 * 2**attempt, 4.0))  # noqa: S311 (spreads the writers)
                continue
            except (DeltaError, OSError) as error:
                remedy = "check the address, the storage and its free space"
                raise PlatformError(Fault(self.uri, "the table cannot be written", "", remedy)) from error
            return True
        raise PlatformError(Fault(self.uri, f"other writers came first {ATTEMPTS} times", "", "try again"))

    def merge_files(self, partition: tuple[str, str] | None = None) -> None:
        """Write the rows of many small files into few.

        No row changes. Readers keep the version that they have opened. Whoever writes to the same rows meanwhile wins.

        Parameters
        ----------
        partition
            Column and value that name one partition; None is the whole table.

        Raises
        ------
        NotFound
            Nothing was ever written.
        PlatformError
            Somebody else wrote to the same rows, or the storage does not answer; nothing has changed then.

        Notes
        -----
        Delta's own OPTIMIZE says of its files that their content did not change, and deltalake 1.6 therefore lets a
        second one that runs at the same time commit as well: every row is there twice then. Replacing the partition by
        its own content is a change like any other, which conflicts with all that it should conflict with. Two million
        predictions of a day take about 4 s and 0.8 GB.
        """
        from deltalake import write_deltalake
        from deltalake.exceptions import CommitFailedError, DeltaError
        from pyarrow import ArrowException

        table = self.open()
        try:
            write_deltalake(
                table,
                table.to_pyarrow_dataset()
                .scanner(filter=_equals(table, partition), batch_readahead=2, fragment_readahead=1)
                .to_reader(),
                mode="overwrite",
                target_file_size=MERGED_BYTES,
                predicate=f"{partition[0]} = '{partition[1]}'" if partition else None,
            )
        except CommitFailedError as error:
            raise PlatformError(Fault(self.uri, "another process wrote to the same rows", "", "try again")) from error
        except (DeltaError, OSError, ArrowException) as error:
            raise PlatformError(Fault(self.uri, "the files cannot be merged", "", "check the storage")) from error

    def vacuum(self) -> int:
        """Delete the files that only versions of more than seven days ago need; how many there were.

        Also those that interrupted writes left behind, so the folder is listed; the log alone forgets a removed file
        before a daily run would get to it.

        Raises
        ------
        NotFound
            Nothing was ever written.
        PlatformError
            The storage does not answer.
        """
        from deltalake.exceptions import DeltaError

        try:
            return len(self.open().vacuum(dry_run=False, full=True))
        except (DeltaError, OSError) as error:
            raise PlatformError(Fault(self.uri, "old files cannot be deleted", "", "check the storage")) from error

    def _open_or_create(self) -> DeltaTable:
        from deltalake import DeltaTable

        try:
            return self.open()
        except NotFound:
            return DeltaTable.create(
                self.uri,
                self._schema,
                mode="ignore",
                partition_by=self._partition_by or None,
                configuration={STATISTICS: self._statistics},
                storage_options=self._options,
            )

    def _unreadable(self) -> PlatformError:
        return PlatformError(Fault(self.uri, "the table cannot be read", "", "check the address and the storage"))


def n_rows(uri: str, storage_options: Mapping[str, str] | None = None) -> int:
    """Rows of a table, from its log; 0 when there is no such table.

    Raises
    ------
    PlatformError
        The storage does not answer, or the table's log is damaged.
    """
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        table = DeltaTable(uri, storage_options=dict(storage_options or {}))
        return int(sum(pa.table(table.get_add_actions()).column("num_records").to_pylist()))
    except TableNotFoundError:
        return 0
    except (DeltaError, OSError) as error:
        raise PlatformError(Fault(uri, "the table cannot be read", "", "check the address and the storage")) from error


def transaction(table: DeltaTable, name: str) -> int:
    """Number of the latest transaction of an application in a table; `NEVER` when there was none."""
    number: Any = table.transaction_version(name)
    return NEVER if number is None else int(number)


def _equals(table: DeltaTable, partition: tuple[str, str] | None) -> Any:
    """Condition of pyarrow for the rows of a partition; None is every row."""
    import pyarrow as pa
    from pyarrow import dataset

    if partition is None:
        return None
    column, value = partition
    kind = pa.schema(table.schema().to_arrow()).field(column).type
    return dataset.field(column) == pa.scalar(value).cast(kind)


class ProjectTable(ABC):
    """A growing table of a project, in a folder of its own under the root of its tables.

    Parameters
    ----------
    root
        Folder or URI that holds one folder per table.
    storage_options
        Credentials and options of the object store; by default they come from the environment.

    Attributes
    ----------
    uri : str
        Folder or address of the table.
    """

    _NAME: ClassVar[str]
    _STATISTICS: ClassVar[tuple[str, ...]]
    _PARTITION_BY: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = f"{root.rstrip('/')}/{self._NAME}"
        self._options = storage_options

    @staticmethod
    @abstractmethod
    def _columns() -> pa.Schema:
        """Columns of a new table."""

    @property
    def version(self) -> int | None:
        """Number of the latest version, which every write raises; None when nothing was ever written.

        Raises
        ------
        PlatformError
            The storage does not answer, or the table's log is damaged.
        """
        try:
            return int(self._table.open().version())
        except NotFound:
            return None

    @cached_property
    def _table(self) -> AppendOnlyTable:
        return AppendOnlyTable(
            self.uri,
            self._columns(),
            statistics=self._STATISTICS,
            partition_by=self._PARTITION_BY,
            storage_options=self._options,
        )
