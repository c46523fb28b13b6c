"""What there is to score: the files of an input, cut into partitions that one task each reads in bounded memory.

Only headers, footers and logs are read here, and of an uncompressed CSV file its bytes once, to find line ends that are
not inside quotation marks. The plan depends on the input alone: the same input always yields the same partitions, which
is what makes a batch resumable.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrition.data.addresses import local_or_address
from attrition.errors import ExtractError, Fault, NotFound, UsageError
from attrition.serving.batch_sources import look_at, open_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attrition.serving.batch_sources import SourceFile, Tree

Kind = Literal["csv", "csv.gz", "parquet"]

CSV_BYTES = 16 * 2**20
"""Bytes of CSV per partition: some 200,000 employees, a fraction of a second of work, so that workers end together."""
PARQUET_ROWS = 2**18
"""Rows per partition of Parquet, at least; a row group is never cut."""
MAX_PARTITIONS = 4096
"""An input beyond that many partitions gets larger ones, so that folders and manifests stay small."""

_BLOCK = 2**22
HEAD_BYTES = 2**16
"""Of a CSV file; its header must end within."""
_KINDS = "CSV, CSV.gz, Parquet, a folder of one of them, or a Delta table is expected"
_SUFFIXES = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of the input that one task scores.

    Attributes
    ----------
    number : int
        Position in the input; the output keeps this order.
    path : str
        File that it is part of.
    kind : str
    columns : tuple of str
        Of the file, in order.
    size : int
        Bytes of the file that it covers: what progress is measured by.
    start, stop : int
        Byte range of the rows in an uncompressed CSV file.
    quoted : bool
        Cells may hold line breaks; parsing is slower when they may.
    row_groups : tuple of int
        Of a Parquet file.
    constants : mapping
        Columns that a Delta table knows from its log; None is missing.
    """

    number: int
    path: str
    kind: Kind
    columns: tuple[str, ...]
    size: int
    start: int = 0
    stop: int = 0
    quoted: bool = True
    row_groups: tuple[int, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)

    def describe(self, n_partitions: int) -> str:
        """Name for messages."""
        return f"{_name(self.path)}, partition {self.number + 1} of {n_partitions}"


@dataclass(frozen=True, slots=True)
class InputPlan:
    """An input and its partitions.

    Attributes
    ----------
    path : str
    partitions : tuple of Partition
    fingerprint : str
        SHA-256 over names, sizes and times of the files, or over identity and version of a Delta table.
    description : str
        For people: kind, and version of a Delta table.
    """

    path: str
    partitions: tuple[Partition, ...]
    fingerprint: str
    description: str

    @property
    def size(self) -> int:
        """Bytes of all partitions."""
        return sum(partition.size for partition in self.partitions)


def plan_input(
    path: str | Path, *, table_version: int | None = None, delimiter: str = ",", splittable: bool = True
) -> InputPlan:
    """The partitions of a file, a folder of files or a Delta table.

    Parameters
    ----------
    path
        On a file system that every worker sees; or a ``file:`` URI, or an address ``abfss://...``.
    table_version
        Of a Delta table; None is the latest.
    delimiter
        Between the cells of a CSV header.
    splittable
        False: a CSV file is one partition, because its encoding has line ends of several bytes.

    Raises
    ------
    NotFound
        No such file, folder or table version.
    ExtractError
        Empty, damaged or of another kind; headers that name a column twice. All faults at once.
    UsageError
        `table_version` of an input that is no Delta table; an address of another kind, or with a secret in it.
    PlatformError
        The storage did not answer.
    """
    place = local_or_address(path)
    tree = look_at(place)
    if tree.is_delta:
        return _plan_delta(str(place), table_version)
    if table_version is not None:
        raise UsageError(Fault(str(place), "is no Delta table", "only a Delta table has versions"))
    files = _files(tree, str(place))
    drafts: list[Partition] = []
    faults: list[Fault] = []
    for file in files:
        try:
            drafts += _plan_file(file, delimiter, splittable=splittable)
        except ExtractError as error:
            faults += error.faults
    faults += [] if faults else _disagreements(drafts)
    if faults:
        raise ExtractError(faults)
    essence = [["." if not tree.is_folder else file.relative, file.size, file.modified] for file in files]
    kind = drafts[0].kind
    return InputPlan(
        str(place),
        _numbered(drafts),
        _digest([kind, essence]),
        f"{kind}, {len(files)} files" if tree.is_folder else kind,
    )


