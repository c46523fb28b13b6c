"""The gateway: scoring, changes of traffic, and every way to ask wrongly."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid

import numpy as np
import pytest

from attrition.errors import ConfigError, IntegrityError
from attrition.serving.traffic import Variant

VALID = {"age": 40, "projects": 2, "promoted": 1, "department": 7}


def pointers(response):
    return {error["pointer"]: error["detail"] for error in response.json()["errors"]}


def test_one_record(endpoint):
    """One record gets one prediction, with the version that made it."""
    response = endpoint.predict(VALID)
    assert response.status_code == 200
    assert response.headers["x-model-version"] == "1.0.0"
    answer = response.json()
    assert uuid.UUID(answer.pop("prediction_id")).version == 7
    assert answer == {
        "probability": pytest.approx(0.125),
        "decision": False,
        "threshold": 0.5,
        "model_version": "1.0.0",
        "variant": "blue",
        "reason": "sole",
    }


def test_many_records_keep_their_order(endpoint):
    """An array of records gets an array of predictions, equal to asking one by one."""
    records = [{**VALID, "age": age, "employee_id": age} for age in (20, 90, 55)]
    many = endpoint.predict({"records": records}).json()["predictions"]
    assert [answer["probability"] for answer in many] == [
        endpoint.predict(record).json()["probability"] for record in records
    ]


@pytest.mark.parametrize("missing", [{"age": 40}, {"age": 40, "projects": None, "promoted": None, "department": None}])
def test_absent_and_null_are_missing(endpoint, missing):
    """A feature that is not required may be left out or null; the scorer sees NaN."""
    assert endpoint.predict(missing).json()["probability"] == pytest.approx(0.4)
    assert endpoint.predict({"records": [missing]}).json()["predictions"][0]["probability"] == pytest.approx(0.4)


@pytest.mark.parametrize("value", [True, 1, 1.0])
def test_a_binary_feature_may_be_a_boolean(endpoint, value):
    """True and 1 mean the same."""
    assert endpoint.predict({**VALID, "promoted": value}).json()["probability"] == pytest.approx(0.125)


def test_an_unknown_category_is_scored(endpoint):
    """A code that training did not see is the model's affair, not an error."""
    assert endpoint.predict({**VALID, "department": 999_999}).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/hr+json"])
def test_json_content_types(endpoint, content_type):
    """JSON by any of its names."""
    response = endpoint.predict(content=json.dumps(VALID), headers={"content-type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        ({"age": None}, "/age", "is required"),
        ({"age": "40"}, "/age", "is text; a number from 14 to 100 (years) is expected"),
        ({"age": True}, "/age", "is a boolean"),
        ({"age": [40]}, "/age", "is an array"),
        ({"age": {"years": 40}}, "/age", "is an object"),
        ({"age": 13.9}, "/age", "out of the plausible range; a number from 14 to 100 (years)"),
        ({"age": 101}, "/age", "out of the plausible range"),
        ({"projects": 2.5}, "/projects", "is not a whole number"),
        ({"projects": -1}, "/projects", "out of the plausible range"),
        ({"promoted": 2}, "/promoted", "0, 1, false or true is expected"),
        ({"promoted": 0.5}, "/promoted", "is not a whole number"),
        ({"department": "sales"}, "/department", "is text; a whole number is expected"),
        ({"department": 1.5}, "/department", "is not a whole number"),
        ({"department": False}, "/department", "is a boolean"),
        ({"agee": 40}, "/agee", "unknown field; did you mean age?"),
        ({"zzz": 1}, "/zzz", "unknown field; known: employee_id, age, projects, promoted, department"),
        ({"employee_id": ""}, "/employee_id", "is 0 characters long"),
        ({"employee_id": "x" * 129}, "/employee_id", "is 129 characters long"),
        ({"employee_id": True}, "/employee_id", "is a boolean"),
        ({"employee_id": 1.5}, "/employee_id", "is a number; text or a whole number"),
        ({"employee_id": -1}, "/employee_id", "whole number from 0"),
    ],
)
def test_each_bad_field_is_named(endpoint, change, pointer, detail):
    """One bad field: 422, its pointer, what is allowed; alone and inside an array."""
    record = {**VALID, **change}
    alone = endpoint.predict(record)
    assert alone.status_code == 422
    assert alone.headers["content-type"] == "application/problem+json"
    assert list(pointers(alone)) == [pointer]
    assert detail in pointers(alone)[pointer]
    among = endpoint.predict({"records": [VALID, record]})
    assert list(pointers(among)) == [f"/records/1{pointer}"]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 1_000])
def test_numbers_that_are_none(endpoint, literal):
    """NaN, Infinity and numbers beyond a float64 name their field."""
    response = endpoint.predict(content=f'{{"age": 40, "department": {literal}}}')
    assert response.status_code == 422
    assert list(pointers(response)) == ["/department"]


