"""A variant in a deployment of its own, on real Ray Serve: the same answers, its loss, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from attrition.cluster import endpoint
from attrition.cluster.traffic import TrafficControl
from attrition.data.predictions import PredictionTable
from attrition.errors import NotFound, ServingError
from attrition.serving.config import ServeConfig
from attrition.serving.placement import PLACED, PlacedOptions, Placement, application_name
from attrition.serving.traffic import single_variant
from attrition.settings import Settings

pytestmark = pytest.mark.ray

OPTIONS = PlacedOptions(timeout_seconds=1.0)
PEOPLE = [
    {"employee_id": f"E-{i}", "age": 20 + i % 40, "tenure": i, "department_code": i % 5, "salary": None}
    for i in range(200)
]


@pytest.fixture(scope="module")
def settings(ray_cluster, tmp_path_factory):
    return Settings.from_environment(home=tmp_path_factory.mktemp("placement"))


@pytest.fixture(scope="module")
def bundles(make_bundle):
    return {version: make_bundle(version, intercept) for version, intercept in {"3.0.0": 1.0, "3.1.0": 0.2}.items()}


@pytest.fixture(scope="module")
def served(settings, bundles):
    config = ServeConfig.load("local")
    gateway = config.application.deployments[0].model_copy(update={"autoscaling_config": None, "num_replicas": 2})
    application = config.application.model_copy(update={"deployments": (gateway,)})
    config = config.model_copy(update={"applications": (application,), "monitor": None})
    yield endpoint.up(settings, single_variant(bundles["3.0.0"]), config)
    assert endpoint.down(settings)


@pytest.fixture
def traffic(served, settings, bundles):
    """Traffic control; all traffic is with 3.0.0, in process."""
    endpoint.find(settings).change("attrition", single_variant(bundles["3.0.0"]), after_generation=10_000)
    return TrafficControl(settings, bundles.__getitem__)


@pytest.fixture
def http(served):
    with httpx.Client(base_url=served.url, timeout=20) as client:
        yield client


def applications(served):
    return httpx.get(f"{served.dashboard_url}/api/serve/applications/").json()["applications"]


def placed_replicas(served):
    """Process ids of the running replicas of placed variants."""
    return [
        replica["pid"]
        for application in applications(served).values()
        for replica in application["deployments"].get(PLACED, {}).get("replicas", [])
        if replica["state"] == "RUNNING"
    ]


def predict(http, record):
    return http.post("/v1/predict", json=record).raise_for_status().json()


def test_half_of_the_people_by_a_placed_variant(traffic, served, http, settings, bundles):
    """Everybody is answered by the same version with the same bits as in process; afterwards the deployment is gone."""
    gateways = {r["replica_id"] for r in applications(served)["attrition"]["deployments"]["Gateway"]["replicas"]}
    traffic.set({"3.0.0": 50, "3.1.0": 50})
    inside = [predict(http, person) for person in PEOPLE]
    together = predict(http, {"records": PEOPLE})["predictions"]
    change = traffic.place("3.1.0", Placement.DEPLOYMENT, OPTIONS)
    state = traffic.show()
    (placed,) = (variant for variant in state.status.variants if variant.version == "3.1.0")
    assert (placed.placement, placed.state, placed.replicas) == ("deployment", "RUNNING", 1)
    name = application_name("attrition", change.traffic.variant(placed.name))
    assert applications(served)[name]["route_prefix"] is None
    logged = []

    def same(ours, theirs):
        keys = ("probability", "decision", "threshold", "model_version", "variant", "reason")
        assert [[one[key] for key in keys] for one in ours] == [[one[key] for key in keys] for one in theirs]
        logged.extend(one["prediction_id"] for one in ours)

    same([predict(http, person) for person in PEOPLE], inside)
    same(predict(http, {"records": PEOPLE})["predictions"], together)
    assert {one["model_version"] for one in together} == {"3.0.0", "3.1.0"}
    moved = next(i for i, one in enumerate(inside) if one["model_version"] == "3.1.0")
    answer = http.post("/v1/predict", json=PEOPLE[moved])
    assert (answer.headers["x-model-version"], answer.headers["x-assignment-reason"]) == ("3.1.0", "sticky")
    foreign = http.post("/invocations", json={"dataframe_records": PEOPLE[:50]})
    assert foreign.status_code == 200, foreign.text
    assert len(foreign.json()["predictions"]) == 50
    named = http.post("/v2/models/employee-attrition-classifier/versions/3.1.0/infer", json=v2_request(PEOPLE[moved]))
    assert named.status_code == 200, named.text

    traffic.place("3.1.0", Placement.IN_PROCESS)
    same([predict(http, person) for person in PEOPLE], inside)
    deadline = time.monotonic() + 20
    while name in applications(served):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    after = {r["replica_id"] for r in applications(served)["attrition"]["deployments"]["Gateway"]["replicas"]}
    assert after == gateways
    rows = await_logged(settings, lambda rows: rows[rows["prediction_id"].isin(logged)], len(logged))
    assert rows["prediction_id"].is_unique
    answered = [one["probability"] for one in inside] + [one["probability"] for one in together]
    assert sorted(rows["probability"]) == sorted(2 * answered[: len(inside)] + answered[len(inside) :])


def await_logged(settings, select, n):
    """The logged predictions that are asked for, once the table has as many."""
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(NotFound):
            rows = select(PredictionTable(settings.tables).tail(10_000))
            if len(rows) >= n:
                assert len(rows) == n
                return rows
        assert time.monotonic() < deadline
        time.sleep(0.5)


def v2_request(record):
    values = {name: value for name, value in record.items() if name != "employee_id" and value is not None}
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": "FP64", "data": [float(value)]} for name, value in values.items()
        ]
    }


class Load:
    """Steady single records from several threads while the block runs: status and version of every answer."""

    def __init__(self, url, n_threads=4):
        self.answers = []
        self._url, self._stop = url, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(n_threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads)

    def _ask(self, number):
        with httpx.Client(base_url=self._url, timeout=10) as client:
            for count in range(100_000):
                if self._stop.is_set():
                    return
                began = time.monotonic()
                answer = client.post("/v1/predict", json=PEOPLE[(number * 50 + count) % len(PEOPLE)])
                self.answers.append((answer.status_code, answer.headers.get("x-model-version"), answer.text, began))
                time.sleep(0.004)


@pytest.mark.slow
def test_the_loss_of_a_placed_replica(traffic, served, http):
    """Killed under load: its people get 503 with a reason until the next one runs, the others notice nothing."""
    traffic.place("3.1.0", Placement.DEPLOYMENT, OPTIONS)
    traffic.set({"3.0.0": 50, "3.1.0": 50})
    with Load(served.url) as load:
        time.sleep(0.5)
        (victim,) = placed_replicas(served)
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 40
        while not (set(placed_replicas(served)) - {victim}):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(3)
        back = time.monotonic()
        time.sleep(1.5)
    failed = [answer for answer in load.answers if answer[0] != 200]
    assert {status for status, *_ in failed} <= {503}
    assert all("variant-unavailable" in text and "3.1.0" in text for _, _, text, _ in failed)
    late = [answer for answer in load.answers if answer[3] > back]
    assert {version for _, version, *_ in late} == {"3.0.0", "3.1.0"}
    n_inside = sum(version == "3.0.0" for _, version, *_ in load.answers)
    assert n_inside > len(failed)


@pytest.mark.slow
def test_two_placed_replicas_lose_nothing(traffic, served):
    """The batch of a killed one is scored by the other; changes of weights and a way back lose nothing either."""
    traffic.place("3.1.0", Placement.DEPLOYMENT, PlacedOptions(num_replicas=2))
    traffic.set({"3.0.0": 20, "3.1.0": 80})
    with Load(served.url) as load:
        time.sleep(0.5)
        victim = placed_replicas(served)[0]
        os.kill(victim, signal.SIGKILL)
        time.sleep(2)
        traffic.set({"3.0.0": 60, "3.1.0": 40})
        traffic.place("3.1.0", Placement.IN_PROCESS)
        traffic.rollback()
        traffic.set({"3.0.0": 100})
        time.sleep(0.5)
    assert [answer for answer in load.answers if answer[0] != 200] == []
    assert {version for _, version, *_ in load.answers} == {"3.0.0", "3.1.0"}


def test_a_placed_shadow(traffic, served, http, settings):
    """It scores copies through the same line, and they are in the prediction log."""
    traffic.place("3.1.0", Placement.DEPLOYMENT, OPTIONS)
    traffic.shadow(["3.1.0"])
    answers = [predict(http, person) for person in PEOPLE[:40]]
    assert {answer["model_version"] for answer in answers} == {"3.0.0"}
    copies = await_logged(settings, lambda rows: rows[rows["reason"] == "shadow"], 40)
    assert set(copies["version"]) == {"3.1.0"}
    assert np.isfinite(copies["probability"]).all()


def test_a_broken_bundle_is_not_placed(traffic, served, http, make_bundle, settings, bundles):
    """Its deployment does not start: the traffic stays, nothing is left behind, the reason is told."""
    broken = make_bundle("3.9.0", 0.0)
    schema = Path(broken.uri) / "schema.json"
    schema.write_bytes(schema.read_bytes().replace(b"months", b"weeks!"))
    control = TrafficControl(settings, {**bundles, "3.9.0": broken}.__getitem__)
    before = control.show().traffic
    with pytest.raises(ServingError, match=r"variant-3\.9\.0"):
        control.place("3.9.0", Placement.DEPLOYMENT)
    assert control.show().traffic == before
    assert predict(http, PEOPLE[0])["model_version"] == "3.0.0"
    assert not any("3.9.0" in name for name, one in applications(served).items() if one["status"] != "DELETING")
