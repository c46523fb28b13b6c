"""The fast lane around a gateway in this process: what it takes, counts, refuses and ends."""

from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import pytest
import uvicorn

from attrition.serving import lane_middleware
from attrition.serving.fast_lane import FastLane, InFlight, LaneOptions, MeanInFlight
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.lane_middleware import FastLaneMiddleware, middlewares, open_lane

VALID = {"age": 40, "projects": 2, "promoted": 1, "department": 7}
BODY = json.dumps(VALID).encode()


async def serve_itself(_scope, _receive, send):
    """Stands for Serve, behind the middleware."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Call:
    """One request, whose body comes when the test says so."""

    def __init__(self, app, *headers, path="/v1/predict"):
        self.sent = []
        self._body = asyncio.Event()
        scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": list(headers)}
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self):
        await self._body.wait()
        return {"type": "http.request", "body": BODY}

    async def _send(self, message):
        self.sent.append(message)

    async def answer(self, *, complete=True):
        """Status and headers, after the body has come."""
        if complete:
            self._body.set()
        await self.task
        (start, _) = self.sent
        return start["status"], dict(start["headers"])


@pytest.fixture(autouse=True)
def no_lane_is_left(monkeypatch):
    """A lane is one of the process."""
    monkeypatch.setattr(lane_middleware, "_current", lane_middleware._no_lane)


@pytest.fixture
def lane(endpoint):
    """Makes the lane of the endpoint's gateway, and opens it."""
    opened = []

    def make(**options):
        opened.append(FastLane(LaneOptions(**{"max_in_flight": 3, **options}), endpoint.gateway))
        open_lane(opened[0])
        return opened[0]

    return make


@pytest.fixture
def app():
    """What Serve makes of the middleware."""
    (middleware,) = middlewares()
    return middleware.cls(serve_itself, *middleware.args, **middleware.kwargs)


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


def errors(endpoint):
    counts = endpoint.gateway.meter.drain().counts
    return {labels[-1]: n for (name, labels), n in counts.items() if name == "prediction_errors"}


def ask(app, method="POST", path="/v1/predict", **options):
    async def send():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://replica") as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("method", "path", "is_taken"),
    [
        ("POST", "/v1/predict", True),
        ("POST", "/invocations", True),
        ("POST", "/v2/models/m/infer", True),
        ("GET", "/v1/predict", False),
        ("GET", "/readiness", False),
        ("POST", "/v1/outcomes", False),
        ("GET", "/-/healthz", False),
        ("POST", "/v1/predict/", False),
    ],
)
def test_scoring_requests_are_taken(lane, app, method, path, is_taken):
    """In every protocol; Serve answers all other requests."""
    opened = lane()
    status = ask(app, method, path, json=VALID).status_code
    assert (status != 299) is is_taken
    assert opened.in_flight.n == 0


def test_in_a_real_server(endpoint, lane, app, unused_port):
    """The one that Serve runs: it takes the middleware for what it is, and a stop waits for what is in flight."""
    opened = lane()

    async def serve():
        options = {"port": unused_port, "lifespan": "off", "log_config": None, "access_log": False}
        server = uvicorn.Server(uvicorn.Config(lambda: app, factory=True, **options))
        running = asyncio.create_task(server._serve())
        await until(lambda: server.started)
        reader, writer = await asyncio.open_connection("127.0.0.1", unused_port)
        head = b"POST /v1/predict HTTP/1.1\r\nhost: replica\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(BODY) + BODY)
        first = await reader.readuntil(b"}")
        writer.write(head % len(BODY) + BODY[:-1])
        await until(lambda: opened.in_flight.n == 1)
        server.should_exit = True
        await asyncio.sleep(0.3)
        assert not running.done()
        writer.write(BODY[-1:])
        last = await reader.read()
        await running
        writer.close()
        await writer.wait_closed()
        return first, last

    for answer in asyncio.run(serve()):
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"x-request-id: " in answer


def test_below_a_prefix(lane, app):
    """Of the application and not of another one."""
    opened = lane(route_prefix="/hr")
    assert ask(app, path="/hr/v1/predict", json=VALID).json()["probability"] == pytest.approx(0.125)
    assert ask(app, path="/v1/predict", json=VALID).status_code == 299
    assert opened.in_flight.n == 0


def test_without_a_lane_serve_answers(lane, app):
    """Also when the replica that had one is gone."""
    assert ask(app, json=VALID).status_code == 299
    open_lane(FastLane(LaneOptions(max_in_flight=1), Gateway(Limits(), lambda *_: None)))
    assert ask(app, json=VALID).status_code == 299


