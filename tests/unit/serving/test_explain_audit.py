"""Where a request for an explanation came from."""

from __future__ import annotations

import pytest

from attrition.serving.explain_audit import client_address

FORWARDED = b"x-forwarded-for"


@pytest.mark.parametrize(
    ("scope", "address"),
    [
        ({"headers": [], "client": ("192.0.2.1", 5000)}, "192.0.2.1"),
        ({"headers": [(FORWARDED, b"198.51.100.7")], "client": ("127.0.0.1", 1)}, "198.51.100.7"),
        ({"headers": [(FORWARDED, b"made-up, 2001:db8::1")], "client": ("127.0.0.1", 1)}, "2001:db8::1"),
        ({"headers": [(FORWARDED, b"made-up"), (FORWARDED, b"203.0.113.5")]}, "203.0.113.5"),
        ({"headers": [(FORWARDED, b"x" * 65)]}, None),
        ({"headers": [(FORWARDED, b"a\nb")]}, None),
        ({"headers": [], "client": None}, None),
        ({}, None),
    ],
)
def test_the_last_hop_counts_and_nonsense_is_left_out(scope, address):
    """What a client claims about itself stands before what our own HAProxy saw."""
    assert client_address(scope) == address
