"""Files that are made once: secrets, readable by their owner only, and what is handed out about them."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from typing import TYPE_CHECKING

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def create_once(path: Path, content: bytes) -> None:
    """Write `content` to a new file at `path` with mode 0600; an existing file stays as it is.

    Its folder is made with mode 0700. Of processes that do this at the same moment the first one wins, and nobody ever
    sees half a file.

    Raises
    ------
    OSError
        The folder or the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mkstemp: mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)  # noqa: PTH108 (the name is a str of mkstemp)


def replace(path: Path, content: bytes) -> None:
    """Write `content` to `path` with mode 0600, in place of what is there; nobody ever sees half a file.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 (the name is a str of mkstemp)
    except OSError:
        os.unlink(name)  # noqa: PTH108
        raise


def write_new(path: Path, text: str) -> None:
    """Write `text` to a new file at `path`.

    Raises
    ------
    UsageError
        It exists, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        found = f"cannot be written ({error.strerror})"
        raise UsageError(Fault(str(path), found, "an existing file is never replaced", "name another")) from error


def exposed(path: Path) -> bool:
    """True when every user of the machine can read or write the file."""
    return bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IROTH | stat.S_IWOTH)) and not is_mounted(path)


def is_mounted(path: Path) -> bool:
    """Whether a cluster mounted the file read-only: whatever its mode, nobody but the pod sees it."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
