"""A replica's HTTP server: small scoring requests are answered at once, the others as ever, and each in one piece."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re

import pytest
import uvicorn
import uvicorn.config

from attrition.serving import http_protocol, lane_middleware
from attrition.serving.fast_lane import FastLane, LaneOptions
from attrition.serving.http_protocol import OnePiece
from attrition.serving.lane_middleware import middlewares, open_lane
from attrition.serving.protocols import problems

VALID = {"age": 40, "projects": 2, "promoted": 1, "department": 7}
BODY = json.dumps(VALID).encode()
USUAL = "x-request-timeout-seconds: 20"
"""A header that needs the usual way."""


class Log:
    """What the prediction log is asked to do."""

    def __init__(self):
        self.events = []

    def append(self, *_):
        self.events.append("append")

    def gather(self, *_):
        self.events.append("gather")

    def write(self):
        self.events.append("write")


class Replica:
    """A gateway with its lane behind a real server, and clients of it in the same event loop."""

    def __init__(self, gateway, port):
        self.gateway = gateway
        self.port = port
        self.lane = None
        self.n_at_once = 0
        self.n_usual = 0
        self._streams = contextlib.AsyncExitStack()

    async def _serve(self, scope, receive, send):
        """Stands for Serve: answers what the lane does not take."""
        await send({"type": "http.response.start", "status": 299, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def open(self, **options):
        """Make and open the lane, and count what takes which way."""
        self.lane = FastLane(LaneOptions(**options), self.gateway)
        open_lane(self.lane)
        take = self.lane.take

        def counted(request):
            self.n_at_once += 1
            take(request)

        self.lane.take = counted
        return self

    @contextlib.asynccontextmanager
    async def running(self):
        """The server, until the block ends."""
        (middleware,) = middlewares()
        app = middleware.cls(self._serve)

        async def counted(scope, receive, send):
            self.n_usual += 1
            await app(scope, receive, send)

        options = {"port": self.port, "lifespan": "off", "log_config": None, "access_log": False}
        self.server = uvicorn.Server(uvicorn.Config(lambda: counted, factory=True, **options))
        running = asyncio.create_task(self.server._serve())
        await until(lambda: self.server.started)
        async with self._streams:
            yield self
        self.server.should_exit = True
        await running

    async def connect(self):
        """A connection of a client."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def close():
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        self._streams.push_async_callback(close)
        return reader, writer

    async def ask(self, *headers, body=BODY, path="/v1/predict", method="POST"):
        """Status, headers and body of the answer on a new connection."""
        reader, writer = await self.connect()
        writer.write(request(*headers, body=body, path=path, method=method))
        return await read(reader)


def request(*headers, body=BODY, path="/v1/predict", method="POST"):
    """Bytes of a request."""
    head = [f"{method} {path} HTTP/1.1", "host: replica", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def until(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError


async def read(reader):
    """Status, headers and body of the next answer."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split(" ", 2)[1])
    pairs = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
    headers = dict(pairs)
    assert len(headers) == len(pairs)
    return status, headers, await reader.readexactly(int(headers["content-length"]))


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """A lane and a protocol are the process's."""
    monkeypatch.setattr(lane_middleware, "_current", lane_middleware._no_lane)
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "uvicorn.protocols.http.auto:AutoHTTPProtocol")


@pytest.fixture
def replica(endpoint, unused_port):
    return Replica(endpoint.gateway, unused_port)


def serving(replica, scenario):
    """What a scenario with a running replica returns."""

    async def run():
        async with replica.running():
            return await scenario()

    return asyncio.run(run())


@pytest.mark.parametrize("body", [BODY, b'{"age": "x"}', b"{", b""], ids=["valid", "invalid", "no JSON", "empty"])
def test_both_ways_answer_the_same(replica, body):
    """Status, headers and body, whatever the body."""
    replica.open(max_in_flight=3)
    headers = "content-type: application/json", "x-request-id: mine 1", f"traceparent: 00-{'a' * 32}-{'b' * 16}-01"

    async def both():
        return [await replica.ask(*headers, body=body), await replica.ask(*headers, USUAL, body=body)]

    answers = serving(replica, both)
    # an empty body is complete with its headers, as the other ones with their last byte
    assert (replica.n_at_once, replica.n_usual) == (1, 1)
    for status, found, content in answers:
        assert status == (200 if body == BODY else 422 if b"age" in body else 400)
        assert found["x-request-id"] == "mine 1"
        assert found["traceparent"].startswith("00-aaaa")
        assert "probability" not in json.loads(content) or status == 200
    (_, at_once, content), (_, usual, usual_content) = answers
    assert at_once.keys() == usual.keys()
    kept = set(at_once) - {"date", "content-length"}
    assert {name: at_once[name] for name in kept} == {name: usual[name] for name in kept}
    assert re.sub(rb'"prediction_id":"[^"]*"', b"", content) == re.sub(rb'"prediction_id":"[^"]*"', b"", usual_content)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"headers": [USUAL]}, 200),
        ({"headers": ["content-type: application/problem+json"]}, 200),
        ({"headers": ["content-type: text/plain"]}, 415),
        ({"headers": ["content-encoding: gzip"], "body": gzip.compress(BODY, mtime=0)}, 200),
        ({"headers": ["expect: 100-continue"]}, 100),
        ({"headers": ["connection: close"]}, 200),
        ({"headers": ["x-request-id: \xe4"]}, 200),
        ({"headers": [], "body": b" " * 9_000 + BODY}, 413),
        ({"headers": [], "path": "/v1/predict?a=b"}, 200),
        ({"headers": [], "path": "/invocations", "body": b"{}"}, 422),
        ({"headers": [], "path": "/v1/outcomes"}, 299),
        ({"headers": [], "method": "GET"}, 299),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_needs_more_goes_the_usual_way(replica, change, status):
    """And is answered as ever."""
    replica.open(max_in_flight=3)

    async def ask():
        if status == 100:
            reader, writer = await replica.connect()
            writer.write(request(*change["headers"]))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            return (await read(reader))[0]
        headers = change.pop("headers")
        return (await replica.ask(*headers, **change))[0]

    assert serving(replica, ask) == (200 if status == 100 else status)
    assert (replica.n_at_once, replica.n_usual) == (0, 1)


