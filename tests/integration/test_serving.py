"""The served application on real Ray Serve behind HAProxy."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest

from attrition.client import Client
from attrition.cluster import endpoint
from attrition.errors import ServingError
from attrition.registry.bundle import load_bundle
from attrition.serving.config import ServeConfig
from attrition.serving.control import ServeControl
from attrition.serving.traffic import Traffic, Variant, single_variant
from attrition.settings import Settings

pytestmark = pytest.mark.ray

RECORD = {"employee_id": "E-1", "age": 40, "tenure": 12, "satisfaction_score": 3.5, "department_code": 2}


@pytest.fixture(scope="module")
def settings(ray_cluster, tmp_path_factory):
    return Settings.from_environment(home=tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def blue(make_bundle):
    return make_bundle("1.0.0", 1.0)


@pytest.fixture(scope="module")
def green(make_bundle):
    return make_bundle("1.1.0", 0.2)


@pytest.fixture(scope="module")
def served(settings, blue):
    """Status of the endpoint while it serves version 1.0.0; taken down after this module."""
    yield endpoint.up(settings, single_variant(blue))
    assert endpoint.down(settings)
    assert endpoint.status(settings).state == "NOT_STARTED"


@pytest.fixture
def http(served, settings, blue):
    """Client of the endpoint, which serves all traffic from version 1.0.0."""
    if endpoint.status(settings).variants[0].version != blue.version:
        endpoint.up(settings, single_variant(blue))
    with httpx.Client(base_url=served.url) as client:
        yield client


def test_status_after_the_start(served, settings):
    """`up` returns when the endpoint answers; status agrees."""
    assert (served.running, served.state, served.replicas) == (True, "RUNNING", 1)
    assert [(variant.version, variant.weight) for variant in served.variants] == [("1.0.0", 1.0)]
    assert served.url == settings.serve_url
    assert served.dashboard_url.startswith("http://127.0.0.1:")
    assert httpx.get(served.docs_url).is_success


def test_one_and_many(http, blue):
    """What HTTP answers is what the bundle's scorer says."""
    bundle = load_bundle(blue.uri, blue.manifest_sha256)
    expected = bundle.scorer.score_one([RECORD.get(name, float("nan")) for name in bundle.schema.names])
    one = http.post("/v1/predict", json=RECORD)
    assert one.json()["probability"] == pytest.approx(expected, abs=1e-15)
    assert one.headers["x-model-version"] == "1.0.0"
    many = http.post("/v1/predict", json={"records": [{**RECORD, "age": age} for age in range(20, 60)]})
    probabilities = [answer["probability"] for answer in many.json()["predictions"]]
    assert len(probabilities) == 40
    assert probabilities[20] == pytest.approx(expected, abs=1e-15)
    assert probabilities == sorted(probabilities, reverse=True)


def test_a_frame_through_the_client(served, http, blue):
    """2,500 rows in three requests, equal to the scorer, in the order and with the index of the frame."""
    ages = np.random.default_rng(7).uniform(14, 100, 2_500)
    ages[::50] = np.nan
    columns = {"employee_id": np.arange(2_500), "age": ages, "tenure": 30.0, "gender": "x"}
    frame = pd.DataFrame(columns, index=np.arange(2_500) * 2)
    with Client(served.url) as client:
        assert client.ready()
        scored = client.predict(frame)
    bundle = load_bundle(blue.uri, blue.manifest_sha256)
    matrix = np.full((2_500, len(bundle.schema.names)), np.nan)
    matrix[:, bundle.schema.names.index("age")] = ages
    matrix[:, bundle.schema.names.index("tenure")] = 30.0
    assert scored["probability"].to_numpy() == pytest.approx(bundle.scorer.score(matrix), abs=1e-15)
    assert scored.index.equals(frame.index)
    assert scored["prediction_id"].is_unique


def test_request_id_is_echoed_once(http):
    """As sent, or made; on good and bad answers."""
    for body in (RECORD, {"age": "x"}):
        answer = http.post("/v1/predict", json=body, headers={"x-request-id": "mine-1"})
        assert answer.headers.get_list("x-request-id") == ["mine-1"]
        assert len(http.post("/v1/predict", json=body).headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/v1/predict", {"content": b"{"}, 400),
        ("POST", "/v1/predict", {"content": b""}, 400),
        ("POST", "/v1/predict", {"json": {"age": "x"}}, 422),
        ("POST", "/v1/predict", {"json": {"records": []}}, 422),
        ("POST", "/v1/predict", {"content": b'{"age": NaN}'}, 422),
        ("POST", "/v1/predict", {"json": {"records": [{"age": 30}] * 1_001}}, 413),
        ("POST", "/v1/predict", {"content": b" " * 10_000_000}, 413),
        ("POST", "/v1/predict", {"content": b"a=1", "headers": {"content-type": "text/plain"}}, 415),
        ("GET", "/v1/predict", {}, 405),
        ("GET", "/nothing", {}, 404),
    ],
)
def test_bad_requests_are_problems(http, method, path, options, status):
    """Through HAProxy as without: the right status and a problem document, never 5xx."""
    answer = http.request(method, path, **options)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_health(http):
    """Alive, and ready with the generation that is served."""
    assert http.get("/liveness").json() == {"status": "alive"}
    ready = http.get("/readiness").json()
    assert (ready["status"], ready["rejected"]) == ("ready", None)
    assert ready["replica"]


