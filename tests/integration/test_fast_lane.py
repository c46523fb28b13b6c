"""The fast lane on real Ray Serve behind HAProxy: what Serve would do around a request is done, under load."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
import uuid
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

import httpx
import pytest

from attrition.cluster import endpoint
from attrition.registry.bundle import load_bundle
from attrition.serving.config import ServeConfig
from attrition.serving.traffic import single_variant
from attrition.settings import Settings

pytestmark = pytest.mark.ray

RECORD = {"employee_id": "E-1", "age": 40, "tenure": 12, "satisfaction_score": 3.5, "department_code": 2}
BATCH = json.dumps({"records": [{**RECORD, "employee_id": f"E-{i}"} for i in range(1_000)]}).encode()
MAX_ONGOING, MAX_QUEUED = 4, 8
SETTLE_SECONDS = 90.0


@pytest.fixture(scope="module")
def settings(ray_cluster, tmp_path_factory):
    return Settings.from_environment(home=tmp_path_factory.mktemp("lane"))


@pytest.fixture(scope="module")
def blue(make_bundle):
    return make_bundle("1.0.0", 1.0)


@pytest.fixture(scope="module")
def green(make_bundle):
    return make_bundle("1.1.0", 0.2)


def configuration(*, fast_lane=True, limits=None, **deployment):
    """The local configuration with the lane, or without."""
    document = ServeConfig.load("local").model_dump(mode="json") | {"monitor": None}
    (application,) = document["applications"]
    application["args"]["fast_lane"] = fast_lane
    application["args"]["limits"] |= limits or {}
    application["deployments"][0] |= {"autoscaling_config": None, "num_replicas": 1, **deployment}
    return ServeConfig.model_validate(document)


@pytest.fixture
def up(settings, blue):
    """Function that deploys a configuration of the lane; what it returns is taken down after the test."""
    started = []

    def deploy(bundle=blue, **options):
        started.append(endpoint.up(settings, single_variant(bundle), configuration(**options)))
        await_haproxy(started[-1])
        return started[-1]

    yield deploy
    if started:
        assert endpoint.down(settings)


class Upload:
    """A request on its own connection, whose last byte is kept back; too large for HAProxy to wait for all of it."""

    def __init__(self, url, *headers):
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), timeout=20)
        body = b" " * 20_000 + json.dumps(RECORD).encode()
        head = ["POST /v1/predict HTTP/1.1", f"host: {address.netloc}", f"content-length: {len(body)}", *headers]
        self._socket.sendall("\r\n".join([*head, "content-type: application/json", "", ""]).encode() + body[:-1])

    def finish(self):
        """Status, after the last byte."""
        self._socket.sendall(b"}")
        return self.answer()[0]

    def answer(self):
        """Status and body."""
        with self._socket, HTTPResponse(self._socket) as answer:
            answer.begin()
            return answer.status, answer.read()

    @property
    def is_answered(self):
        return bool(select.select([self._socket], [], [], 0)[0])


class Load:
    """Steady requests of several threads, each on one connection, while the block runs."""

    def __init__(self, url, body=None, *, n_threads=4, pause_seconds=0.0):
        self._address = urlsplit(url)
        self._body = json.dumps(RECORD).encode() if body is None else body
        self._pause_seconds = pause_seconds
        self.n_answered, self.failures = 0, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(n_threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        connection = HTTPConnection(self._address.hostname, self._address.port, timeout=30)
        headers = {"content-type": "application/json"}
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v1/predict", self._body, headers)
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 200:
                    self.n_answered += 1
                else:
                    self.failures.append((answer.status, content[:200]))
            except (OSError, HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            time.sleep(self._pause_seconds)
        connection.close()


def await_haproxy(status):
    """Return when HAProxy sends requests to replicas: after a start Serve's own proxy stands in for a moment."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while b"urn:attrition:problem:timeout" not in Upload(status.url, "x-request-timeout-seconds: 0.2").answer()[1]:
        assert time.monotonic() < deadline
        time.sleep(0.3)


def replicas(status):
    """Running replicas, as Serve knows them."""
    details = httpx.get(f"{status.dashboard_url}/api/serve/applications/", timeout=30).json()
    found = details["applications"]["attrition"]["deployments"]["Gateway"]["replicas"]
    return {replica["replica_id"] for replica in found if replica["state"] == "RUNNING"}


def await_replicas(status, wanted, timeout_seconds=SETTLE_SECONDS):
    """Seconds until there are as many."""
    began = time.monotonic()
    while len(replicas(status)) != wanted:
        assert time.monotonic() < began + timeout_seconds, f"{len(replicas(status))} replicas, not {wanted}"
        time.sleep(0.3)
    return time.monotonic() - began


