"""Health, versions, the OpenAPI document and the documentation page."""

from __future__ import annotations

import re

import pytest


def test_liveness(endpoint):
    """The process answers."""
    assert endpoint.request("GET", "/liveness").json() == {"status": "alive"}


def test_versions(endpoint, schema):
    """What is served, and what a request may hold."""
    served = endpoint.request("GET", "/v1/versions").json()
    assert [(v["name"], v["version"], v["weight"]) for v in served["variants"]] == [("blue", "1.0.0", 1.0)]
    assert [feature["name"] for feature in served["schema"]["features"]] == list(schema.names)
    assert served["limits"]["max_records"] == 5


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
