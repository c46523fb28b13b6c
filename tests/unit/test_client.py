"""The HTTP client, against an endpoint played by a function."""

from __future__ import annotations

import json

import httpx
import numpy as np
import pandas as pd
import pytest

from attrition.client import COLUMNS, Client
from attrition.data.schema import FeatureSchema
from attrition.errors import AccessDenied, NotAuthenticated, ServingError, UsageError

FEATURES = FeatureSchema.default()


class Endpoint:
    """Answers like the gateway: probability = age / 100. Up to three records fit in a request."""

    def __init__(self) -> None:
        self.bodies: list[dict] = []
        self.before: list = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/versions":
            return httpx.Response(200, json={"schema": FEATURES.to_dict(), "limits": {"max_records": 3}})
        if self.before:
            step = self.before.pop(0)
            if isinstance(step, Exception):
                raise step
            return step
        body = json.loads(request.content)
        self.bodies.append(body)
        return httpx.Response(200, json={"predictions": [self.answer(record) for record in body["records"]]})

    @staticmethod
    def answer(record: dict) -> dict:
        probability = record.get("age", 0) / 100
        fixed = {"prediction_id": "p", "model_version": "1.0.0", "variant": "blue", "threshold": 0.5, "reason": "sole"}
        return {**fixed, "probability": probability, "decision": probability >= 0.5}


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest.fixture
def waits():
    return []


@pytest.fixture
def client(endpoint, waits):
    with Client("http://endpoint/", transport=httpx.MockTransport(endpoint), sleep=waits.append) as made:
        yield made


def busy(status=503, **headers):
    return httpx.Response(status, text="full", headers=headers)


def test_a_frame_is_scored_in_batches(client, endpoint):
    """Rows beyond the limit go in further requests; index and order stay."""
    frame = pd.DataFrame({"age": np.arange(20.0, 90.0, 10.0)}, index=list("abcdefg"))
    scored = client.predict(frame)
    assert list(scored.columns) == list(COLUMNS)
    assert list(scored.index) == list("abcdefg")
    assert scored["probability"].tolist() == pytest.approx((frame["age"] / 100).tolist())
    assert scored["decision"].tolist() == [False, False, False, True, True, True, True]
    assert [len(body["records"]) for body in endpoint.bodies] == [3, 3, 1]
    assert scored.dtypes["decision"].kind == "b"


def test_only_features_and_ids_leave(client, endpoint):
    """Outcomes and sensitive attributes stay here; NaN is left out; numpy numbers become JSON numbers."""
    frame = pd.DataFrame(
        {
            "employee_id": [7, 8],
            "gender": ["f", "m"],
            "attrition": [0, 1],
            "age": [30.5, np.nan],
            "projects_count": np.array([2, 3], dtype=np.int32),
        }
    )
    client.predict(frame)
    assert endpoint.bodies[0]["records"] == [
        {"employee_id": 7, "age": 30.5, "projects_count": 2},
        {"employee_id": 8, "projects_count": 3},
    ]


def test_no_rows(client, endpoint):
    """An empty frame asks nobody and has the same columns."""
    scored = client.predict(pd.DataFrame({"age": []}))
    assert (list(scored.columns), len(scored), endpoint.bodies) == (list(COLUMNS), 0, [])


@pytest.mark.parametrize("frame", [pd.DataFrame({"x": [1]}), pd.DataFrame({"age": [np.inf]})])
def test_frames_that_cannot_be_meant(client, frame):
    """No feature at all, or infinite values."""
    with pytest.raises(UsageError):
        client.predict(frame)


