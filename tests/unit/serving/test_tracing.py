"""The trace context comes back."""

from __future__ import annotations

import asyncio

import pytest

from attrition.serving.tracing import traced, traceparent

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def response_headers(headers):
    """Headers that a response gets when the request has `headers`."""
    sent = []

    async def send(message):
        sent.append(message)

    async def respond():
        through = traced({"headers": headers}, send)
        await through({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await through({"type": "http.response.body", "body": b""})

    asyncio.run(respond())
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["headers"]


def test_it_is_added_to_the_response():
    """As it was sent, beside the response's own headers."""
    assert response_headers([(b"host", b"x"), (b"traceparent", PARENT)]) == [
        (b"content-length", b"0"),
        (b"traceparent", PARENT),
    ]


def test_without_one_nothing_is_added():
    """The response stays as it is."""
    assert response_headers([(b"host", b"x")]) == [(b"content-length", b"0")]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"-more",
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + PARENT[52:],
        PARENT + b"\r\nset-cookie: a=b",
        b"01" + PARENT[2:] + b"-\r\nx: y",
    ],
)
def test_what_is_not_well_formed_is_ignored(value):
    """Nothing that a caller writes there reaches the response unless it has the form."""
    assert traceparent({"headers": [(b"traceparent", value)]}) is None


@pytest.mark.parametrize("value", [PARENT, b"01" + PARENT[2:], b"01" + PARENT[2:] + b"-what.follows"])
def test_later_versions_may_be_longer(value):
    """Version 00 has a fixed length."""
    assert traceparent({"headers": [(b"traceparent", value)]}) == value
