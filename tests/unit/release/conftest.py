"""A registered version, as the registry would describe it."""

from __future__ import annotations

import pytest

from attrition.registry.package import read_package
from attrition.registry.records import ModelVersion


@pytest.fixture
def version_of():
    """Function from a written package to its version."""

    def version(ref, **changes):
        facts = read_package(ref.directory, ref.manifest_sha256).facts
        known = {
            "version": "1.2.0",
            "number": 3,
            "run_id": "a" * 32,
            "model_id": "m-1",
            "source": str(ref.directory),
            "aliases": ("challenger",),
            "manifest_sha256": ref.manifest_sha256,
            "created_at": "2026-01-01T00:00:00+00:00",
            "bump": "minor",
            "waived": "",
            "facts": facts,
        }
        return ModelVersion(**known | changes)

    return version
