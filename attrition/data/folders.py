"""Folders that large results and model versions are written to: of mounted file systems, and of an object store.

A file appears in one step, or not at all: on a local disk by renaming one that is complete, in an object store because
an upload counts when it is confirmed. What is written is therefore made in a local file first.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from attrition.data import addresses
from attrition.errors import Fault, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Folder(Protocol):
    """A folder; names in it are relative and may have folders of their own."""

    def exists(self) -> bool:
        """Whether it is there; in an object store, whether something is in it."""
        ...

    def read(self, name: str) -> bytes | None:
        """Content of a file; None when there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file."""
        ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when there is none."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of what lies directly in a folder of this one; empty when there is none."""
        ...

    def files(self) -> set[str]:
        """Names of all files in it and below; empty when there is none."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file, for reading."""
        ...

    def scratch(self) -> Path:
        """Name for a local file that :meth:`adopt` can take; nothing is there yet."""
        ...

    def adopt(self, file: Path, name: str) -> None:
        """Turn a local file into one of this folder."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file; harmless when there is none."""
        ...

    def clear(self) -> None:
        """Delete the folder with all that is in it; harmless when there is none."""
        ...


class LocalFolder:
    """A folder of a local or mounted file system; made when something is written.

    Parameters
    ----------
    path
        Absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """See :meth:`Folder.exists`."""
        return self.path.is_dir()

    def read(self, name: str) -> bytes | None:
        """See :meth:`Folder.read`."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """See :meth:`Folder.write`."""
        file = self.path / name
        scratch = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(file)

    def size(self, name: str) -> int | None:
        """See :meth:`Folder.size`."""
        file = self.path / name
        return file.stat().st_size if file.is_file() else None

    def names(self, folder: str = "") -> list[str]:
        """See :meth:`Folder.names`."""
        try:
            return sorted(each.name for each in (self.path / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def files(self) -> set[str]:
        """See :meth:`Folder.files`."""
        return {each.relative_to(self.path).as_posix() for each in self.path.rglob("*") if each.is_file()}

    def open(self, name: str) -> IO[bytes]:
        """See :meth:`Folder.open`."""
        return (self.path / name).open("rb")

    def scratch(self) -> Path:
        """In this folder: a file is renamed within one file system only."""
        return self.path / f".part-{uuid.uuid4().hex}"

    def adopt(self, file: Path, name: str) -> None:
        """See :meth:`Folder.adopt`."""
        file.replace(self.path / name)

    def remove(self, name: str) -> None:
        """See :meth:`Folder.remove`."""
        (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """See :meth:`Folder.clear`."""
        shutil.rmtree(self.path, ignore_errors=True)


class StoreFolder:
    """A folder of an object store; it exists while something is in it.

    Parameters
    ----------
    address
        See :mod:`attrition.data.addresses`.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def exists(self) -> bool:
        """See :meth:`Folder.exists`."""
        return bool(self.names())

    def read(self, name: str) -> bytes | None:
        """See :meth:`Folder.read`."""
        with self._answering():
            try:
                with self._system.open_input_stream(self._inner(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """See :meth:`Folder.write`."""
        with self._answering(), self._system.open_output_stream(self._inner(name)) as stream:
            stream.write(content)

    def size(self, name: str) -> int | None:
        """See :meth:`Folder.size`."""
        from pyarrow.fs import FileType

        with self._answering():
            info = self._system.get_file_info(self._inner(name))
        return info.size if info.type == FileType.File else None

    def names(self, folder: str = "") -> list[str]:
        """See :meth:`Folder.names`."""
        from pyarrow.fs import FileSelector

        with self._answering():
            found = self._system.get_file_info(FileSelector(self._inner(folder), allow_not_found=True))
        return sorted(info.base_name for info in found)

    def files(self) -> set[str]:
        """See :meth:`Folder.files`."""
        from pyarrow.fs import FileSelector, FileType

        root = self._inner("")
        with self._answering():
            found = self._system.get_file_info(FileSelector(root, allow_not_found=True, recursive=True))
        paths = [info.path.lstrip("/") for info in found if info.type == FileType.File]
        return {path.removeprefix(root.lstrip("/")).lstrip("/") for path in paths}

    def open(self, name: str) -> IO[bytes]:
        """See :meth:`Folder.open`."""
        with self._answering():
            return self._system.open_input_file(self._inner(name))  # type: ignore[no-any-return]

    def scratch(self) -> Path:
        """In a temporary folder of this process, for its user alone: what is written is about persons."""
        return Path(_own_folder().name) / f"part-{uuid.uuid4().hex}"

    def adopt(self, file: Path, name: str) -> None:
        """See :meth:`Folder.adopt`."""
        with file.open("rb") as content, self._answering():
            # closed by hand: what an interrupted upload has sent must not be confirmed
            stream = self._system.open_output_stream(self._inner(name))
            shutil.copyfileobj(content, stream, _UPLOAD_BYTES)
            stream.close()
        file.unlink()

    def remove(self, name: str) -> None:
        """See :meth:`Folder.remove`."""
        if self.size(name) is not None:
            with self._answering():
                self._system.delete_file(self._inner(name))

    def clear(self) -> None:
        """See :meth:`Folder.clear`; a whole container is emptied, not deleted."""
        inner = self._inner("")
        if not self.exists():
            return
        with self._answering():
            if "/" in inner:
                self._system.delete_dir(inner)
            else:
                self._system.delete_dir_contents(inner)

    @property
    def _system(self) -> Any:
        return addresses.filesystem_of(self.address)[0]

    def _inner(self, name: str) -> str:
        root = addresses.filesystem_of(self.address)[1].rstrip("/")
        return f"{root}/{name}".rstrip("/")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except (pa.ArrowException, OSError) as error:
            remedy = "check the network, the credentials in the environment and their right to write; then repeat it"
            raise PlatformError(Fault(self.address, "the storage did not do its part", "", remedy)) from error


_UPLOAD_BYTES = 2**23


@cache
def _own_folder() -> tempfile.TemporaryDirectory[str]:
    """Deleted with the process."""
    return tempfile.TemporaryDirectory(prefix="attrition-parts-", ignore_cleanup_errors=True)


def folder_at(place: Path | str) -> Folder:
    """The folder at an absolute path or at an address."""
    return StoreFolder(place) if isinstance(place, str) else LocalFolder(place)


@contextmanager
def fetched(place: Path | str) -> Iterator[Path]:
    """A file or folder on this machine: a path itself, or a copy of what an address names, deleted afterwards.

    Nothing is at the path when nothing is at the address.

    Raises
    ------
    PlatformError
        The storage does not answer.
    """
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="attrition-fetched-") as scratch:  # for this user alone
        target, name = Path(scratch) / addresses.name_of(place), addresses.name_of(place)
        parent = StoreFolder(str(addresses.parent_of(place)))
        if parent.size(name) is not None:
            _copy(parent, name, target)
        else:
            folder = StoreFolder(place)
            for each in folder.files():
                _copy(folder, each, target / each)
        yield target


def _copy(folder: StoreFolder, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with folder.open(name) as content, target.open("wb") as file:
        shutil.copyfileobj(content, file, _UPLOAD_BYTES)