def test_before_the_first_configuration(app):
    """503, which tells a client to come back."""
    opened = FastLane(LaneOptions(max_in_flight=1), Gateway(Limits(), lambda *_: None))
    open_lane(opened)
    answer = ask(app, json=VALID)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("body", [VALID, {"age": "x"}])
def test_request_ids(lane, app, body):
    """Echoed as sent, or made; once."""
    opened = lane()
    assert ask(app, json=body, headers={"x-request-id": "mine"}).headers.get_list("x-request-id") == ["mine"]
    (made,) = ask(app, json=body).headers.get_list("x-request-id")
    assert uuid.UUID(made).version == 4
    assert str(uuid.UUID(made)) == made
    assert opened.in_flight.n == 0


def test_the_limit_is_exact(endpoint, lane, app):
    """Three are in flight, all others are refused at once; room comes back with an answer."""
    opened = lane(retry_after_s=7, refusal_status=429)

    async def crowd():
        kept = [Call(app) for _ in range(3)]
        refused = [Call(app) for _ in range(5)]
        for call in refused:
            status, headers = await call.answer(complete=False)
            assert (status, headers[b"retry-after"]) == (429, b"7")
            assert headers[b"content-type"] == b"application/problem+json"
            assert headers[b"x-request-id"]
        assert opened.in_flight.n == 3
        assert (await kept.pop().answer())[0] == 200
        assert (await Call(app).answer())[0] == 200
        return [await call.answer() for call in kept]

    assert [status for status, _ in asyncio.run(crowd())] == [200, 200]
    assert opened.in_flight.n == 0
    assert errors(endpoint) == {"overloaded": 5}


def test_the_limit_holds_for_a_burst(lane, app):
    """Requests that are complete and come in the same moment are counted before any is answered."""
    lane(max_in_flight=4)

    async def burst():
        calls = [Call(app) for _ in range(10)]
        return [(await call.answer())[0] for call in calls]

    assert sorted(asyncio.run(burst())) == [200] * 4 + [503] * 6


def test_no_limit(lane, app):
    """As with max_queued_requests -1."""
    lane(max_in_flight=None)

    async def burst():
        calls = [Call(app) for _ in range(1_000)]
        return {(await call.answer())[0] for call in calls}

    assert asyncio.run(burst()) == {200}


@pytest.mark.parametrize(
    ("default", "headers", "seconds"),
    [
        (0.1, (), 0.1),
        (30.0, ((b"x-request-timeout-seconds", b"0.1"),), 0.1),
        (0.1, ((b"x-request-timeout-seconds", b"soon"),), 0.1),
        (None, ((b"x-request-timeout-seconds", b"0.1"),), 0.1),
    ],
)
def test_a_late_request_is_ended(endpoint, lane, app, default, headers, seconds):
    """408 at its time; those that came with it and are not late stay."""
    opened = lane(timeout_seconds=default)

    async def wait():
        loop = asyncio.get_running_loop()
        patient = Call(app, (b"x-request-timeout-seconds", b"20"))
        began = loop.time()
        call = Call(app, *headers)
        status, found = await call.answer(complete=False)
        assert seconds <= loop.time() - began < seconds + 1
        assert call.task.cancelling() == 0
        assert found[b"x-request-id"]
        assert (await patient.answer())[0] == 200
        return status

    assert asyncio.run(wait()) == 408
    assert opened.in_flight.n == 0
    assert errors(endpoint) == {"timeout": 1}


@pytest.mark.parametrize("asked", [b"0", b"-1", b"nan", b"inf", b"1e300"])
def test_a_request_may_take_for_ever(lane, app, asked):
    """As with Serve: a timeout of zero is none."""
    lane(timeout_seconds=0.05)

    async def wait():
        call = Call(app, (b"x-request-timeout-seconds", asked))
        await asyncio.sleep(0.2)
        return await call.answer()

    assert asyncio.run(wait())[0] == 200


def test_late_requests_one_after_the_other(lane, app):
    """Each at its own time, whatever the order in which they came."""
    lane()

    async def wait():
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = {ms: Call(app, (b"x-request-timeout-seconds", b"%.3f" % (ms / 1000))) for ms in (250, 50, 150)}
        ended = {}
        for ms, call in calls.items():
            call.task.add_done_callback(lambda _, ms=ms: ended.update({ms: loop.time() - began}))
        statuses = [(await call.answer(complete=False))[0] for call in calls.values()]
        return statuses, ended

    statuses, ended = asyncio.run(wait())
    assert statuses == [408] * 3
    assert all(ms / 1000 - 0.01 <= ended[ms] < ms / 1000 + 0.09 for ms in ended)


