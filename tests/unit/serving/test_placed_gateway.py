"""A gateway with placed variants: the same answers, logs and counts as in process, and 503 when one is not reached."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from attrition.errors import ConfigError, ServingError
from attrition.serving import placed, row_batches
from attrition.serving.batcher import Batcher
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.metrics import Meter
from attrition.serving.placement import Placement
from attrition.serving.prediction_log import LogHealth
from attrition.serving.snapshot import load_snapshot
from attrition.serving.traffic import Pin, Traffic

PEOPLE = [{"employee_id": f"E{i}", "age": 20 + i % 50, "projects": i % 7, "promoted": i % 2 == 0} for i in range(60)]
MODEL = "employee-attrition-classifier"


class Deployments:
    """What would run in Serve: a scorer by version, each up or down."""

    def __init__(self, store):
        self.store, self.down, self.calls, self.made = store, set(), [], []

    def reach(self, variant, observe):
        self.made.append(variant.version)

        async def send(message):
            self.calls.append(variant.version)
            await asyncio.sleep(0)
            if variant.version in self.down:
                raise RuntimeError("no replica")
            return row_batches.score(self.store.bundles[variant.bundle].scorer, message)

        limits = {"max_batch_records": 50, "max_waiting_records": 100, "timeout_seconds": 1}
        return Batcher(send, name=f"version {variant.version}", **limits, observe=observe)


class Log:
    """Keeps what it is given."""

    def __init__(self):
        self.calls = []

    def append(self, scores, _latency_us):
        self.calls.append(list(scores))

    def health(self):
        return LogHealth()


class Served:
    """A gateway with everything observable."""

    def __init__(self, store, traffic):
        self.deployments, self.meter, self.log = Deployments(store), Meter(), Log()
        self.gateway = Gateway(
            Limits(max_records=100), store.load, meter=self.meter, log=self.log, reach=self.deployments.reach
        )
        self.apply(traffic)

    def apply(self, traffic):
        asyncio.run(self.gateway.reconfigure(traffic.model_dump(mode="json")))

    def ask(self, *requests, path="/v1/predict", before=None):
        async def send():
            if before is not None:
                await self.gateway.reconfigure(before.model_dump(mode="json"))
            transport = httpx.ASGITransport(self.gateway)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                answers = await asyncio.gather(*(client.post(path, **request) for request in requests))
            await self.gateway.shadow.drained()
            return answers

        return asyncio.run(send())

    def counts(self):
        return {(name, *labels): count for (name, labels), count in self.meter.drain().counts.items()}


@pytest.fixture
def variants(store, schema):
    """Blue answers half of the people, green the other half, amber nobody."""
    return {
        name: store.add(version, schema, offset=offset).model_copy(update={"name": name, "weight": weight})
        for name, version, offset, weight in (
            ("blue", "1.0.0", 0.0, 0.5),
            ("green", "1.1.0", 0.1, 0.5),
            ("amber", "1.2.0", 0.6, 0.0),
        )
    }


@pytest.fixture
def traffic(variants):
    """Function from the names of the placed variants to the traffic."""

    def make(*placed_names, **fields):
        moved = {"placement": Placement.DEPLOYMENT}
        chosen = [v.model_copy(update=moved) if v.name in placed_names else v for v in variants.values()]
        return Traffic(variants=tuple(chosen), **fields)

    return make


def facts(document):
    return {key: value for key, value in document.items() if key != "prediction_id"}


def log_facts(call):
    return [(g.version, list(g.rows), g.employee_ids, g.reasons, g.probabilities, g.features) for g in call]


@pytest.mark.parametrize("placed_names", [("green",), ("blue", "green")])
def test_the_answers_are_those_in_process(store, traffic, placed_names):
    """Bodies, headers, log and counts; for single records at once, and for all of them in one request."""
    requests = [{"json": person} for person in PEOPLE] + [{"json": {"records": PEOPLE}}]
    inside, outside = Served(store, traffic()), Served(store, traffic(*placed_names))
    ours, theirs = outside.ask(*requests), inside.ask(*requests)
    headers = ("x-model-version", "x-variant", "x-assignment-reason")
    for one, other in zip(ours, theirs, strict=True):
        assert one.status_code == 200
        assert [one.headers[name] for name in headers] == [other.headers[name] for name in headers]
    assert [facts(one.json()) for one in ours[:-1]] == [facts(one.json()) for one in theirs[:-1]]
    assert [facts(one) for one in ours[-1].json()["predictions"]] == [
        facts(one) for one in theirs[-1].json()["predictions"]
    ]

    def logged(served):
        return sorted(repr(sorted(log_facts(call))) for call in served.log.calls)

    assert logged(outside) == logged(inside)
    counted, expected = outside.counts(), inside.counts()
    calls = {key: counted.pop(key) for key in list(counted) if key[0].startswith("placed_")}
    assert counted == expected
    assert calls["placed_records", "1.1.0", "green"] == expected["prediction_records", "1.1.0", "green"]
    assert len(outside.deployments.calls) < len(PEOPLE) / 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/invocations", {"dataframe_records": PEOPLE[:20]}),
        (
            f"/v2/models/{MODEL}/infer",
            {"inputs": [{"name": "age", "shape": [3], "datatype": "INT64", "data": [30, 40, 50]}]},
        ),
        (
            f"/v2/models/{MODEL}/versions/1.1.0/infer",
            {"inputs": [{"name": "age", "shape": [1], "datatype": "INT64", "data": [30]}]},
        ),
    ],
)
def test_other_protocols(store, traffic, path, body):
    """A translated request is answered as in process; its failure too, in its own form."""
    pins = (Pin(header="x-user-group", value="pilot", variant="green"),)
    inside, outside = Served(store, traffic(pins=pins)), Served(store, traffic("green", pins=pins))
    request = {"json": body, "headers": {"x-user-group": "pilot"}}
    (ours,), (theirs,) = outside.ask(request, path=path), inside.ask(request, path=path)
    assert ours.status_code == 200, ours.text

    def values(answer):
        document = answer.json()
        if "outputs" in document:
            outputs = {output["name"]: output["data"] for output in document["outputs"]}
            return {name: data for name, data in outputs.items() if "id" not in name}
        return [facts(one) if isinstance(one, dict) else one for one in document["predictions"]]

    assert values(ours) == values(theirs)
    assert [len(call) for call in outside.log.calls] == [len(call) for call in inside.log.calls]
    outside.counts()
    outside.deployments.down.add("1.1.0")
    (refused,) = outside.ask(request, path=path)
    assert refused.status_code == 503
    assert "1.1.0" in refused.text
    assert outside.counts()["prediction_errors", "1.1.0", "green", "variant-unavailable"] == 1
    (wrong,) = outside.ask({"json": {"nothing": 1}}, path=path)
    assert 400 <= wrong.status_code < 500


def test_a_deployment_that_is_down(store, traffic):
    """Its people get 503 with Retry-After, the others their answers; a mixed request is refused and not logged."""
    served = Served(store, traffic("green"))
    served.deployments.down.add("1.1.0")
    answers = served.ask(*({"json": person} for person in PEOPLE), {"json": {"records": PEOPLE}})
    statuses = [answer.status_code for answer in answers]
    assert set(statuses[:-1]) == {200, 503}
    assert statuses[-1] == 503
    problem = next(answer for answer in answers if answer.status_code == 503)
    assert (problem.headers["retry-after"], problem.json()["type"]) == (
        "1",
        "urn:attrition:problem:variant-unavailable",
    )
    assert "version 1.1.0" in problem.json()["detail"]
    n_failed = statuses.count(503)
    counts = served.counts()
    assert counts["prediction_errors", "1.1.0", "green", "variant-unavailable"] == n_failed
    assert counts["placed_failures", "1.1.0", "green"] >= 1
    assert len(served.log.calls) == statuses.count(200)
    assert {group.version for call in served.log.calls for group in call} == {"1.0.0"}
    assert unreachable(served) == ["green"]
    served.deployments.down.clear()
    assert {answer.status_code for answer in served.ask(*({"json": person} for person in PEOPLE))} == {200}

    assert unreachable(served) == []


def unreachable(served):
    """What /readiness says; the replica stays in rotation for everybody else."""

    async def ask():
        transport = httpx.ASGITransport(served.gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return (await client.get("/readiness")).raise_for_status().json()["unreachable"]

    return asyncio.run(ask())


def test_a_line_that_is_full(store, traffic):
    """More than may wait is refused at once, by the same problem."""
    served = Served(store, traffic("blue", "green"))
    many = [{"json": {"records": PEOPLE}}] * 8
    answers = served.ask(*many)
    assert {answer.status_code for answer in answers} == {200, 503}
    assert any("wait for it" in answer.text for answer in answers)


def test_a_placed_shadow(store, traffic):
    """Copies go over the same line, are logged, and a shadow that is down is counted."""
    served = Served(store, traffic("amber", shadows=("amber",)))
    served.ask({"json": {"records": PEOPLE}})
    shadowed = [group for call in served.log.calls for group in call if group.version == "1.2.0"]
    assert sum(len(group.rows) for group in shadowed) == len(PEOPLE)
    assert all(group.shadow_of for group in shadowed)
    assert served.counts()["shadow_scored", "1.2.0", "amber"] == len(PEOPLE)
    served.deployments.down.add("1.2.0")
    assert served.ask({"json": PEOPLE[0]})[0].status_code == 200
    assert served.counts()["shadow_failed", "1.2.0", "amber"] == 1


def test_bad_records_are_refused_before_the_call(store, traffic):
    """Validation is the gateway's."""
    served = Served(store, traffic("blue", "green"))
    assert served.ask({"json": {"age": "x"}})[0].status_code == 422
    assert served.deployments.calls == []


