"""The fast lane: scoring requests answered in a replica's HTTP server, outside Ray Serve's work per request.

A middleware (``attrition.serving.lane_middleware``) hands every scoring request to the lane and everything else on to
Serve. That saves what Serve does around a request. Small native requests do not even get to the middleware: the HTTP
server gives them to the lane itself (``attrition.serving.http_protocol``). What stands for Serve's work here:

==================================  =================================================================================
Serve                               the fast lane
==================================  =================================================================================
``max_ongoing_requests`` and        as many requests at a time as both together; the next is refused at once with the
``max_queued_requests``             deployment's ``backpressure_config``. None is held back meanwhile: a replica works
                                    on one at a time anyway
``request_timeout_s``               408 at the same time, also by the request's ``x-request-timeout-seconds``
``x-request-id``                    echoed, or made
ongoing requests, for autoscaling   the mean number in flight, reported by ``record_autoscaling_stats`` and added to
                                    Serve's own by the policy in ``attrition.serving.autoscaling``
its request metrics                 those of ``attrition.serving.metrics``; ``ray_serve_num_http_requests_total`` and
                                    its like do not count the lane
access log                          none
draining                            HAProxy takes a stopping replica out first; its HTTP server then closes what is idle
                                    and waits for the requests in flight, whoever answers them
==================================  =================================================================================

Each line is tested on real Serve (``tests/integration/test_fast_lane.py``): the shipped configurations open the lane.
A request takes less than half of a replica's CPU time then: 80 instead of 173 µs on two busy cores.

With the lane closed, Serve does all of that itself, except that it is relieved of timeouts and of looking out for a
client that leaves, which are two tasks per request (:meth:`FastLane.through_serve`).

The middleware is installed for a whole Ray; an application opens the lane (``args.fast_lane``). Where it does not, and
in processes that are no replicas of ours, Serve answers.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from attrition.serving import logs
from attrition.serving.deadlines import Deadlines
from attrition.serving.gateway import PREDICT, respond_problem
from attrition.serving.identifiers import new_request_id
from attrition.serving.lane_turn import answer_together
from attrition.serving.protocols import problems

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from attrition.serving.gateway import ASGIApp, Gateway, Message, Receive, Send
    from attrition.serving.lane_turn import LaneRequest
    from attrition.serving.snapshot import Snapshot

    Scope = MutableMapping[str, Any]

REQUEST_ID = b"x-request-id"
TIMEOUT = b"x-request-timeout-seconds"

TOGETHER = 8
"""Requests that share a write of the prediction log; with more, the first would wait longer than that saves."""

_WITHOUT_TASKS = {TIMEOUT: b"0", b"x-request-disconnect-disabled": b"?1"}
"""Headers by which Serve leaves timeout and disconnection of a request alone."""


class LaneOptions(BaseModel):
    """What the lane takes from the deployment's options, which Serve applies to the other requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_in_flight: Annotated[int, Field(ge=1)] | None
    """Requests at a time; None is unlimited."""
    refusal_status: Literal[503, 429] = 503
    """HTTP status of a request beyond it."""
    retry_after_s: Annotated[int, Field(ge=1)] = 1
    """Seconds that its client is asked to wait."""
    timeout_seconds: Annotated[float, Field(gt=0)] | None = 30.0
    """Until a request is answered with 408; None waits for ever."""
    route_prefix: Annotated[str, Field(pattern=r"^/")] = "/"
    """Path under which the application answers."""
    is_open: bool = True
    """Whether the lane answers; else Serve does, and only the deadlines are kept here."""


class InFlight:
    """How many requests are being answered: now, and on average.

    By Little's law the mean number in flight is the sum of all stays divided by the time, so nobody has to look at the
    right moment: between two requests, when others get to look, there is often none.
    """

    __slots__ = ("_request_seconds", "_since", "n")

    def __init__(self) -> None:
        self.n = 0
        self._request_seconds = 0.0
        self._since = time.perf_counter()

    def change(self, delta: int) -> None:
        """A request came (1) or went (-1)."""
        now = time.perf_counter()
        self._request_seconds += self.n * (now - self._since)
        self._since = now
        self.n += delta

    @property
    def request_seconds(self) -> float:
        """Sum of the time that each request has spent here so far."""
        self.change(0)
        return self._request_seconds


