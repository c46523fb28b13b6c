"""Rows of one partition, a few thousand at a time, as Arrow columns: ids, features in schema order, columns to keep.

Canonical columns are read by Arrow alone. A mapping is applied chunk by chunk by the same code that reads training
extracts; that needs pandas, the only case in which a scoring worker imports it.
"""

from __future__ import annotations

import gzip
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.data.schema import EMPLOYEE_ID
from attrition.errors import ExtractError, Fault
from attrition.serving.batch_plan import HEAD_BYTES, header_line
from attrition.serving.batch_sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from attrition.data.extracts import Extract
    from attrition.data.mapping import Mapping
    from attrition.data.schema import FeatureSchema
    from attrition.governance.privacy import PseudonymKey
    from attrition.serving.batch_plan import Partition

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None")
"""Cells of a CSV file that hold nothing: those of :class:`attrition.data.mapping.Dialect`, which would need pandas."""

BATCH_ROWS = 2**15
"""Rows per matrix: matrix and intermediate arrays stay in the second-level cache."""
BLOCK_BYTES = 2**20
"""Bytes of CSV that are parsed at a time."""
_MAPPED_BYTES = 2**24
"""Bytes of a compressed CSV file to which a mapping is applied at a time."""


class NotNumeric(Exception):
    """A feature column of a CSV file holds something that the fast parser does not take for a number."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive rows.

    Attributes
    ----------
    ids : Array or None
        As in the input, or pseudonyms already when a mapping was applied; None when the input has none.
    features : sequence of Array
        In schema order.
    kept : sequence of Array
        The columns that the output repeats.
    """

    ids: pa.Array | None
    features: Sequence[pa.Array]
    kept: Sequence[pa.Array]


def read_rows(
    partition: Partition, features: Sequence[str], keep: Sequence[str], where: str, *, as_text: bool = False
) -> Iterator[Rows]:
    """Rows of a partition with canonical columns.

    Parameters
    ----------
    as_text
        Read the features of a CSV file as text, whose cells can then be judged one by one; slower.

    Raises
    ------
    NotNumeric
        A feature column of a CSV file holds text; only when not `as_text`.
    ExtractError
        The file is damaged or ragged.
    """
    identified = EMPLOYEE_ID in partition.columns
    wanted = list(dict.fromkeys([*([EMPLOYEE_ID] if identified else []), *features, *keep]))
    if partition.kind == "parquet":
        batches = _parquet(partition, wanted, where)
    else:
        batches = _csv(partition, wanted, set() if as_text else set(features), where)
    for batch in batches:
        place = {name: batch.column(i) for i, name in enumerate(batch.schema.names)}
        yield Rows(
            place.get(EMPLOYEE_ID) if identified else None,
            [place[name] for name in features],
            [place[name] for name in keep],
        )