def test_a_line_outlives_changes_of_weights(store, traffic):
    """The same deployment is reached by the same line; a version that comes home is loaded here."""
    placed_one = traffic("green")
    served = Served(store, placed_one)
    heavier = tuple(
        variant.model_copy(update={"weight": weight})
        for variant, weight in zip(placed_one.variants, (0.2, 0.8, 0.0), strict=True)
    )
    served.apply(Traffic(variants=heavier, generation=1))
    assert served.deployments.made == ["1.1.0"]
    assert served.gateway.snapshot.placed
    with pytest.raises(ServingError, match="its own deployment"):
        _ = served.gateway.snapshot.lanes["green"].bundle.scorer
    served.apply(traffic(generation=2))
    assert not served.gateway.snapshot.placed
    assert served.gateway.snapshot.lanes["green"].bundle.scorer is store.bundles["1.1.0"].scorer


def test_a_change_to_a_deployment_that_is_down_is_refused(store, traffic):
    """The old snapshot stays and says why; but a replica that starts serves what it can, and a way out is open."""
    served = Served(store, traffic())
    served.deployments.down.add("1.1.0")
    served.apply(traffic("green", generation=1))
    assert served.gateway.rejection.generation == 1
    assert "version 1.1.0" in served.gateway.rejection.reason
    assert served.gateway.snapshot.traffic.generation == 0
    started = Served(store, traffic("green"))
    started.deployments.down.add("1.1.0")
    started.apply(traffic("green", generation=1, salt="other"))
    assert started.gateway.snapshot.traffic.generation == 1


def test_a_change_waits_for_the_last_requests(store, traffic):
    """A line that the new traffic has no use for is empty when the change is done: its deployment may stop then."""
    served = Served(store, traffic("green"))

    async def run():
        lane = served.gateway.snapshot.lanes["green"]
        future = lane.batcher.submit(row_batches.Part.of((30.0, 1.0, 0.0, 1.0)))
        await served.gateway.reconfigure(traffic(generation=1).model_dump(mode="json"))
        assert future.done()

    asyncio.run(run())


def test_where_nothing_can_be_reached(store, traffic):
    """A snapshot with a placed variant is refused rather than scored elsewhere."""
    with pytest.raises(ServingError, match="not reached here"):
        load_snapshot(traffic("green"), store.load, max_records=5)


def test_arguments_of_the_application():
    """A misspelt key would otherwise deploy something else."""
    with pytest.raises(ConfigError, match="bundel"):
        placed.build({"bundel": "x", "manifest_sha256": "0" * 64})
