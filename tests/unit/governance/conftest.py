"""A moment."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest


@pytest.fixture
def now():
    """A moment without meaning."""
    return datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