def test_all_faults_at_once(endpoint):
    """Every bad field of every record is reported, none is scored, and no value is echoed."""
    records = [{"age": 4711.5}, VALID, {"age": "secret-value", "wrong": 8}, 3]
    response = endpoint.predict({"records": records, "extra": 1})
    assert set(pointers(response)) == {"/records/0/age", "/records/2/age", "/records/2/wrong", "/records/3", "/extra"}
    assert response.json()["n_errors"] == 5
    assert "secret-value" not in response.text
    assert "4711" not in response.text


def test_a_long_list_of_faults_is_cut(endpoint, store, schema):
    """At most a hundred errors are listed; the count tells the rest."""
    response = endpoint.predict({"age": 40, **{f"f{i}": 1 for i in range(150)}})
    assert response.json()["n_errors"] == 150
    assert len(response.json()["errors"]) == 100


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "the body is empty"),
        (b"  ", 400, "the body is empty"),
        (b"{", 400, "line 1"),
        (b"{'age': 40}", 400, "line 1"),
        (b"\xff\xfe", 400, "not UTF-8 (byte 0)"),
        (b"[" * 1_990, 400, "nested too deeply"),
        (b"[]", 422, ""),
        (b'"text"', 422, ""),
        (b"null", 422, ""),
        (b"3", 422, ""),
        (b'{"records": 3}', 422, ""),
        (b'{"records": null}', 422, ""),
        (b'{"records": []}', 422, ""),
        (b'{"records": [[]]}', 422, ""),
        (b'{"age": 40, "\\ud800": 1}', 422, ""),
        (b'{"age": 40, "employee_id": "\\ud800"}', 422, ""),
    ],
)
def test_bodies_that_are_no_records(endpoint, body, status, detail):
    """Broken JSON is 400; JSON of another shape is 422; never 5xx."""
    response = endpoint.predict(content=body)
    assert response.status_code == status
    assert detail in response.json()["detail"]


def test_a_feature_value_may_contain_the_word_records(endpoint):
    """The shape of a body is decided by its keys, not by text inside it."""
    assert endpoint.predict({**VALID, "employee_id": '"records"'}).status_code == 200
    assert endpoint.predict(content=b'{"age": 40, "employee_id": "\\"records\\""}').status_code == 200


def test_too_many_records(endpoint):
    """413 with the limit."""
    response = endpoint.predict({"records": [{"age": 40}] * 6})
    assert response.status_code == 413
    assert "6 records; at most 5" in response.json()["detail"]