class MeanInFlight:
    """Mean number of requests in flight since the last call, for one reader."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._before = (time.perf_counter(), in_flight.request_seconds)

    def __call__(self) -> float:
        """Of the time since the last call, or since this object was made."""
        (since, before), now, total = self._before, time.perf_counter(), self._in_flight.request_seconds
        self._before = (now, total)
        return (total - before) / (now - since) if now > since else float(self._in_flight.n)


class _Reply:
    """Sends a response: what `send` of ASGI does, with headers of ours, and a memory of whether it has begun."""

    __slots__ = ("_send", "headers", "started")

    def __init__(self, send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._send = send
        self.headers = headers
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message["headers"] = [*message["headers"], *self.headers]
        await self._send(message)


class FastLane:
    """The lane of one replica; belongs to the event loop's thread.

    Parameters
    ----------
    options
        Limits.
    gateway
        Answers; its meter counts what is refused or late.

    Attributes
    ----------
    in_flight : InFlight
        Requests in the lane.
    """

    def __init__(self, options: LaneOptions, gateway: Gateway) -> None:
        self.options = options
        self.in_flight = InFlight()
        self._gateway = gateway
        self._limit = math.inf if options.max_in_flight is None else options.max_in_flight
        self._prefix = options.route_prefix.rstrip("/")
        self._deadlines = Deadlines()
        self._url = (self._prefix + PREDICT).encode()
        self._turn: list[LaneRequest] = []
        self._snapshot: Snapshot | None = None

    def takes(self, scope: Scope) -> bool:
        """Whether a request is one to score, for this application."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        path: str = scope["path"]
        mounted = scope.get("root_path", "") + self._prefix
        return path.startswith(mounted) and self._gateway.scores(path.removeprefix(mounted))

    def takes_at_once(self, url: bytes) -> bool:
        """Whether a POST to a URL can be answered by :meth:`take`: all that is needed for it is in this process."""
        snapshot = self._gateway.snapshot
        return url == self._url and self.options.is_open and snapshot is not None and not snapshot.placed

    def take(self, request: LaneRequest) -> None:
        """Answer a complete request in this turn of the event loop, together with others that come in it.

        None has a deadline: what has arrived is scored without a pause.
        """
        options, in_flight = self.options, self.in_flight
        if in_flight.n >= self._limit:
            self._gateway.meter.failed("overloaded")
            request.refuse(problems.overloaded(options.refusal_status, options.retry_after_s))
            return
        in_flight.change(1)
        request.scope |= {"method": "POST", "path": self._url.decode(), "root_path": self._prefix}
        if not self._turn:
            # the one that takes_at_once saw: the next one may have what must be awaited
            self._snapshot = self._gateway.snapshot
            asyncio.get_running_loop().call_soon(self._answer_turn)
        self._turn.append(request)

    def _answer_turn(self) -> None:
        turn, self._turn = self._turn, []
        snapshot, self._snapshot = self._snapshot, None
        assert snapshot is not None
        for first in range(0, len(turn), TOGETHER):
            together = turn[first : first + TOGETHER]
            try:
                answer_together(self._gateway, snapshot, together)
            finally:
                self.in_flight.change(-len(together))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that the lane takes."""
        request_id, timeout = self._read(scope)
        scope[logs.REQUEST_ID] = request_id
        reply = _Reply(send, ((REQUEST_ID, request_id),))
        in_flight, options = self.in_flight, self.options
        if in_flight.n >= self._limit:
            self._gateway.meter.failed("overloaded")
            await respond_problem(reply, problems.overloaded(options.refusal_status, options.retry_after_s))
            return
        if self._prefix:
            scope["root_path"] = scope.get("root_path", "") + self._prefix
        in_flight.change(1)
        watched = self._deadlines.watch(timeout)
        try:
            # those that came at the same moment are counted before the first of them keeps the loop busy
            await asyncio.sleep(0)
            await self._gateway(scope, receive, reply)
        except asyncio.CancelledError:
            if watched is None or not watched.is_late or reply.started:
                raise
        finally:
            in_flight.change(-1)
            is_late = self._deadlines.release(watched)
        if is_late and not reply.started:
            await self._answer_late(reply, timeout)

    async def through_serve(self, serve: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have Serve answer one request that the lane would take, with its deadline kept here.

        Serve counts, limits and measures it as any other, but makes neither a task that looks out for the client's
        leaving nor one that can time out: a scoring takes less time than that.
        """
        request_id, timeout = self._read(scope)
        scope["headers"] = [header for header in scope["headers"] if header[0] not in _WITHOUT_TASKS]
        scope["headers"] += _WITHOUT_TASKS.items()
        reply = _Reply(send, ())
        watched = self._deadlines.watch(timeout)
        try:
            await serve(scope, receive, reply)
        except asyncio.CancelledError:
            if watched is None or not watched.is_late or reply.started:
                raise
        finally:
            is_late = self._deadlines.release(watched)
        # Serve keeps a cancellation to itself
        if is_late and not reply.started:
            reply.headers = ((REQUEST_ID, request_id),)
            await self._answer_late(reply, timeout)

    async def _answer_late(self, reply: _Reply, seconds: float) -> None:
        self._gateway.meter.failed("timeout")
        await respond_problem(reply, problems.timed_out(seconds))

    def _read(self, scope: Scope) -> tuple[bytes, float]:
        """Identifier and timeout of a request, as Serve reads them; an infinite timeout is none."""
        request_id, asked = None, None
        for name, value in scope["headers"]:
            if name == REQUEST_ID and request_id is None:
                request_id = value
            elif name == TIMEOUT:
                asked = value
        timeout = self.options.timeout_seconds or math.inf
        if asked is not None:
            timeout = _timeout(asked, timeout)
        return new_request_id().encode() if request_id is None else request_id, timeout


def _timeout(value: bytes, default: float) -> float:
    try:
        timeout = float(value)
    except ValueError:
        return default
    return timeout if timeout > 0 else math.inf
