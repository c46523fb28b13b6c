"""The bundle of a version: the few files that a serving replica reads, with a manifest of their own."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.data.folders import folder_at
from attrition.errors import IntegrityError
from attrition.registry.bundle import (
    CANDIDATE_FILE,
    EXPLAINING_FOLDER,
    FORMAT,
    SCHEMA_FILE,
    SCORING_FOLDER,
    BundleRef,
    read_bundle,
)
from attrition.registry.manifest import MANIFEST_FILE, canonical_json, is_intact, manifest_of, write_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.registry.manifest import Manifest
    from attrition.registry.package import Package
    from attrition.registry.records import ModelVersion


def write_bundle(root: Path | str, package: Package, version: ModelVersion) -> BundleRef:
    """The bundle of a version below `root`, a folder or an address; complete or not there at all.

    The folder's name ends in the first digits of its manifest's digest, so that another content is another folder. One
    that exists is verified, and made again when it is damaged.

    Raises
    ------
    IntegrityError
        The package differs from its manifest.
    PlatformError
        The object store did not do its part.
    """
    files, facts = _contents(package, version)
    manifest = manifest_of(files, facts)
    manifest_sha256 = manifest.sha256
    name = f"{version.version}-{manifest_sha256[:8]}"
    if isinstance(root, str):
        ref = BundleRef(f"{root}/{name}", version.version, manifest_sha256)
        _upload(ref, files, manifest)
        return ref
    target = root / name
    ref = BundleRef(str(target), version.version, manifest_sha256)
    if target.exists() and is_intact(target, manifest_sha256):
        return ref
    root.mkdir(parents=True, exist_ok=True)
    # in the same folder: a rename is atomic within one file system only
    scratch = Path(tempfile.mkdtemp(prefix=".bundle-", dir=root))
    try:
        write_folder(scratch / "new", files, facts)
        if target.exists() and not is_intact(target, manifest_sha256):
            target.rename(scratch / "damaged")
        try:
            (scratch / "new").rename(target)
        except OSError:
            # another process exported the same version meanwhile
            if not is_intact(target, manifest_sha256):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ref


def bundle_sha256(package: Package, version: ModelVersion) -> str:
    """Digest of the manifest that the bundle of a version has, wherever and whenever it is exported."""
    return manifest_of(*_contents(package, version)).sha256


def remove_bundles(root: Path | str, version: str) -> None:
    """Delete the bundles of a version below `root`; harmless when there is none."""
    for name in folder_at(root).names():
        if name.startswith(f"{version}-"):
            folder_at(f"{root}/{name}" if isinstance(root, str) else root / name).clear()


def _upload(ref: BundleRef, files: Mapping[str, bytes], manifest: Manifest) -> None:
    """Write a bundle to an object store, its manifest last: without it there is no bundle."""
    with suppress(IntegrityError):
        read_bundle(ref.uri, ref.manifest_sha256)
        return
    folder = folder_at(ref.uri)
    folder.clear()
    for name, content in files.items():
        folder.write(name, content)
    folder.write(MANIFEST_FILE, manifest.to_bytes())


def _contents(package: Package, version: ModelVersion) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files and facts of a bundle."""
    document = {
        "format": FORMAT,
        "version": version.version,
        "family": version.family,
        "threshold": package.threshold,
        "run_id": version.run_id,
        "package_sha256": package.manifest_sha256,
    }
    files = {
        **{SCORING_FOLDER + name: data for name, data in package.scoring_files.items()},
        **{EXPLAINING_FOLDER + name: data for name, data in package.background_files.items()},
        SCHEMA_FILE: package.read(SCHEMA_FILE),
        CANDIDATE_FILE: canonical_json(document),
    }
    facts = {**document, "model_digest": package.facts["model_digest"], "lineage": package.facts["lineage"]}
    return files, facts
