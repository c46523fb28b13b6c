"""What the gateway does beside scoring: pins, shadows, compression, headers, counts, the log's hook."""

from __future__ import annotations

import asyncio
import gzip
import json

import httpx
import numpy as np
import pytest

from attrition.serving.gateway import Gateway, Limits
from attrition.serving.metrics import Meter
from attrition.serving.shadow import SLICE
from attrition.serving.traffic import SMOKE_HEADER, Pin, Reason, Traffic

VALID = {"age": 40, "projects": 2, "promoted": 1, "department": 7}


class Log:
    """Keeps what it is given."""

    def __init__(self):
        self.calls = []
        self.error = None

    def append(self, scores, latency_us):
        if self.error:
            raise self.error
        self.calls.append((list(scores), latency_us))


class Served:
    """A gateway with everything observable."""

    def __init__(self, store, traffic, **limits):
        self.meter, self.log = Meter(), Log()
        self.gateway = Gateway(Limits(**limits), store.load, meter=self.meter, log=self.log)
        asyncio.run(self.gateway.reconfigure(traffic.model_dump(mode="json")))

    def ask(self, *requests):
        """Responses to requests that are sent at the same time; returns when the shadows are done."""

        async def send():
            transport = httpx.ASGITransport(self.gateway)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                answers = await asyncio.gather(*(client.post("/v1/predict", **request) for request in requests))
            await self.gateway.shadow.drained()
            return answers

        return asyncio.run(send())

    def counts(self):
        return {(name, *labels): count for (name, labels), count in self.meter.drain().counts.items()}


@pytest.fixture
def variants(store, schema):
    """Blue answers half of the people, green the other half, amber nobody."""
    return {
        name: store.add(version, schema, offset=offset).model_copy(update={"name": name, "weight": weight})
        for name, version, offset, weight in (
            ("blue", "1.0.0", 0.0, 0.5),
            ("green", "1.1.0", 0.1, 0.5),
            ("amber", "1.2.0", 0.6, 0.0),
        )
    }


@pytest.fixture
def serve(store, variants):
    def make(*, pins=(), shadows=(), **limits):
        return Served(store, Traffic(variants=tuple(variants.values()), pins=pins, shadows=shadows), **limits)

    return make


def test_a_pin_beats_the_weights(serve):
    """For one record and for many, whoever they are about, also when the variant has no weight."""
    served = serve(pins=(Pin(header="x-user-group", value="pilot", variant="amber"),))
    many = {"records": [{**VALID, "employee_id": f"E-{i}"} for i in range(20)]}
    for body in (VALID, many):
        (answer,) = served.ask({"json": body, "headers": {"X-User-Group": "pilot"}})
        found = answer.json().get("predictions", [answer.json()])
        assert {(each["variant"], each["reason"]) for each in found} == {("amber", "pin")}
        assert answer.headers["x-model-version"] == "1.2.0"
    (answer,) = served.ask({"json": many, "headers": {"x-user-group": "other"}})
    assert "amber" not in answer.headers["x-variant"]


def test_the_first_pin_wins(serve):
    """When a request carries several pinned headers."""
    served = serve(
        pins=(
            Pin(header="x-team", value="a", variant="green"),
            Pin(header="x-user-group", value="pilot", variant="amber"),
        )
    )
    (answer,) = served.ask({"json": VALID, "headers": {"x-user-group": "pilot", "x-team": "a"}})
    assert answer.json()["variant"] == "green"


def test_headers_name_all_that_answered(serve):
    """A batch may be answered by several versions for several reasons."""
    records = [{**VALID, "employee_id": f"E-{i}"} for i in range(30)] + [VALID] * 10
    (answer,) = serve().ask({"json": {"records": records}})
    assert answer.headers["x-model-version"] == "1.0.0, 1.1.0"
    assert answer.headers["x-variant"] == "blue, green"
    assert answer.headers["x-assignment-reason"] == "random, sticky"


