"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public HR extracts; the project does not contain them."""
    if not SHARED.is_dir():
        pytest.skip(f"the public HR extracts are not beside the project ({SHARED.parent.name}/{SHARED.name})")
    return SHARED
