"""Health, versions, the OpenAPI document and the documentation page."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from attrition.data.schema import Feature, FeatureSchema
from attrition.serving import openapi
from attrition.serving.protocols.problems import Problem
from attrition.serving.records import RecordCodec
from attrition.serving.traffic import SMOKE_HEADER, Pin, Traffic


def test_liveness(endpoint):
    """The process answers."""
    assert endpoint.request("GET", "/liveness").json() == {"status": "alive"}


def test_versions(endpoint, schema):
    """What is served, and what a request may hold."""
    served = endpoint.request("GET", "/v1/versions").json()
    assert [(v["name"], v["version"], v["weight"]) for v in served["variants"]] == [("blue", "1.0.0", 1.0)]
    assert [feature["name"] for feature in served["schema"]["features"]] == list(schema.names)
    assert served["limits"]["max_records"] == 5


def test_versions_show_the_whole_traffic(endpoint, store, schema):
    """Experiment, pins, shadows, and what each variant does; not the secret of a smoke test."""
    names = {"green": "1.1.0", "amber": "1.2.0", "teal": "1.3.0"}
    others = [store.add(v, schema).model_copy(update={"name": n, "weight": 0.0}) for n, v in names.items()]
    traffic = Traffic(
        variants=(store.add("2.0.0", schema), *others),
        generation=7,
        experiment="spring",
        pins=(
            Pin(header="x-user-group", value="pilot", variant="green"),
            Pin(header=SMOKE_HEADER, value="secret", variant="green"),
        ),
        shadows=("amber",),
    )
    asyncio.run(endpoint.gateway.reconfigure(traffic.model_dump(mode="json")))
    response = endpoint.request("GET", "/v1/versions")
    served = response.json()
    assert (served["generation"], served["experiment"], served["shadows"]) == (7, "spring", ["amber"])
    assert served["pins"] == [{"header": "x-user-group", "value": "pilot", "variant": "green"}]
    roles = {variant["name"]: variant["role"] for variant in served["variants"]}
    assert roles == {"blue": "answers", "green": "answers", "amber": "shadow", "teal": "loaded"}
    assert "secret" not in response.text


def is_accepted(schema, record):
    return not isinstance(RecordCodec(schema, max_records=5).decode(json.dumps(record).encode()), Problem)


def test_the_documented_person_could_exist():
    """Valid, and old enough for the time with the company."""
    record = openapi.example(FeatureSchema.default())
    assert 18 <= record["age"] <= 67
    assert record["tenure"] / 12 <= record["age"] - 18
    assert 20 <= record["work_hours"] <= 48
    assert not isinstance(
        RecordCodec(FeatureSchema.default(), max_records=5).decode(json.dumps(record).encode()), Problem
    )


def test_other_schemas_have_examples_inside_their_ranges():
    """A feature of the same name with another unit or range does not get an impossible value."""
    features = (
        Feature(name="tenure", kind="continuous", unit="years", minimum=0, maximum=50),
        Feature(name="age", kind="continuous", unit="years", minimum=50, maximum=60),
        Feature(name="shoe_size", kind="integer", minimum=30, maximum=50),
        Feature(name="salary", kind="continuous", unit="per year, in the extract's currency", minimum=90_000),
        Feature(name="department_code", kind="category", categories={7: "Sales"}),
    )
    schema = FeatureSchema(features=features)
    record = openapi.example(schema)
    assert record["tenure"] < 50
    assert record["department_code"] == 7
    assert is_accepted(schema, record)


def test_unknown_paths_and_methods_are_problems(endpoint):
    """404 and 405 look like every other error."""
    lost = endpoint.request("GET", "/v3/nothing")
    assert (lost.status_code, lost.headers["content-type"]) == (404, "application/problem+json")
    wrong = endpoint.request("POST", "/liveness")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")
    assert wrong.json()["status"] == 405


def test_the_bare_address_leads_to_the_documentation(endpoint):
    """A person who opens the address sees something."""
    assert endpoint.request("GET", "/").headers["location"] == "docs"


def test_openapi_describes_the_served_features(endpoint):
    """Every feature with its range; required and nullable as the schema says."""
    spec = endpoint.request("GET", "/openapi.json").json()
    record = spec["components"]["schemas"]["Record"]
    assert record["required"] == ["age"]
    assert record["additionalProperties"] is False
    assert (record["properties"]["age"]["minimum"], record["properties"]["age"]["maximum"]) == (14, 100)
    assert record["properties"]["projects"]["type"] == ["integer", "null"]
    assert record["properties"]["promoted"]["enum"] == [0, 1, False, True, None]
    assert set(spec["paths"]) >= {"/v1/predict", "/liveness", "/readiness", "/v1/versions"}


def test_openapi_says_where_the_paths_begin(endpoint):
    """An application with a route prefix is found by a generated client."""
    assert endpoint.request("GET", "/openapi.json").json()["servers"] == [{"url": "/"}]


def test_every_reference_of_the_document_resolves(endpoint):
    """No dangling component."""
    response = endpoint.request("GET", "/openapi.json")
    defined = response.json()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/(\w+)"', response.text)) <= set(defined)


@pytest.mark.parametrize("name", ["one", "many"])
def test_the_examples_are_accepted(endpoint, name):
    """What the documentation shows works when it is sent."""
    spec = endpoint.request("GET", "/openapi.json").json()
    examples = spec["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert endpoint.predict(examples[name]["value"]).status_code == 200


def test_the_document_follows_a_change(endpoint, store, schema):
    """Another version, another schema."""
    endpoint.configure(store.add("2.0.0", schema.without("projects")), generation=1)
    spec = endpoint.request("GET", "/openapi.json").json()
    assert "projects" not in spec["components"]["schemas"]["Record"]["properties"]


def test_the_page_loads_nothing_from_elsewhere(endpoint):
    """The documentation works without a network."""
    page = endpoint.request("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
