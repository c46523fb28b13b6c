"""The prediction log as a Delta table: one row per prediction, partitioned by day, shared by all versions.

Why one nullable float64 column per feature, and not a map or a list: a column has statistics per file, is read without
the others, and is what a drift report and a retraining want. A version with other features adds its columns to the
table (schema merge); rows of versions without them are null there, and the row's ``version`` says whether null means
"missing" or "not a feature of this model". The columns carry a prefix, so a feature may be called ``version``.

=================  ==========================================================================================
prediction_id      str; UUID version 7 of the response
time               timestamp, microseconds, UTC; when the answer was made
day                date, UTC; the partition
version, variant   str; semantic version that answered, and the name under which it was deployed
reason             str; why this variant: ``sole``, ``sticky``, ``random``, ``pin``, ``shadow`` ...
shadow_of          str or null; of a shadow's row: the prediction_id that was answered instead
employee_id        str or null; the pseudonym, never the HR system's number
probability        float64 in [0, 1]; of leaving within the version's horizon
threshold          float64 in [0, 1]; of the version
decision           bool; ``probability >= threshold``, expected to leave
latency_us         int64; from the request's arrival in the replica to this record, the same for all of a request
feature_<name>     float64 or null (missing); one column per feature of any version
=================  ==========================================================================================
"""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.data import delta
from attrition.data.delta import Compaction, ProjectTable, transaction
from attrition.data.moments import in_utc
from attrition.data.tombstones import Tombstones
from attrition.errors import Fault, NotFound, PlatformError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

PREDICTIONS = "predictions"
"""Name of the table, and of its folder under the root."""

FEATURE = "feature_"
"""Prefix of a feature's column."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""By so much replicas' clocks may be ahead of a reader's; what is dated later was dated by a wrong one."""

EXPORT_SUFFIXES = (".parquet", ".csv")
"""Kinds of files that :meth:`PredictionTable.export` writes."""


def prediction_schema(features: Sequence[str] = ()) -> pa.Schema:
    """Columns of the table, with those of the named features."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("prediction_id", pa.string(), nullable=False),
            pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("day", pa.date32(), nullable=False),
            pa.field("version", pa.string(), nullable=False),
            pa.field("variant", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("shadow_of", pa.string()),
            pa.field("employee_id", pa.string()),
            pa.field("probability", pa.float64(), nullable=False),
            pa.field("threshold", pa.float64(), nullable=False),
            pa.field("decision", pa.bool_(), nullable=False),
            pa.field("latency_us", pa.int64(), nullable=False),
            *(pa.field(FEATURE + name, pa.float64()) for name in features),
        ]
    )


_BEFORE, _AFTER = timedelta(seconds=1), timedelta(minutes=10)
"""How far a row's time, that of the answer, may lie from the making of its identifier."""


