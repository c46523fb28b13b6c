"""The explainer's service and the gateway's route to it."""

from __future__ import annotations

import asyncio
import json
import math
import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from attrition.data.predictions import LoggedPrediction
from attrition.data.schema import FeatureSchema
from attrition.errors import IntegrityError, NotFound, PlatformError
from attrition.governance.audit import AuditLog
from attrition.scoring import background
from attrition.scoring.explainer import Explainer
from attrition.scoring.format import FORMAT, SCORER_FILE, LinearDocument, Logistic, NumericTerm, encode
from attrition.serving.explain_route import ExplainRoute
from attrition.serving.explainer import ExplainerService, ExplainOptions
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.identifiers import uuid7
from attrition.serving.protocols import problems
from attrition.serving.protocols.problems import Problem
from attrition.serving.request_audit import RequestAudit
from attrition.serving.traffic import Variant

NOW = datetime(2024, 3, 12, 12, tzinfo=UTC)
SCHEMA = FeatureSchema.default()


def made(version, slope):
    """A version that reads the age only; on average it contributes 40 slopes."""
    age = SCHEMA.names.index("age")
    document = LinearDocument(FORMAT, SCHEMA.names, Logistic(1.0, 0.0), 0.5, (NumericTerm(age, slope, 0.0),), ())
    means = tuple(40.0 * slope if name == "age" else 0.0 for name in SCHEMA.names)
    quartiles = tuple((30.0, 40.0, 50.0) if name == "age" else None for name in SCHEMA.names)
    found = background.Background(background.FORMAT, "log_odds", 100, means, 0, quartiles)
    files = {SCORER_FILE: encode(document)}
    return Explainer(files, background.encode(found), schema=SCHEMA, version=version, threshold=0.5)


EXPLAINERS = {"b/1": made("1.0.0", -0.02), "b/2": made("1.1.0", 0.03)}
BLUE = Variant(name="blue", version="1.0.0", bundle="b/1", manifest_sha256="1" * 64, weight=0.3)
GREEN = Variant(name="green", version="1.1.0", bundle="b/2", manifest_sha256="2" * 64, weight=0.7)
OLD = Variant(name="old", version="0.9.0", bundle="b/0", manifest_sha256="0" * 64, weight=0.0)


def prediction_id(age):
    return uuid7(int((NOW - age).timestamp() * 1000), 5)


class Store:
    """Explainers and logged predictions; counts what is loaded."""

    def __init__(self):
        self.loads = []
        self.logged = {}

    def load(self, bundle, _):
        self.loads.append(bundle)
        if bundle not in EXPLAINERS:
            raise NotFound("registered without it.")
        return EXPLAINERS[bundle]

    def log(self, ago=timedelta(days=3), *, version="1.0.0", probability=None, **features):
        identifier = prediction_id(ago)
        values = dict.fromkeys(SCHEMA.names, math.nan) | features
        explainer = next(e for e in EXPLAINERS.values() if e.version == version) if version != "0.8.0" else None
        if probability is None:
            probability = explainer.scorer.score_one(list(values.values())) if explainer else 0.5
        self.logged[identifier] = LoggedPrediction(identifier, version, probability, values)
        return identifier


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def ask(store):
    """Asks a gateway whose explainer runs in this process."""
    service = ExplainerService(ExplainOptions(), store.load, store.logged.get)

    async def answer(request, variants):
        return service.answer(request, [Variant.model_validate(variant) for variant in variants], now=NOW)

    return lambda document, **options: send(ExplainRoute(answer), document, **options)


class FakeBundle:
    """What a gateway loads."""

    def __init__(self, version):
        self.version, self.schema, self.threshold = version, SCHEMA, 0.5
        self.scorer = EXPLAINERS["b/1"].scorer


def send(route, document, *, variants=(BLUE, GREEN, OLD), method="POST", **options):
    versions = {variant.bundle: variant.version for variant in variants}
    gateway = Gateway(Limits(max_body_bytes=4_000), lambda uri, _: FakeBundle(versions[uri]), explanations=route)

    async def run():
        if variants:
            traffic = {"variants": [variant.model_dump() for variant in variants]}
            await gateway.reconfigure(traffic)
        transport = httpx.ASGITransport(gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            body = {"json": document} if not isinstance(document, bytes) else {"content": document}
            return await client.request(method, "/v1/explain", **{**body, **options})

    return asyncio.run(run())


def test_the_version_that_answered_explains_its_answer(ask, store):
    """Also when it is not the one with most of the traffic."""
    answer = ask({"prediction_id": store.log(age=60.0)})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["model_version"], found["prediction_id"]) == ("1.0.0", next(iter(store.logged)))
    assert found["contributions"][0]["contribution"] == pytest.approx(-0.02 * 20)
    assert found["contributions"][0]["value"] == 60.0
    assert found["top"] == ["A higher age (60 years) lowers the estimate most."]
    assert found["probability"] == pytest.approx(1 / (1 + math.exp(-(0.5 - 1.2))))
    assert store.loads == ["b/1"]


