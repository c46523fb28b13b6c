"""The ingress of the served application: a raw ASGI hot path for scoring, FastAPI behind it for everything else.

Scoring does not go through a web framework, because routing, dependency injection and model validation would cost
several times what the prediction does. A request reads one reference, the current :class:`Snapshot`, and keeps it until
it has answered; :meth:`Gateway.reconfigure` loads and verifies the next one beside it and swaps that reference. So no
request sees half a change, and a version that cannot be loaded changes nothing.

This module imports neither Ray nor FastAPI nor anything that training needs; ``attrition.serving.app`` deploys it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrition.errors import AttritionError, ConfigError
from attrition.serving import tracing
from attrition.serving.compression import GZIP_NAMES, gunzip
from attrition.serving.exchange import Exchange, answer_native
from attrition.serving.logs import about
from attrition.serving.metrics import Meter
from attrition.serving.placed_exchange import answer_placed, translate_placed
from attrition.serving.protocols import dispatch, explain, outcomes, problems
from attrition.serving.shadow import ShadowQueue
from attrition.serving.snapshot import Snapshot, load_snapshot
from attrition.serving.traffic import Traffic
from attrition.settings import config_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from attrition.serving.access import AccessCheck
    from attrition.serving.batcher import Batcher
    from attrition.serving.exchange import Protocol
    from attrition.serving.explain_route import ExplainRoute, Stage
    from attrition.serving.prediction_log import PredictionLog as Log
    from attrition.serving.snapshot import Bundle
    from attrition.serving.traffic import Variant

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

PREDICT = "/v1/predict"

_DIGITS = 18
"""Digits of a content length that could be meant; int() itself refuses thousands."""

PROTOCOLS: Mapping[str, Protocol] = {PREDICT: answer_native}
"""Scoring paths, each with the function that answers it; every other path is a page."""


class Limits(BaseModel):
    """How much one request may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_records: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Records in one request; 1,000 are scored in a few milliseconds and do not delay others noticeably."""
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 1_048_576
    """Size of a request body in bytes, as sent and as unpacked; four times what 1,000 ordinary records take."""
    max_shadow_records: Annotated[int, Field(ge=1)] = 10_000
    """Copies of records that may wait for shadow variants, per replica; beyond it they are dropped and counted."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A traffic change that was not applied.

    Attributes
    ----------
    generation
        Generation that was asked for.
    reason
        Why its versions could not be loaded.
    """

    generation: int
    reason: str


class Gateway:
    """ASGI application of one replica.

    Parameters
    ----------
    limits
        Size limits of a request.
    load
        Loads and verifies an exported version; a parameter so that a test can serve without an exported bundle.
    replica
        Name of the replica, shown by ``/readiness`` so that a change can be confirmed on each.
    meter
        What is counted.
    log
        Gets each answered request, before its answer is sent, and what shadows scored; takes outcomes. None: neither
        predictions nor outcomes are recorded.
    access
        Checks who asks; None: everybody may ask everything.
    explanations
        Answers ``/v1/explain``; None: there is no such path.
    record_outcomes
        Records an import of outcomes, see :class:`~attrition.serving.request_audit.RequestAudit`; None records none.
    reach
        Opens the line to the deployment of a placed variant, which calls back after each batch; None: none is placed.

    Attributes
    ----------
    snapshot : Snapshot or None
        What answers now.
    rejection : Rejection or None
        The last change, if it was not applied.
    """

    def __init__(
        self,
        limits: Limits,
        load: Callable[[str, str], Bundle],
        *,
        replica: str = "",
        meter: Meter | None = None,
        log: Log | None = None,
        access: AccessCheck | None = None,
        explanations: ExplainRoute | None = None,
        record_outcomes: Callable[[Mapping[str, Any], Stage, str], Awaitable[problems.Problem | None]] | None = None,
        reach: Callable[[Variant, Callable[[bool, int], None]], Batcher] | None = None,
    ) -> None:
        self.limits = limits
        self.replica = replica
        self.snapshot: Snapshot | None = None
        self.rejection: Rejection | None = None
        self.meter = meter or Meter()
        self.log = log
        self.access = access
        self.explanations = explanations
        self._record_outcomes = record_outcomes
        self.shadow = ShadowQueue(limits.max_shadow_records, self.meter, log=None if log is None else log.append)
        self._load = load
        self._reach = None if reach is None else lambda variant: reach(variant, partial(self.meter.batch, variant))
        self._changing = asyncio.Lock()
        self._pages: ASGIApp | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Load and verify new traffic beside the old, then swap.

        When a version cannot be loaded the old snapshot keeps serving and :attr:`rejection` says why.

        Raises
        ------
        AttritionError
            The very first configuration cannot be loaded: a replica without a version must not start.
        """
        async with self._changing:
            try:
                traffic = parse_traffic(user_config)
                previous = self.snapshot
                # reading and verifying files blocks; requests go on meanwhile
                self.snapshot = await self._loaded(traffic)
                self.rejection = None
                if previous is not None and previous.placed:
                    # whoever waits for this change stops a deployment then: its last requests must be answered
                    left = previous.batchers - self.snapshot.batchers
                    await asyncio.gather(*(batcher.drained() for batcher in left))
            except Exception as error:  # whatever a broken bundle raises, the old snapshot stays
                if self.snapshot is None:
                    raise
                generation = user_config.get("generation", -1)
                reason = str(error) if isinstance(error, AttritionError) else type(error).__name__
                self.rejection = Rejection(generation if isinstance(generation, int) else -1, reason)
                kept = self.snapshot.traffic.generation
                logger.exception("Traffic generation %s was refused; generation %s stays", generation, kept)

    async def _loaded(self, traffic: Traffic) -> Snapshot:
        previous = self.snapshot
        limit = self.limits.max_records
        snapshot = await asyncio.to_thread(
            load_snapshot, traffic, self._load, max_records=limit, previous=previous, reach=self._reach
        )
        # a replica that starts serves what it can; a change waits until what is new in it can be reached
        if previous is not None and snapshot.placed:
            await asyncio.gather(*(batcher.probe() for batcher in snapshot.batchers - previous.batchers))
        return snapshot

    def scores(self, path: str) -> bool:
        """Whether a POST to a path below the application's prefix is a request to score."""
        return path in PROTOCOLS or dispatch.owns(path)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            send = tracing.traced(scope, send)
            if self.access is not None:
                refused = self.access.authorise(scope)
                if refused is not None:
                    await self._refuse(path, refused, send)
                    return
            protocol = PROTOCOLS.get(path)
            if protocol is not None:
                await self._score(protocol, path, scope, receive, send)
                return
            if path == outcomes.PATH and self.log is not None:
                accept = partial(self._accept_outcomes, self.log, scope)
                await self._answer_body(accept, 202, scope, receive, send)
                return
            if path == explain.PATH and self.explanations is not None:
                explained = partial(self._explained, self.explanations, scope)
                await self._answer_body(explained, 200, scope, receive, send)
                return
            if dispatch.owns(path):
                await self._translate(path, scope, receive, send)
                return
        if self._pages is None:
            from attrition.serving.pages import Pages

            self._pages = Pages(self).app
        await self._pages(scope, receive, send)

    async def _score(
        self, protocol: Protocol, path: str, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        exchange: Exchange | None = None
        try:
            body = await self._body(scope, receive)
            if body is None:
                return
            if isinstance(body, problems.Problem):
                answer: bytes | problems.Problem = body
            elif self.snapshot is None:
                answer = problems.not_ready("ask again when /readiness answers 200")
            else:
                exchange = Exchange(self.snapshot, path, scope["headers"], body)
                answer = await answer_placed(exchange) if self.snapshot.placed else protocol(exchange)
        except Exception as error:
            snapshot = exchange.snapshot if exchange is not None else None
            logger.exception("A scoring request failed", extra=about(scope, snapshot, error))
            answer = problems.internal()
        if isinstance(answer, problems.Problem):
            self.meter.failed(answer.kind, exchange.refused_by if exchange is not None else None)
            await respond_problem(send, answer)
            return
        assert exchange is not None
        self.account(exchange, time.perf_counter() - started)
        await respond(send, 200, answer, b"application/json", *exchange.served)
        self.offer(exchange)

    async def _translate(self, path: str, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer in another protocol, whose records go through the native path."""
        started = time.perf_counter()
        exchanges: list[Exchange] = []

        def predict(snapshot: Snapshot, body: bytes) -> tuple[bytes, str] | problems.Problem:
            exchange = Exchange(snapshot, path, scope["headers"], body)
            exchanges.append(exchange)
            return exchange.predict(snapshot, body)

        read = partial(self._body, scope, receive, json_only=False)
        if self.snapshot is not None and self.snapshot.placed:
            reply, asked = await translate_placed(scope, path, read, lambda: self.snapshot)
            exchanges += [asked] if asked else []
        else:
            reply = await dispatch.answer(scope, path, read, self.snapshot, predict)
        if reply is None:
            return
        scored = [exchange for exchange in exchanges if exchange.scores and reply.status == 200]
        for exchange in scored:
            self.account(exchange, time.perf_counter() - started)
        if reply.status >= 400:
            refused_by = next((exchange.refused_by for exchange in exchanges if exchange.refused_by), None)
            kind = "variant-unavailable" if reply.status == 503 else "internal"
            self.meter.failed(kind if refused_by else "protocol", refused_by)
        known = {name for name, _ in reply.headers}
        served = [header for exchange in scored for header in exchange.served if header[0] not in known]
        await respond(send, reply.status, reply.body, reply.content_type, *reply.headers, *served)
        for exchange in scored:
            self.offer(exchange)

    async def _answer_body(
        self,
        answer: Callable[[bytes], Awaitable[bytes | problems.Problem]],
        status: int,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer a request that is no scoring by what `answer` makes of its body."""
        try:
            body = await self._body(scope, receive)
            if body is None:
                return
            found = body if isinstance(body, problems.Problem) else await answer(body)
        except Exception:
            logger.exception("A request could not be answered: %s", scope["path"], extra=about(scope))
            found = problems.internal()
        if isinstance(found, problems.Problem):
            self.meter.failed(found.kind)
            await respond_problem(send, found)
        else:
            await respond(send, status, found, b"application/json")

    async def _accept_outcomes(self, log: Log, scope: Mapping[str, Any], body: bytes) -> bytes | problems.Problem:
        """Accept outcomes between the records of their start and of their end."""
        correlation = secrets.token_hex(16)
        if self._record_outcomes is not None:
            refused = await self._record_outcomes(scope, "started", correlation)
            if refused is not None:
                return refused
        answer: bytes | problems.Problem = problems.internal()
        try:
            answer = outcomes.receive(log, body, now_us=time.time_ns() // 1000)
        finally:
            if self._record_outcomes is not None:
                failed = isinstance(answer, problems.Problem)
                await self._record_outcomes(scope, "failed" if failed else "succeeded", correlation)
        return answer

    async def _explained(self, route: ExplainRoute, scope: Mapping[str, Any], body: bytes) -> bytes | problems.Problem:
        """Why a version estimates what it does, by the traffic of the moment when the body was there."""
        return await route.answer(scope, body, self.snapshot)

    async def _refuse(self, path: str, problem: problems.Problem, send: Send) -> None:
        """Answer a request that access control does not let through."""
        self.meter.failed(problem.kind)
        reply = dispatch.refusal(path, problem)
        await respond(send, reply.status, reply.body, reply.content_type, *reply.headers)

    def offer(self, exchange: Exchange) -> None:
        """Let the shadows score copies of what was answered, later."""
        if exchange.snapshot.shadows and not exchange.is_smoke_test:
            self.shadow.offer(exchange)

    def account(self, exchange: Exchange, seconds: float, *, write: bool = True) -> None:
        """Everything that is kept of an answer; the one place that sees every answer of every protocol.

        Parameters
        ----------
        seconds
            From the request's arrival to now.
        write
            Whether the prediction log is written at once; else by :meth:`write_log`, before the answer is sent.
        """
        self.meter.scored(exchange.scores, seconds)
        if self.log is not None and not exchange.is_smoke_test:
            keep = self.log.append if write else self.log.gather
            try:
                keep(exchange.scores, int(seconds * 1e6))
            except Exception:  # what the log cannot do must not cost an answer
                self.meter.failed("log")
                logger.exception("A prediction could not be logged")

    def write_log(self) -> None:
        """Write what was accounted for and is not in the log yet."""
        if self.log is not None:
            try:
                self.log.write()
            except Exception:  # as above
                self.meter.failed("log")
                logger.exception("Predictions could not be logged")

    async def _body(
        self, scope: MutableMapping[str, Any], receive: Receive, *, json_only: bool = True
    ) -> bytes | problems.Problem | None:
        """The request body, unpacked, or why it is not read; None when the client left before it was complete."""
        limit = self.limits.max_body_bytes
        refused = refuse(scope, limit, json_only=json_only)
        if refused is not None:
            return refused
        message = await receive()
        body: bytes | bytearray = message.get("body", b"")
        if message.get("more_body", False):
            body = bytearray(body)
        while message.get("more_body", False) and len(body) <= limit:
            message = await receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            return None
        if len(body) > limit:
            return problems.too_large(f"more than {limit} bytes; send several requests")
        return gunzip(bytes(body), limit) if _is_packed(scope) else bytes(body)


def refuse(scope: MutableMapping[str, Any], max_body_bytes: int, *, json_only: bool = True) -> problems.Problem | None:
    """Why a scoring request is not even read, judged by its method and headers; None when it is."""
    if scope["method"] != "POST":
        return problems.method_not_allowed("POST")
    for name, value in scope["headers"]:
        if json_only and name == b"content-type" and not _is_json(value):
            return problems.unsupported("send application/json")
        if name == b"content-encoding" and value.lower() not in {b"identity", *GZIP_NAMES}:
            return problems.unsupported("send the body as it is or compressed by gzip")
        if name == b"content-length" and value.isdigit() and (len(value) > _DIGITS or int(value) > max_body_bytes):
            return problems.too_large(f"at most {max_body_bytes} bytes fit in one request; send several")
    return None


def parse_traffic(user_config: dict[str, Any]) -> Traffic:
    """The traffic of a deployment's ``user_config``.

    Raises
    ------
    ConfigError
        Unknown keys, weights that do not sum to 1, and so on; all faults at once.
    """
    try:
        return Traffic.model_validate(user_config)
    except ValidationError as error:
        raise ConfigError(config_faults("user_config", error, Traffic)) from error


async def respond(send: Send, status: int, body: bytes, content_type: bytes, *headers: tuple[bytes, bytes]) -> None:
    """Send a whole response. Ray Serve adds and echoes ``x-request-id`` itself."""
    start = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


async def respond_problem(send: Send, problem: problems.Problem) -> None:
    """Send a problem as a whole response."""
    await respond(send, problem.status, problem.body, problems.CONTENT_TYPE, *problem.headers)


def _is_packed(scope: MutableMapping[str, Any]) -> bool:
    return any(name == b"content-encoding" and value.lower() in GZIP_NAMES for name, value in scope["headers"])


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    media_type = content_type.split(b";", 1)[0].strip().lower()
    is_variant = media_type.startswith(b"application/") and media_type.endswith(b"+json")
    return media_type == b"application/json" or is_variant
