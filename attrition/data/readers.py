"""Files as frames: CSV (also gzipped), Parquet, a folder of Parquet files, a Delta table. No meaning is given to cells.

The kind is told by the first bytes, not by the suffix. CSV cells stay text, so that the mapping decides what is a
number and the message about a bad cell can name its line. Errors of the parsing libraries quote cells of the file;
they are chained for the debugger, but the messages here never repeat them.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.errors import ExtractError, Fault

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pandas as pd

    from attrition.data.mapping import Dialect

NO_HEADER_REMEDY = "check that its first line holds the names of its columns, and that the mapping is the right one"
MAX_UNPACKED_BYTES = 2**30
"""Largest content of a gzip file, in bytes: ten million rows. A few kilobytes can unpack to more than any memory."""

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_VALUE = re.compile(r"[-+.,:/ \d]*\d[-+.,:/ \d]*(e[-+]?\d+)?", re.IGNORECASE)
_KINDS = "CSV, CSV.gz, Parquet, a folder of Parquet files or a Delta table is expected"


@dataclass(frozen=True, slots=True)
class RawFile:
    """A file as read.

    Attributes
    ----------
    frame : DataFrame
        One str column per column of a CSV file, typed columns of a Parquet file; missing is NA.
    first_line : int or None
        Line of the first row; None when rows do not have one line each.
    """

    frame: pd.DataFrame
    first_line: int | None


def read_file(path: Path, dialect: Dialect, expected: Collection[str] = ()) -> RawFile:
    """File or folder at `path` as a frame.

    Parameters
    ----------
    path
        Of a file or folder.
    dialect
        How a CSV file is written.
    expected
        Columns that the caller hopes for: they tell a wrong delimiter from a narrow file.

    Raises
    ------
    ExtractError
        Missing, empty, damaged or ragged; not text in the dialect's encoding; another delimiter; headers twice.
    """
    if path.is_dir():
        return RawFile(_parquet_folder(path), None)
    try:
        data = path.read_bytes()
    except OSError as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise ExtractError(Fault(str(path), found, "", "check the path")) from error
    if data.startswith(b"\x1f\x8b"):
        try:
            data = _unpack(data, path.name)
        except (OSError, EOFError, zlib.error) as error:
            raise ExtractError(Fault(path.name, "is a damaged gzip file", "", "copy or export it again")) from error
    if data.startswith(b"PAR1"):
        return RawFile(_parquet(path), None)
    if data.startswith(b"PK\x03\x04") or b"\x00" in data[:4096].replace(b"\xff\xfe", b""):
        raise ExtractError(
            Fault(path.name, "is a binary file of another kind", _KINDS, "export a spreadsheet as CSV UTF-8")
        )
    return _read_csv(data, path.name, dialect, expected)


def _unpack(data: bytes, where: str) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        unpacked = stream.read(MAX_UNPACKED_BYTES + 1)
    if len(unpacked) > MAX_UNPACKED_BYTES:
        allowed = f"at most {MAX_UNPACKED_BYTES / 2**20:,.0f} MiB are read from a gzip file"
        raise ExtractError(Fault(where, "unpacks to more than is allowed", allowed, "use Parquet, or several files"))
    return unpacked


def names_columns(header: Collection[str], expected: Collection[str]) -> bool:
    """Whether a first line holds the names of columns; else it may be a person's row and must not be quoted.

    It does when an expected name is among them and none of them is a number or a date.
    """
    return not set(header).isdisjoint(expected) and not any(_VALUE.fullmatch(str(name).strip()) for name in header)


def _read_csv(data: bytes, where: str, dialect: Dialect, expected: Collection[str]) -> RawFile:
    text = _decode(data, where, dialect.encoding)
    if not text.strip():
        raise ExtractError(Fault(where, "is empty", _KINDS))
    body = text.lstrip("\r\n")
    line, _, rows = body.partition("\n")
    header = [name.strip() for name in _cells(line, dialect.delimiter)]
    _check_header(header, body, where, dialect.delimiter, expected)
    if not rows.strip():
        raise ExtractError(Fault(where, "has a header and no rows", "", "export it again with its rows"))
    frame = _parse(rows, header, where, dialect)
    one_line_each = rows.rstrip("\r\n").count("\n") + 1 == len(frame)  # no blank lines, no line breaks in cells
    n_above = len(text) - len(body)
    return RawFile(frame, 2 + text.count("\n", 0, n_above) if one_line_each else None)


def _decode(data: bytes, where: str, encoding: str) -> str:
    try:
        return data.decode("utf-8-sig" if encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else encoding)
    except LookupError as error:
        raise ExtractError(
            Fault(where, f"dialect.encoding {encoding} is not known", "", "utf-8 or cp1252, for instance")
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExtractError(
            Fault(
                where,
                f"line {line} is not {encoding} text",
                "",
                "save it as CSV UTF-8, or set dialect.encoding (cp1252, say)",
            )
        ) from error


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _check_header(header: list[str], body: str, where: str, delimiter: str, expected: Collection[str]) -> None:
    other = _likelier_delimiter(header, body, delimiter, expected)
    if other:
        raise ExtractError(
            Fault(
                where,
                f"the {_NAMES.get(delimiter, delimiter)} does not separate its cells, the {_NAMES[other]} does",
                "",
                f"set dialect.delimiter: {other!r} in the mapping",
            )
        )
    unnamed = sum(not name for name in header)
    repeated = {name: n for name, n in Counter(header).items() if n > 1 and name}
    if names_columns(header, expected):
        faults = [Fault(where, f"column {name} stands {n} times in the header") for name, n in repeated.items()]
    else:
        found = f"the first line of its {len(header)} columns holds other things than the names expected, some twice"
        faults = [Fault(where, found, "", NO_HEADER_REMEDY)] if repeated else []
    faults += [Fault(where, f"{unnamed} columns have no name in the header")] if unnamed > 1 else []
    if faults:
        raise ExtractError(faults)


def _likelier_delimiter(header: list[str], body: str, delimiter: str, expected: Collection[str]) -> str | None:
    """Delimiter that finds more of the expected columns, or turns one column into several on every line."""
    lines = [line.rstrip("\r") for line in body.split("\n", 6)[:5] if line.strip()]
    n_known = len(set(header) & set(expected))
    for other in _DELIMITERS:
        if other == delimiter:
            continue
        names = [name.strip() for name in _cells(lines[0], other)]
        if len(set(names) & set(expected)) > n_known:
            return other
        if (
            len(header) == 1
            and n_known == 0
            and len(names) > 1
            and {len(_cells(line, other)) for line in lines} == {len(names)}
        ):
            return other
    return None


def _parse(rows: str, header: list[str], where: str, dialect: Dialect) -> pd.DataFrame:
    """Frame of str columns; blank lines are passed over."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import csv as arrow

    ragged: list[Any] = []

    def remember(row: Any) -> str:
        ragged.append((row.number, row.actual_columns))
        return "skip"

    content = rows.encode()
    try:
        table = arrow.read_csv(
            pa.BufferReader(content),
            # one thread: only then does the parser count lines
            read_options=arrow.ReadOptions(
                column_names=header, use_threads=False, block_size=min(len(content) + 1024, 2**31 - 1)
            ),
            parse_options=arrow.ParseOptions(
                delimiter=dialect.delimiter, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=arrow.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=list(dialect.missing),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise ExtractError(
            Fault(where, "cannot be parsed as CSV", "", "look for an unbalanced quotation mark")
        ) from error
    if ragged:
        number, n_cells = ragged[0]
        raise ExtractError(
            Fault(
                where,
                f"{len(ragged)} rows do not have the header's {len(header)} cells (row {number} has {n_cells})",
                "",
                "put text that holds the delimiter or a line break in quotation marks",
            )
        )
    frame = table.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    return frame


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # as one file: the name of a folder on the way (year=2024) is no column
        return _frame(parquet.ParquetFile(path).read(), path.name)
    except (pa.ArrowException, OSError) as error:
        raise ExtractError(Fault(path.name, "is a damaged Parquet file", "", "copy or export it again")) from error


def _parquet_folder(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    if (path / "_delta_log").is_dir():  # its files also hold what was deleted; only its log knows what is current
        from deltalake import DeltaTable

        return _frame(DeltaTable(str(path)).to_pyarrow_table(), path.name)
    files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith(("_", ".")))
    if not files:
        raise ExtractError(Fault(str(path), "is a folder without Parquet files", _KINDS))
    tables, faults = [], []
    for file in files:
        try:
            tables.append(parquet.ParquetFile(file).read())
        except (pa.ArrowException, OSError):
            faults.append(
                Fault(
                    f"{path.name}/{file.relative_to(path)}", "is a damaged Parquet file", "", "copy or export it again"
                )
            )
            continue
        if tables[-1].schema.names != tables[0].schema.names:
            faults.append(Fault(f"{path.name}/{file.relative_to(path)}", f"has other columns than {files[0].name}"))
    if faults:
        raise ExtractError(faults)
    try:
        return _frame(pa.concat_tables(tables, promote_options="permissive"), path.name)
    except pa.ArrowException as error:
        raise ExtractError(
            Fault(path.name, "its files have columns of different types", "", "export them again in one go")
        ) from error


def _frame(table: Any, where: str) -> pd.DataFrame:
    """Arrow table as a frame of numbers, str and datetime64 columns."""
    import pyarrow as pa
    from pyarrow import compute

    faults, columns = [], []
    for name, column in zip(table.schema.names, table.columns, strict=True):
        kind = column.type
        if pa.types.is_dictionary(kind) or pa.types.is_null(kind):
            column = column.cast(pa.string())  # noqa: PLW2901
        elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
            if getattr(kind, "tz", None):  # the day on the clock there: midnight in Berlin is no day before in UTC
                column = compute.local_timestamp(column)  # noqa: PLW2901
            column = column.cast(pa.timestamp("us"), safe=False)  # noqa: PLW2901
        elif pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            column = column.cast(pa.float64())  # noqa: PLW2901
        elif not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_string(kind)
            or pa.types.is_large_string(kind)
        ):
            faults.append(Fault(where, f"column {name} is of type {kind}", "numbers, text and dates are expected"))
        columns.append(column)
    if faults:
        raise ExtractError(faults)
    frame: pd.DataFrame = pa.table(columns, names=table.schema.names).to_pandas(ignore_metadata=True)
    if not len(frame):
        raise ExtractError(Fault(where, "has no rows", "", "export it again with its rows"))
    return frame