def test_a_record_is_explained_by_the_version_asked_for_or_the_largest(ask, store):
    """And a version is loaded once."""
    for _ in range(2):
        assert ask({"record": {"age": 60}}).json()["model_version"] == "1.1.0"
    found = ask({"record": {"age": 60, "employee_id": "E-1", "promotion_flag": True}, "version": "1.0.0"}).json()
    assert (found["model_version"], found["prediction_id"]) == ("1.0.0", None)
    assert store.loads == ["b/2", "b/1"]


@pytest.mark.parametrize(
    ("record", "pointers"),
    [
        ({"age": 400}, {"/record/age"}),
        ({"agee": 40, "age": "x"}, {"/record/agee", "/record/age"}),
        ({}, {"/record"}),
        ([1], {"/record"}),
        ({"records": [{"age": 40}]}, {"/record"}),
    ],
)
def test_a_record_that_does_not_fit(ask, record, pointers):
    """By pointers into the body."""
    answer = ask({"record": record})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers


@pytest.mark.parametrize(
    ("age", "status", "kind"),
    [
        (timedelta(days=900), 404, "unknown-prediction"),
        (timedelta(minutes=3), 404, "unknown-prediction"),
        (timedelta(seconds=2), 409, "not-recorded-yet"),
        (timedelta(seconds=-20), 409, "not-recorded-yet"),
        (timedelta(days=-400), 404, "unknown-prediction"),
    ],
)
def test_an_unknown_prediction_may_be_on_its_way(ask, age, status, kind):
    """If it is young: with the seconds after which to ask again."""
    answer = ask({"prediction_id": prediction_id(age)})
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:attrition:problem:{kind}")
    assert answer.headers.get("retry-after") == ("5" if status == 409 else None)


def test_versions_that_cannot_explain(ask, store):
    """Not served, or registered before explanations were stored; each with what to do."""
    gone = store.log(version="0.8.0", tenure=1.0)
    assert "version 0.8.0 is not served here (0.9.0, 1.0.0, 1.1.0 are)" in ask({"prediction_id": gone}).json()["detail"]
    assert ask({"record": {"age": 40}, "version": "7.0.0"}).json()["type"].endswith("version-not-served")
    answer = ask({"record": {"age": 40}, "version": "0.9.0"})
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:attrition:problem:not-explainable")
    assert "register it again" in answer.json()["detail"]


def test_removed_features_and_sums_that_do_not_fit(ask, store, caplog):
    """410 when retention has removed what was scored; 500 rather than a wrong explanation; no value in the log."""
    assert ask({"prediction_id": store.log()}).status_code == 410
    answer = ask({"prediction_id": store.log(timedelta(days=4), age=61.25, probability=0.9)})
    assert (answer.status_code, answer.json()["type"]) == (500, "urn:attrition:problem:does-not-add-up")
    assert "61.25" not in caplog.text


def test_an_endpoint_without_a_log_explains_records_only(store):
    """And says so."""
    service = ExplainerService(ExplainOptions(), store.load, None)

    async def answer(request, _):
        return service.answer(request, [BLUE], now=NOW)

    assert send(ExplainRoute(answer), {"prediction_id": prediction_id(timedelta())}).json()["status"] == 409
    assert send(ExplainRoute(answer), {"record": {"age": 40}}).status_code == 200


def test_a_table_that_cannot_be_read_is_a_reason_to_wait(store):
    """503 with Retry-After; the cause is in the log."""

    def find(_):
        raise PlatformError("the storage does not answer.")

    service = ExplainerService(ExplainOptions(retry_after_seconds=9), store.load, find)

    async def answer(request, _):
        return service.answer(request, [BLUE], now=NOW)

    found = send(ExplainRoute(answer), {"prediction_id": prediction_id(timedelta(days=1))})
    assert (found.status_code, found.headers["retry-after"]) == (503, "9")


