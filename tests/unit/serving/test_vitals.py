"""Vitals: what each variant did on a replica, counted, shown, and read back."""

from __future__ import annotations

import json
from collections import Counter

import httpx
import numpy as np
import pytest

from attrition.errors import ServingError
from attrition.serving import vitals
from attrition.serving.vitals import EDGES, Vitals, VitalsLedger

RECORD = {"age": 40, "projects": 2, "promoted": 1, "department": 7}
INFER = "/v2/models/employee-attrition-classifier/infer"


def counted(endpoint):
    """Vitals of the endpoint by version."""
    endpoint.gateway.meter.drain()
    reply = endpoint.request("GET", vitals.PATH)
    assert reply.status_code == 200
    return vitals.parse(reply.json()).vitals


def test_answers_and_their_durations(endpoint):
    """Each request once, in the cell of its duration; a refused body is nobody's failure."""
    for _ in range(3):
        assert endpoint.predict(RECORD).status_code == 200
    assert endpoint.predict({"age": "old"}).status_code == 422
    found = counted(endpoint)["1.0.0"]
    assert (found.answered, found.failed, found.n_timed) == (3, 0, 3)
    assert counted(endpoint)["1.0.0"] == found


@pytest.mark.parametrize("path", ["/v1/predict", "/invocations", INFER])
def test_a_version_is_charged_with_what_it_raises_on(endpoint, store, path):
    """In every protocol; others are not."""
    store.bundles["1.0.0"].scorer.score_one = lambda _values: 1 / 0
    store.bundles["1.0.0"].scorer.score = lambda _matrix: 1 / 0
    body = {
        "/v1/predict": RECORD,
        "/invocations": {"dataframe_records": [RECORD]},
    }.get(path, {"inputs": [{"name": n, "shape": [1], "datatype": "FP64", "data": [v]} for n, v in RECORD.items()]})
    headers = {"content-type": "application/json"}
    assert endpoint.request("POST", path, content=json.dumps(body), headers=headers).status_code == 500
    found = counted(endpoint)["1.0.0"]
    assert (found.answered, found.failed) == (0, 1)


def test_what_was_added():
    """The difference of two counts, and their sum, cell by cell."""
    before = Vitals(10, 1, 0, 0, Counter({3: 10}))
    after = Vitals(15, 3, 7, 1, Counter({3: 12, 9: 3}))
    added = after.since(before)
    assert added == Vitals(5, 2, 7, 1, Counter({3: 2, 9: 3}))
    before.add(added)
    assert before == after


def test_slower_than():
    """Only what certainly was; the cell that the limit lies in is not."""
    ledger = VitalsLedger()
    seconds = [0.00001, 0.001, 0.024, 0.0301, 0.031, 100.0]
    ledger.count({("prediction_requests", ("1.0.0", "blue")): 6}, [(("1.0.0", "blue"), each) for each in seconds])
    found = vitals.parse(ledger.document("r1")).vitals["1.0.0"]
    assert (found.answered, found.n_timed) == (6, 6)
    assert found.slower_than(0.025) == 3
    assert found.slower_than(0.0305) == 1
    assert found.slower_than(21) == 1
    assert np.all(np.diff(np.log(EDGES)) == pytest.approx(np.log(1.1)))


def test_nobody_is_charged_with_what_reached_no_variant():
    """It is not in the document."""
    ledger = VitalsLedger()
    ledger.count({("prediction_errors", ("none", "none", "invalid")): 4, ("placed_batches", ("1.0.0", "b")): 2}, [])
    assert ledger.document("r1")["variants"] == []


def answer(replica):
    return {"replica": replica, "age_seconds": 5.0, "variants": []}


def test_every_replica_is_asked_for_a_few_times():
    """The balancer decides who answers."""
    turn = iter(["a", "a", "b", "c"])
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=answer(next(turn))))
    with httpx.Client(transport=transport) as http:
        found = vitals.read(http, "http://x", 2)
    assert [reading.replica for reading in found] == ["a", "b"]


def test_a_sick_replica_hides_nothing_of_the_others():
    """What the healthy ones tell is returned, before and after the sick one was asked."""
    turn = iter([answer("a"), None, answer("b"), None, answer("a"), None])

    def reply(request):
        document = next(turn)
        if document is None:
            raise httpx.ReadTimeout("too slow", request=request)
        return httpx.Response(200, json=document)

    with httpx.Client(transport=httpx.MockTransport(reply)) as http:
        found = vitals.read(http, "http://x", 3)
    assert [reading.replica for reading in found] == ["a", "b"]


def test_a_look_ends_in_time(monkeypatch):
    """However many replicas keep one waiting; a question has its own end."""
    monkeypatch.setattr(vitals, "LOOK_SECONDS", 0.0)
    asked = []

    def reply(request):
        asked.append(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("too slow", request=request)

    with (
        httpx.Client(transport=httpx.MockTransport(reply)) as http,
        pytest.raises(ServingError, match="ReadTimeout"),
    ):
        vitals.read(http, "http://x", 50)
    assert asked == [vitals.QUESTION_SECONDS]


@pytest.mark.parametrize(
    "reply",
    [httpx.Response(404), httpx.Response(200, text="hello"), httpx.Response(200, json={"replica": "a"})],
)
def test_an_endpoint_that_does_not_tell(reply):
    """One kind of error."""
    transport = httpx.MockTransport(lambda _request: reply)
    with (
        httpx.Client(transport=transport) as http,
        pytest.raises(ServingError, match="does not tell how the variants do"),
    ):
        vitals.read(http, "http://x", 1)
