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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attrition.errors import AttritionError, ConfigError
from attrition.serving.protocols import native, problems
from attrition.serving.snapshot import Snapshot, load_snapshot
from attrition.serving.traffic import Traffic
from attrition.settings import config_faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from attrition.serving.snapshot import Bundle

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

PREDICT = "/v1/predict"


class Limits(BaseModel):
    """How much one request may hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_records: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Records in one request; 1,000 are scored in a few milliseconds and do not delay others noticeably."""
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 1_048_576
    """Size of a request body in bytes; four times what 1,000 ordinary records take."""


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
    """

    def __init__(self, limits: Limits, load: Callable[[str, str], Bundle], *, replica: str = "") -> None:
        self.limits = limits
        self.replica = replica
        self.snapshot: Snapshot | None = None
        self.rejection: Rejection | None = None
        self._load = load
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
                # reading and verifying files blocks; requests go on meanwhile
                self.snapshot = await asyncio.to_thread(
                    load_snapshot, traffic, self._load, max_records=self.limits.max_records, previous=self.snapshot
                )
                self.rejection = None
            except Exception as error:  # whatever a broken bundle raises, the old snapshot stays
                if self.snapshot is None:
                    raise
                generation = user_config.get("generation", -1)
                reason = str(error) if isinstance(error, AttritionError) else type(error).__name__
                self.rejection = Rejection(generation if isinstance(generation, int) else -1, reason)
                kept = self.snapshot.traffic.generation
                logger.exception("Traffic generation %s was refused; generation %s stays", generation, kept)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"].removeprefix(scope.get("root_path", "")) == PREDICT:
            await self._predict(scope, receive, send)
        else:
            if self._pages is None:
                from attrition.serving.pages import Pages

                self._pages = Pages(self).app
            await self._pages(scope, receive, send)

    async def _predict(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await self._body(scope, receive)
            if isinstance(body, problems.Problem):
                answer: tuple[bytes, str] | problems.Problem = body
            elif self.snapshot is None:
                answer = problems.not_ready("ask again when /readiness answers 200")
            else:
                answer = native.predict(self.snapshot, body)
        except Exception:
            logger.exception("A scoring request failed")
            answer = problems.internal()
        if isinstance(answer, problems.Problem):
            await respond(send, answer.status, answer.body, problems.CONTENT_TYPE, *answer.headers)
        else:
            content, versions = answer
            await respond(send, 200, content, b"application/json", (b"x-model-version", versions.encode()))

    async def _body(self, scope: MutableMapping[str, Any], receive: Receive) -> bytes | problems.Problem:
        """The request body, or why it is not read."""
        limit = self.limits.max_body_bytes
        refused = refuse(scope, limit)
        if refused is not None:
            return refused
        message = await receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body", False):
            message = await receive()
            body += message.get("body", b"")
            if len(body) > limit:
                break
        if len(body) > limit:
            return problems.too_large(f"more than {limit} bytes; send several requests")
        return body


def refuse(scope: MutableMapping[str, Any], max_body_bytes: int) -> problems.Problem | None:
    """Why a scoring request is not even read, judged by its method and headers; None when it is."""
    if scope["method"] != "POST":
        return problems.method_not_allowed("POST")
    for name, value in scope["headers"]:
        if name == b"content-type" and not _is_json(value):
            return problems.unsupported("send application/json")
        if name == b"content-encoding" and value.lower() != b"identity":
            return problems.unsupported("send the body without a content encoding")
        if name == b"content-length" and value.isdigit() and int(value) > max_body_bytes:
            return problems.too_large(f"{int(value)} bytes; at most {max_body_bytes} fit in one request, send several")
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


def _is_json(content_type: bytes) -> bool:
    if content_type == b"application/json":
        return True
    media_type = content_type.split(b";", 1)[0].strip().lower()
    is_variant = media_type.startswith(b"application/") and media_type.endswith(b"+json")
    return media_type == b"application/json" or is_variant
