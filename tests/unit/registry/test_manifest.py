"""A folder is exactly what its manifest says, or nothing is read from it."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from attrition.errors import IntegrityError
from attrition.registry.manifest import (
    FORMAT,
    Manifest,
    build_manifest,
    canonical_json,
    is_intact,
    read_file,
    read_verified,
    verify_directory,
    write_folder,
)

FILES = {"a.json": b"{}\n", "deep/b.bin": bytes(range(256)), "empty": b""}


@pytest.fixture
def folder(tmp_path):
    """A folder of three files with its manifest, and the manifest's digest."""
    directory = tmp_path / "folder"
    return directory, write_folder(directory, FILES, {"family": "random_forest"})


def test_an_untouched_folder_verifies(folder):
    """And gives back what was written."""
    directory, digest = folder
    manifest = verify_directory(directory, digest)
    assert manifest.facts == {"family": "random_forest"}
    assert read_verified(directory, digest) == (manifest, FILES)
    assert build_manifest(directory, manifest.facts) == manifest
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.sha256 == digest == hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("path", sorted(FILES))
def test_a_flipped_bit_in_any_file_is_found_and_named(folder, path):
    """An appended byte too; an empty file can only grow."""
    directory, digest = folder
    data = bytearray(FILES[path])
    if data:
        data[-1] ^= 1
    (directory / path).write_bytes(bytes(data) or b"\0")
    for check in (verify_directory, read_verified):
        with pytest.raises(IntegrityError, match=f"{path}: changed"):
            check(directory, digest)
    with pytest.raises(IntegrityError, match="changed"):
        read_file(directory, path, Manifest.from_bytes((directory / "manifest.json").read_bytes()))


def test_a_manifest_that_was_adapted_to_a_changed_file_is_refused(folder):
    """Its own digest lies elsewhere."""
    directory, digest = folder
    (directory / "a.json").write_bytes(b"[]\n")
    (directory / "manifest.json").write_bytes(build_manifest(directory, {"family": "random_forest"}).to_bytes())
    with pytest.raises(IntegrityError, match=r"manifest\.json: differs"):
        verify_directory(directory, digest)


def test_every_fault_is_named_at_once(folder):
    """Changed, missing and additional files."""
    directory, digest = folder
    (directory / "a.json").write_bytes(b"[]\n")
    (directory / "empty").unlink()
    (directory / "deep" / "extra.pkl").write_bytes(b"x")
    with pytest.raises(IntegrityError) as caught:
        verify_directory(directory, digest)
    assert {(fault.where, fault.found.split()[0]) for fault in caught.value.faults} == {
        ("a.json", "changed"),
        ("empty", "missing"),
        ("deep/extra.pkl", "not"),
    }


def test_a_missing_manifest_or_folder_is_said(folder, tmp_path):
    """Not an OSError."""
    directory, digest = folder
    (directory / "manifest.json").unlink()
    for place in (directory, tmp_path / "nowhere"):
        with pytest.raises(IntegrityError, match=r"manifest\.json: missing"):
            verify_directory(place, digest)


@pytest.mark.parametrize("target", ["file", "folder", "root"])
def test_symbolic_links_are_refused_even_to_equal_content(folder, tmp_path, target):
    """What they point to may change after the check."""
    directory, digest = folder
    place = directory
    if target == "root":
        place = tmp_path / "link"
        place.symlink_to(directory)
    else:
        path = directory / ("a.json" if target == "file" else "deep")
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="symbolic link"):
        verify_directory(place, digest)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_are_refused_without_being_opened(folder):
    """Reading one would wait for ever."""
    directory, digest = folder
    os.mkfifo(directory / "pipe")
    with pytest.raises(IntegrityError, match="not a plain file"):
        verify_directory(directory, digest)


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\b", "c:b", "", "manifest.json", "a/"]
)
def test_paths_that_leave_the_folder_are_refused(path):
    """Whoever wrote the manifest."""
    entry = {"sha256": "0" * 64, "size": 1}
    data = canonical_json({"format": FORMAT, "files": {path: entry}, "facts": {}})
    with pytest.raises(IntegrityError, match="stay in the folder"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"format": "attrition.manifest/9", "files": {}, "facts": {}},
        {"format": FORMAT, "files": [], "facts": {}},
        {"format": FORMAT, "files": {"a": {"sha256": "0" * 64}}, "facts": {}},
        {"format": FORMAT, "files": {"a": {"sha256": "XYZ", "size": 1}}, "facts": {}},
        {"format": FORMAT, "files": {"a": {"sha256": "0" * 64, "size": "1"}}, "facts": {}},
        {"format": FORMAT, "files": {}, "facts": 3},
        {"format": FORMAT, "files": {str(i): {"sha256": "0" * 64, "size": 1} for i in range(1001)}, "facts": {}},
    ],
)
def test_other_documents_are_no_manifests(document):
    """Refused in the same way."""
    with pytest.raises(IntegrityError):
        Manifest.from_bytes(json.dumps(document).encode())


def test_bytes_of_a_manifest_do_not_depend_on_the_order_of_its_entries():
    """The digest identifies the content."""
    first = Manifest.from_bytes(canonical_json({"format": FORMAT, "files": {}, "facts": {"a": 1, "b": 2}}))
    second = Manifest({}, {"b": 2, "a": 1})
    assert first.sha256 == second.sha256


def test_numbers_that_json_does_not_have_are_refused():
    """A manifest with NaN in it could not be read everywhere."""
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"auc": float("nan")})


def test_a_folder_is_not_written_over(folder):
    """Half of the old and half of the new would verify as neither."""
    with pytest.raises(FileExistsError):
        write_folder(folder[0], FILES, {})


@pytest.mark.parametrize("path", ["manifest.json", "a.json"])
def test_a_pipe_in_place_of_a_file_does_not_hold_the_reader(folder, path):
    """Opening one for reading waits for a writer, for ever."""
    directory, digest = folder
    manifest = Manifest.from_bytes((directory / "manifest.json").read_bytes())
    (directory / path).unlink()
    os.mkfifo(directory / path)
    for check in (verify_directory, read_verified):
        with pytest.raises(IntegrityError, match="not a plain file"):
            check(directory, digest)
    assert not is_intact(directory, digest)
    with pytest.raises(IntegrityError):
        read_file(directory, path, manifest)