def test_columns_that_are_no_numbers_are_named_together(client, endpoint):
    """Every one of them, with the number of its rows and without a value; nothing is sent."""
    frame = pd.DataFrame(
        {
            "employee_id": ["E-1", "E-2", "E-3", None],
            "age": [40, "Miller", None, "41"],
            "salary": ["50k", "60k", "70k", None],
            "work_hours": [40.0, np.inf, -np.inf, np.nan],
            "tenure": pd.Series([1, None, 3, 10**400], dtype=object),
            "promotion_flag": pd.Series([True, False, None, True], dtype="boolean"),
        }
    )
    with pytest.raises(UsageError) as caught:
        client.predict(frame)
    message = str(caught.value)
    for told in ("column age: no number in 2 of 4 rows", "column salary: no number in 3 of 4", "column work_hours"):
        assert told in message
    assert "infinite in 2 of 4 rows" in message
    assert "tenure" not in message
    for value in ("Miller", "41", "50k"):
        assert value not in message
    assert endpoint.bodies == []


@pytest.mark.parametrize(
    "trouble",
    [busy(), busy(429), httpx.ConnectError("refused"), httpx.RemoteProtocolError("reset"), httpx.ReadError("reset")],
)
def test_passing_trouble_is_waited_out(client, endpoint, waits, trouble):
    """Scoring changes nothing, so it is asked again, with growing pauses."""
    endpoint.before = [trouble, trouble]
    assert len(client.predict(pd.DataFrame({"age": [30.0]}))) == 1
    assert len(waits) == 2
    assert waits[0] < waits[1]


def test_the_endpoint_says_how_long_to_wait(client, endpoint, waits):
    """Retry-After is honoured."""
    endpoint.before = [busy(**{"retry-after": "3"})]
    client.predict(pd.DataFrame({"age": [30.0]}))
    assert waits == [3.0]


def test_lasting_trouble_is_reported(client, endpoint):
    """After the last try the cause is named."""
    endpoint.before = [httpx.ConnectError("refused")] * 10
    with pytest.raises(ServingError, match="no connection in 6 tries"):
        client.predict(pd.DataFrame({"age": [30.0]}))
    endpoint.before = [busy()] * 10
    with pytest.raises(ServingError, match="answered 503"):
        client.predict(pd.DataFrame({"age": [30.0]}))


def test_refused_rows_are_named_by_row_and_column(client, endpoint):
    """The position in the frame, not in the batch."""
    problem = {
        "title": "t",
        "status": 422,
        "detail": "d",
        "n_errors": 3,
        "errors": [{"pointer": "/records/1/age", "detail": "is bad"}, {"pointer": "/records/2", "detail": "is worse"}],
    }
    refused = httpx.Response(422, json=problem, headers={"content-type": "application/problem+json"})
    endpoint.before = [httpx.Response(200, json={"predictions": [Endpoint.answer({})] * 3}), refused]
    with pytest.raises(ServingError) as caught:
        client.predict(pd.DataFrame({"age": np.arange(6.0)}))
    assert str(caught.value).splitlines() == [
        "row 4, column age: is bad.",
        "row 5: is worse.",
        "http://endpoint: 1 more bad fields.",
    ]


def test_other_problems_carry_their_text(client, endpoint):
    """A problem without fields is one sentence."""
    problem = {"title": "Too large", "status": 413, "detail": "send several"}
    endpoint.before = [httpx.Response(413, json=problem, headers={"content-type": "application/problem+json"})]
    with pytest.raises(ServingError, match=r"Too large \(413\); send several"):
        client.predict(pd.DataFrame({"age": [1.0]}))


def test_ready(endpoint):
    """Ready, not ready, and nobody there."""

    def answer(status):
        return httpx.MockTransport(lambda _request: httpx.Response(status))

    def nobody(_request):
        raise httpx.ConnectError("refused")

    assert Client("http://e", transport=answer(200)).ready()
    assert not Client("http://e", transport=answer(503)).ready()
    assert not Client("http://e", transport=httpx.MockTransport(nobody)).ready()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [(401, NotAuthenticated, "API key: is not known"), (403, AccessDenied, "API key: is not known")],
)
def test_a_refusal_is_told_at_once(client, endpoint, waits, status, error, message):
    """With the endpoint's reason, also when something before it answers without one."""
    problem = {"title": "t", "status": status, "detail": "API key: is not known"}
    kind = {"content-type": "application/problem+json"}
    endpoint.before = [httpx.Response(status, json=problem, headers=kind), httpx.Response(status, text="<html>")]
    with pytest.raises(error, match=message):
        client.predict(pd.DataFrame({"age": [30.0]}))
    with pytest.raises(error, match=f"answered {status}"):
        client.predict(pd.DataFrame({"age": [30.0]}))
    assert waits == []