def _name(path: str) -> str:
    return path.rpartition("/")[2] or path


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def _numbered(drafts: Iterable[Partition]) -> tuple[Partition, ...]:
    return tuple(replace(draft, number=number) for number, draft in enumerate(drafts))


def _files(tree: Tree, where: str) -> Sequence[SourceFile]:
    """The file itself, or the data files below a folder: names that begin with a dot or underscore are bookkeeping."""
    if not tree.is_folder:
        return tree.files
    files = [
        file
        for file in tree.files
        if file.name.endswith(_SUFFIXES) and not any(p.startswith((".", "_")) for p in Path(file.relative).parts)
    ]
    if not files:
        raise ExtractError(Fault(where, "is a folder without CSV or Parquet files", _KINDS))
    return files


def _plan_file(source: SourceFile, delimiter: str, *, splittable: bool) -> list[Partition]:
    with open_source(source.path) as file:
        magic = file.read(4096)
        file.seek(0)
        if magic.startswith(b"PAR1"):
            return _plan_parquet(source, file)
        if magic.startswith(b"\x1f\x8b"):
            return [_plan_gzip(source, file, delimiter)]
        if magic.startswith(b"PK\x03\x04"):
            raise ExtractError(Fault(source.name, "is a binary file of another kind", _KINDS, "export it as CSV UTF-8"))
        return _plan_csv(source, file, delimiter, splittable=splittable)


def _plan_gzip(source: SourceFile, file: Any, delimiter: str) -> Partition:
    """A compressed file is one stream, hence one partition."""
    try:
        with gzip.open(file) as content:
            head = content.read(HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise ExtractError(Fault(source.name, "is a damaged gzip file", "", "copy or export it again")) from error
    _, columns = _header(head, source.name, delimiter)
    return Partition(0, source.path, "csv.gz", columns, source.size)


def _plan_csv(source: SourceFile, file: Any, delimiter: str, *, splittable: bool) -> list[Partition]:
    start, columns = _header(file.read(HEAD_BYTES), source.name, delimiter)
    size = source.size
    if not splittable:
        return [Partition(0, source.path, "csv", columns, size, 0, size)]
    ranges, quoted = line_ranges(file, start, max(CSV_BYTES, size // MAX_PARTITIONS))
    if not ranges:
        raise ExtractError(Fault(source.name, "has a header and no rows", "", "export it again with its rows"))
    return [Partition(0, source.path, "csv", columns, b - a, a, b, quoted) for a, b in ranges]


def _header(head: bytes, where: str, delimiter: str) -> tuple[int, tuple[str, ...]]:
    """Offset of the first row, and the column names."""
    if b"\x00" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ExtractError(Fault(where, "is a binary file of another kind", _KINDS))
    line = header_line(head)
    if not line.strip():
        raise ExtractError(Fault(where, "is empty", _KINDS))
    # another encoding needs a mapping, and its reader decodes the header again
    text = line.decode("utf-8", errors="replace").strip("\r\n")
    names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter))]
    faults = [
        Fault(where, f"column {name} stands {n} times in the header") for name, n in Counter(names).items() if n > 1
    ]
    if faults:
        raise ExtractError(faults)
    return head.index(line) + len(line), tuple(names)


def header_line(head: bytes) -> bytes:
    """The first line that is not blank, with its end, without a byte-order mark; of the beginning of a CSV file."""
    body = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    return body[: body.find(b"\n") + 1] or body


