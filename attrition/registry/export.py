"""The bundle of a version: the few files that a serving replica reads, with a manifest of their own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.registry.bundle import (
    CANDIDATE_FILE,
    EXPLAINING_FOLDER,
    FORMAT,
    SCHEMA_FILE,
    SCORING_FOLDER,
    BundleRef,
)
from attrition.registry.manifest import canonical_json, is_intact, manifest_of, write_folder

if TYPE_CHECKING:
    from attrition.registry.package import Package
    from attrition.registry.records import ModelVersion


def write_bundle(root: Path, package: Package, version: ModelVersion) -> BundleRef:
    """The bundle of a version below `root`, complete or not there at all.

    The folder's name ends in the first digits of its manifest's digest, so that another content is another folder. One
    that exists is verified, and made again when it is damaged.

    Raises
    ------
    IntegrityError
        The package differs from its manifest.
    """
    files, facts = _contents(package, version)
    manifest_sha256 = manifest_of(files, facts).sha256
    target = root / f"{version.version}-{manifest_sha256[:8]}"
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


def remove_bundles(root: Path, version: str) -> None:
    """Delete the bundles of a version below `root`; harmless when there is none."""
    for folder in root.glob(f"{version}-*"):
        shutil.rmtree(folder)


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
