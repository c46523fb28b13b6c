"""The manifest of a folder: which files it has, and the SHA-256 of each. Pure, and light enough for a serving replica.

The digest of the manifest itself is kept elsewhere (as a tag in the registry, in the traffic of an endpoint): whoever
can change files but not that digest cannot change what is loaded. Nothing is parsed, let alone deserialised, before
the bytes are known to be the promised ones, and bytes are checked as they are read, not in a file that may change
between the check and the use.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.data.folders import Folder

FORMAT = "attrition.manifest/1"
MANIFEST_FILE = "manifest.json"

MAX_MANIFEST_BYTES = 4 * 2**20
MAX_FILES = 1000

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a manifest promises about one file: SHA-256 (hex) and size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> FileEntry:
        """The entry of a file with this content."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True, slots=True)
class Manifest:
    """Files of a folder, and facts about it.

    Attributes
    ----------
    files : mapping of str to FileEntry
        By path relative to the folder, ``/``-separated.
    facts : mapping
        JSON-ready: what the folder holds and where it comes from.
    """

    files: Mapping[str, FileEntry]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Content of ``manifest.json``; the same bytes for an equal manifest."""
        files = {path: {"sha256": entry.sha256, "size": entry.size} for path, entry in self.files.items()}
        return canonical_json({"format": FORMAT, "files": files, "facts": self.facts})

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of :meth:`to_bytes`: the one number to keep."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Inverse of :meth:`to_bytes`.

        Raises
        ------
        IntegrityError
            Not this format, or a path that leaves the folder.
        """
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise _unusable(f"format {str(document['format'])[:40]!r}", f"this version of attrition reads {FORMAT}")
            files = {str(path): FileEntry(entry["sha256"], entry["size"]) for path, entry in document["files"].items()}
            facts = dict(document["facts"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unusable("malformed", f"a document of {FORMAT}") from error
        faults = [
            Fault(MANIFEST_FILE, f"path {path[:80]!r}", "paths stay in the folder") for path in files if _unsafe(path)
        ]
        for path, entry in files.items():
            if not (isinstance(entry.sha256, str) and _SHA256.fullmatch(entry.sha256) and type(entry.size) is int):
                faults.append(Fault(MANIFEST_FILE, f"entry of {path[:80]!r}", "a SHA-256 in hex and a size in bytes"))
        if len(files) > MAX_FILES:
            faults.append(Fault(MANIFEST_FILE, f"{len(files)} files", f"at most {MAX_FILES}"))
        if faults:
            raise IntegrityError(faults)
        return cls(files, facts)


def checked_digest(text: str, where: str) -> str:
    """`text`, which is a SHA-256 in lower-case hex; it names folders and must not be anything else.

    Parameters
    ----------
    where
        What it is the digest of, for the message.

    Raises
    ------
    IntegrityError
        It is not.
    """
    if not _SHA256.fullmatch(text):
        found = f"the digest of its manifest is {text[:80]!r}"
        raise IntegrityError(Fault(where, found, "64 hexadecimal digits", "do not use it: the tag was changed"))
    return text


def canonical_json(document: Any) -> bytes:
    """Readable JSON with sorted keys, the same for equal documents; NaN and infinity are refused with ValueError."""
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False).encode() + b"\n"


def manifest_of(files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Manifest:
    """Manifest of files that are in memory, content by relative path."""
    return Manifest({path: FileEntry.of(data) for path, data in files.items()}, facts)


def build_manifest(directory: Path, facts: Mapping[str, Any]) -> Manifest:
    """Manifest of all files below a folder, save a manifest that is already there.

    Raises
    ------
    IntegrityError
        Something below the folder is neither a file nor a folder (a symbolic link, say).
    """
    paths, faults = _walk(Path(directory))
    if faults:
        raise IntegrityError(faults)
    return Manifest(
        {path: FileEntry.of(_read(Path(directory) / path)) for path in sorted(paths - {MANIFEST_FILE})}, facts
    )


def write_folder(directory: Path, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> str:
    """Write files and their manifest into a new folder; SHA-256 of the manifest.

    Raises
    ------
    FileExistsError
        The folder exists.
    """
    directory = Path(directory)
    directory.mkdir(parents=True)
    for path, data in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    manifest = manifest_of(files, facts)
    (directory / MANIFEST_FILE).write_bytes(manifest.to_bytes())
    return manifest.sha256


def verify_directory(directory: Path, manifest_sha256: str) -> Manifest:
    """The manifest of a folder whose every byte is the promised one.

    Parameters
    ----------
    directory
        A local folder.
    manifest_sha256
        Of ``manifest.json``, from a place that the folder's writer cannot change.

    Raises
    ------
    IntegrityError
        Names the manifest when its own digest differs; else every file that is changed, missing, not promised, or not
        a plain file.
    """
    manifest, faults = _checked(Path(directory), manifest_sha256)
    for path, entry in manifest.files.items():
        fault = _difference(path, entry, _try_read(Path(directory) / path, entry.size))
        faults += [fault] if fault else []
    if faults:
        raise IntegrityError(faults)
    return manifest


def is_intact(directory: Path, manifest_sha256: str) -> bool:
    """Whether :func:`verify_directory` finds nothing."""
    try:
        verify_directory(directory, manifest_sha256)
    except IntegrityError:
        return False
    return True


def read_verified(directory: Path, manifest_sha256: str) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and content of every file of a small folder; what is returned is what was verified.

    Raises
    ------
    IntegrityError
        As :func:`verify_directory`.
    """
    manifest, faults = _checked(Path(directory), manifest_sha256)
    contents: dict[str, bytes] = {}
    for path, entry in manifest.files.items():
        data = _try_read(Path(directory) / path, entry.size)
        fault = _difference(path, entry, data)
        faults += [fault] if fault else []
        contents[path] = data or b""
    if faults:
        raise IntegrityError(faults)
    return manifest, contents


def read_verified_from(folder: Folder, manifest_sha256: str) -> tuple[Manifest, dict[str, bytes]]:
    """As :func:`read_verified`, of a folder that lies elsewhere, in an object store say.

    Raises
    ------
    IntegrityError
        As :func:`verify_directory`.
    PlatformError
        The storage did not answer.
    """
    manifest = _promised(folder.read(MANIFEST_FILE), manifest_sha256, "the folder")
    faults = _unpromised(folder.files(), manifest)
    contents: dict[str, bytes] = {}
    for path, entry in manifest.files.items():
        data = folder.read(path) if folder.size(path) == entry.size else b""
        fault = _difference(path, entry, data)
        faults += [fault] if fault else []
        contents[path] = data or b""
    if faults:
        raise IntegrityError(faults)
    return manifest, contents


def read_file(directory: Path, path: str, manifest: Manifest) -> bytes:
    """Content of one file, checked against a verified manifest as it is read.

    Raises
    ------
    IntegrityError
        The file is not in the manifest, or is changed or missing.
    """
    entry = manifest.files.get(path)
    if entry is None:
        raise IntegrityError(Fault(path, "not in the manifest", f"it has {', '.join(sorted(manifest.files))}"))
    data = _try_read(Path(directory) / path, entry.size)
    fault = _difference(path, entry, data)
    if fault or data is None:
        raise IntegrityError(fault or _gone(path))
    return data


def _checked(directory: Path, manifest_sha256: str) -> tuple[Manifest, list[Fault]]:
    """The manifest, its own digest verified, and what is wrong with the folder's list of files."""
    data = _try_read(directory / MANIFEST_FILE, MAX_MANIFEST_BYTES)
    manifest = _promised(data, manifest_sha256, directory.name)
    found, faults = _walk(directory)
    return manifest, faults + _unpromised(found, manifest)


def _promised(data: bytes | None, manifest_sha256: str, where: str) -> Manifest:
    """The manifest in these bytes, if they are those of its digest."""
    if data is None:
        raise _unusable("missing or not a plain file", f"{where} must have one")
    if hashlib.sha256(data).hexdigest() != manifest_sha256:
        raise _unusable("differs from what was registered", f"SHA-256 {manifest_sha256} is expected")
    return Manifest.from_bytes(data)


def _unpromised(found: set[str], manifest: Manifest) -> list[Fault]:
    return [
        Fault(path, "not in the manifest", "a version has exactly the files that were registered")
        for path in sorted(found - manifest.files.keys() - {MANIFEST_FILE})
    ]


def _walk(directory: Path) -> tuple[set[str], list[Fault]]:
    """Relative paths of the plain files below a folder, and a fault for everything that is neither file nor folder."""
    files: set[str] = set()
    faults: list[Fault] = []
    if directory.is_symlink():
        return files, [Fault(directory.name, "a symbolic link", "plain files and folders only")]
    for parent, folders, names in os.walk(directory, followlinks=False):
        for name in (*folders, *names):
            path = Path(parent) / name
            relative = path.relative_to(directory).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                files.add(relative)
            elif not stat.S_ISDIR(mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a plain file"
                faults.append(Fault(relative, kind, "plain files and folders only"))
    return files, faults


def _difference(path: str, entry: FileEntry, data: bytes | None) -> Fault | None:
    if data is None:
        return _gone(path)
    if FileEntry.of(data) != entry:
        return Fault(path, "changed", f"SHA-256 {entry.sha256} was registered", "do not use it: restore the version")
    return None


def _gone(path: str) -> Fault:
    return Fault(path, "missing or not a plain file", "", "restore the version")


def _try_read(path: Path, size: int) -> bytes | None:
    """Content of a plain file, one byte beyond `size` at most; None when there is no such file."""
    try:
        return _read(path, size + 1)
    except OSError:
        return None


# O_NOFOLLOW: a link put in place after the folder was walked is refused as well; O_NONBLOCK: a pipe does not block
_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _read(path: Path, limit: int = -1) -> bytes:
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _OPEN_FLAGS)) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(f"{path.name} is not a plain file")
        return stream.read(limit)


def _unsafe(path: str) -> bool:
    parts = PurePosixPath(path).parts
    odd = "\\" in path or ":" in path or "\0" in path
    return odd or not parts or path.startswith("/") or ".." in parts or "/".join(parts) != path or path == MANIFEST_FILE


def _unusable(found: str, allowed: str) -> IntegrityError:
    return IntegrityError(Fault(MANIFEST_FILE, found, allowed, "do not use this version: restore it"))
