"""What the OpenAPI document says about the other protocols is true."""

from __future__ import annotations

import json

import pytest

from attrition.serving import openapi
from attrition.serving.exchange import Exchange
from attrition.serving.gateway import Limits
from attrition.serving.protocols import invocations, open_inference
from attrition.serving.protocols.messages import Call


def predict(snapshot, body):
    """The native path, without a request around it."""
    return Exchange(snapshot, "/", (), b"").predict(snapshot, body)


PROTOCOLS = (open_inference, invocations)


@pytest.fixture
def document(schema):
    return openapi.document({}, schema, Limits(max_records=5))


def operations(document):
    for path, item in document["paths"].items():
        for method in ("get", "post"):
            protocol = next((protocol for protocol in PROTOCOLS if protocol.owns(path)), None)
            if method in item and protocol:
                yield protocol, method.upper(), path.replace("{version}", "1.0.0"), item[method]


def test_every_path_is_answered_as_described(document, endpoint):
    """No path is invented, and what a GET answers has a described status."""
    found = list(operations(document))
    assert len(found) == 13
    for protocol, method, path, operation in found:
        reply = protocol.answer(Call(method, path, {}, b"{}"), endpoint.gateway.snapshot, predict)
        assert str(reply.status) in operation["responses"], path
        assert (reply.status == 200) == (method == "GET"), path
        assert reply.content_type.split(b";")[0].decode() in operation["responses"][str(reply.status)]["content"]


def test_the_examples_are_accepted(document, endpoint):
    """What the documentation shows works when it is sent, in every format."""
    sent = 0
    for protocol, method, path, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            for example in content.get("examples", {}).values():
                value = example["value"]
                body = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                call = Call(method, path, {b"content-type": kind.encode()}, body)
                reply = protocol.answer(call, endpoint.gateway.snapshot, predict)
                assert reply.status == 200, (path, kind, reply.body)
                sent += 1
    assert sent == 9


def test_operations_are_told_apart(document):
    """Generated clients need unique operation ids."""
    ids = [operation["operationId"] for _, _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
