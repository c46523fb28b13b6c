"""The served application against its own OpenAPI document, under another name and another path than the usual ones."""

from __future__ import annotations

import gzip
import json

import httpx
import pandas as pd
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from attrition.client import Client
from attrition.cluster import endpoint
from attrition.cluster.traffic import TrafficControl
from attrition.errors import UsageError
from attrition.serving.config import ServeConfig
from attrition.settings import MODEL_NAME, Settings, config_file
from attrition.workspace import Workspace

pytestmark = pytest.mark.ray

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
JSON = {"content-type": "application/json"}
RECORD = {"employee_id": "E-1", "age": 40, "tenure": 12}


@pytest.fixture(scope="module")
def settings(ray_cluster, tmp_path_factory):
    return Settings.from_environment(home=tmp_path_factory.mktemp("contract"))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A configuration file whose application has a name and a route prefix of its own."""
    document = yaml.safe_load(config_file("serve_configs", "local").read_text())
    document["applications"] = document["applications"][:1]
    document["applications"][0] |= {"name": "people", "route_prefix": "/hr/leaving"}
    path = tmp_path_factory.mktemp("configs") / "people.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def bundles(make_bundle):
    return {version: make_bundle(version, at) for at, version in enumerate(("1.0.0", "1.1.0", "1.2.0"))}


@pytest.fixture(scope="module")
def served(settings, config, bundles):
    """Version 1.0.0 under /hr/leaving; taken down after this module."""
    yield endpoint.up(settings, lambda live: endpoint.wanted(live, "1.0.0", bundles.__getitem__), config)
    assert endpoint.down(settings)
    assert endpoint.status(settings).state == "NOT_STARTED"


@pytest.fixture
def http(served):
    with httpx.Client(base_url=served.url, timeout=30.0) as client:
        yield client


def test_another_name_and_path_are_found(served, settings, config):
    """By status, by a client and by a person who follows the links."""
    assert served.url == f"{settings.serve_url}/hr/leaving"
    assert endpoint.status(settings) == served
    assert endpoint.url(settings) == served.url
    assert httpx.get(settings.serve_url + "/readiness").status_code == 404
    assert httpx.get(served.url + "/", follow_redirects=True).url == served.docs_url
    assert httpx.get(f"{served.url}/openapi.json").json()["servers"] == [{"url": "/hr/leaving"}]
    assert ServeConfig.load(config).application.name == "people"
    with Workspace(settings) as workspace:
        scored = workspace.client().predict(pd.DataFrame([RECORD]))
    assert scored["model_version"].tolist() == ["1.0.0"]
    with Client(served.url) as client:
        assert client.ready()


def test_traffic_of_another_name(served, settings, bundles, http):
    """Changed, tried and recorded under its own name; a running endpoint keeps what was set up."""
    traffic = TrafficControl(settings, bundles.__getitem__)
    traffic.pin("x-user-group", "pilot", "1.1.0")
    traffic.shadow(["1.2.0"])
    assert traffic.show().traffic.pins[0].value == "pilot"
    assert {change.application for change in traffic.history()} == {"people"}
    wanted = http.get("/v1/versions").json()
    assert [(v["version"], v["role"]) for v in wanted["variants"]] == [
        ("1.0.0", "answers"),
        ("1.1.0", "answers"),
        ("1.2.0", "shadow"),
    ]
    with pytest.raises(UsageError, match="1 pin, 1 shadow"):
        endpoint.up(settings, lambda live: endpoint.wanted(live, "1.1.0", bundles.__getitem__), people(settings))
    endpoint.up(settings, lambda live: endpoint.wanted(live, None, bundles.__getitem__), people(settings))
    kept = http.get("/v1/versions").json()
    assert {**kept, "generation": 0} == {**wanted, "generation": 0}
    assert kept["generation"] > wanted["generation"]
    switched = traffic.switch("1.1.0")
    assert switched.report.passed
    assert switched.change is not None
    traffic.rollback()
    assert http.post("/v1/predict", json=RECORD).json()["model_version"] == "1.0.0"


def people(settings):
    """The configuration of the application that runs."""
    config = ServeConfig.load("local")
    renamed = config.application.model_copy(update={"name": "people", "route_prefix": "/hr/leaving"})
    return config.model_copy(update={"applications": (renamed,), "monitor": None})


@pytest.mark.parametrize("n_examples", [8, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_breaks_the_service(served, mode, n_examples):
    """Valid and invalid bodies, parameters and headers for every operation of the document, through HAProxy."""
    document = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations()]
    infer = f"/v2/models/{MODEL_NAME}/versions/{{version}}/infer"
    assert {operation.path for operation in operations} >= {"/v1/predict", "/v1/outcomes", "/invocations", infer}
    answered = {}
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing about it can be wrong

        @examples(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            response = case.call_and_validate(checks=CHECKS)
            answered.setdefault(case.path, set()).add(response.status_code)

        ask()
    expected = 200 if mode is GenerationMode.POSITIVE else 422
    assert expected in answered["/v1/predict"]  # it was not some other server that was asked


def test_other_methods_are_refused(http):
    """405, and which there are; HEAD is as good as GET for a probe."""
    for path, item in http.get("/openapi.json").json()["paths"].items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - {name.upper() for name in item}:
            response = http.request(method, path.replace("{version}", "1.0.0"))
            if path in {"/ping", "/health"} and method == "POST":
                continue  # MLflow's clients may ask either way
            refused(response, 405)
            assert set(response.headers["allow"].lower().split(", ")) >= set(item)


INFER = f"/v2/models/{MODEL_NAME}/infer"
SCORING = ("/v1/predict", "/invocations", INFER, "/v1/outcomes")


def refused(response, status=None):
    """The refusal's text; it is one, it is not our fault, and it says something."""
    assert 400 <= response.status_code < 500, response.text
    assert status in {None, response.status_code}, response.text
    document = response.json()
    assert document.get("error") or document["detail"]
    return response.text