@pytest.mark.parametrize("n_first", [1, 60, len(request()) - 1])
def test_a_request_in_pieces(replica, n_first):
    """Wherever it is cut: what has not come with its headers goes the usual way, and the next one does not."""
    replica.open(max_in_flight=3)

    async def ask():
        reader, writer = await replica.connect()
        writer.write(request()[:n_first])
        await asyncio.sleep(0.05)
        writer.write(request()[n_first:])
        first = await read(reader)
        writer.write(request())
        return first, await read(reader)

    for status, _, _ in serving(replica, ask):
        assert status == 200
    assert (replica.n_at_once, replica.n_usual) == ((2, 0) if n_first < 100 else (1, 1))


def test_requests_on_one_connection_without_waiting(replica):
    """Answers come in the order of the requests."""
    replica.open(max_in_flight=3)

    async def ask():
        reader, writer = await replica.connect()
        writer.write(b"".join(request(f"x-request-id: {i}") for i in range(20)))
        return [(await read(reader))[1]["x-request-id"] for _ in range(20)]

    assert serving(replica, ask) == [str(i) for i in range(20)]


def test_the_log_is_written_before_the_answers(replica, monkeypatch):
    """By one write for all that came together; the others' ways write for themselves."""
    replica.gateway.log = Log()
    replica.open(max_in_flight=100)
    events = replica.gateway.log.events
    write = OnePiece.write

    def recorded(self, data):
        if data.startswith(b"HTTP/1.1 200"):
            events.append("sent")
        write(self, data)

    monkeypatch.setattr(OnePiece, "write", recorded)

    async def ask():
        connections = [await replica.connect() for _ in range(11)]
        for _, writer in connections:
            writer.write(request())
        answers = [(await read(reader))[0] for reader, _ in connections]
        await replica.ask(USUAL)
        return answers

    assert serving(replica, ask) == [200] * 11
    expected = ["gather"] * 8 + ["write"] + ["sent"] * 8 + ["gather"] * 3 + ["write"] + ["sent"] * 3
    assert events == [*expected, "append", "sent"]


def test_the_limit_counts_what_came_together(endpoint, replica):
    """Before the first of them is answered."""
    replica.open(max_in_flight=4, refusal_status=429, retry_after_s=7)

    async def ask():
        connections = [await replica.connect() for _ in range(10)]
        for _, writer in connections:
            writer.write(request())
        answers = [await read(reader) for reader, _ in connections]
        assert replica.lane.in_flight.n == 0
        for _, writer in connections:
            writer.write(request())
            await asyncio.sleep(0.01)
        return answers, {(await read(reader))[0] for reader, _ in connections}

    answers, one_by_one = serving(replica, ask)
    statuses = [status for status, _, _ in answers]
    assert sorted(statuses) == [200] * 4 + [429] * 6
    assert {headers.get("retry-after") for status, headers, _ in answers if status == 429} == {"7"}
    assert one_by_one == {200}
    (refused,) = [n for (_, labels), n in endpoint.gateway.meter.drain().counts.items() if "overloaded" in labels]
    assert refused == 6


