"""How a replica speaks HTTP: uvicorn's protocol, with a short way for small scoring requests of the fast lane.

For a request that arrives whole, asks for ``/v1/predict`` and needs nothing special, uvicorn's task and events and the
calls of ASGI cost more than the prediction does. So the protocol hands such a request to the lane itself. Every other
one goes the usual way, through ASGI. Measured in one process at 32 connections: 33 instead of 61 µs of CPU per request.

The protocol also sends head and body of every answer in one piece. uvicorn writes them one after the other, and its
event loop sends each at once: two system calls here, and two more in whoever reads them.

:func:`install` is the one place that touches uvicorn: Serve starts its servers with the protocol called ``auto``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, cast

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from attrition.serving import lane_middleware
from attrition.serving.identifiers import new_request_id
from attrition.serving.lane_turn import LaneRequest
from attrition.serving.tracing import TRACEPARENT, traceparent

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    Header = tuple[bytes, bytes]

MAX_BYTES = 8_192
"""Body of a request that takes the short way: a larger one takes so long that the others need not wait for it."""

_REQUEST_ID = b"x-request-id"
_NEEDS_MORE = frozenset({b"content-encoding", b"x-request-timeout-seconds"})
_MAX_DIGITS = len(str(MAX_BYTES))
_is_printable = re.compile(rb"[ -~]{0,256}").fullmatch


def install() -> None:
    """Make this the protocol of every HTTP server that uvicorn starts in this process from now on."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:{LaneProtocol.__qualname__}"


class OnePiece:
    """A transport that keeps the head of an answer until its body follows, and sends both at once.

    A body that does not follow in the same turn of the event loop is not waited for.

    Parameters
    ----------
    transport
        Sends.
    loop
        Its event loop.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send, or keep for the next call what looks like a head."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what is kept, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._head = b""


class LaneProtocol(HttpToolsProtocol):
    """HTTP of one connection."""

    _defaults: ClassVar[tuple[list[Header], bytes]] = ([], b"")
    """Headers of every answer as uvicorn has them, a new list each second, and as they are sent."""

    _echoed: tuple[Header, ...] | None = None
    """Of the request that is read, if it may take the short way."""
    _body = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; see :class:`OnePiece`."""
        super().connection_made(cast("asyncio.Transport", OnePiece(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
        """Read; a request of which this was not all goes the usual way."""
        super().data_received(data)
        if self._echoed is not None:
            self._take_usual_way()

    def on_headers_complete(self) -> None:
        """Keep a request that may take the short way until its body is there."""
        lane = lane_middleware.current()
        if lane is not None and lane.takes_at_once(self.url) and self._is_next() and not self.root_path:
            self._echoed = self._simple_headers()
        if self._echoed is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Gather the body."""
        if self._echoed is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        """Hand the request to the lane."""
        lane = lane_middleware.current()
        if self._echoed is not None and lane is not None and len(self._body) <= MAX_BYTES:
            request = LaneRequest(self.scope, self._body, self._echoed, self._answer)
            self._echoed, self._body = None, b""
            # uvicorn takes it for a request that is being answered
            self.cycle = cast("Any", request)
            lane.take(request)
            return
        if self._echoed is not None:
            self._take_usual_way()
        super().on_message_complete()

    def _take_usual_way(self) -> None:
        body, self._echoed, self._body = self._body, None, b""
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _is_next(self) -> bool:
        """Whether the request can be answered as it comes: a POST on a connection that stays, with none before it."""
        parser = self.parser
        return (
            parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
            # a client that does not read its answers is waited for, which takes a task
            and not self.flow.write_paused
        )

    def _simple_headers(self) -> tuple[Header, ...] | None:
        """Headers that the answer repeats; None when the request's need more than the short way has."""
        request_id, is_traced = None, False
        for name, value in self.headers:
            if name in _NEEDS_MORE or (name == b"content-type" and value != b"application/json"):
                return None
            if name == b"content-length" and len(value) > _MAX_DIGITS:
                return None
            if name == _REQUEST_ID and request_id is None:
                if not _is_printable(value):
                    return None
                request_id = value
            elif name == TRACEPARENT:
                is_traced = True
        echoed = (_REQUEST_ID, new_request_id().encode() if request_id is None else request_id)
        parent = traceparent({"headers": self.headers}) if is_traced else None
        return (echoed,) if parent is None else (echoed, (TRACEPARENT, parent))

    def _answer(
        self, request: LaneRequest, status: int, body: bytes, content_type: bytes, headers: Iterable[Header]
    ) -> None:
        if request.disconnected or self.transport.is_closing():
            return
        if self._defaults[0] is not self.server_state.default_headers:
            LaneProtocol._defaults = (self.server_state.default_headers, _lines(self.server_state.default_headers))
        start = STATUS_LINE[status] + self._defaults[1] + _lines(headers) + _lines(request.echoed)
        end = b"content-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (content_type, len(body), body)
        self.transport.write(start + (end if request.keep_alive else b"connection: close\r\n" + end))
        if not request.keep_alive:
            self.transport.close()
        self.on_response_complete()


def _lines(headers: Iterable[Header]) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
