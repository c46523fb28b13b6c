"""How the gateway meets the other protocols."""

from __future__ import annotations

import asyncio
import json

import pytest

from attrition.serving.exchange import Exchange
from attrition.serving.protocols import dispatch, problems

NEVER = "the body was read"


def ask(path, snapshot, *, method="POST", body=b"", predict=None, **headers):
    async def read():
        assert method == "POST", NEVER
        return body

    sent = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": sent}
    return asyncio.run(dispatch.answer(scope, path, read, snapshot, predict or native_path))


def native_path(snapshot, body):
    return Exchange(snapshot, "/", (), b"").predict(snapshot, body)


def test_paths_of_no_protocol(endpoint):
    """The gateway goes on to look elsewhere, and the body is still there to read."""
    assert ask("/v1/predict", endpoint.gateway.snapshot, method="GET") is None
    assert ask("/docs", endpoint.gateway.snapshot, method="GET") is None


def test_both_protocols_are_reached(endpoint):
    """By path."""
    record = b'{"dataframe_records": [{"age": 40}]}'
    assert json.loads(ask("/invocations", endpoint.gateway.snapshot, body=record).body)["predictions"]
    assert ask("/v2/health/live", None, method="GET").status == 200


@pytest.mark.parametrize(("path", "key"), [("/v2/models/x/infer", "error"), ("/invocations", "detail")])
def test_a_body_that_is_not_read(endpoint, path, key):
    """The reader's problem, in the shape of the protocol."""
    reply = ask(path, endpoint.gateway.snapshot, body=problems.too_large("9 bytes"))
    assert reply.status == 413
    assert "9 bytes" in json.loads(reply.body)[key]


@pytest.mark.parametrize("path", ["/v2/models/employee-attrition-classifier/infer", "/invocations"])
def test_a_broken_scorer_is_our_fault(endpoint, path, caplog):
    """500 in the shape of the protocol, without inner detail; the log has its kind and place."""

    def predict(_snapshot, _body):
        return 1 / 0

    body = {
        "/invocations": b'{"dataframe_records": [{"age": 40}]}',
    }.get(path, b'{"inputs": [{"name": "age", "shape": [1], "datatype": "FP64", "data": [40]}]}')
    reply = ask(path, endpoint.gateway.snapshot, body=body, predict=predict)
    assert reply.status == 500
    assert b"division" not in reply.body
    assert "ZeroDivisionError" in caplog.text


def test_the_native_path_is_the_gateways(endpoint):
    """Whatever the gateway does with a prediction beside sending it happens for every protocol."""
    seen = []

    def predict(snapshot, body):
        seen.append((snapshot, json.loads(body)))
        return b'{"probability": 0.25}', "1.0.0"

    reply = ask("/invocations", endpoint.gateway.snapshot, body=b'{"inputs": {"age": [40]}}', predict=predict)
    assert seen == [(endpoint.gateway.snapshot, {"age": 40})]
    assert json.loads(reply.body) == {"predictions": [{"probability": 0.25}]}
