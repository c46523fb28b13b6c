"""Whose key files others can read."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from attrition.release.certification import _exposed


@pytest.fixture
def keys(tmp_path):
    paths = tmp_path / "pseudonym.key", tmp_path / "audit.pem"
    for path in paths:
        path.write_text("secret")
        path.chmod(0o600)
    return paths


def test_only_the_owner_may_read_them(keys):
    """One that others can read is enough to fail."""
    assert _exposed(*keys) is False
    keys[1].chmod(0o644)
    assert _exposed(*keys) is True
    assert _exposed(None) is None


def test_what_a_cluster_mounts_is_no_file_of_the_machine(keys, monkeypatch):
    """Key Vault's driver mounts secrets read-only, readable by every user of a pod that has one."""
    keys[0].chmod(0o644)
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert _exposed(*keys) is None
