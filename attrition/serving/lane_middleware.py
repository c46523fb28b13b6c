"""Where the fast lane branches off: a middleware around the HTTP server of a replica.

Serve makes it, in each of its processes that has an HTTP server, by the function that `VARIABLE` names; the replica
makes the lane. They meet here, in the process that they share.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrition.serving.fast_lane import FastLane, Scope
    from attrition.serving.gateway import ASGIApp, Receive, Send

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Set where Ray starts, on every node."""

IMPORT_PATH = "attrition.serving.lane_middleware:middlewares"
"""Its value."""


def _no_lane() -> FastLane | None:
    return None


_current: Callable[[], FastLane | None] = _no_lane


def current() -> FastLane | None:
    """The lane of this process, if there is one."""
    return _current()


def open_lane(lane: FastLane) -> None:
    """Make a lane the one of this process, for as long as somebody holds it."""
    global _current  # noqa: PLW0603 - the middleware and the replica are made apart, by Serve
    _current = weakref.ref(lane)


class FastLaneMiddleware:
    """Outermost part of an HTTP server: hands scoring requests to the process's lane and passes everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        lane = _current()
        if lane is None or not lane.takes(scope):
            await self._app(scope, receive, send)
        elif lane.options.is_open:
            await lane(scope, receive, send)
        else:
            await lane.through_serve(self._app, scope, receive, send)


def middlewares() -> list[Any]:
    """What Serve calls just before it starts a server: its Starlette middlewares, from the inside outwards."""
    from starlette.middleware import Middleware

    from attrition.serving import http_protocol

    http_protocol.install()
    return [Middleware(FastLaneMiddleware)]