def test_shadows_score_copies_and_never_answer(serve):
    """Every record once, of single and of many; with the difference in decisions counted."""
    served = serve(shadows=("amber",))
    answers = served.ask(*({"json": VALID} for _ in range(20)), {"json": {"records": [VALID] * 300}})
    assert all("amber" not in answer.text for answer in answers)
    counts = served.counts()
    assert counts["shadow_scored", "1.2.0", "amber"] == 320
    assert counts["shadow_disagreements", "1.2.0", "amber"] == 320
    assert ("prediction_requests", "1.2.0", "amber") not in counts
    shadowed = [group for scores, _ in served.log.calls for group in scores if group.variant == "amber"]
    assert {reason for group in shadowed for reason in group.reasons} == {Reason.SHADOW}
    assert max(len(group.rows) for group in shadowed) <= SLICE
    answered = {p["prediction_id"] for a in answers for p in a.json().get("predictions", [a.json()])}
    assert {identifier for group in shadowed for identifier in group.shadow_of} == answered


def test_a_full_shadow_queue_drops_and_counts(serve):
    """The answered request does not notice."""
    served = serve(shadows=("amber",), max_shadow_records=100)
    (answer,) = served.ask({"json": {"records": [VALID] * 101}})
    assert answer.status_code == 200
    counts = served.counts()
    assert counts["shadow_dropped", "1.2.0", "amber"] == 101
    assert ("shadow_scored", "1.2.0", "amber") not in counts
    served.ask({"json": {"records": [VALID] * 100}})
    assert served.counts()["shadow_scored", "1.2.0", "amber"] == 100


