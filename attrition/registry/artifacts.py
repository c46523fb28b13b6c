"""A package where this machine can read it: in MLflow's own folder, or downloaded once and kept by digest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.errors import Fault, IntegrityError, TrackingUnreachable
from attrition.registry.bundle import local_path
from attrition.registry.manifest import verify_directory

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
    TrackingUnreachable
        The artifacts cannot be downloaded.
    """
    # a URI has a scheme; the drive letter of a path has one character
    if location.startswith("file:") or len(location.partition(":/")[0]) <= 1 or ":/" not in location:
        return local_path(location)
    target = settings.home / "packages" / manifest_sha256
    if not _intact(target, manifest_sha256):
        _download(settings, location, target)
    return target


def _intact(folder: Path, manifest_sha256: str) -> bool:
    try:
        verify_directory(folder, manifest_sha256)
    except IntegrityError:
        return False
    return True


def _download(settings: Settings, location: str, target: Path) -> None:
    # the bar would be drawn over our own progress
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    target.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder: a rename is atomic within one file system only
    scratch = Path(tempfile.mkdtemp(prefix=".download-", dir=target.parent))
    try:
        uri = settings.tracking_uri
        folder = download_artifacts(artifact_uri=location, dst_path=str(scratch), tracking_uri=uri)
        if target.exists():
            target.rename(scratch / "replaced")
        Path(folder).rename(target)
    except MlflowException as error:
        raise TrackingUnreachable(Fault(location, "the package cannot be downloaded")) from error
    except OSError:
        # another process downloaded the same package meanwhile
        if not target.exists():
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
