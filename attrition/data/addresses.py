"""Where files lie: a path, a ``file:`` URI, or an address of an object store.

An address names its file system, ``abfss://container@account.dfs.core.windows.net/folder`` that of Azure; credentials
come from the environment of each process (``AZURE_CLIENT_ID`` and its kin, a managed identity, ``az login``) and never
stand in a configuration, a plan or a task. An address with a password is refused for that reason.

Azure's emulator is found by the variables by which Delta tables find it: ``AZURE_STORAGE_USE_EMULATOR=true``,
``AZURITE_BLOB_STORAGE_URL`` and ``AZURE_STORAGE_ACCOUNT_KEY``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

AZURE = ("abfs", "abfss")


def local_or_address(path: str | Path) -> Path | str:
    """A local path as such, also of a ``file:`` URI; an address of an object store as text.

    Raises
    ------
    UsageError
        Another scheme, another machine's file, or a password in the address.

    Examples
    --------
    >>> local_or_address("file:///data/hr%20extract.csv")
    PosixPath('/data/hr extract.csv')
    """
    text = str(path)
    if isinstance(path, Path) or ("://" not in text and not text.startswith("file:")):
        return Path(path)
    parts = urlsplit(text)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise UsageError(Fault(text, "is a file of another machine", "", "mount it, and give its path"))
        return Path(unquote(parts.path))
    if parts.scheme not in AZURE:
        raise UsageError(Fault(f"{parts.scheme}://...", "cannot be read or written", "a path, file: and abfss: can"))
    if parts.password or "credential" in parts.query.lower() or "sig=" in parts.query:
        remedy = "take it out and set it in the environment, AZURE_CLIENT_SECRET say"
        raise UsageError(Fault(f"{parts.scheme}://...", "holds a secret, which would end up in logs", "", remedy))
    return text.rstrip("/")


def filesystem_of(address: str) -> tuple[FileSystem, str]:
    """The file system of an address, not connected yet, and the path in it.

    Raises
    ------
    UsageError
        It is no address that Arrow understands.
    """
    import pyarrow as pa
    from pyarrow import fs

    if os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() == "true":
        return _emulated(address)
    try:
        return fs.FileSystem.from_uri(address)  # type: ignore[no-any-return]
    except (pa.ArrowException, ValueError) as error:
        allowed = "abfss://container@account.dfs.core.windows.net/folder is expected"
        raise UsageError(Fault(address.partition("?")[0], "is no address of a storage account", allowed)) from error


def _emulated(address: str) -> tuple[FileSystem, str]:
    from pyarrow import fs

    parts, emulator = urlsplit(address), urlsplit(os.environ["AZURITE_BLOB_STORAGE_URL"])
    # it serves blobs alone, of which an account without a hierarchy of folders consists
    authorities = dict.fromkeys(("blob_storage_authority", "dfs_storage_authority"), emulator.netloc)
    schemes = dict.fromkeys(("blob_storage_scheme", "dfs_storage_scheme"), emulator.scheme)
    account, key = (parts.hostname or "").partition(".")[0], os.environ["AZURE_STORAGE_ACCOUNT_KEY"]
    return fs.AzureFileSystem(account, account_key=key, **authorities, **schemes), f"{parts.username}{parts.path}"


def parent_of(place: Path | str) -> Path | str:
    """What a path or an address lies in."""
    return place.rpartition("/")[0] if isinstance(place, str) else place.parent


def name_of(place: Path | str) -> str:
    """Last part of a path or an address."""
    return place.rpartition("/")[2] if isinstance(place, str) else place.name


def lies_in(place: Path | str, other: Path | str) -> bool:
    """Whether a path or an address is another one, or lies below it."""
    if isinstance(place, Path) and isinstance(other, Path):
        place, other = place.resolve(), other.resolve()
    return f"{place}{os.sep}".startswith(f"{other}{os.sep}")
