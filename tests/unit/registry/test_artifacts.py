"""Packages are read where they lie, or downloaded once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attrition.errors import IntegrityError, TrackingUnreachable
from attrition.registry.artifacts import local_folder
from attrition.registry.package import read_package
from attrition.settings import Settings

REMOTE = "mlflow-artifacts:/1/models/m-1/artifacts"


@pytest.fixture
def settings(tmp_path):
    """An empty project."""
    return Settings.from_environment({}, home=tmp_path / "home")


@pytest.fixture
def downloads(monkeypatch, package):
    """Serves the package as a tracking server would; the list of downloads."""
    done: list[str] = []

    def download(artifact_uri, dst_path, tracking_uri):
        done.append(artifact_uri)
        return str(shutil.copytree(package.directory, Path(dst_path) / "artifacts"))

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    return done


def test_a_local_package_is_not_copied(settings, package):
    """By path and by URI."""
    for location in (str(package.directory), package.directory.as_uri()):
        assert local_folder(settings, location, package.manifest_sha256) == package.directory


def test_a_remote_package_is_downloaded_once(settings, package, downloads):
    """And verifies."""
    for _ in range(2):
        folder = local_folder(settings, REMOTE, package.manifest_sha256)
        read_package(folder, package.manifest_sha256)
    assert downloads == [REMOTE]
    assert [path.name for path in folder.parent.iterdir()] == [package.manifest_sha256]


def test_a_damaged_copy_is_downloaded_again(settings, package, downloads):
    """It is a cache, not the registry."""
    folder = local_folder(settings, REMOTE, package.manifest_sha256)
    (folder / "schema.json").write_text("{}")
    read_package(local_folder(settings, REMOTE, package.manifest_sha256), package.manifest_sha256)
    assert len(downloads) == 2


def test_a_failed_download_leaves_nothing(settings, package, monkeypatch):
    """And names the location."""
    from mlflow.exceptions import MlflowException

    def fail(**_):
        raise MlflowException("no answer")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fail)
    with pytest.raises(TrackingUnreachable, match="mlflow-artifacts"):
        local_folder(settings, REMOTE, package.manifest_sha256)
    assert list((settings.home / "packages").iterdir()) == []


@pytest.mark.parametrize("digest", ["../keys", "..", "", "a/../../keys", "0" * 63, "0" * 64 + "\n"])
def test_what_is_no_digest_names_no_folder(settings, package, downloads, digest):
    """A changed tag must not make a folder beside the packages disappear."""
    key = settings.home / "keys" / "pseudonym.key"
    key.parent.mkdir(parents=True)
    key.write_text("irreplaceable")
    with pytest.raises(IntegrityError, match="64 hexadecimal digits"):
        local_folder(settings, REMOTE, digest)
    assert key.read_text() == "irreplaceable"
    assert downloads == []
