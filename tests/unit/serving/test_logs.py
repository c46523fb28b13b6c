"""What a failed request leaves in the log: which one, which version, and nothing about a person."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from ray._common.formatters import JSONFormatter

from attrition.errors import VariantFailed
from attrition.serving.logs import REQUEST_ID, about, join_serve

IDENTIFIER = "0198a1de-6c1f-7c4b-9d2e-2f1a5f0c7b11"
SNAPSHOT = SimpleNamespace(lanes={"challenger": SimpleNamespace(variant=SimpleNamespace(version="1.1.0"))})


@pytest.fixture
def lines():
    """What Serve's handler writes as JSON; both loggers are as they were afterwards."""
    written = []

    class Handler(logging.Handler):
        def emit(self, record):
            written.append(json.loads(self.format(record)))

    handler = Handler()
    handler.setFormatter(JSONFormatter())
    loggers = [logging.getLogger(name) for name in ("ray.serve", "attrition")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    loggers[0].handlers = [handler]
    loggers[0].setLevel(logging.WARNING)
    yield written
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagate
        each.setLevel(level)


def test_a_failure_names_request_and_version(lines):
    """As keys of the line, beside the trace."""
    join_serve()
    logger = logging.getLogger("attrition.serving.gateway")
    error = VariantFailed("challenger")
    scope = {REQUEST_ID: IDENTIFIER.encode(), "headers": []}
    logger.error("A scoring request failed", exc_info=error, extra=about(scope, SNAPSHOT, error))
    logger.info("below Serve's level")
    (line,) = lines
    assert (line["request_id"], line["model_version"]) == (IDENTIFIER, "1.1.0")
    assert (line["levelname"], line["message"]) == ("ERROR", "A scoring request failed")
    assert "VariantFailed" in line["exc_text"]


def test_a_request_of_serve_is_known_by_its_header():
    """Where the fast lane has not seen it; before a version was chosen there is none."""
    scope = {"headers": [(b"accept", b"*/*"), (b"x-request-id", IDENTIFIER.encode())]}
    assert about(scope) == {"model_version": "none", "request_id": IDENTIFIER}
    assert about(scope, SNAPSHOT, ValueError())["model_version"] == "none"


@pytest.mark.parametrize("header", [b"E-4711", b"jane.doe@example.com", b"x" * 40, b"a" * 100, b'"\n\xff'])
def test_what_may_be_a_person_is_no_identifier(header):
    """A caller may put anything there."""
    assert about({"headers": [(b"x-request-id", header)]}) == {"model_version": "none"}


def test_outside_of_serve_nothing_is_lost(lines):
    """Without handlers of Serve, messages go where they went before."""
    logging.getLogger("ray.serve").handlers = []
    join_serve()
    assert logging.getLogger("attrition").propagate