@pytest.mark.parametrize("path", SCORING)
def test_ten_megabytes_are_too_much(http, path):
    """Announced, in pieces or packed: 413, and the next request is answered."""
    big = b'{"records": [' + b"1," * 5_000_000 + b"1]}"

    def pieces():
        for at in range(0, len(big), 65_536):
            yield big[at : at + 65_536]

    for content, headers in ((big, JSON), (pieces(), JSON), (gzip.compress(big), {**JSON, "content-encoding": "gzip"})):
        refused(http.post(path, content=content, headers=headers), 413)
    assert http.get("/readiness").is_success


@pytest.mark.parametrize("path", SCORING)
@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/html"},
        {"content-type": "multipart/form-data; boundary=x"},
        {**JSON, "content-encoding": "br"},
        {"content-type": "application/json; charset=utf-16"},
    ],
)
def test_other_content_types_are_refused(http, path, headers):
    """415, whatever the body; a character set that is none of JSON's is an unreadable body."""
    content = json.dumps(RECORD).encode("utf-16") if "charset" in headers["content-type"] else b"{}"
    response = http.post(path, content=content, headers=headers)
    refused(response, None if "charset" in headers["content-type"] else 415)


NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 400, "9" * 5_000, "1.7976931348623157e308")


@pytest.mark.parametrize("number", NUMBERS, ids=lambda text: text[:12])
def test_numbers_that_no_age_has_are_named(http, number):
    """By field and reason in every protocol; only MLflow's NaN is a missing value."""
    record = '{"age": %s}' % number  # noqa: UP031 - braces
    text = refused(http.post("/v1/predict", content=record, headers=JSON), 422)
    assert "/age" in text
    answer = http.post("/invocations", content='{"dataframe_records": [%s]}' % record, headers=JSON)  # noqa: UP031
    if number == "NaN":
        assert "has no value of any feature" in refused(answer, 422)
    else:
        assert "/dataframe_records/0/age" in refused(answer, 422)
    tensor = '{"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "data": [%s]}]}' % number  # noqa: UP031
    assert "/inputs/0/data/0" in refused(http.post(INFER, content=tensor, headers=JSON), 400)
    outcome = '{"outcomes": [{"employee_id": %s, "left_on": null}]}' % number  # noqa: UP031
    refused(http.post("/v1/outcomes", content=outcome, headers=JSON))


@pytest.mark.parametrize(
    ("tensor", "where", "why"),
    [
        ({"datatype": "FP65"}, "/inputs/0/datatype", "FP64"),
        ({"datatype": "BYTES", "data": ["40"]}, "/inputs/0/data/0", "is text"),
        ({"datatype": "INT8", "data": [400]}, "/inputs/0/data/0", "INT8"),
        ({"datatype": "BOOL", "data": [40]}, "/inputs/0/data/0", "BOOL"),
        ({"shape": [2]}, "/inputs/0/data", "1 values, its shape 2"),
        ({"shape": [1, 1, 1]}, "/inputs/0/shape", ""),
        ({"shape": [-1]}, "/inputs/0/shape", ""),
        ({"shape": "1"}, "/inputs/0/shape", ""),
        ({"data": 40}, "/inputs/0/data", "is a number"),
        ({"name": 3}, "/inputs/0/name", ""),
    ],
)
def test_tensors_that_are_none_are_named(http, tensor, where, why):
    """By their place and the reason."""
    sent = {"name": "age", "datatype": "FP64", "shape": [1], "data": [40], **tensor}
    text = refused(http.post(INFER, json={"inputs": [sent]}), 400)
    assert where in text
    assert why in text
