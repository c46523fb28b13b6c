"""Identifiers of predictions."""

from __future__ import annotations

import time
import uuid

from attrition.serving.identifiers import new_prediction_id, uuid7


def test_the_example_of_the_standard():
    """RFC 9562, appendix A.6."""
    assert uuid7(0x017F22E279B0, 0xCC3 << 62 | 0x18C4DC0C0C07398F) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_an_identifier_is_a_uuid_of_now():
    """Version 7, the usual variant, and the time in front, so that identifiers sort by time."""
    identifier = uuid.UUID(new_prediction_id())
    assert identifier.version == 7
    assert identifier.variant == uuid.RFC_4122
    assert abs((identifier.int >> 80) / 1000 - time.time()) < 5


def test_identifiers_differ():
    """Also within a millisecond."""
    assert len({new_prediction_id() for _ in range(1_000)}) == 1_000