def test_a_failure_is_one_requests_own(endpoint, replica, monkeypatch, caplog):
    """500 for it, which the log names with its version, and answers for those that came with it."""
    replica.open(max_in_flight=None)
    scorer = endpoint.gateway.snapshot.lanes["blue"].bundle.scorer
    score_one = scorer.score_one
    monkeypatch.setattr(scorer, "score_one", lambda values: 1 / 0 if values[0] == 99 else score_one(values))

    async def ask():
        connections = [await replica.connect() for _ in range(3)]
        for i, (_, writer) in enumerate(connections):
            writer.write(request(body=json.dumps({**VALID, "age": 99 if i == 1 else 40}).encode()))
        return [(await read(reader))[:2] for reader, _ in connections]

    answers = serving(replica, ask)
    assert [status for status, _ in answers] == [200, 500, 200]
    assert replica.lane.in_flight.n == 0
    (record,) = [each for each in caplog.records if each.message == "A scoring request failed"]
    assert (record.request_id, record.model_version) == (answers[1][1]["x-request-id"], "1.0.0")


def test_who_may_not_is_told_so(replica):
    """By the check that every other request passes, with the path that it knows."""
    seen = []

    class Access:
        def authorise(self, scope):
            seen.append((scope["method"], scope["path"].removeprefix(scope["root_path"])))
            return problems.overloaded(503, 1) if len(seen) > 1 else None

    replica.gateway.access = Access()
    replica.open(max_in_flight=3, route_prefix="/hr")

    async def ask():
        return [(await replica.ask(path="/hr/v1/predict"))[0] for _ in range(2)]

    assert serving(replica, ask) == [200, 503]
    assert seen == [("POST", "/v1/predict")] * 2
    assert replica.n_at_once == 2


def test_a_client_that_does_not_read_is_waited_for(replica):
    """Its answers must not gather in memory: the usual way sends the next one when there is room."""
    replica.open(max_in_flight=3)

    async def ask():
        reader, writer = await replica.connect()
        await until(lambda: replica.server.server_state.connections)
        (connection,) = replica.server.server_state.connections
        connection.pause_writing()
        writer.write(request())
        await until(lambda: replica.n_usual)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        connection.resume_writing()
        first = await read(reader)
        writer.write(request())
        return first[0], (await read(reader))[0]

    assert serving(replica, ask) == (200, 200)
    assert (replica.n_at_once, replica.n_usual) == (1, 1)


def test_a_server_that_stops_answers_what_it_has(replica):
    """And closes the connection with the answer."""
    replica.open(max_in_flight=3)

    async def ask():
        reader, writer = await replica.connect()
        take = replica.lane.take

        def stop_first(taken):
            take(taken)
            for connection in list(replica.server.server_state.connections):
                connection.shutdown()

        replica.lane.take = stop_first
        writer.write(request())
        return await read(reader), await reader.read()

    (status, headers, _), rest = serving(replica, ask)
    assert (status, headers["connection"], rest) == (200, "close", b"")


def test_a_client_that_left_is_not_answered(endpoint, replica):
    """Nor is a prediction counted that nobody gets."""
    replica.open(max_in_flight=3)

    async def ask():
        _, writer = await replica.connect()
        take = replica.lane.take

        def leave_first(taken):
            take(taken)
            taken.disconnected = True

        replica.lane.take = leave_first
        writer.write(request())
        await until(lambda: replica.n_at_once)
        await asyncio.sleep(0.05)

    serving(replica, ask)
    assert endpoint.gateway.meter.drain().durations == []
    assert replica.lane.in_flight.n == 0


def test_without_a_lane(replica):
    """Serve answers: before a lane is open, and when it is closed."""

    async def ask():
        before = await replica.ask()
        replica.open(is_open=False, max_in_flight=3)
        replica.gateway.snapshot = None
        return before[0], (await replica.ask())[0]

    assert serving(replica, ask) == (299, 299)
    assert replica.n_at_once == 0


class Transport:
    """Takes what is sent."""

    def __init__(self):
        self.sent, self.closed = [], False

    def write(self, data):
        assert not self.closed
        self.sent.append(data)

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    def pause_reading(self):
        return "paused"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


def test_one_piece():
    """Head and body are sent together; a head alone at the end of the turn, or before the connection closes."""
    transport = Transport()

    async def send():
        piece = OnePiece(transport, asyncio.get_running_loop())
        assert piece.pause_reading() == "paused"
        piece.write(HEAD)
        assert transport.sent == []
        piece.write(b"ok")
        piece.write(b"more")
        await asyncio.sleep(0)
        assert transport.sent == [HEAD + b"ok", b"more"]
        piece.write(HEAD)
        await asyncio.sleep(0)
        assert transport.sent[2:] == [HEAD]
        piece.write(HEAD)
        piece.close()
        assert piece.is_closing()
        assert transport.sent[3:] == [HEAD]
        await asyncio.sleep(0)

    asyncio.run(send())
    assert len(transport.sent) == 4


def test_a_server_of_uvicorn_has_the_protocol():
    """By the name under which Serve asks for one."""
    http_protocol.install()
    config = uvicorn.Config(lambda: None, lifespan="off", log_config=None)
    config.load()
    assert config.http_protocol_class is http_protocol.LaneProtocol