def _parquet(partition: Partition, wanted: Sequence[str], where: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import parquet

    stored = [name for name in wanted if name not in partition.constants]
    try:
        # buffered and not read ahead: whole column chunks in memory would grow with the row groups of the input
        with (
            open_source(partition.path) as source,
            parquet.ParquetFile(source, buffer_size=BLOCK_BYTES, pre_buffer=False) as file,
        ):
            for batch in file.iter_batches(
                BATCH_ROWS, row_groups=list(partition.row_groups), columns=stored, use_threads=False
            ):
                if not partition.constants:
                    yield batch
                    continue
                columns = [
                    pa.repeat(pa.scalar(partition.constants[name]), len(batch))
                    if name in partition.constants
                    else batch.column(name)
                    for name in wanted
                ]
                yield pa.record_batch(columns, names=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise ExtractError(Fault(where, "is damaged", "", "copy or export it again")) from error


def _csv(partition: Partition, wanted: Sequence[str], numeric: set[str], where: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    from pyarrow import csv

    ragged = 0

    def count(_: Any) -> str:
        nonlocal ragged
        ragged += 1
        return "skip"

    compressed = partition.kind == "csv.gz"
    file = open_source(partition.path)
    source = (
        pa.CompressedInputStream(file, "gzip")
        if compressed
        else file.get_stream(partition.start, partition.stop - partition.start)
    )
    try:
        with closing(file):
            yield from csv.open_csv(
                source,
                read_options=csv.ReadOptions(
                    column_names=list(partition.columns),
                    # a compressed file still has its header in front
                    skip_rows_after_names=1 if compressed else 0,
                    use_threads=False,
                    block_size=BLOCK_BYTES,
                ),
                parse_options=csv.ParseOptions(newlines_in_values=partition.quoted, invalid_row_handler=count),
                convert_options=csv.ConvertOptions(
                    column_types={name: pa.float64() if name in numeric else pa.string() for name in wanted},
                    include_columns=list(wanted),
                    null_values=list(MISSING),
                    strings_can_be_null=True,
                ),
            )
    except (pa.ArrowException, OSError) as error:
        if numeric:
            raise NotNumeric from error
        remedy = "save it as CSV UTF-8, and look for an unbalanced quotation mark"
        raise ExtractError(Fault(where, "cannot be parsed as CSV", "", remedy)) from error
    if ragged:
        found = f"{ragged:,} rows do not have the header's {len(partition.columns)} cells"
        raise ExtractError(
            Fault(where, found, "", "put text that holds the delimiter or a line break in quotation marks")
        )


def read_mapped_rows(
    partition: Partition,
    schema: FeatureSchema,
    keep: Sequence[str],
    where: str,
    *,
    mapping: Mapping,
    key: PseudonymKey,
) -> Iterator[Rows]:
    """Rows of a partition through a mapping; ids are pseudonyms.

    Raises
    ------
    ExtractError, ConfigError
        With every fault of one chunk.
    """
    import pyarrow as pa

    from attrition.data.extracts import read_extract

    def read(file: Path) -> Extract:
        try:
            return read_extract(file, mapping, key, schema, require_target=False)
        except ExtractError as error:
            faults = [replace(fault, where=fault.where.replace(file.name, where, 1)) for fault in error.faults]
            raise ExtractError(faults) from error

    with tempfile.TemporaryDirectory(prefix="attrition-") as folder:
        for file in _chunks(partition, Path(folder), where):
            extract = read(file)
            frame = extract.table.frame
            yield Rows(
                pa.array(frame[EMPLOYEE_ID], pa.string(), from_pandas=True),
                [pa.array(frame[name].to_numpy()) for name in schema.names],
                [pa.array(extract.raw[name], from_pandas=True) for name in keep],
            )


def _chunks(partition: Partition, folder: Path, where: str) -> Iterator[Path]:
    """The partition as files of bounded size that a mapping can be applied to, one at a time and each by this name."""
    import pyarrow as pa
    from pyarrow import parquet

    target = folder / Path(partition.path).name.removesuffix(".gz")
    if partition.kind == "parquet":
        for batch in _parquet(partition, list(partition.columns), where):
            parquet.write_table(pa.table(batch), target)
            yield target
        return
    for content in _text_chunks(partition, where):
        target.write_bytes(content)
        yield target


def _text_chunks(partition: Partition, where: str) -> Iterator[bytes]:
    """Header and rows of a CSV partition; a compressed file in several chunks, cut where a line ends outside quotes."""
    if partition.kind == "csv":
        with open_source(partition.path) as file:
            # a file that cannot be cut is one partition with its header
            header = header_line(file.read(HEAD_BYTES)) if partition.start else b""
            file.seek(partition.start)
            yield header + file.read(partition.stop - partition.start)
        return
    rest, header = b"", b""
    try:
        with open_source(partition.path) as file, gzip.open(file) as stream:
            while block := stream.read(_MAPPED_BYTES):
                content = rest + block
                if not header:
                    content = content.lstrip(b"\r\n")
                    header = content[: content.find(b"\n") + 1]
                    content = content[len(header) :]
                cut = last_line_end(content)
                if cut:
                    yield header + content[:cut]
                rest = content[cut:]
    except (OSError, EOFError) as error:
        raise ExtractError(Fault(where, "is a damaged gzip file", "", "copy or export it again")) from error
    if rest.strip():
        yield header + rest


def last_line_end(content: bytes) -> int:
    r"""Length of the longest prefix of whole lines, 0 when there is none; a line end inside quotation marks is none.

    Examples
    --------
    >>> last_line_end(b'1,a\n2,"b\n')
    4
    """
    odd, end = content.count(b'"') & 1, len(content)
    while (place := content.rfind(b"\n", 0, end)) >= 0:
        odd ^= content.count(b'"', place, end) & 1
        if not odd:
            return place + 1
        end = place
    return 0
