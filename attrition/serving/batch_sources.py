"""Where the bytes of an input lie: below a path or an address, see :mod:`attrition.data.addresses`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from attrition.data import addresses
from attrition.errors import Fault, NotFound, PlatformError

if TYPE_CHECKING:
    import pyarrow as pa


def open_source(path: str) -> pa.NativeFile:
    """The file at a path or address, for random reads."""
    import pyarrow as pa

    if "://" not in path:
        return pa.OSFile(path)
    system, inner = addresses.filesystem_of(path)
    return system.open_input_file(inner)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the input.

    Attributes
    ----------
    path : str
        Local path or address.
    relative : str
        Below the input; its name when it is the input.
    size : int
        Bytes.
    modified : int
        Nanoseconds since 1970, of the last change.
    """

    path: str
    relative: str
    size: int
    modified: int

    @property
    def name(self) -> str:
        """For messages."""
        return Path(self.relative).name


@dataclass(frozen=True, slots=True)
class Tree:
    """What lies at a path or address.

    Attributes
    ----------
    is_folder : bool
    files : tuple of SourceFile
        All below a folder; or the file itself. In the order of their names.
    """

    is_folder: bool
    files: tuple[SourceFile, ...]

    @property
    def is_delta(self) -> bool:
        """Whether it is a Delta table."""
        return any(file.relative.startswith("_delta_log/") for file in self.files)


def look_at(path: Path | str) -> Tree:
    """The files at a path or address.

    Raises
    ------
    NotFound
        Nothing is there.
    PlatformError
        The storage account did not answer.
    """
    import pyarrow as pa
    from pyarrow import fs

    where = str(path)
    system, inner = (fs.LocalFileSystem(), where) if isinstance(path, Path) else addresses.filesystem_of(path)
    try:
        info = system.get_file_info(inner)
        found = [info] if info.type == fs.FileType.File else []
        if info.type == fs.FileType.Directory:
            selector = fs.FileSelector(inner, recursive=True)
            found = [each for each in system.get_file_info(selector) if each.type == fs.FileType.File]
    except (pa.ArrowException, OSError) as error:
        remedy = "check the network, the account's name and the credentials in the environment"
        raise PlatformError(Fault(where, "the storage did not answer", "", remedy)) from error
    if info.type == fs.FileType.NotFound:
        raise NotFound(Fault(where, "no such file or folder", "", "check the path"))
    files = [_source(each, inner, path) for each in found]
    return Tree(info.type == fs.FileType.Directory, tuple(sorted(files, key=lambda file: file.relative)))


def _source(info: Any, root: str, path: Path | str) -> SourceFile:
    relative = info.path[len(root) :].lstrip("/") or info.base_name
    address = info.path
    if isinstance(path, str):
        parts = urlsplit(path)
        # the first part of Arrow's path is the container, which the address has before its @
        address = f"{parts.scheme}://{parts.netloc}/{quote(info.path.partition('/')[2])}"
    return SourceFile(address, relative, info.size, info.mtime_ns or 0)