def test_a_shadow_that_raises_is_counted(serve, store, caplog):
    """And leaves the answers alone."""
    served = serve(shadows=("amber",))
    store.bundles["1.2.0"].scorer.score = lambda _matrix: 1 / 0
    answers = served.ask(*({"json": VALID} for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert served.counts()["shadow_failed", "1.2.0", "amber"] == 3
    assert "amber could not score" in caplog.text


def test_two_shadows_share_the_queue(serve, store, schema, variants):
    """Each scores every record."""
    variants["teal"] = store.add("1.3.0", schema).model_copy(update={"name": "teal", "weight": 0.0})
    served = serve(shadows=("amber", "teal"))
    served.ask(*({"json": VALID} for _ in range(50)), {"json": {"records": [VALID] * 200}})
    counts = served.counts()
    assert (counts["shadow_scored", "1.2.0", "amber"], counts["shadow_scored", "1.3.0", "teal"]) == (250, 250)


def test_a_variant_without_traffic_requires_nothing(store, schema, variants):
    """A shadow with a required feature that callers do not send must not refuse their requests."""
    strict = schema.model_copy(
        update={"features": tuple(feature.model_copy(update={"required": True}) for feature in schema.features)}
    )
    variants["amber"] = store.add("3.0.0", strict).model_copy(update={"name": "amber", "weight": 0.0})
    served = Served(store, Traffic(variants=tuple(variants.values()), shadows=("amber",)))
    (answer,) = served.ask({"json": {"age": 40}})
    assert answer.status_code == 200
    assert served.counts()["shadow_scored", "3.0.0", "amber"] == 1


def test_the_log_gets_each_answer_once(serve):
    """Groups by version that cover all records, with what was answered and the values that were scored."""
    served = serve()
    records = [{**VALID, "employee_id": i} for i in range(10)]
    one, many = served.ask({"json": VALID}), served.ask({"json": {"records": records}})
    (first, latency_us), (second, _) = served.log.calls
    assert latency_us >= 0
    assert first[0].prediction_ids == [one[0].json()["prediction_id"]]
    assert list(first[0].matrix) == [40, 2, 1, 7]
    assert first[0].features == ("age", "projects", "promoted", "department")
    assert sorted(row for group in second for row in group.rows) == list(range(10))
    by_row = {row: (g.prediction_ids[i], g.version) for g in second for i, row in enumerate(g.rows)}
    answered = [(p["prediction_id"], p["model_version"]) for p in many[0].json()["predictions"]]
    assert [by_row[row] for row in range(10)] == answered
    for group in second:
        assert np.asarray(group.matrix).shape == (len(group.rows), 4)
        assert group.employee_ids == list(group.rows)


def test_a_log_that_fails_costs_no_answer(serve, caplog):
    """The answer is sent; the failure is counted."""
    served = serve()
    served.log.error = OSError("disk")
    (answer,) = served.ask({"json": VALID})
    assert answer.status_code == 200
    assert served.counts()["prediction_errors", "none", "none", "log"] == 1


def test_smoke_tests_are_neither_logged_nor_shadowed(serve):
    """Their records are invented."""
    served = serve(pins=(Pin(header=SMOKE_HEADER, value="token", variant="green"),), shadows=("amber",))
    (answer,) = served.ask({"json": VALID, "headers": {SMOKE_HEADER: "token"}})
    assert (answer.json()["variant"], answer.json()["reason"]) == ("green", "smoke")
    assert served.log.calls == []
    assert ("shadow_scored", "1.2.0", "amber") not in served.counts()


def test_what_is_counted(serve):
    """Requests and records by version, errors by kind, a duration for each request and version."""
    served = serve()
    served.ask({"json": {"records": [{**VALID, "employee_id": i} for i in range(40)]}}, {"json": {"age": "x"}})
    served.ask({"content": b"{"})
    readings = served.meter.drain()
    counts = readings.counts
    assert counts["prediction_requests", ("1.0.0", "blue")] == 1
    assert counts["prediction_records", ("1.0.0", "blue")] + counts["prediction_records", ("1.1.0", "green")] == 40
    assert counts["prediction_errors", ("none", "none", "invalid-records")] == 1
    assert counts["prediction_errors", ("none", "none", "malformed-body")] == 1
    assert sorted(labels for labels, _ in readings.durations) == [("1.0.0", "blue"), ("1.1.0", "green")]
    assert all(0 < seconds < 5 for _, seconds in readings.durations)
    assert served.meter.drain().counts == {}


def packed(document):
    return gzip.compress(json.dumps(document).encode())


@pytest.mark.parametrize("name", ["gzip", "x-gzip", "GZIP"])
def test_gzip_bodies(serve, name):
    """Unpacked, in one member or several."""
    body = json.dumps({"records": [VALID] * 50}).encode()
    for content in (gzip.compress(body), gzip.compress(body[:100]) + gzip.compress(body[100:])):
        (answer,) = serve().ask({"content": content, "headers": {"content-encoding": name}})
        assert len(answer.json()["predictions"]) == 50


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (gzip.compress(b" " * 3_000_000), 413),
        (gzip.compress(b"x" * 1_025), 413),
        (gzip.compress(b"[" * 512) * 40, 413),
        (packed(VALID)[:-9], 400),
        (packed(VALID)[:-1], 400),
        (packed(VALID) + b"rest", 400),
        (gzip.compress(b"") * 400, 400),
        (b"", 400),
        (json.dumps(VALID).encode(), 400),
        (packed({"age": "x"}), 422),
    ],
    ids=[
        "bomb",
        "one-byte-too-many",
        "bomb-in-members",
        "torn",
        "a-byte-is-missing",
        "more-behind-it",
        "empty-members",
        "nothing",
        "not-packed",
        "invalid-record",
    ],
)
def test_bad_gzip_bodies(serve, content, status):
    """A bomb is not unpacked beyond the limit; a torn or false one is told; never 5xx."""
    served = serve(max_body_bytes=1_024 if status == 413 else 10_000)
    (answer,) = served.ask({"content": content, "headers": {"content-encoding": "gzip"}})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_client_that_leaves_is_not_answered(serve):
    """A body that was cut off is not scored as if it were whole."""
    served = serve()
    messages = iter([{"type": "http.request", "body": b'{"age":', "more_body": True}, {"type": "http.disconnect"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": []}
    asyncio.run(served.gateway(scope, receive, send))
    assert sent == []
    assert served.log.calls == []
