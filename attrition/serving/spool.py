"""Spools: append-only files that hold what a process has answered until a table has it.

A spool is the folder of one process. Its active segment ``0000000007.open`` is appended to with one ``write`` for one
or several entries; sealing makes it durable and renames it to ``0000000007.log``, which is never written again. Whoever
commits a sealed segment deletes it. The file ``lock`` is held (flock) by the process for its life, so a spool whose
lock can be taken has lost its owner: it may be *adopted*, and then its active segment counts as sealed, too. A folder
appears under its final name with the lock already held, so a spool that is just being made cannot be adopted.

Format of a segment, version 1: the line `MAGIC`, then frames. A frame is the length of its payload (uint32, little
endian), a CRC-32 (uint32) and the payload. A process that is killed inside a ``write`` leaves a torn frame at the end;
length and checksum tell, and what was answered is never torn, because the answer follows the ``write``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import threading
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attrition.errors import Fault, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC = b"attrition spool 1\n"
"""First line of a segment; another number is another format."""

LOCK = "lock"
ACTIVE = ".open"
SEALED = ".log"
UNREADABLE = ".unreadable"
"""Suffix of a segment that this version of attrition cannot read; kept for one that can."""

_HEADER = struct.Struct("<II")
_SEED = 0x61747472  # with it a run of zero bytes, which a power failure may leave, is no valid frame


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a segment holds.

    Attributes
    ----------
    payloads : list of bytes
        Complete ones, in the order they were appended.
    n_torn_bytes : int
        Bytes at the end that are no complete frame; more than 0 after a kill inside a write.
    n_damaged : int
        Frames of full length whose bytes differ from their checksum, in the middle: the disk changed them.
    """

    payloads: list[bytes]
    n_torn_bytes: int
    n_damaged: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment.

    Attributes
    ----------
    spool : str
        Identity of the spool.
    number : int
        Ascending in a spool, never used twice.
    path : Path
    n_bytes : int
    sealed_at : float
        Unix time of the last entry.
    """

    spool: str
    number: int
    path: Path
    n_bytes: int
    sealed_at: float


def frame(payload: bytes) -> bytes:
    """A payload, which must not be empty, with its length and checksum."""
    return _HEADER.pack(len(payload), zlib.crc32(payload, _SEED)) + payload


def unframe(data: bytes) -> Recovered:
    """The payloads in the bytes of a segment, whatever happened to its end.

    Raises
    ------
    IntegrityError
        It is no segment, or one of another version.
    """
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):  # killed before the first line was complete
            return Recovered([], len(data), 0)
        raise IntegrityError(Fault("spool segment", "has an unknown format", "version 1 is read here"))
    payloads: list[bytes] = []
    n_damaged, last_bad = 0, -1
    position, end = len(MAGIC), len(data)
    while position + _HEADER.size <= end:
        length, checksum = _HEADER.unpack_from(data, position)
        start = position + _HEADER.size
        if not length or start + length > end:
            break
        payload = data[start : start + length]
        if zlib.crc32(payload, _SEED) == checksum:
            payloads.append(payload)
            last_bad = -1
        else:
            n_damaged += 1
            last_bad = position
        position = start + length
    if last_bad >= 0 and position == end:
        # a last frame whose pages did not all reach the disk is a torn one, too
        position, n_damaged = last_bad, n_damaged - 1
    return Recovered(payloads, end - position, n_damaged)


class Spool:
    """The spool of this process, made new.

    :meth:`append` belongs to one thread, the event loop's; :meth:`seal` and the others to one other thread.

    Parameters
    ----------
    root
        Folder of all spools of the node, on a local disk.
    max_bytes
        Bytes on disk beyond which :meth:`append` refuses.

    Raises
    ------
    OSError
        The folder cannot be made.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self.spool_id = uuid.uuid4().hex
        self.folder = root / self.spool_id
        self.max_bytes = max_bytes
        self.error: OSError | None = None
        self._lock = threading.Lock()
        self._backlog = 0
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        hidden = root / f".{self.spool_id}"
        hidden.mkdir(mode=0o700)
        self._owner = os.open(hidden / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        hidden.rename(self.folder)
        self._number = 1
        self._fd, self._size = self._create(1), len(MAGIC)

    def append(self, *payloads: bytes) -> bool:
        """Write payloads, all or none; False when the spool is full or the disk refuses, which :attr:`error` explains.

        One ``write`` into the page cache, no ``fsync``: it outlives this process, and the node from the next `seal` on.
        """
        data = b"".join(map(frame, payloads))
        with self._lock:
            if self._size + self._backlog + len(data) > self.max_bytes:
                return False
            try:
                _write(self._fd, data)
            except OSError as error:
                self.error = error
                self._undo()
                return False
            self._size += len(data)
            self.error = None
        return True

    def seal(self) -> bool:
        """Make the active segment durable and hand it over; False when it holds nothing.

        Raises
        ------
        OSError
            No new segment can be made (the old one stays active), or the disk does not confirm.
        """
        if self._size <= len(MAGIC) and self._fd >= 0:
            return False
        fd = self._create(self._number + 1)
        with self._lock:
            old, number, size = self._fd, self._number, self._size
            self._fd, self._number, self._size = fd, number + 1, len(MAGIC)
            self._backlog += size
        self._hand_over(old, number)
        return True

    def backlog(self) -> list[Segment]:
        """Segments that nobody has committed yet, the oldest first."""
        segments = sealed(self.folder)
        self._backlog = sum(segment.n_bytes for segment in segments)
        return segments

    @property
    def n_bytes(self) -> int:
        """Bytes on disk, as of the last :meth:`backlog`."""
        return self._size + self._backlog

    @property
    def n_active_bytes(self) -> int:
        """Bytes in the active segment."""
        return self._size

    def close(self) -> None:
        """Seal what there is and give the spool up, so that a committer adopts it. Harmless when repeated."""
        if self._owner < 0:
            return
        with self._lock:
            fd, self._fd = self._fd, -1
            self._backlog = self.max_bytes  # refuses what comes later
        with contextlib.suppress(OSError):
            if self._size > len(MAGIC) or fd < 0:
                self._hand_over(fd, self._number)
            else:
                os.close(fd)
                (self.folder / f"{self._number:010d}{ACTIVE}").unlink()
            _remove_if_done(self.folder)
        os.close(self._owner)
        self._owner = -1

    def _create(self, number: int) -> int:
        path = self.folder / f"{number:010d}{ACTIVE}"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(fd, MAGIC)
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return fd

    def _undo(self) -> None:
        """Cut off what a refused write left, so that the next frame can be read."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            # unusable: the thread that seals opens another segment, until then nothing is taken
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _hand_over(self, fd: int, number: int) -> None:
        path = self.folder / f"{number:010d}{ACTIVE}"
        try:
            if fd >= 0:
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        finally:
            path.rename(path.with_suffix(SEALED))
            _sync_folder(self.folder)


def spools(root: Path) -> list[Path]:
    """Folders of the spools of a node; empty when there is none."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        return []


def sealed(folder: Path) -> list[Segment]:
    """Sealed segments of a spool, the oldest first."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(SEALED):
                with contextlib.suppress(FileNotFoundError):  # committed meanwhile
                    stat = entry.stat()
                    number = int(entry.name.removesuffix(SEALED))
                    found.append(Segment(folder.name, number, folder / entry.name, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda segment: segment.number)


@contextlib.contextmanager
def adopt(folder: Path) -> Iterator[bool]:
    """Take over a spool whose process is gone; yields whether that is so.

    While the block runs nobody else adopts it. Its active segment is sealed first; at the end the folder is removed if
    everything in it was committed.
    """
    try:
        owner = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:  # another committer has just removed it
        yield False
        return
    try:
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not (folder / LOCK).exists():  # removed while this process waited for the lock's file
            yield False
            return
        for path in folder.glob(f"*{ACTIVE}"):
            path.rename(path.with_suffix(SEALED))
        yield True
        _remove_if_done(folder)
    finally:
        os.close(owner)


def _remove_if_done(folder: Path) -> None:
    """Remove the folder of a spool, whose lock this process holds, when everything in it was committed."""
    if {path.name for path in folder.iterdir()} == {LOCK}:
        (folder / LOCK).unlink()
        folder.rmdir()


def _write(fd: int, data: bytes) -> None:
    """Write all of `data`, or raise OSError: a disk that fills up takes a part and says so by the count only."""
    if os.write(fd, data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, not only the files' content."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
