"""A package where this machine can read it: in MLflow's own folder, or downloaded once and kept by digest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.registry.bundle import local_path
from attrition.registry.manifest import checked_digest, is_intact

if TYPE_CHECKING:
    from attrition.settings import Settings


def local_folder(settings: Settings, location: str, manifest_sha256: str) -> Path:
    """The folder of a package; not verified by this function, except a download that is reused.

    Parameters
    ----------
    location
        Of the artifacts, as MLflow knows it.
    manifest_sha256
        Names the downloaded copy below ``settings.home/packages``.

    Raises
    ------
    IntegrityError
        `manifest_sha256` is no digest.
    PlatformError
        The artifacts cannot be downloaded.
    """
    digest = checked_digest(manifest_sha256, location)
    if _is_local(location):
        return local_path(location)
    target = settings.home / "packages" / digest
    if not is_intact(target, digest):
        _download(settings, location, target)
    return target


def remove_folder(settings: Settings, location: str, manifest_sha256: str) -> None:
    """Delete a package where it is kept, and the downloaded copy; harmless when they are gone.

    Raises
    ------
    PlatformError
        The storage does not answer or does not permit it.
    """
    shutil.rmtree(settings.home / "packages" / checked_digest(manifest_sha256, location), ignore_errors=True)
    if _is_local(location):
        folder = local_path(location)
        if folder.exists():
            shutil.rmtree(folder)
        return
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    from attrition.training.connection import answering

    with answering(location):
        get_artifact_repository(location, tracking_uri=settings.tracking_uri).delete_artifacts()


def _is_local(location: str) -> bool:
    # a URI has a scheme; the drive letter of a path has one character
    return location.startswith("file:") or len(location.partition(":/")[0]) <= 1 or ":/" not in location


def _download(settings: Settings, location: str, target: Path) -> None:
    # the bar would be drawn over our own progress
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts

    from attrition.training.connection import answering

    target.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder: a rename is atomic within one file system only
    scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=target.parent))
    try:
        with answering(location):
            uri = settings.tracking_uri
            folder = download_artifacts(artifact_uri=location, dst_path=str(scratch), tracking_uri=uri)
        _put(Path(folder), target, aside=scratch / "replaced")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put(folder: Path, target: Path, *, aside: Path) -> None:
    try:
        if target.exists():
            target.rename(aside)
        folder.rename(target)
    except OSError:
        # another process downloaded the same package meanwhile
        if not target.exists():
            raise
