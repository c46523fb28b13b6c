"""Exports of the audit log: files that stay verifiable without the database, for storage that forgets nothing.

A file is named by the events it holds, ``audit-000000000001-000000004711.jsonl``, and never overwritten, so a folder
under an immutability policy (Azure Blob Storage: a time-based retention policy of 7 years on the container) takes it as
it is. A second export into the same folder holds what came since, and first checks that the log still continues the
newest file there. The format is described in :mod:`attrition.governance.audit_verify`.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, IntegrityError, PlatformError, UsageError
from attrition.governance.audit_chain import GENESIS, Mark, canonical, check_chain
from attrition.governance.audit_verify import Opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from attrition.governance.audit_heads import Head
    from attrition.governance.audit_store import AuditStore

SUFFIX = ".jsonl"

_range = re.compile(r"audit-([0-9]{12,})-([0-9]{12,})\.jsonl").fullmatch


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that was written.

    Attributes
    ----------
    path : str
        File or address.
    first, last : int
        Sequences of its events.
    n_bytes : int
    sha256 : str
        Of the file.
    """

    path: str
    first: int
    last: int
    n_bytes: int
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)


class Archive:
    """The place of exports.

    Parameters
    ----------
    target
        A folder, a new file that ends in ``.jsonl``, or the address of either
        (``abfss://container@account.dfs.core.windows.net/audit``).

    Raises
    ------
    UsageError
        An address of an unknown kind.
    """

    def __init__(self, target: str | Path) -> None:
        from pyarrow.fs import FileSystem, LocalFileSystem

        self._target = str(target)
        self._local = "://" not in self._target
        if self._local:
            self._system, self._path = LocalFileSystem(), str(Path(target).expanduser().absolute())
            return
        try:
            self._system, self._path = FileSystem.from_uri(self._target)
        except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
            raise UsageError(Fault(self._target, "is no place for an export", "a folder or abfss://...")) from error

    def newest(self) -> Opening | None:
        """First line of the export that reaches furthest; None when the folder holds none, and for a file.

        Raises
        ------
        IntegrityError
            Its first line is not that of an export.
        PlatformError
            The storage cannot be read.
        """
        from pyarrow.fs import FileSelector

        if self._path.endswith(SUFFIX):
            return None
        try:
            found = self._system.get_file_info(FileSelector(self._path, allow_not_found=True))
            ranges = [(int(match[2]), info.path) for info in found if (match := _range(info.base_name))]
            if not ranges:
                return None
            path = max(ranges)[1]
            with self._system.open_input_stream(path) as stream:
                start = stream.read(10_000)
        except OSError as error:
            raise _unusable(self._target, "read", error) from error
        try:
            return Opening.read(io.BytesIO(start))
        except ValueError as error:
            raise IntegrityError(Fault(path, "is not intact", "", "verify the exports in its folder")) from error

    def create(self, name: str, write: Callable[[BinaryIO], None]) -> tuple[str, int, str]:
        """Make a file complete or not at all; its address, size and SHA-256.

        Parameters
        ----------
        name
            In the folder; an archive that is one file has its own.

        Raises
        ------
        UsageError
            The file exists: an export is never replaced.
        PlatformError
            The storage cannot be written.
        """
        path = self._path if self._path.endswith(SUFFIX) else f"{self._path.rstrip('/')}/{name}"
        try:
            folder = Path(path).parent if self._local else None
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".audit-") as file:  # mode 0600
                write(file)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
                self._publish(Path(file.name), path)
                file.seek(0)
                digest, size = sha256(), 0
                while block := file.read(1 << 20):
                    digest.update(block)
                    size += len(block)
        except FileExistsError as error:
            raise UsageError(Fault(path, "exists", "an export is never replaced", "name another file")) from error
        except OSError as error:
            raise _unusable(self._target, "written", error) from error
        return path, size, digest.hexdigest()

    def _publish(self, file: Path, path: str) -> None:
        from pyarrow.fs import FileType

        if self._local:
            os.link(file, path)  # fails when it exists, unlike a rename
            return
        if self._system.get_file_info(path).type != FileType.NotFound:
            raise FileExistsError
        with file.open("rb") as source, self._system.open_output_stream(path) as sink:
            shutil.copyfileobj(source, sink)


def export(store: AuditStore, archive: Archive, sign: Callable[[], Head], first: int | None = None) -> Exported | None:
    """Write the events from `first` to the last one; see :meth:`attrition.governance.audit.AuditLog.export`."""
    newest = archive.newest()
    before = Mark(0, GENESIS) if newest is None else newest.head.mark
    if store.hash_of(before.sequence) != before.hash:
        raise _broken(f"is not the one whose events to {before.sequence} were exported there")
    begin = before.sequence + 1 if first is None else first
    if begin > store.end().sequence:
        return None
    previous = store.hash_of(begin - 1)
    if previous is None:
        raise _broken(f"cannot be exported: event {begin - 1} is missing")
    head = sign()

    def write(file: BinaryIO) -> None:
        _write_line(file, Opening(begin, previous, head).to_dict())
        with closing(store.documents(first=begin, last=head.sequence)) as documents:
            check = check_chain(_copied(documents, file), [before, head.mark], first=begin, previous=previous)
        if check.found is not None:
            raise _broken(f"cannot be exported: {check.found}")

    path, n_bytes, digest = archive.create(f"audit-{begin:012d}-{head.sequence:012d}{SUFFIX}", write)
    return Exported(path, begin, head.sequence, n_bytes, digest)


def _copied(documents: Iterable[dict[str, Any]], file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The documents, each written to the file as it is taken."""
    for document in documents:
        _write_line(file, document)
        yield document


def _write_line(file: BinaryIO, document: dict[str, Any]) -> None:
    file.write(canonical(document) + b"\n")


def _broken(found: str) -> IntegrityError:
    remedy = "keep a copy of the database and run attrition audit verify"
    return IntegrityError(Fault("audit log", found, "", remedy))


def _unusable(target: str, verb: str, error: OSError) -> PlatformError:
    why = error.strerror or type(error).__name__
    return PlatformError(Fault(target, f"cannot be {verb} ({why})", "", "check the folder and the rights to it"))