@pytest.mark.parametrize(
    ("document", "options", "status"),
    [
        (b"{", {}, 400),
        ({}, {}, 422),
        ({"record": {"age": 40}}, {"method": "GET"}, 405),
        ({"record": {"age": 40}}, {"headers": {"content-type": "text/csv"}}, 415),
        (b" " * 5_000, {}, 413),
        ({"record": {"age": 40}}, {"variants": ()}, 503),
    ],
)
def test_what_the_gateway_refuses_itself(ask, document, options, status):
    """Before the explainer is asked."""
    answer = ask(document, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_explanation_is_recorded_before_it_is_made():
    """Who asks about what, and how it ended; what cannot be recorded is refused, and a crash is recorded, too."""
    events, asked, correlations = [], [], set()
    refusal = Problem(503, "audit-unavailable", "The audit log does not answer", "try again")

    def route(answer, refused=None):
        async def record(scope, request, stage, correlation):
            events.append((dict(scope["headers"])[b"authorization"], request.subject, stage))
            correlations.add(correlation)
            return refused

        async def ask(request, _):
            asked.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return ExplainRoute(ask, record)

    def outcome(answer, refused=None):
        events.clear()
        headers = {"authorization": "Bearer t"}
        response = send(route(answer, refused), {"record": {"age": 40}}, headers=headers)
        return response.status_code, [stage for _, _, stage in events]

    assert outcome(b"{}") == (200, ["started", "succeeded"])
    assert events[0] == (b"Bearer t", "record", "started")
    assert len(correlations) == 1
    assert outcome(problems.internal()) == (500, ["started", "failed"])
    assert outcome(RuntimeError("broken")) == (500, ["started", "failed"])
    asked.clear()
    assert outcome(b"{}", refusal) == (503, ["started"])
    assert asked == []


def test_without_an_explainer_there_is_no_such_path():
    """The answer is that of any unknown path."""
    assert send(None, {"record": {"age": 40}}).status_code == 404


def test_the_documentation_shows_examples_that_work(ask, store):
    """Every example of a record is explained; every status of the description is a known one."""
    gateway = Gateway(Limits(), lambda *_: FakeBundle("1.0.0"), explanations=ExplainRoute(None))

    async def openapi():
        await gateway.reconfigure({"variants": [BLUE.model_copy(update={"weight": 1.0}).model_dump()]})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://g") as client:
            return (await client.get("/openapi.json")).json()

    document = asyncio.run(openapi())
    operation = document["paths"]["/v1/explain"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    found = ask(examples["record"]["value"])
    assert found.status_code == 200
    assert re.fullmatch(r"[0-9a-f-]{36}", examples["prediction"]["value"]["prediction_id"])
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(schema["required"]) == set(found.json())
    assert set(schema["properties"]["contributions"]["items"]["required"]) == set(found.json()["contributions"][0])
    assert json.dumps(document)


def test_a_bundle_that_cannot_be_loaded_is_our_fault(store, caplog):
    """The replica answers 500 and logs the reason."""
    from attrition.serving.explainer import ExplainerReplica
    from attrition.serving.protocols.explain import ExplainRequest

    replica = ExplainerReplica({}, None)
    request = ExplainRequest(record=b'{"age": 40}')
    answer = asyncio.run(replica.explain(request, [BLUE.model_dump(mode="json")]))
    assert answer.status == 500
    assert "An explanation failed" in caplog.text
    assert IntegrityError.__name__ in caplog.text


def test_explanations_are_in_the_audit_log(tmp_path):
    """Two events with one correlation, by whoever the access check has found; without the log nothing is explained."""
    address = f"sqlite:///{tmp_path / 'governance.db'}"

    async def ask(_request, _variants):
        return b"{}"

    audit = RequestAudit(address)
    identifier = prediction_id(timedelta(days=1))
    assert send(ExplainRoute(ask, audit.explanation), {"prediction_id": identifier}).status_code == 200
    assert send(ExplainRoute(ask, audit.explanation), {"record": {"age": 41.5}, "version": "1.0.0"}).status_code == 200
    audit.close()
    with AuditLog.open(address) as log:
        records = log.records()
    assert [(r.action, r.subject, r.outcome, r.actor) for r in records][:2] == [
        ("prediction.explain", f"prediction {identifier}", "started", "anybody"),
        ("prediction.explain", f"prediction {identifier}", "succeeded", "anybody"),
    ]
    assert [record.model_version for record in records[2:]] == ["1.0.0", "1.0.0"]
    assert len({record.correlation for record in records}) == 2
    assert "41.5" not in str([record.to_dict() for record in records])
    (tmp_path / "file").touch()
    broken = RequestAudit(f"sqlite:///{tmp_path / 'file' / 'governance.db'}")
    found = send(ExplainRoute(ask, broken.explanation), {"prediction_id": identifier})
    assert (found.status_code, found.json()["type"]) == (503, "urn:attrition:problem:audit-unavailable")
