"""Pasted blocks."""

from __future__ import annotations

import numpy as np

from attrition.data.duplicates import pasted_blocks


def numbers(*parts):
    return np.concatenate(parts).astype(np.uint64)


def test_two_blocks_from_different_places():
    """Each is found with its exact bounds."""
    base = np.arange(100)
    rows = numbers(base, base[50:70], [1000, 1001], base[5:20])
    assert pasted_blocks(rows) == [(100, 120), (122, 137)]


def test_a_block_shorter_than_ten_rows_is_a_coincidence():
    """Nine rows do not count, ten do."""
    base = np.arange(50)
    assert pasted_blocks(numbers(base, [99], base[:9])) == []
    assert pasted_blocks(numbers(base, [99], base[:10])) == [(51, 61)]


def test_another_order_is_no_block():
    """Backwards, for instance."""
    assert pasted_blocks(numbers(np.arange(50), np.arange(50)[::-1])) == []


def test_tiny_tables():
    """Too short to hold two blocks."""
    assert pasted_blocks(numbers(np.zeros(5))) == []
    assert pasted_blocks(numbers(np.zeros(0))) == []
