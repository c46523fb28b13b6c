"""Fixtures that every test may use."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public HR extracts; the project does not contain them."""
    if not SHARED.is_dir():
        pytest.skip(f"the public HR extracts are not beside the project ({SHARED.parent.name}/{SHARED.name})")
    return SHARED


@pytest.fixture
def unused_port() -> int:
    """A TCP port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
