"""Where a request came from, as the audit log records it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_ADDRESS = 64
"""Characters of an address that the audit log takes."""


def client_address(scope: Mapping[str, Any]) -> str | None:
    """Where a request came from: what HAProxy saw, else the other end of the connection; None when neither is known.

    HAProxy adds a header ``x-forwarded-for`` of its own after any that the client sent, so the last one cannot be made
    up by whoever goes through it. A proxy before HAProxy is then what it names.

    Examples
    --------
    >>> client_address({"headers": [(b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-for", b"10.0.0.7")]})
    '10.0.0.7'
    """
    forwarded = [value for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    if forwarded:
        text = forwarded[-1].decode("latin-1").rsplit(",", 1)[-1].strip()
    else:
        text = (scope.get("client") or ("",))[0] or ""
    return text if 0 < len(text) <= _MAX_ADDRESS and text.isprintable() else None
