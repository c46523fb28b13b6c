"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

# before anything loads OpenMP or BLAS: on small data their threads mostly spin, and take the cores of other processes
os.environ.setdefault("OMP_NUM_THREADS", "1")

# a script's shell ignores Ctrl-C for what it starts in the background; tests send it to themselves and to commands
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