def test_a_change_under_load_loses_nothing(http, settings, served, blue, green):
    """Five changes while requests are sent: none fails, both versions answer, the replica stays the same."""
    replica = http.get("/readiness").json()["replica"]
    stop, answers, failures = threading.Event(), [], []

    def ask():
        with httpx.Client(base_url=served.url) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/predict", json=RECORD)
                    (answers if answer.is_success else failures).append(answer)
                except httpx.TransportError as error:
                    failures.append(error)
                time.sleep(0.002)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for bundle in (green, blue, green, blue, green):
            status = endpoint.up(settings, single_variant(bundle))
            assert http.post("/v1/predict", json=RECORD).json()["model_version"] == bundle.version
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert {answer.json()["model_version"] for answer in answers} == {"1.0.0", "1.1.0"}
    assert http.get("/readiness").json()["replica"] == replica
    assert status.generation == http.get("/readiness").json()["generation"]


def test_split_traffic(http, settings, blue, green):
    """Two versions side by side: a person keeps the variant, and the shares are near the weights."""
    variants = (
        Variant(name="blue", version="1.0.0", bundle=blue.uri, manifest_sha256=blue.manifest_sha256, weight=0.7),
        Variant(name="green", version="1.1.0", bundle=green.uri, manifest_sha256=green.manifest_sha256, weight=0.3),
    )
    endpoint.up(settings, Traffic(variants=variants))
    records = [{**RECORD, "employee_id": f"E-{i}"} for i in range(1_000)]
    first, second = (http.post("/v1/predict", json={"records": records}).json()["predictions"] for _ in range(2))
    assert [answer["variant"] for answer in first] == [answer["variant"] for answer in second]
    assert 0.23 < np.mean([answer["variant"] == "green" for answer in first]) < 0.37


def test_a_broken_version_changes_nothing(http, settings, served, make_bundle):
    """A changed byte: the old version keeps answering, the reason is raised, and the old configuration is back."""
    broken = make_bundle("1.2.0", 0.0)
    schema = Path(broken.uri) / "schema.json"
    schema.write_bytes(schema.read_bytes().replace(b"months", b"weeks!"))
    before = endpoint.status(settings)
    with pytest.raises(ServingError, match=r"schema\.json"):
        endpoint.up(settings, single_variant(broken))
    after = endpoint.status(settings)
    assert (after.running, after.generation, after.variants) == (True, before.generation, before.variants)
    assert http.post("/v1/predict", json=RECORD).json()["model_version"] == "1.0.0"
    assert http.get("/readiness").json()["rejected"] is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_replica_does_not_load_training_libraries(http, served):
    """Compiled parts of a library that a process imports are mapped into its memory."""
    details = httpx.get(f"{served.dashboard_url}/api/serve/applications/").json()
    replicas = details["applications"]["attrition"]["deployments"]["Gateway"]["replicas"]
    assert replicas
    for replica in replicas:
        mapped = Path(f"/proc/{replica['pid']}/maps").read_text(encoding="utf-8")
        assert not set(re.findall(r"/site-packages/(\w+)/", mapped)) & {"sklearn", "scipy", "shap", "matplotlib"}


def test_other_applications_stay(http, settings, served, green):
    """Deploying and removing one application leaves another on the same cluster alone; a path prefix works."""
    config = ServeConfig.load("local")
    application = config.application.model_copy(update={"name": "other", "route_prefix": "/other"})
    control = ServeControl(served.dashboard_url, served.url)
    other = config.model_copy(update={"applications": (application,), "monitor": None})
    status = control.deploy(single_variant(green), other, host="127.0.0.1", port=settings.serve_port)
    try:
        assert status.running
        assert http.post("/other/v1/predict", json=RECORD).json()["model_version"] == "1.1.0"
        assert http.get("/other/openapi.json").is_success
        assert endpoint.up(settings, single_variant(green)).running
        assert http.post("/other/v1/predict", json=RECORD).is_success
    finally:
        assert control.remove("other")
    assert endpoint.status(settings).running
    assert http.post("/v1/predict", json=RECORD).is_success


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_documentation_renders_in_a_browser(served, http, tmp_path):
    """A real browser without a network shows every path and the features of the served version."""
    page = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=5000",
            f"--user-data-dir={tmp_path}",
            "--dump-dom",
            served.docs_url,
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert 'data-rendered="true"' in page
    for text in ("/v1/predict", "/readiness", "satisfaction_score", "prediction_id"):
        assert text in page