def line_ranges(file: Any, start: int, target: int) -> tuple[list[tuple[int, int]], bool]:
    """Byte ranges of whole lines from `start` to the end of a file, each of about `target` bytes.

    A line end between an odd and an even quotation mark is part of a cell and never a cut.

    Returns
    -------
    ranges : list of (int, int)
        Without gaps; empty when only line ends follow `start`.
    quoted : bool
        Whether there is any quotation mark.
    """
    file.seek(start)
    cuts, wanted, offset, odd, quoted, blank = [start], start + target, start, 0, False, True
    while block := file.read(_BLOCK):
        position = 0
        while wanted <= offset + len(block):
            inside = max(position, wanted - offset - 1)
            odd ^= block.count(b'"', position, inside) & 1
            end = block.find(b"\n", inside)
            if end < 0:
                position = inside
                break
            odd ^= block.count(b'"', inside, end) & 1
            position = end + 1
            if odd:
                wanted = offset + end + 2
                continue
            cuts.append(offset + position)
            wanted = cuts[-1] + target
        quoted = quoted or b'"' in block
        blank = blank and not block.strip()
        odd ^= block.count(b'"', position) & 1
        offset += len(block)
    if blank:
        return [], quoted
    edges = [*cuts, offset] if cuts[-1] < offset else cuts
    return list(pairwise(edges)), quoted


def _plan_parquet(source: SourceFile, file: Any) -> list[Partition]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_metadata(file)
        names = tuple(parquet.ParquetFile(file, metadata=metadata).schema_arrow.names)
    except (pa.ArrowException, OSError) as error:
        raise ExtractError(Fault(source.name, "is a damaged Parquet file", "", "copy or export it again")) from error
    if not metadata.num_rows:
        raise ExtractError(Fault(source.name, "has no rows", "", "export it again with its rows"))
    return _row_groups(source.path, names, [metadata.row_group(i) for i in range(metadata.num_row_groups)], {})


def _row_groups(
    path: str, columns: tuple[str, ...], groups: Sequence[Any], constants: Mapping[str, Any]
) -> list[Partition]:
    """Neighbouring row groups put together until there are enough rows."""
    partitions: list[Partition] = []
    members: list[int] = []
    n_rows = size = 0
    for number, group in enumerate(groups):
        members.append(number)
        n_rows += group.num_rows
        size += group.total_byte_size
        if n_rows >= PARQUET_ROWS or number == len(groups) - 1:
            partitions.append(
                Partition(0, path, "parquet", columns, size, row_groups=tuple(members), constants=constants)
            )
            members, n_rows, size = [], 0, 0
    return partitions


def _plan_delta(path: str, version: int | None) -> InputPlan:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError
    from pyarrow import dataset

    try:
        table = DeltaTable(path, version=version)
        data = table.to_pyarrow_dataset()
    except (DeltaError, NotImplementedError, OSError) as error:
        what = "this version cannot be read" if version is None else f"version {version} cannot be read"
        remedy = "check the version; a table with deletion vectors or column mapping must be rewritten first"
        raise NotFound(Fault(path, what, "", remedy)) from error
    drafts: list[Partition] = []
    for fragment in sorted(data.get_fragments(), key=lambda part: str(part.path)):
        stored = tuple(fragment.physical_schema.names)
        keys = dataset.get_partition_keys(fragment.partition_expression)
        # a column that a file lacks was added to the table later, or is what the table is partitioned by
        constants = {name: keys.get(name) for name in data.schema.names if name not in stored}
        groups = [fragment.metadata.row_group(i) for i in range(fragment.metadata.num_row_groups)]
        drafts += _row_groups(f"{path.rstrip('/')}/{fragment.path}", tuple(data.schema.names), groups, constants)
    if not drafts:
        raise ExtractError(Fault(path, f"version {table.version()} of the table has no rows"))
    essence = ["delta", str(table.metadata().id), table.version()]
    return InputPlan(str(path), _numbered(drafts), _digest(essence), f"Delta table, version {table.version()}")


def _disagreements(partitions: Sequence[Partition]) -> list[Fault]:
    """Files of a folder that cannot be one input."""
    faults = []
    first = partitions[0]
    for path, part in {partition.path: partition for partition in partitions}.items():
        if part.kind != first.kind:
            faults.append(Fault(_name(path), f"is {part.kind}, {_name(first.path)} is {first.kind}", _KINDS))
        elif set(part.columns) != set(first.columns):
            faults.append(Fault(_name(path), f"has other columns than {_name(first.path)}"))
    return faults
