"""Where scored rows go, so that a batch that was interrupted goes on where it stopped and nobody reads half a result.

::

    OUTPUT/                          a folder; .OUTPUT.parts/ beside a single file
      _progress.json                 what the batch is: input, version, schema, options
      _progress/part-00007.json      partition 7 is complete: its size and its counts
      part-00007.parquet             its rows

A part is written under a name of its own and renamed when it is complete; its counts are written after that. A killed
batch thus leaves whole parts and a few nameless files. Names that begin with an underscore or a dot are passed over by
everything that reads a folder of Parquet. A single file and a Delta table appear at the end, in one step.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import uuid
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO

from attrition.errors import Fault, PlatformError, UsageError
from attrition.serving.batch_checks import Tally
from attrition.serving.batch_sinks import GROUP_ROWS, CsvSink, ParquetSink
from attrition.serving.batch_sources import local_or_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

    import pyarrow as pa

    from attrition.serving.batch_sinks import Sink

FORMAT = "attrition.batch/1"
PROGRESS = "_progress.json"
_REPORTS = "_progress"


class Layout(StrEnum):
    """What the output is."""

    FOLDER = "folder of Parquet files"
    DELTA = "Delta table"
    PARQUET = "Parquet file"
    CSV = "CSV file"
    CSV_GZ = "CSV.gz file"

    @property
    def single(self) -> bool:
        """Whether the parts are put together in one file."""
        return self in {Layout.PARQUET, Layout.CSV, Layout.CSV_GZ}

    @property
    def suffix(self) -> str:
        """File name ending of a part."""
        return {Layout.CSV: ".csv", Layout.CSV_GZ: ".csv.gz"}.get(self, ".parquet")


@dataclass(frozen=True, slots=True)
class PartReport:
    """What became of one partition.

    Attributes
    ----------
    number : int
    size : int
        Bytes of its file; 0 when it has no rows, and then no file.
    tally : Tally
    """

    number: int
    size: int
    tally: Tally

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PartReport:
        """Inverse of :meth:`to_dict`."""
        return cls(document["number"], document["size"], Tally.from_dict(document["tally"]))


@dataclass(frozen=True, slots=True)
class Output:
    """The files of one batch's result.

    Attributes
    ----------
    path : Path
        Absolute; what the user named.
    layout : Layout
    """

    path: Path
    layout: Layout

    @classmethod
    def at(cls, path: str | Path, *, as_delta: bool = False) -> Output:
        """The output that a name asks for: ``.csv``, ``.csv.gz`` or ``.parquet`` is one file, anything else a folder.

        Raises
        ------
        UsageError
            A Delta table with the name of a file; an address that is not local.
        """
        place = local_or_address(path)
        if isinstance(place, str):
            remedy = "write to a folder that is mounted, and copy it or upload it from there"
            raise UsageError(Fault(place, "is no place to write to", "a path or a file: URI is", remedy))
        path = place.absolute()
        name = path.name.lower()
        for suffix, layout in ((".csv.gz", Layout.CSV_GZ), (".csv", Layout.CSV), (".parquet", Layout.PARQUET)):
            if name.endswith(suffix):
                if as_delta:
                    raise UsageError(Fault(path.name, "is the name of a file", "a Delta table is a folder"))
                return cls(path, layout)
        return cls(path, Layout.DELTA if as_delta else Layout.FOLDER)

    @property
    def parts(self) -> Path:
        """Folder that the parts are written to."""
        return self.path.with_name(f".{self.path.name}.parts") if self.layout.single else self.path

    def part(self, number: int) -> Path:
        """File of a complete part."""
        return self.parts / f"part-{number:05d}{self.layout.suffix}"

    def _report(self, number: int) -> Path:
        return self.parts / _REPORTS / f"part-{number:05d}.json"

    def begin(self, job: Mapping[str, Any], *, overwrite: bool) -> tuple[dict[int, PartReport], bool]:
        """Make ready for a batch.

        Parameters
        ----------
        job
            What the batch is, JSON-ready: two batches may share parts only when all of it is equal.
        overwrite
            Discard what an earlier batch wrote here.

        Returns
        -------
        finished : dict of int to PartReport
            Partitions that an interrupted run of the same batch completed.
        complete : bool
            The whole output is there already.

        Raises
        ------
        UsageError
            Something else is there; or the parts of another batch. Says what differs and what to do.
        """
        if overwrite:
            self._discard()
        replaceable = self.layout.single and overwrite and not self.path.is_dir()
        if self.path.exists() and (self.layout.single or self._foreign()) and not replaceable:
            remedy = "--overwrite replaces it" if self.path.is_file() and self.layout.single else "name another output"
            raise UsageError(Fault(str(self.path), "is there already and no output of this batch", "", remedy))
        begun = self._begun()
        if begun is None:
            (self.parts / _REPORTS).mkdir(parents=True, exist_ok=True)
            write_atomically(self.parts / PROGRESS, {"format": FORMAT, "complete": False, "job": dict(job)})
            return {}, False
        self._check_same(begun.get("job", {}), job)
        return self._finished(), bool(begun["complete"])

    def _foreign(self) -> bool:
        return not self.path.is_dir() or (self._begun() is None and any(self.path.iterdir()))

    def _begun(self) -> dict[str, Any] | None:
        try:
            document = json.loads((self.parts / PROGRESS).read_bytes())
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) and document.get("format") == FORMAT else None

    def _check_same(self, begun: Mapping[str, Any], job: Mapping[str, Any]) -> None:
        where = f"{self.path}: {{}}"
        faults = [
            Fault(where.format(name), f"was {_shown(begun.get(name))} when this output was begun, now {_shown(value)}")
            for name, value in job.items()
            if begun.get(name) != value
        ]
        if faults:
            remedy = Fault(
                str(self.path),
                "holds the parts of another batch, which are not mixed with these",
                "",
                "repeat that batch to finish it, name another output, or start anew with --overwrite",
            )
            raise UsageError([remedy, *faults])

    def _finished(self) -> dict[int, PartReport]:
        """Parts that are whole: a machine that crashed may have kept the name of a file and not its content."""
        finished = {}
        for file in sorted((self.parts / _REPORTS).glob("part-*.json")):
            try:
                report = PartReport.from_dict(json.loads(file.read_bytes()))
                whole = not report.size or self.part(report.number).stat().st_size == report.size
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if whole:
                finished[report.number] = report
        return finished

    def _discard(self) -> None:
        """Remove what a batch wrote, never anything else; a single file stays until the new one is complete."""
        if self.layout.single:
            shutil.rmtree(self.parts, ignore_errors=True)
        elif self._begun() is not None:
            shutil.rmtree(self.path)

    def write_part(self, number: int) -> PartWriter:
        """Context in which the rows of a partition are written; nothing of it is seen unless it is completed."""
        return PartWriter(self, number)

    def record(self, report: PartReport) -> None:
        """Remember that a part is complete."""
        write_atomically(self._report(report.number), report.to_dict())

    def finish(self, reports: Sequence[PartReport], columns: Sequence[str], summary: Mapping[str, Any]) -> None:
        """Put the parts together and mark the output as complete.

        Parameters
        ----------
        columns
            Of the output: the header of a CSV file.

        Raises
        ------
        PlatformError
            The table or file cannot be made of the parts; they stay.
        """
        import pyarrow as pa

        files = [self.part(report.number) for report in reports if report.size]
        if self.layout.single:
            scratch = self.parts / f".whole-{uuid.uuid4().hex}"
            try:
                _concatenate(files, scratch, self.layout, columns)
            except (pa.ArrowException, OSError) as error:
                scratch.unlink(missing_ok=True)
                raise PlatformError(Fault(str(self.path), "the parts cannot be put together", "", _REMEDY)) from error
            scratch.replace(self.path)
            shutil.rmtree(self.parts)
            return
        for leftover in self.parts.glob(".part-*"):
            leftover.unlink(missing_ok=True)
        if self.layout is Layout.DELTA and not (self.path / "_delta_log").exists():
            _make_table(self.path)
        begun = self._begun() or {}
        write_atomically(self.parts / PROGRESS, {**begun, "complete": True, "result": dict(summary)})


_REMEDY = "check the space on the disk and that files keep the same columns and types"


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= 16 or " " in text else f"{text[:12]}...") or "nothing"


def write_atomically(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON file that is there completely or not at all."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    scratch.write_text(json.dumps(document, indent=1), encoding="utf-8")
    scratch.replace(path)


def _make_table(path: Path) -> None:
    """Turn the folder of Parquet files into a Delta table: one commit, no byte is copied."""
    from deltalake import convert_to_deltalake
    from deltalake.exceptions import DeltaError

    try:
        convert_to_deltalake(str(path))
    except (DeltaError, OSError) as error:
        raise PlatformError(Fault(str(path), "the Delta table cannot be made", "", _REMEDY)) from error


def _concatenate(files: Sequence[Path], target: Path, layout: Layout, columns: Sequence[str]) -> None:
    if layout is Layout.PARQUET:
        from pyarrow import parquet

        with closing(ParquetSink(target)) as sink:
            for file in files:
                with parquet.ParquetFile(file, pre_buffer=False) as part:
                    for batch in part.iter_batches(GROUP_ROWS, use_threads=False):
                        sink.write(batch)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    header = text.getvalue().encode()
    with target.open("wb") as whole:
        # the members of a gzip file may follow each other
        whole.write(gzip.compress(header) if layout is Layout.CSV_GZ else header)
        for file in files:
            with file.open("rb") as part:
                _append(part, whole)


def _append(part: BinaryIO, whole: BinaryIO) -> None:
    """Copy inside the kernel where it can: half the time."""
    if hasattr(os, "copy_file_range"):
        whole.flush()
        with suppress(OSError):  # file systems may refuse; the rest is copied below
            while os.copy_file_range(part.fileno(), whole.fileno(), 2**30):
                pass
    shutil.copyfileobj(part, whole, 2**22)


class PartWriter:
    """The rows of one partition on their way into an output.

    A context: what was not completed at its end is removed.
    """

    def __init__(self, output: Output, number: int) -> None:
        self._output = output
        self._number = number
        target = output.part(number)
        # a name of its own: a worker that was taken for dead may still be writing the same part
        self._scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        self._sink: Sink = (
            CsvSink(self._scratch, compressed=output.layout is Layout.CSV_GZ)
            if output.layout in {Layout.CSV, Layout.CSV_GZ}
            else ParquetSink(self._scratch)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()
        self._scratch.unlink(missing_ok=True)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append some rows."""
        self._sink.write(batch)

    def complete(self, tally: Tally) -> PartReport:
        """Show the part, and remember that it is complete."""
        self._sink.close()
        size = 0
        if self._scratch.exists():
            size = self._scratch.stat().st_size
            self._scratch.replace(self._output.part(self._number))
        report = PartReport(self._number, size, tally)
        self._output.record(report)
        return report