def scraped(name, **labels):
    """One of our metrics on Ray's endpoints, summed over replicas."""
    import ray

    total = 0.0
    for node in ray.nodes():
        text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=10).text
        for found, value in re.findall(rf"^ray_{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
            if all(f'{label}="{wanted}"' in found for label, wanted in labels.items()):
                total += float(value)
    return total


def await_metric(least, name, **labels):
    deadline = time.monotonic() + 40
    while (value := scraped(name, **labels)) < least:
        assert time.monotonic() < deadline, f"{name} {labels} is {value}, not {least}"
        time.sleep(0.5)
    return value


@pytest.mark.parametrize("fast_lane", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_short_life(up, blue, fast_lane):
    """Answers, identifiers, the exact limit with Retry-After, the timeout, the counts: the same with and without."""
    served = up(fast_lane=fast_lane, max_ongoing_requests=MAX_ONGOING, max_queued_requests=MAX_QUEUED)
    with httpx.Client(base_url=served.url, timeout=30) as http:
        bundle = load_bundle(blue.uri, blue.manifest_sha256)
        expected = bundle.scorer.score_one([RECORD.get(name, float("nan")) for name in bundle.schema.names])
        answer = http.post("/v1/predict", json=RECORD, headers={"x-request-id": "mine-1"})
        assert answer.json()["probability"] == pytest.approx(expected, abs=1e-15)
        assert answer.headers.get_list("x-request-id") == ["mine-1"]
        (made,) = http.post(
            "/v1/predict", content=BATCH, headers={"content-type": "application/json"}
        ).headers.get_list("x-request-id")
        assert uuid.UUID(made).version == 4
        assert http.post("/invocations", json={"dataframe_records": [RECORD]}).is_success
        assert http.get("/readiness").json()["status"] == "ready"

        uploads = [Upload(served.url) for _ in range(MAX_ONGOING + MAX_QUEUED)]
        time.sleep(0.5)
        refused = [http.post("/v1/predict", json=RECORD) for _ in range(10)]
        found = [(each.status_code, each.headers.get("retry-after"), each.text) for each in refused]
        assert {(status, retry_after) for status, retry_after, _ in found} == {(503, "1")}, found
        if fast_lane:
            assert {each.json()["type"] for each in refused} == {"urn:attrition:problem:overloaded"}
            assert http.get("/liveness").is_success  # only scoring is limited
        assert [upload.finish() for upload in uploads] == [200] * len(uploads)
        assert http.post("/v1/predict", json=RECORD).is_success

    began = time.monotonic()
    assert Upload(served.url, "x-request-timeout-seconds: 0.5").answer()[0] == 408
    assert 0.5 <= time.monotonic() - began < 5
    await_metric(1, "prediction_errors_total", kind="timeout")
    await_metric(1_000, "prediction_records_total", model_version="1.0.0")
    if fast_lane:
        await_metric(10, "prediction_errors_total", kind="overloaded")


@pytest.mark.slow
def test_replicas_follow_the_load(up):
    """One becomes two while large requests queue, two become one after them; nothing fails."""
    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 3,
        "upscale_delay_s": 1,
        "downscale_delay_s": 5,
        "look_back_period_s": 4,
        "metrics_interval_s": 1,
    }
    served = up(num_replicas=None, autoscaling_config=scaling)
    assert len(replicas(served)) == 1
    with Load(served.url, BATCH, n_threads=12) as load:
        up_seconds = await_replicas(served, 2)
        assert await_metric(1, "prediction_in_flight") < 13
        time.sleep(5)
        assert len(replicas(served)) == 2
    with Load(served.url, pause_seconds=0.02, n_threads=2) as trickle:
        down_seconds = await_replicas(served, 1)
        time.sleep(3)
    assert load.failures == []
    assert trickle.failures == []
    assert load.n_answered > 100
    assert trickle.n_answered > 100
    print(f"1 to 2 in {up_seconds:.1f} s, 2 to 1 in {down_seconds:.1f} s")  # noqa: T201


@pytest.mark.slow
def test_changes_and_updates_under_load(up, settings, blue, green):
    """Traffic changes, a rolling update of the code's arguments, a smaller and a larger number: no request fails."""
    served = up(num_replicas=2, max_surge_percent=50)
    before = replicas(served)
    with Load(served.url, pause_seconds=0.001) as load:
        for i in range(20):
            endpoint.find(settings).change("attrition", single_variant((green, blue)[i % 2]))
        assert replicas(served) == before
        n_during_changes = load.n_answered
        up(num_replicas=2, max_surge_percent=50, limits={"max_records": 999})
        await_replicas(served, 2)
        assert replicas(served).isdisjoint(before)
        up(num_replicas=1, max_surge_percent=50, limits={"max_records": 999})
        await_replicas(served, 1)
        time.sleep(3)
        up(num_replicas=2, max_surge_percent=50, limits={"max_records": 999})
        await_replicas(served, 2)
        time.sleep(1)
    assert load.failures == []
    assert n_during_changes > 100
    assert load.n_answered > 2 * n_during_changes


@pytest.mark.slow
def test_a_stopping_replica_answers_what_it_has(up):
    """Requests whose bodies are still coming when their replica is told to stop are answered by it."""
    served = up(num_replicas=2)
    uploads = [Upload(served.url) for _ in range(12)]
    time.sleep(0.5)
    stop = threading.Thread(target=lambda: up(num_replicas=1))
    stop.start()
    await_replicas(served, 1)
    time.sleep(3)  # longer than HAProxy takes to let go of it
    assert not any(upload.is_answered for upload in uploads)
    assert [upload.finish() for upload in uploads] == [200] * 12
    stop.join()