@dataclass(frozen=True, slots=True)
class LoggedPrediction:
    """What is recorded of one answer.

    Attributes
    ----------
    prediction_id : str
    version : str
        Semantic version that answered.
    probability : float
        As served.
    features : mapping of str to float
        What it was computed from; NaN where missing. All NaN when retention has removed them.
    """

    prediction_id: str
    version: str
    probability: float
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What one version of the table has of a period.

    Attributes
    ----------
    version : int
    days : tuple of date
        In UTC, ascending, those with rows.
    columns : frozenset of str
    """

    version: int
    days: tuple[date, ...]
    columns: frozenset[str]


class PredictionTable(ProjectTable):
    """Logged predictions: append, read, export."""

    _NAME = PREDICTIONS
    _columns = staticmethod(prediction_schema)
    _STATISTICS = ("time",)
    _PARTITION_BY = ("day",)

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        super().__init__(root, storage_options)
        self._tombstones = Tombstones(root, storage_options)

    def committed(self, spools: Sequence[str]) -> dict[str, int]:
        """Number of the last segment of each spool whose rows are in the table; -1 for none.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        try:
            table = self._table.open()
        except NotFound:
            return dict.fromkeys(spools, -1)
        return {spool: transaction(table, spool) for spool in spools}

    def append(self, rows: pa.Table, segments: Mapping[str, int]) -> bool:
        """Add rows together with the note that they hold all segments up to these; False when they are there already.

        Rows of erased persons are left out.

        Parameters
        ----------
        rows
            With the columns of :func:`prediction_schema`.
        segments
            Spool → number of its last segment in `rows`. All earlier ones must be in the table or in `rows`.

        Raises
        ------
        PlatformError
            The table cannot be written, or holds some of the segments but not all.
        """

        def unless_committed(table: DeltaTable) -> tuple[pa.Table, Mapping[str, int]] | None:
            done = [transaction(table, spool) >= number for spool, number in segments.items()]
            if done and all(done):
                return None  # an earlier try arrived although its answer did not
            if any(done):
                found = f"{sum(done)} of {len(done)} spools are committed already, by somebody else"
                raise PlatformError(Fault(self.uri, found, "one committer per spool", "try again"))
            # looked at after the table: an erasure in between makes this commit fail, and the next look sees it
            return self._tombstones.erased().without(rows), segments

        return self._table.append(unless_committed)

    def tail(self, n: int = 20) -> pd.DataFrame:
        """The last `n` predictions, the oldest of them first; see the module for the columns.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            The table cannot be read.
        """
        since = _start_of_last(self._open(), n)
        return self.between(since).tail(n).reset_index(drop=True)

    def between(
        self, start: datetime | None = None, end: datetime | None = None, columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Predictions with ``start <= time < end``, in the order of time.

        Parameters
        ----------
        start, end
            With a time zone; None is unbounded.
        columns
            Columns to read; None is all but ``day``.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            The table cannot be read.
        """
        import pyarrow as pa

        wanted = None if columns is None else list(dict.fromkeys([*columns, "time", "prediction_id"]))
        schema, batches = self._scan(start, end, wanted)
        frame: pd.DataFrame = pa.Table.from_batches(batches, schema).to_pandas()
        frame = frame.sort_values(["time", "prediction_id"], ignore_index=True)
        return frame if columns is None else frame[list(columns)]

    def features(self) -> tuple[str, ...]:
        """Names of the features of any version, in the order of the table's columns.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            The table cannot be read.
        """
        names = self._open().to_pyarrow_dataset().schema.names
        return tuple(name.removeprefix(FEATURE) for name in names if name.startswith(FEATURE))

    def find(self, prediction_id: str, made_at: datetime) -> LoggedPrediction | None:
        """One prediction; None when it is not in the table.

        Parameters
        ----------
        made_at
            When the identifier was made, with a time zone: only files of that time are opened.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        import pyarrow as pa
        from pyarrow import dataset

        try:
            table = self._table.open()
        except NotFound:
            return None
        start, end = made_at - _BEFORE, made_at + _AFTER
        days = sorted({moment.astimezone(UTC).date() for moment in (start, end)})
        wanted = dataset.field("day").isin(pa.array(days, pa.date32()))
        kind = pa.timestamp("us", "UTC")
        wanted &= (dataset.field("time") >= pa.scalar(start, kind)) & (dataset.field("time") <= pa.scalar(end, kind))
        wanted &= dataset.field("prediction_id") == prediction_id
        try:
            rows = table.to_pyarrow_dataset().to_table(filter=wanted).to_pylist()
        except OSError as error:
            raise PlatformError(Fault(self.uri, "cannot be read", "", "try again")) from error
        if not rows:
            return None
        names = [name for name in rows[0] if name.startswith(FEATURE)]
        features = {name.removeprefix(FEATURE): rows[0][name] for name in names}
        known = {name: math.nan if value is None else float(value) for name, value in features.items()}
        return LoggedPrediction(prediction_id, rows[0]["version"], rows[0]["probability"], known)

    def look(self, start: datetime, end: datetime) -> Look:
        """Days on which there may be predictions with ``start <= time < end``, from the statistics of the files.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            The table cannot be read.
        """
        import pyarrow as pa

        table = self._open()
        days = {
            date.fromisoformat(str(file["partition.day"]))
            for file in pa.table(table.get_add_actions(flatten=True)).to_pylist()
            if file["num_records"] and in_utc(file["min.time"]) < end and in_utc(file["max.time"]) >= start
        }
        return Look(table.version(), tuple(sorted(days)), frozenset(table.to_pyarrow_dataset().schema.names))

    def batches(
        self, day: date, start: datetime, end: datetime, columns: Sequence[str], version: int, n_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Predictions of a day with ``start <= time < end`` as one version of the table has them, in no order.

        Parameters
        ----------
        day
            In UTC.
        version
            Of :meth:`look`.
        n_rows
            Of a batch, at most.

        Raises
        ------
        PlatformError
            The table, or this version of it, cannot be read.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            table = DeltaTable(self.uri, version=version, storage_options=dict(self._options or {}))
            # one file after the other and little ahead of need: memory must not grow with the day
            yield from table.to_pyarrow_dataset().to_batches(
                columns=list(columns),
                filter=_filter(day.isoformat(), start, end),
                batch_size=n_rows,
                batch_readahead=1,
                fragment_readahead=1,
                use_threads=False,
            )
        except (DeltaError, OSError) as error:
            raise PlatformError(Fault(self.uri, f"version {version} cannot be read", "", "try again")) from error

    def export(self, path: Path | str, start: datetime | None = None, end: datetime | None = None) -> int:
        """Write the predictions with ``start <= time < end`` to a file, and return how many there are.

        Read and written piece by piece, whatever the size; the file appears when it is complete. Days stand in order,
        rows of a day in none.

        Parameters
        ----------
        path
            Ends in ``.parquet`` or ``.csv``; an existing file is replaced.
        start, end
            With a time zone; None is unbounded.

        Raises
        ------
        UsageError
            Another suffix, or a place that cannot be written.
        NotFound
            Nothing was logged yet.
        PlatformError
            The table cannot be read.
        """
        path = Path(path)
        if path.suffix not in EXPORT_SUFFIXES:
            raise UsageError(Fault(str(path), "the suffix says no kind of file", ".parquet or .csv"))
        schema, batches = self._scan(start, end)
        n_rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600: about persons
            os.close(handle)
            try:
                with _writer(path.suffix, name, schema) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                        n_rows += batch.num_rows
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(Fault(str(path), f"cannot be written ({error.strerror})", "", "check the path")) from error
        return n_rows

    def compact(self, before: date | None = None) -> Compaction:
        """Merge the many small files of each day's appends into few, and delete those that nobody needs any more.

        Appending and reading go on meanwhile. Each day is one commit: an interruption keeps the days before.

        Parameters
        ----------
        before
            Leaves this day (UTC) and later ones as they are: a day that still grows conflicts with its own appends.
            None leaves out none.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            Another process wrote to the same day, or the storage does not answer.
        """
        small = self._n_files(below=delta.MERGED_BYTES // 4)
        n_before = self._n_files().total()
        for day in sorted(day for day, n in small.items() if n > 1):
            if before is None or day < before.isoformat():
                self._table.merge_files(("day", day))
        return Compaction(n_before, self._n_files().total(), self._table.vacuum())

    def n_ahead(self, now: datetime) -> int:
        """Predictions that a wrong clock has dated more than `CLOCK_TOLERANCE` after `now`.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        import pyarrow as pa
        from pyarrow import dataset

        ahead = dataset.field("time") > pa.scalar((now + CLOCK_TOLERANCE).astimezone(UTC), pa.timestamp("us", "UTC"))
        try:
            return int(self._table.open().to_pyarrow_dataset().count_rows(filter=ahead))
        except NotFound:
            return 0
        except OSError as error:
            raise PlatformError(Fault(self.uri, "cannot be read", "", "try again")) from error

    def recent_parts(self, n: int, columns: Sequence[str], now: datetime) -> Mapping[str, Callable[[], pa.Table]]:
        """The files that hold the last `n` predictions and perhaps some before them, each with what reads it.

        A file never changes, so its rows need to be read once, however often this is asked.

        Parameters
        ----------
        columns
            Those that no version has logged yet are left out.
        now
            Predictions that a wrong clock has dated later, by more than `CLOCK_TOLERANCE`, are not the last ones.

        Returns
        -------
        mapping of str to callable
            Empty when nothing was logged yet.

        Raises
        ------
        PlatformError
            The table cannot be read; so do the callables.
        """
        import pyarrow as pa
        from pyarrow import dataset

        try:
            table = self._table.open()
        except NotFound:
            return {}
        stored = table.to_pyarrow_dataset()
        until = (now + CLOCK_TOLERANCE).astimezone(UTC)
        time, kind = dataset.field("time"), pa.timestamp("us", "UTC")
        is_recent = (time >= pa.scalar(_start_of_last(table, n, until), kind)) & (time <= pa.scalar(until, kind))
        wanted = [name for name in columns if name in stored.schema.names]

        def reader(fragment: Any) -> Callable[[], pa.Table]:
            def read() -> pa.Table:
                try:
                    return fragment.to_table(schema=stored.schema, columns=wanted, filter=is_recent, use_threads=False)
                except OSError as error:
                    raise PlatformError(Fault(self.uri, "cannot be read", "", "try again")) from error

            return read

        return {fragment.path: reader(fragment) for fragment in stored.get_fragments(filter=is_recent)}

    def _n_files(self, *, below: float = float("inf")) -> Counter[str]:
        """Files of each day that are smaller than so many bytes."""
        import pyarrow as pa

        actions = pa.table(self._open().get_add_actions(flatten=True)).select(["partition.day", "size_bytes"])
        return Counter(str(file["partition.day"]) for file in actions.to_pylist() if file["size_bytes"] < below)

    def _scan(
        self, start: datetime | None, end: datetime | None, columns: Sequence[str] | None = None
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Schema and rows of a period, day after day; files outside it are not opened."""
        import pyarrow as pa

        if start is not None and end is not None and start > end:
            raise UsageError(
                Fault("the period", f"begins on {start:%Y-%m-%d} and ends before that", "", "exchange them")
            )
        table = self._open()
        stored = table.to_pyarrow_dataset()
        # a table of an earlier version lacks the columns that were added since, until the next append
        fixed = prediction_schema()
        fields = {field.name: field for field in (*fixed, *stored.schema)}
        names = list(columns) if columns is not None else [name for name in fields if name != "day"]
        unknown = sorted(set(names) - set(fields))
        if unknown:
            raise UsageError(Fault(self.uri, f"has no column {', '.join(unknown)}"))
        schema = pa.schema([fields[name] for name in names])
        dataset = stored.replace_schema(pa.schema(fields.values()))

        def batches() -> Iterator[pa.RecordBatch]:
            for day in sorted({partition["day"] for partition in table.partitions()}):
                if _is_within(day, start, end):
                    yield from dataset.to_batches(columns=names, filter=_filter(day, start, end))

        return schema, batches()

    def _open(self) -> DeltaTable:
        try:
            return self._table.open()
        except NotFound as error:
            remedy = "they arrive a few seconds after the first answer of `attrition serve up`"
            raise NotFound(Fault(self.uri, "no prediction was logged yet", "", remedy)) from error


_FOREVER = datetime.max.replace(tzinfo=UTC)


def _start_of_last(table: DeltaTable, n: int, until: datetime = _FOREVER) -> datetime:
    """A time since which there are at least `n` predictions, or all of them, from the statistics of the files.

    Files that begin after `until` do not count.
    """
    import pyarrow as pa

    actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    files = sorted(actions, key=lambda file: file["max.time"], reverse=True)
    since, n_found = until, 0
    for file in files:
        if n_found >= n:
            break
        if in_utc(file["min.time"]) > until:
            continue
        n_found += file["num_records"]
        since = min(since, in_utc(file["min.time"]))
    return since


def _is_within(day: str, start: datetime | None, end: datetime | None) -> bool:
    first = datetime.fromisoformat(day).replace(tzinfo=UTC)
    return (start is None or first + timedelta(days=1) > start) and (end is None or first < end)


def _filter(day: str, start: datetime | None, end: datetime | None) -> Any:
    import pyarrow as pa
    from pyarrow import dataset

    condition = dataset.field("day") == pa.scalar(datetime.fromisoformat(day).date())
    kind = pa.timestamp("us", "UTC")
    if start is not None:
        condition &= dataset.field("time") >= pa.scalar(start.astimezone(UTC), kind)
    if end is not None:
        condition &= dataset.field("time") < pa.scalar(end.astimezone(UTC), kind)
    return condition


def _writer(suffix: str, path: str, schema: pa.Schema) -> Any:
    from pyarrow import csv, parquet

    if suffix == ".csv":
        return csv.CSVWriter(path, schema)
    return parquet.ParquetWriter(path, schema, compression="zstd")
