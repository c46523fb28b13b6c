"""Identifiers of predictions."""

from __future__ import annotations

import time
import uuid

import pytest

from attrition.serving.identifiers import new_prediction_id, new_prediction_ids, uuid7


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


@pytest.mark.parametrize("n", [0, 1, 1_000])
def test_many_at_once(n):
    """Version 7, the usual variant, the time in front, all different: as if made one by one."""
    identifiers = new_prediction_ids(n)
    made = [uuid.UUID(text) for text in identifiers]
    assert list(map(str, made)) == identifiers
    assert len(set(made)) == n
    assert {(one.version, one.variant) for one in made} <= {(7, uuid.RFC_4122)}
    assert all(abs((one.int >> 80) / 1000 - time.time()) < 5 for one in made)


def test_every_random_bit_is_drawn():
    """Of a thousand identifiers each of the 74 random bits is set in some and not in others."""
    made = [uuid.UUID(text).int for text in new_prediction_ids(1_000)]
    random_bits = (0xFFF << 64) | (2**62 - 1)
    ones, zeros = 0, 0
    for number in made:
        ones |= number
        zeros |= ~number
    assert ones & random_bits == zeros & random_bits == random_bits
