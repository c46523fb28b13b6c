"""What is compared with a reference: a period of the prediction log, or a file, as parts that a task reads alone.

A window is planned from headers, footers and logs; rows are read part by part, a bounded number at a time. A part pins
what it reads (version of a table, bytes of a file), so that a task that is run again sees the same rows.

Of the prediction log a shadow's rows are left out, as they repeat requests that another version answered, and so are
rows whose features retention has removed. The score is compared for rows of the reference's own version only; features
for rows of every version that reads them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from attrition.data.predictions import FEATURE, PredictionTable
from attrition.data.retention import first_to_go
from attrition.errors import ExtractError, Fault, InsufficientData, PlatformError
from attrition.evaluation.references import PROBABILITY
from attrition.monitoring.buckets import parse_period
from attrition.serving.batch_arrays import to_doubles
from attrition.serving.batch_checks import to_numbers
from attrition.serving.batch_plan import plan_input
from attrition.serving.batch_read import read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date, datetime

    from numpy.typing import NDArray

    from attrition.serving.batch_plan import InputPlan, Partition

    Columns = Mapping[str, NDArray[np.float64]]

BLOCK_ROWS = 2**17
"""Rows that are sketched at a time: enough to make a sort worthwhile, 10 MB of features."""


class Part(Protocol):
    """A part of a window.

    Attributes
    ----------
    number : int
        Position in the window.
    """

    @property
    def number(self) -> int:
        """Position in the window."""
        ...

    def read(self, names: Sequence[str], *, as_text: bool = False) -> Iterator[Block]:
        """Its rows, some at a time; repeatable.

        Parameters
        ----------
        names
            Features.
        as_text
            Take cells of a CSV file one by one; slower, and tells which are no numbers.

        Raises
        ------
        NotNumeric
            Another try `as_text` will tell; what was read so far does not count.
        ExtractError
            Values that are no numbers, a damaged file.
        PlatformError
            The storage did not answer; reading again may help.
        """
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows.

    Attributes
    ----------
    columns : mapping of str to ndarray of shape (n_rows,), float64
        Features, and the score under `PROBABILITY` where there is one; NaN is missing.
    n_rows : int
    n_left_out : int
        Rows read beside them that do not count.
    """

    columns: Columns
    n_rows: int
    n_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A window and its parts.

    Attributes
    ----------
    text : str
        As it was asked for; of a file its name.
    start, end : datetime or None
        Of a period, ``start <= time < end``; None for a file.
    parts : tuple of Part
    fingerprint : str
        SHA-256 (hex) of what is read; equal ones hold the same rows.
    n_ahead : int
        Rows of the log that a wrong clock has dated later than the present.
    """

    text: str
    start: datetime | None
    end: datetime | None
    parts: tuple[Part, ...]
    fingerprint: str
    n_ahead: int = 0


def plan_window(text: str, names: Sequence[str], *, tables: str, now: datetime, version: str | None = None) -> Window:
    """The window that a text names.

    Parameters
    ----------
    text
        ``7d``, ``24h``, ``2w``: the prediction log of so long until `now`; ``2026-01-01..2026-01-31``: of these days in
        UTC, both included (a time of day, ``2026-01-01T06:00``, is a moment, and the second one is excluded); anything
        else: a CSV, CSV.gz or Parquet file, a folder of them or a Delta table.
    names
        Features of the reference.
    tables
        Folder or URI of the project's tables.
    now
        With a time zone.
    version
        Whose scores count, in the prediction log; None: of every version.

    Raises
    ------
    UsageError
        A period that ends before it begins.
    NotFound
        No such file, or nothing was logged yet.
    ExtractError
        The file lacks features, all of which are named, or cannot be read.
    InsufficientData
        The period has no predictions.
    PlatformError
        The storage did not answer.
    """
    period = parse_period(text, now=now)
    if period is None:
        return _file_window(text, names)
    return _log_window(text, *period, names=names, tables=tables, now=now, version=version)


@dataclass(frozen=True, slots=True)
class FilePart:
    """Row groups, a byte range or the whole of a file.

    Attributes
    ----------
    partition : Partition
        See :mod:`attrition.serving.batch_plan`.
    n_parts : int
        For messages.
    """

    partition: Partition
    n_parts: int

    @property
    def number(self) -> int:
        """Position in the window."""
        return self.partition.number

    def read(self, names: Sequence[str], *, as_text: bool = False) -> Iterator[Block]:
        """See :meth:`Part.read`."""
        wanted = [*names, *([PROBABILITY] if PROBABILITY in self.partition.columns else [])]
        where = self.partition.describe(self.n_parts)
        bad: dict[str, str] = {}
        held: list[list[NDArray[np.float64]]] = []
        n_held = 0
        for rows in self._rows(wanted, where, as_text=as_text):
            arrays = [_numbers(name, column, bad) for name, column in zip(wanted, rows.features, strict=True)]
            if not bad:
                held.append(arrays)
                n_held += len(arrays[0])
            if n_held >= BLOCK_ROWS:
                yield _block(wanted, held, n_held)
                held, n_held = [], 0
        if bad:
            remedy = "correct the export, or convert it first"
            raise ExtractError(
                Fault(f"{where}: column {name}", found, "numbers are needed", remedy) for name, found in bad.items()
            )
        if n_held:
            yield _block(wanted, held, n_held)

    def _rows(self, wanted: Sequence[str], where: str, *, as_text: bool) -> Iterator[Any]:
        try:
            yield from read_rows(self.partition, wanted, (), where, as_text=as_text)
        except ExtractError as error:
            if "://" in self.partition.path and isinstance(error.__cause__, OSError):
                remedy = "check network and credentials, then the file"
                raise PlatformError(Fault(where, "cannot be read from its storage", "", remedy)) from error
            raise


@dataclass(frozen=True, slots=True)
class LogPart:
    """A day of the prediction log.

    Attributes
    ----------
    number : int
    tables : str
    table_version : int
    day : date
    start, end : datetime
        Of the window.
    version : str or None
        Whose scores count.
    """

    number: int
    tables: str
    table_version: int
    day: date
    start: datetime
    end: datetime
    version: str | None

    def read(self, names: Sequence[str], *, as_text: bool = False) -> Iterator[Block]:
        """See :meth:`Part.read`; the log holds numbers only."""
        del as_text
        features = {FEATURE + name: name for name in names}
        columns = [*features, PROBABILITY, "version", "reason"]
        table = PredictionTable(self.tables)
        batches = table.batches(self.day, self.start, self.end, columns, self.table_version, BLOCK_ROWS)
        for batch in batches:
            place = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
            versions = np.asarray(place["version"].to_pylist(), object)
            shadows = np.asarray(place["reason"].to_pylist(), object) == "shadow"
            values = {name: to_doubles(place[column]) for column, name in features.items()}
            known = np.zeros(batch.num_rows, bool)
            for name in first_to_go(list(values)):
                known |= ~np.isnan(values[name])
            counts = known & ~shadows
            left_out = batch.num_rows - int(counts.sum())
            for version in sorted(set(versions[counts])):
                rows = counts & (versions == version)
                yield self._of_version(version, rows, values, to_doubles(place[PROBABILITY]), left_out)
                left_out = 0
            if left_out:
                yield Block({}, 0, left_out)

    def _of_version(
        self, version: str, rows: NDArray[np.bool_], values: Columns, score: NDArray[np.float64], left_out: int
    ) -> Block:
        own = self.version is None or version == self.version
        columns = {name: column[rows] for name, column in values.items()}
        if not own:  # another version's rows without a single value: a feature that it does not read
            columns = {name: column for name, column in columns.items() if not np.isnan(column).all()}
        if own:
            columns[PROBABILITY] = score[rows]
        return Block(columns, int(rows.sum()), left_out)


def file_parts(path: str) -> tuple[str, tuple[str, ...], tuple[FilePart, ...]]:
    """Name, columns and parts of a file, a folder of files or a Delta table.

    Raises
    ------
    NotFound, ExtractError, UsageError, PlatformError
        See :func:`attrition.serving.batch_plan.plan_input`.
    """
    return _parts(plan_input(path))


def _parts(plan: InputPlan) -> tuple[str, tuple[str, ...], tuple[FilePart, ...]]:
    parts = tuple(FilePart(partition, len(plan.partitions)) for partition in plan.partitions)
    return Path(plan.path).name, plan.partitions[0].columns, parts


def _file_window(path: str, names: Sequence[str]) -> Window:
    plan = plan_input(path)
    name, present, parts = _parts(plan)
    missing = [each for each in names if each not in present]
    if missing:
        remedy = "rename the columns as the reference has them, or compare with a reference that lacks them"
        raise ExtractError(Fault(name, f"has no column {each}", "the reference has it", remedy) for each in missing)
    return Window(name, None, None, parts, plan.fingerprint)


def _log_window(
    text: str, start: datetime, end: datetime, *, names: Sequence[str], tables: str, now: datetime, version: str | None
) -> Window:
    table = PredictionTable(tables)
    look, n_ahead = table.look(start, end), table.n_ahead(now)
    if not look.days:
        found = f"no prediction was logged from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        found += f"; {n_ahead:,} are dated later than now" if n_ahead else ""
        raise InsufficientData(Fault(f"window {text}", found, "", "name a period with predictions"))
    missing = [name for name in names if FEATURE + name not in look.columns]
    if missing:
        raise ExtractError(
            Fault(table.uri, f"no version that answered reads {name}", "the reference has it") for name in missing
        )
    parts = tuple(
        LogPart(number, tables, look.version, day, start, end, version) for number, day in enumerate(look.days)
    )
    essence = [table.uri, look.version, start.isoformat(), end.isoformat(), version]
    fingerprint = hashlib.sha256(json.dumps(essence).encode()).hexdigest()
    return Window(text, start, end, parts, fingerprint, n_ahead)


def _numbers(name: str, column: Any, bad: dict[str, str]) -> NDArray[np.float64]:
    """A column as numbers; what is none is noted in `bad`, counts only."""
    try:
        values, n_bad = to_numbers(column)
    except TypeError:
        bad[name] = f"is of type {column.type}"
        return np.empty(0)
    if n_bad:
        bad.setdefault(name, "holds text that is no number")
    return values


def _block(names: Sequence[str], held: list[list[NDArray[np.float64]]], n_rows: int) -> Block:
    columns = {
        name: held[0][place] if len(held) == 1 else np.concatenate([arrays[place] for arrays in held])
        for place, name in enumerate(names)
    }
    return Block(columns, n_rows)
