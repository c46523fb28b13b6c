"""Trace context: a response carries the caller's ``traceparent``, so that both ends can be joined in a log.

The served application makes no spans of its own; it hands on what came. Serve adds ``x-request-id`` by itself.

References
----------
W3C Trace Context, section 3.2: a header that is not well formed is ignored.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

TRACEPARENT = b"traceparent"

# version, trace id, parent id, flags; a later version may append fields
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?")


def traceparent(scope: Mapping[str, Any]) -> bytes | None:
    """The trace context of a request; None when it has none, or one that is not well formed.

    Examples
    --------
    >>> parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    >>> traceparent({"headers": [(b"traceparent", parent)]}) == parent
    True
    >>> traceparent({"headers": [(b"traceparent", b"00-0-0-00")]})
    """
    for name, value in scope["headers"]:
        if name == TRACEPARENT:
            fits = _FORM.fullmatch(value) and (len(value) == 55 or not value.startswith(b"00"))
            return value if fits else None
    return None


def traced(scope: Mapping[str, Any], send: Send) -> Send:
    """`send`, with the request's trace context among the headers of the response."""
    parent = traceparent(scope)
    if parent is None:
        return send

    async def send_traced(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (TRACEPARENT, parent)]
        await send(message)

    return send_traced