@pytest.fixture
def closed(lane):
    """A middleware whose lane is closed, around something that records what Serve gets."""

    def make(serve, **options):
        lane(is_open=False, **options)
        return FastLaneMiddleware(serve)

    return make


def test_behind_a_closed_lane_serve_answers(closed):
    """Without looking out for timeout and disconnection; other headers stay, and other requests stay as they are."""
    seen = []

    async def serve(scope, receive, send):
        seen.append((scope["path"], scope["headers"]))
        await serve_itself(scope, receive, send)

    app = closed(serve)
    sent = {"x-request-timeout-seconds": "5", "x-request-disconnect-disabled": "?0", "x-user-group": "pilot"}
    assert ask(app, json=VALID, headers=sent).status_code == 299
    assert ask(app, "GET", "/readiness", headers=sent).status_code == 299
    (_, scored), (_, page) = seen
    names = [name for name, _ in scored]
    assert len(set(names)) == len(names)
    assert dict(scored)[b"x-request-timeout-seconds"] == b"0"
    assert dict(scored)[b"x-request-disconnect-disabled"] == b"?1"
    assert dict(scored)[b"x-user-group"] == b"pilot"
    assert dict(page)[b"x-request-timeout-seconds"] == b"5"


@pytest.mark.parametrize("keeps_it_to_itself", [True, False])
def test_a_late_request_behind_a_closed_lane(endpoint, closed, keeps_it_to_itself):
    """408 whether Serve swallows the cancellation or not, with the identifier; the task lives on."""

    async def serve(_scope, receive, _send):
        try:
            await receive()
        except asyncio.CancelledError:
            if not keeps_it_to_itself:
                raise

    app = closed(serve, timeout_seconds=0.05)

    async def wait():
        call = Call(app, (b"x-request-id", b"mine"))
        status, headers = await call.answer(complete=False)
        assert call.task.cancelling() == 0
        return status, headers[b"x-request-id"]

    assert asyncio.run(wait()) == (408, b"mine")
    assert errors(endpoint) == {"timeout": 1}


def test_a_server_that_stops_ends_a_request(lane, app):
    """A cancellation that is not the lane's own is not answered, and nothing is left in flight."""
    opened = lane()

    async def stop():
        call = Call(app)
        await asyncio.sleep(0.01)
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        return call.sent

    assert asyncio.run(stop()) == []
    assert opened.in_flight.n == 0


def test_a_response_that_has_begun_is_not_begun_again(lane, app):
    """A client that stops reading meets the end of the connection, no second status line."""
    opened = lane(timeout_seconds=0.05)

    async def stuck():
        sent = []

        async def send(message):
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                await asyncio.sleep(60)

        async def receive():
            return {"type": "http.request", "body": BODY}

        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": []}
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(app(scope, receive, send))
        return sent

    assert asyncio.run(stuck()) == ["http.response.start", "http.response.body"]
    assert opened.in_flight.n == 0


def test_other_connections_pass(lane):
    """A websocket, and the life of the server itself."""
    lane()
    seen = []

    async def inner(scope, _receive, _send):
        seen.append(scope["type"])

    for kind in ("websocket", "lifespan"):
        asyncio.run(FastLaneMiddleware(inner)({"type": kind, "path": "/v1/predict"}, None, None))
    assert seen == ["websocket", "lifespan"]


def test_mean_in_flight(monkeypatch):
    """The sum of all stays divided by the time; every reader has its own window."""
    now = [0.0]
    monkeypatch.setattr("attrition.serving.fast_lane.time.perf_counter", lambda: now[0])
    in_flight = InFlight()
    one, other = MeanInFlight(in_flight), MeanInFlight(in_flight)
    for at, delta in ((1.0, 1), (2.0, 1), (4.0, -1)):
        now[0] = at
        in_flight.change(delta)
    now[0] = 10.0
    # one from 1 to 10, another from 2 to 4
    assert one() == pytest.approx((9 + 2) / 10)
    now[0] = 12.0
    assert one() == pytest.approx(1)
    assert other() == pytest.approx((11 + 2) / 12)
    assert other() == 1


def test_the_load_of_a_busy_lane(lane, app):
    """Requests that hardly ever are in flight when somebody looks are in the mean."""
    opened = lane()
    mean = MeanInFlight(opened.in_flight)

    async def work():
        for _ in range(200):
            await Call(app).answer()
            assert opened.in_flight.n == 0

    asyncio.run(work())
    assert 0 < mean() < 1
