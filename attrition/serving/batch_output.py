"""Where scored rows go, so that a batch that was interrupted goes on where it stopped and nobody reads half a result.

::

    OUTPUT/                          a folder; .OUTPUT.parts/ beside a single file
      _progress.json                 what the batch is: input, version, schema, options
      _progress/part-00007.json      partition 7 is complete: its size and its counts
      part-00007.parquet             its rows

A part is written under a name of its own and renamed when it is complete; its counts are written after that. A killed
batch thus leaves whole parts and a few nameless files. Names that begin with an underscore or a dot are passed over by
everything that reads a folder of Parquet. A single file and a Delta table appear at the end, in one step. In an object
store a part is uploaded when it is complete, see :mod:`attrition.data.folders`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Any

from attrition.data.addresses import local_or_address, name_of, parent_of
from attrition.data.folders import folder_at
from attrition.errors import Fault, PlatformError, UsageError
from attrition.serving.batch_checks import Tally
from attrition.serving.batch_sinks import GROUP_ROWS, CsvSink, ParquetSink

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Self

    import pyarrow as pa

    from attrition.data.folders import Folder
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
    path : Path or str
        What the user named: an absolute path, or an address of an object store.
    layout : Layout
    """

    path: Path | str
    layout: Layout

    @classmethod
    def at(cls, path: str | Path, *, as_delta: bool = False) -> Output:
        """The output that a name asks for: ``.csv``, ``.csv.gz`` or ``.parquet`` is one file, anything else a folder.

        Raises
        ------
        UsageError
            A Delta table with the name of a file; an address of an unknown kind, or with a secret in it.
        """
        place = local_or_address(path)
        place = place if isinstance(place, str) else place.absolute()
        name = name_of(place)
        for suffix, layout in ((".csv.gz", Layout.CSV_GZ), (".csv", Layout.CSV), (".parquet", Layout.PARQUET)):
            if name.lower().endswith(suffix):
                if as_delta:
                    raise UsageError(Fault(name, "is the name of a file", "a Delta table is a folder"))
                return cls(place, layout)
        return cls(place, Layout.DELTA if as_delta else Layout.FOLDER)

    @property
    def parts(self) -> Folder:
        """Folder that the parts are written to."""
        if not self.layout.single:
            return folder_at(self.path)
        hidden = f".{name_of(self.path)}.parts"
        return folder_at(
            f"{parent_of(self.path)}/{hidden}" if isinstance(self.path, str) else self.path.parent / hidden
        )

    def part(self, number: int) -> str:
        """Name of a complete part."""
        return f"part-{number:05d}{self.layout.suffix}"

    @staticmethod
    def _report(number: int) -> str:
        return f"{_REPORTS}/part-{number:05d}.json"

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
        is_file = folder_at(parent_of(self.path)).size(name_of(self.path)) is not None
        if (is_file or self._foreign()) and not (is_file and self.layout.single and overwrite):
            remedy = "--overwrite replaces it" if is_file and self.layout.single else "name another output"
            raise UsageError(Fault(str(self.path), "is there already and no output of this batch", "", remedy))
        begun = self._begun()
        if begun is None:
            self._note({"format": FORMAT, "complete": False, "job": dict(job)})
            return {}, False
        self._check_same(begun.get("job", {}), job)
        return self._finished(), bool(begun["complete"])

    def _foreign(self) -> bool:
        """Whether the output's name is that of a folder which is none of ours, or should not be one."""
        folder = folder_at(self.path)
        return folder.exists() if self.layout.single else self._begun() is None and bool(folder.names())

    def _begun(self) -> dict[str, Any] | None:
        try:
            document = json.loads(self.parts.read(PROGRESS) or b"")
        except ValueError:
            return None
        return document if isinstance(document, dict) and document.get("format") == FORMAT else None

    def _note(self, document: Mapping[str, Any]) -> None:
        self.parts.write(PROGRESS, json.dumps(document, indent=1).encode())

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
        parts, finished = self.parts, {}
        for name in parts.names(_REPORTS):
            try:
                report = PartReport.from_dict(json.loads(parts.read(f"{_REPORTS}/{name}") or b""))
            except (ValueError, KeyError, TypeError):
                continue
            if not report.size or parts.size(self.part(report.number)) == report.size:
                finished[report.number] = report
        return finished

    def _discard(self) -> None:
        """Remove what a batch wrote, never anything else; a single file stays until the new one is complete."""
        if self.layout.single or self._begun() is not None:
            self.parts.clear()

    def write_part(self, number: int) -> PartWriter:
        """Context in which the rows of a partition are written; nothing of it is seen unless it is completed."""
        return PartWriter(self, number)

    def record(self, report: PartReport) -> None:
        """Remember that a part is complete."""
        self.parts.write(self._report(report.number), json.dumps(report.to_dict(), indent=1).encode())

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

        parts = self.parts
        names = [self.part(report.number) for report in reports if report.size]
        if self.layout.single:
            scratch = parts.scratch()
            try:
                _concatenate(parts, names, scratch, self.layout, columns)
                folder_at(parent_of(self.path)).adopt(scratch, name_of(self.path))
            except (pa.ArrowException, OSError) as error:
                raise PlatformError(Fault(str(self.path), "the parts cannot be put together", "", _REMEDY)) from error
            finally:
                scratch.unlink(missing_ok=True)
            parts.clear()
            return
        for leftover in parts.names():
            if leftover.startswith(".part-"):
                parts.remove(leftover)
        if self.layout is Layout.DELTA and not parts.names("_delta_log"):
            _make_table(str(self.path))
        self._note({**(self._begun() or {}), "complete": True, "result": dict(summary)})


_REMEDY = "check the space on the disk and that files keep the same columns and types"


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return (text if len(text) <= 16 or " " in text else f"{text[:12]}...") or "nothing"


def _make_table(path: str) -> None:
    """Turn the folder of Parquet files into a Delta table: one commit, no byte is copied."""
    from deltalake import convert_to_deltalake
    from deltalake.exceptions import DeltaError

    try:
        convert_to_deltalake(path)
    except (DeltaError, OSError) as error:
        raise PlatformError(Fault(path, "the Delta table cannot be made", "", _REMEDY)) from error


def _concatenate(parts: Folder, names: Sequence[str], target: Path, layout: Layout, columns: Sequence[str]) -> None:
    if layout is Layout.PARQUET:
        from pyarrow import parquet

        with closing(ParquetSink(target)) as sink:
            for name in names:
                with parts.open(name) as file, parquet.ParquetFile(file, pre_buffer=False) as part:
                    for batch in part.iter_batches(GROUP_ROWS, use_threads=False):
                        sink.write(batch)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    header = text.getvalue().encode()
    with target.open("wb") as whole:
        # the members of a gzip file may follow each other
        whole.write(gzip.compress(header) if layout is Layout.CSV_GZ else header)
        for name in names:
            with parts.open(name) as part:
                _append(part, whole)


def _append(part: IO[bytes], whole: IO[bytes]) -> None:
    """Copy inside the kernel where it can: half the time."""
    if hasattr(os, "copy_file_range"):
        whole.flush()
        with suppress(OSError):  # file systems may refuse, and a store has none; the rest is copied below
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
        self._folder = output.parts
        # a name of its own: a worker that was taken for dead may still be writing the same part
        self._scratch = self._folder.scratch()
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
            self._folder.adopt(self._scratch, self._output.part(self._number))
        report = PartReport(self._number, size, tally)
        self._output.record(report)
        return report
