"""Traffic control on real Ray Serve: changes under load, pins, shadows, switch, rollback, history, metrics."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest
from invented_people import Load, People

from attrition.cluster import endpoint
from attrition.cluster.traffic import TrafficControl
from attrition.errors import NotFound, ServingError, UsageError
from attrition.serving.config import ApplicationArgs, ServeConfig
from attrition.serving.gateway import Limits
from attrition.serving.traffic import single_variant
from attrition.serving.traffic_history import ChangeOutcome
from attrition.settings import Settings

pytestmark = pytest.mark.ray

RECORD = {"employee_id": "E-1", "age": 40, "tenure": 12, "satisfaction_score": 3.5, "department_code": 2}
N_REPLICAS = 2


@pytest.fixture(scope="module")
def settings(ray_cluster, tmp_path_factory):
    return Settings.from_environment(home=tmp_path_factory.mktemp("traffic"))


@pytest.fixture(scope="module")
def bundles(make_bundle):
    versions = {"1.0.0": 1.0, "1.1.0": 0.2, "1.2.0": -0.5, "2.0.0": 2.0, "2.1.0": -2.0}
    return {version: make_bundle(version, intercept) for version, intercept in versions.items()}


@pytest.fixture(scope="module")
def served(settings, bundles):
    """Version 1.0.0 on two replicas, with little room for shadows."""
    config = ServeConfig.load("local")
    application = config.application
    gateway = application.deployments[0].model_copy(update={"autoscaling_config": None, "num_replicas": N_REPLICAS})
    args = ApplicationArgs(limits=Limits(max_shadow_records=300))
    application = application.model_copy(update={"deployments": (gateway,), "args": args})
    config = config.model_copy(update={"applications": (application,), "monitor": None})
    yield endpoint.up(settings, single_variant(bundles["1.0.0"]), config)
    assert endpoint.down(settings)


@pytest.fixture
def traffic(served, settings, bundles):
    """Traffic control; all traffic is with 1.0.0, without pins and shadows."""
    endpoint.find(settings).change("attrition", single_variant(bundles["1.0.0"]), after_generation=10_000)
    return TrafficControl(settings, bundles.__getitem__)


@pytest.fixture
def http(served):
    with httpx.Client(base_url=served.url) as client:
        yield client


def replicas(served):
    """Identities of the running replicas, as Serve knows them."""
    details = httpx.get(f"{served.dashboard_url}/api/serve/applications/").json()
    deployment = details["applications"]["attrition"]["deployments"]["Gateway"]
    return {replica["replica_id"] for replica in deployment["replicas"] if replica["state"] == "RUNNING"}


@pytest.mark.parametrize("n_rounds", [17, pytest.param(67, marks=pytest.mark.slow)])
def test_changes_under_load_lose_nothing(traffic, served, http, n_rounds):
    """Weights, pins, shadows, other versions: no request fails, no replica is replaced, each change is confirmed."""
    before = replicas(served)
    assert len(before) == N_REPLICAS
    seconds = []
    with Load(served.url, People()) as load:
        for i in range(n_rounds):
            seconds.append(traffic.set({"1.0.0": 100 - i, "1.1.0": i}).seconds)
            seconds.append(traffic.pin("x-user-group", "pilot", ("1.1.0", "1.2.0")[i % 2]).seconds)
            seconds.append(traffic.rollback().seconds)
        final = traffic.set({"1.2.0": 1.0})
    assert load.failures == []
    assert len(load.answers) > 100
    versions = {version for _, version in load.answers}
    assert versions == {"1.0.0", "1.1.0"} | ({"1.2.0"} & versions)
    assert replicas(served) == before
    assert {http.get("/readiness").json()["generation"] for _ in range(10)} == {final.generation}
    assert sorted(seconds)[len(seconds) // 2] < 2.0


def test_a_rollback_takes_less_than_two_seconds(traffic, http):
    """Both versions are warm; one call brings the earlier one back, a second undoes that."""
    traffic.set({"1.0.0": 100})
    traffic.set({"1.1.0": 100})
    assert http.post("/v1/predict", json=RECORD).headers["x-model-version"] == "1.1.0"
    started = time.monotonic()
    change = traffic.rollback()
    elapsed = time.monotonic() - started
    assert http.post("/v1/predict", json=RECORD).headers["x-model-version"] == "1.0.0"
    assert elapsed < 2.0
    assert {v.version: v.weight for v in change.traffic.variants} == {"1.0.0": 1.0, "1.1.0": 0.0}
    traffic.rollback()
    assert http.post("/v1/predict", json=RECORD).headers["x-model-version"] == "1.1.0"


def test_a_rollback_to_a_generation(traffic, http):
    """Further back, by the number in the history; an unknown one is told."""
    target = traffic.set({"1.0.0": 50, "1.1.0": 50})
    traffic.set({"1.2.0": 100})
    traffic.set({"1.0.0": 100})
    back = traffic.rollback(target.generation)
    assert back.traffic.ranges == target.traffic.ranges
    with pytest.raises(NotFound, match="no applied generation 999999"):
        traffic.rollback(999_999)


def test_pins_and_headers(traffic, http):
    """The pinned header decides for all records of a request; the response says which version and why."""
    traffic.pin("X-User-Group", "pilot", "1.1.0")
    pinned = http.post("/v1/predict", json=RECORD, headers={"x-user-group": "pilot"})
    assert pinned.json()["reason"] == "pin"
    named = [pinned.headers[name] for name in ("x-model-version", "x-variant", "x-assignment-reason")]
    assert named == ["1.1.0", "green", "pin"]
    assert http.post("/v1/predict", json=RECORD, headers={"x-user-group": "x"}).headers["x-variant"] == "blue"
    traffic.unpin("x-user-group")
    assert http.post("/v1/predict", json=RECORD, headers={"x-user-group": "pilot"}).json()["model_version"] == "1.0.0"
    with pytest.raises(UsageError, match="is not pinned"):
        traffic.unpin("x-user-group")


def test_a_broken_version_leaves_the_traffic(traffic, http, make_bundle, settings, bundles):
    """A changed byte: nothing moves, the reason is raised and kept, and the next change works."""
    broken = make_bundle("1.9.0", 0.0)
    schema = Path(broken.uri) / "schema.json"
    schema.write_bytes(schema.read_bytes().replace(b"months", b"weeks!"))
    control = TrafficControl(settings, {**bundles, "1.9.0": broken}.__getitem__)
    before = control.show().traffic
    with pytest.raises(ServingError, match=r"schema\.json"):
        control.set({"1.0.0": 90, "1.9.0": 10})
    assert control.show().traffic == before
    refused = control.history()[-1]
    assert (refused.outcome, "schema.json" in refused.detail) == (ChangeOutcome.REFUSED, True)
    assert http.post("/v1/predict", json=RECORD).json()["model_version"] == "1.0.0"
    assert http.get("/readiness").json()["rejected"] is None
    assert control.set({"1.0.0": 90, "1.1.0": 10}).outcome is ChangeOutcome.APPLIED


def test_a_switch_tries_the_version_first(traffic, http):
    """Smoke tests pass, all traffic moves, and a rollback goes to the traffic before the trial."""
    traffic.set({"1.2.0": 100})
    traffic.set({"1.0.0": 100})
    switched = traffic.switch("1.1.0")
    assert switched.report.passed, str(switched.report)
    assert [check.name for check in switched.report.checks] == ["answers", "version", "range", "equality", "latency"]
    assert http.post("/v1/predict", json=RECORD).json()["model_version"] == "1.1.0"
    assert traffic.show().traffic.pins == ()
    back = traffic.rollback().traffic
    assert [variant.version for variant in back.variants if variant.name in back.active] == ["1.0.0"]
    assert http.post("/v1/predict", json=RECORD).json()["model_version"] == "1.0.0"


def test_a_failed_smoke_test_leaves_the_traffic(traffic, http, monkeypatch):
    """The verdict is returned, the trial is undone, and the history says why."""
    monkeypatch.setattr("attrition.serving.smoke.TOLERANCE", -1.0)
    before = traffic.show().traffic
    switched = traffic.switch("1.1.0")
    assert switched.change is None
    assert [check.name for check in switched.report.checks if not check.passed] == ["equality"]
    after = traffic.show().traffic
    assert after.model_copy(update={"generation": 0}) == before.model_copy(update={"generation": 0})
    assert http.post("/v1/predict", json=RECORD).json()["model_version"] == "1.0.0"
    assert traffic.history()[-1].outcome is ChangeOutcome.REFUSED


def scrape(served):
    """Our counters on Ray's metrics endpoints: name and model version → value, summed over replicas."""
    import ray

    found = {}
    for node in ray.nodes():
        text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=10).text
        for name, labels, value in re.findall(r"^ray_((?:prediction|shadow)_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
            if 'application="attrition"' not in labels or "model_version" not in labels:
                continue  # the prediction log's gauges have no version
            version = re.search(r'model_version="([^"]*)"', labels).group(1)
            assert "variant=" in labels
            found[name, version] = found.get((name, version), 0.0) + float(value)
    return found


def await_metric(served, name, version, least, timeout_seconds=40):
    deadline = time.monotonic() + timeout_seconds
    while (value := scrape(served).get((name, version), 0.0)) < least:
        assert time.monotonic() < deadline, f"{name} of {version} is {value}, not {least}"
        time.sleep(0.5)
    return value


def test_metrics_by_version_and_shadows(traffic, served, http):
    """Requests, errors and durations by version; shadows count what they score and what they drop."""
    traffic.set({"2.0.0": 100})
    traffic.shadow(["2.1.0"])
    for i in range(40):
        assert http.post("/v1/predict", json={**RECORD, "employee_id": i}).json()["model_version"] == "2.0.0"
    for n_records in (200, 1_000):
        assert http.post("/v1/predict", json={"records": [RECORD] * n_records}).is_success
    assert http.post("/v1/predict", json={"age": "x"}).status_code == 422
    await_metric(served, "prediction_requests_total", "2.0.0", 42)
    await_metric(served, "prediction_records_total", "2.0.0", 1_240)
    await_metric(served, "prediction_duration_seconds_count", "2.0.0", 42)
    await_metric(served, "prediction_errors_total", "none", 1)
    assert await_metric(served, "shadow_scored_total", "2.1.0", 240) == 240
    assert await_metric(served, "shadow_disagreements_total", "2.1.0", 240) == 240
    assert await_metric(served, "shadow_dropped_total", "2.1.0", 1_000) == 1_000
    counted = scrape(served)
    assert counted["prediction_requests_total", "2.0.0"] == 42
    assert not any(name.startswith("prediction") for name, version in counted if version == "2.1.0")


def test_the_history_survives_the_endpoint(traffic, settings):
    """It is a table: another process, after a restart, sees every change with its actor and outcome."""
    traffic.set({"1.0.0": 80, "1.1.0": 20})
    past = TrafficControl(settings, None).history()
    assert past[-1].action == "set 1.0.0=80% 1.1.0=20%"
    assert past[-1].actor
    generations = [change.generation for change in past if change.outcome is not ChangeOutcome.REFUSED]
    assert generations == sorted(set(generations))
    assert past[0].action == "serve up 1.0.0"