def test_too_large_a_body(endpoint):
    """413 with the limit, by the announced length or by what arrives."""
    announced = endpoint.predict(content=b" " * 2_001)
    assert announced.status_code == 413
    assert "at most 2000" in announced.json()["detail"]

    async def chunks():
        for _ in range(30):
            yield b" " * 100

    streamed = endpoint.predict(content=chunks())
    assert streamed.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "br"},
        {"content-type": "application/json", "content-encoding": "gzip, gzip"},
    ],
)
def test_unsupported_media_types(endpoint, headers):
    """415 says what is read."""
    response = endpoint.predict(content=json.dumps(VALID), headers=headers)
    assert response.status_code == 415
    assert response.headers["accept"] == "application/json"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_scores(endpoint, method):
    """405 with Allow."""
    response = endpoint.request(method, "/v1/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_a_broken_scorer_is_our_fault(endpoint, store, caplog):
    """An unexpected error is a 500 problem without inner detail; the log has it."""
    store.bundles["1.0.0"].scorer.score_one = lambda _values: 1 / 0
    response = endpoint.predict(VALID)
    assert response.status_code == 500
    assert "ivision" not in response.text
    assert "ZeroDivisionError" in caplog.text


def test_a_change_swaps_the_version(endpoint, store, schema):
    """The next request is answered by the new version."""
    endpoint.configure(store.add("1.1.0", schema, offset=0.5), generation=1)
    answer = endpoint.predict(VALID).json()
    assert (answer["model_version"], answer["decision"]) == ("1.1.0", True)
    assert endpoint.request("GET", "/readiness").json()["generation"] == 1


def test_a_change_of_weights_loads_nothing(endpoint, store, schema):
    """Versions that are warm are not read again."""
    blue = store.add("2.0.0", schema).model_copy(update={"weight": 0.5})
    green = store.add("2.1.0", schema).model_copy(update={"name": "green", "weight": 0.5})
    endpoint.configure(blue, green)
    store.loads.clear()
    codec = endpoint.gateway.snapshot.codec
    endpoint.configure(blue.model_copy(update={"weight": 0.0}), green.model_copy(update={"weight": 1.0}), generation=2)
    assert store.loads == []
    assert endpoint.gateway.snapshot.codec is codec
    assert endpoint.predict(VALID).json()["variant"] == "green"


@pytest.mark.parametrize(
    "config",
    [
        {"variants": [], "generation": 7},
        {"generation": 7},
        {
            "variants": [{"name": "blue", "version": "9", "bundle": "gone", "manifest_sha256": "9" * 64}],
            "generation": 7,
        },
        {
            "variants": [{"name": "blue", "version": "1.0.1", "bundle": "1.0.0", "manifest_sha256": "8" * 64}],
            "generation": 7,
        },
    ],
)
def test_a_bad_change_leaves_the_old_version(endpoint, config):
    """What cannot be loaded, or is another version than announced, changes nothing and is reported."""
    asyncio.run(endpoint.gateway.reconfigure(config))
    assert endpoint.predict(VALID).json()["model_version"] == "1.0.0"
    ready = endpoint.request("GET", "/readiness").json()
    assert (ready["status"], ready["generation"], ready["rejected"]["generation"]) == ("ready", 0, 7)
    assert ready["rejected"]["reason"]


def test_the_first_configuration_must_load(store, endpoint):
    """A replica that has no version to fall back on must not start."""
    fresh = type(endpoint)(store, endpoint.gateway.limits)
    gone = Variant(name="blue", version="9.0.0", bundle="gone", manifest_sha256="9" * 64)
    with pytest.raises(IntegrityError):
        fresh.configure(gone)
    with pytest.raises(ConfigError, match="unknown key trafic"):
        asyncio.run(fresh.gateway.reconfigure({"trafic": 1}))
    assert fresh.predict(VALID).status_code == 503
    assert fresh.request("GET", "/readiness").status_code == 503
    assert fresh.request("GET", "/v1/versions").status_code == 503
    assert fresh.request("GET", "/liveness").status_code == 200


def test_split_traffic_is_sticky_and_says_why(endpoint, store, schema):
    """A person always meets the same version; without an id the record is drawn."""
    blue = store.add("2.0.0", schema).model_copy(update={"weight": 0.5})
    green = store.add("2.1.0", schema, offset=0.1).model_copy(update={"name": "green", "weight": 0.5})
    endpoint.configure(blue, green)
    seen = {}
    for _ in range(2):
        for person in ("E-1", "E-2", "E-3", "E-4", "E-5", "E-6", 7):
            answer = endpoint.predict({**VALID, "employee_id": person}).json()
            assert answer["reason"] == "sticky"
            assert seen.setdefault(person, answer["variant"]) == answer["variant"]
    assert set(seen.values()) == {"blue", "green"}
    assert endpoint.predict(VALID).json()["reason"] == "random"
    batch = endpoint.predict({"records": [{**VALID, "employee_id": person} for person in ("E-1", "E-2", "E-3")]})
    assert [answer["variant"] for answer in batch.json()["predictions"]] == [seen[p] for p in ("E-1", "E-2", "E-3")]
    green_only = [answer["probability"] for answer in batch.json()["predictions"] if answer["variant"] == "green"]
    assert all(probability == pytest.approx(0.225) for probability in green_only)


def test_an_id_is_the_same_however_it_is_written(endpoint, store, schema):
    """Text, a number, or the float that pandas makes of a column with a missing id."""
    blue = store.add("2.0.0", schema).model_copy(update={"weight": 0.5})
    green = store.add("2.1.0", schema).model_copy(update={"name": "green", "weight": 0.5})
    endpoint.configure(blue, green)
    for person in range(10):
        spelt = {
            endpoint.predict({**VALID, "employee_id": x}).json()["variant"]
            for x in (str(person), person, float(person))
        }
        assert len(spelt) == 1


def test_versions_with_different_features_share_one_interface(endpoint, store, schema):
    """A record may hold the features of all versions; each version reads its own."""
    blue = store.add("2.0.0", schema.without("projects")).model_copy(update={"weight": 0.5})
    green = store.add("2.1.0", schema.without("department")).model_copy(update={"name": "green", "weight": 0.5})
    endpoint.configure(blue, green)
    by_variant = {}
    for person in range(20):
        answer = endpoint.predict({**VALID, "employee_id": person}).json()
        by_variant[answer["variant"]] = answer["probability"]
    assert by_variant == {
        "blue": pytest.approx(np.mean([40, 1, 7]) / 100),
        "green": pytest.approx(np.mean([40, 2, 1]) / 100),
    }


def test_importing_the_gateway_is_light():
    """A replica that scores needs neither the training libraries nor the registry's client nor Ray."""
    code = "import sys, attrition.serving.gateway, attrition.registry.bundle; print(*sys.modules)"
    listed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"mlflow", "sklearn", "pandas", "shap", "scipy", "ray", "fastapi", "matplotlib"} & set(listed)


def test_a_missing_value_among_many(endpoint):
    """Null, a boolean and a number in one column of a large request are scored as alone."""
    records = [{**VALID, "promoted": value} for value in (True, 0, 1.0)]
    records += [{**VALID, "promoted": None}, {"age": 30}]
    for asked in (records[:3], records):
        many = endpoint.predict({"records": asked}).json()["predictions"]
        alone = [endpoint.predict(record).json()["probability"] for record in asked]
        assert [answer["probability"] for answer in many] == alone


def test_a_record_that_says_nothing_among_many(endpoint):
    """Is named, whether its fields are absent or null; one without only the first feature is none."""
    blank = dict.fromkeys(VALID)
    response = endpoint.predict({"records": [VALID, blank]})
    assert response.status_code == 422
    assert "/records/1" in pointers(response)