def test_the_key_is_sent(endpoint, monkeypatch):
    """From the environment, or the one that is given."""
    monkeypatch.setenv("ATTRITION_API_KEY", "k")
    monkeypatch.delenv("ATTRITION_TOKEN", raising=False)
    sent = []

    def answer(request):
        sent.append(request.headers.get("authorization"))
        return httpx.Response(200, json={})

    for credentials in (None, "t", ""):
        with Client("http://x", credentials=credentials, transport=httpx.MockTransport(answer)) as client:
            client.versions()
    assert sent == ["Bearer k", "Bearer t", None]


EXPLANATION = {
    "prediction_id": "018e2f5c-7a10-7cc3-98c4-dc0c0c07398f",
    "model_version": "1.0.0",
    "probability": 0.25,
    "decision": False,
    "threshold": 0.5,
    "space": "log_odds",
    "base_value": -1.0,
    "base_probability": 0.2689414213699951,
    "contributions": [
        {"feature": "age", "value": None, "contribution": -0.1, "direction": "lowers", "words": "the missing age"}
    ],
    "top": ["The missing age lowers the estimate most."],
    "raw_score": -1.1,
    "mapping": {"kind": "logistic", "slope": 1.0, "intercept": 0.0},
    "difference": 0.0,
}


def explaining(steps):
    """A client of an endpoint that answers an explanation after some other responses, and what it was sent."""
    bodies, waits = [], []

    def answer(request):
        bodies.append((request.url.path, json.loads(request.content)))
        return steps.pop(0) if steps else httpx.Response(200, json=EXPLANATION)

    return Client("http://e", transport=httpx.MockTransport(answer), sleep=waits.append), bodies, waits


def test_an_explanation_is_an_object():
    """By the id of an answer, or for a record and a version."""
    client, bodies, _ = explaining([])
    with client:
        found = client.explain(EXPLANATION["prediction_id"])
        assert found.to_dict() == EXPLANATION
        client.explain(record={"age": None}, version="1.0.0")
    assert bodies == [
        ("/v1/explain", {"prediction_id": EXPLANATION["prediction_id"]}),
        ("/v1/explain", {"record": {"age": None}, "version": "1.0.0"}),
    ]


def test_an_explanation_waits_for_a_prediction_that_is_not_recorded_yet():
    """As long as the endpoint asks; a conflict that waiting does not end is raised at once."""
    problem = {"title": "Not yet", "status": 409, "detail": "ask again"}
    kind = {"content-type": "application/problem+json"}
    young = httpx.Response(409, json=problem, headers={**kind, "retry-after": "3"})
    client, _, waits = explaining([young, young])
    with client:
        assert client.explain("x").probability == 0.25
    assert [3.0 <= wait <= 5.0 for wait in waits] == [True, True]
    client, bodies, waits = explaining([httpx.Response(409, json=problem, headers=kind)])
    with client, pytest.raises(ServingError, match="Not yet"):
        client.explain("x")
    assert (len(bodies), waits) == (1, [])


@pytest.mark.parametrize("arguments", [{}, {"prediction_id": "x", "record": {"age": 1}}])
def test_an_explanation_is_about_one_thing(arguments):
    """An id or a record."""
    client, _, _ = explaining([])
    with client, pytest.raises(UsageError, match="one of the two"):
        client.explain(**arguments)
