"""Smoke tests of an idle variant: each check passes and fails for its own reason."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from attrition.serving.gateway import Gateway, Limits
from attrition.serving.smoke import sample_records, smoke_test
from attrition.serving.traffic import SMOKE_HEADER, Pin, Traffic

TOKEN = "token"


class Bridge(httpx.BaseTransport):
    """Lets a synchronous client ask an ASGI application in this process."""

    def __init__(self, app):
        self._app = app

    def handle_request(self, request):
        async def ask():
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(
                    request.method, request.url.path, content=request.content, headers=dict(request.headers)
                )

        answer = asyncio.run(ask())
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


@pytest.fixture
def tried(store, schema):
    """A gateway whose green variant, without weight, is pinned for smoke tests; with a client."""
    blue = store.add("1.0.0", schema)
    green = store.add("1.1.0", schema, offset=0.1).model_copy(update={"name": "green", "weight": 0.0})
    pin = Pin(header=SMOKE_HEADER, value=TOKEN, variant="green")
    gateway = Gateway(Limits(), store.load)
    asyncio.run(gateway.reconfigure(Traffic(variants=(blue, green), pins=(pin,)).model_dump(mode="json")))
    with httpx.Client(transport=Bridge(gateway), base_url="http://gateway") as client:
        yield client, green, store.bundles["1.1.0"]


def failed(report):
    return [check.name for check in report.checks if not check.passed]


def test_a_sound_version_passes(tried):
    """Every check is made and passes."""
    report = smoke_test(*tried, TOKEN)
    assert report.passed, str(report)
    assert (len(report.checks), str(report)) == (5, "passed")
    assert report.to_dict()["passed"] is True


def test_another_version_answers(tried):
    """The pin leads elsewhere."""
    assert failed(smoke_test(*tried, "another token")) == ["version", "equality"]


def test_what_is_no_probability(tried):
    """Outside [0, 1]."""
    client, green, bundle = tried
    bundle.scorer.score_one = lambda _values: 1.5
    bundle.scorer.score = lambda matrix: matrix[:, 0] * 0 + 1.5
    assert "range" in failed(smoke_test(client, green, bundle, TOKEN))


def test_many_must_equal_one(tried):
    """A scorer that says something else for a matrix."""
    client, green, bundle = tried
    bundle.scorer.score_one = lambda _values: 0.3
    bundle.scorer.score = lambda matrix: matrix[:, 0] * 0 + 0.123
    assert failed(smoke_test(client, green, bundle, TOKEN)) == ["equality"]


def test_a_slow_version(tried):
    """The median of single requests is above what is allowed."""
    assert failed(smoke_test(*tried, TOKEN, max_latency_seconds=0.0)) == ["latency"]


def test_a_version_that_raises(tried):
    """The status is told, nothing else is claimed."""
    client, green, bundle = tried
    bundle.scorer.score_one = lambda _values: 1 / 0
    report = smoke_test(client, green, bundle, TOKEN)
    assert (failed(report), str(report)) == (["answers"], "answers: HTTP 500")


def test_samples_are_valid_and_differ(schema):
    """Ordinary, required alone, lowest, highest."""
    ordinary, required, lowest, highest = sample_records(schema)
    assert required == {"age": ordinary["age"]}
    assert (lowest["age"], highest["age"]) == (14, 100)
