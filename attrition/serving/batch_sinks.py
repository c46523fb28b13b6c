"""Files that record batches are written to, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

GROUP_ROWS = 2**17
"""Rows of a row group, at least: the memory that writing takes, and the least that a reader must read."""

_RANDOM = ("employee_id", "probability")


class Sink(Protocol):
    """A file that is being written; it exists once a row was written and it was closed."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append some rows."""
        ...

    def close(self) -> None:
        """Write what is left; harmless when repeated."""
        ...


class ParquetSink:
    """Batches in a Parquet file, in row groups of some size whatever that of the batches."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._batches: list[pa.RecordBatch] = []
        self._n_rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append some rows."""
        self._batches.append(batch)
        self._n_rows += len(batch)
        if self._n_rows >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches)
        if self._writer is None:
            # the digits of ids and probabilities hardly repeat: to look for repetitions would more than double the time
            names = table.schema.names
            self._writer = parquet.ParquetWriter(
                self._path,
                table.schema,
                compression={name: "none" if name in _RANDOM else "snappy" for name in names},
                use_dictionary=[name for name in names if name not in {*_RANDOM, "decision"}],
            )
        self._writer.write_table(table, row_group_size=self._n_rows)
        self._batches, self._n_rows = [], 0

    def close(self) -> None:
        """Write what is left; harmless when repeated."""
        self._flush()
        if self._writer is not None:
            self._writer.close()


class CsvSink:
    """Batches in a CSV file without a header, so that files can be put together; numbers keep every digit."""

    def __init__(self, path: Path, *, compressed: bool) -> None:
        self._path = path
        self._compressed = compressed
        self._writer: Any = None
        self._file: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append some rows."""
        import pyarrow as pa
        from pyarrow import csv

        if self._writer is None:
            self._file = pa.OSFile(str(self._path), "wb")
            if self._compressed:
                self._file = pa.CompressedOutputStream(self._file, "gzip")
            self._writer = csv.CSVWriter(self._file, batch.schema, write_options=csv.WriteOptions(include_header=False))
        self._writer.write_batch(batch)

    def close(self) -> None:
        """Write what is left; harmless when repeated."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._file.close()
