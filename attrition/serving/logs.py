"""What a replica logs: in Serve's format and files, with the request and the version that it is about.

Serve configures only its own logger (``logging_config`` in the YAML files); :func:`join_serve` gives the messages of
this package the same handlers. With ``encoding: JSON`` a line is an object: time, level, message, deployment, replica,
and for a request that failed ``request_id``, as in the response's header, and ``model_version``. Who was scored and by
which values is in the prediction log, never here: also not in a trace, see :mod:`attrition.governance.traces`.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from attrition.governance.traces import keep_values_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.serving.snapshot import Snapshot

REQUEST_ID = "request_id"
"""Key of the request's identifier in a scope that the fast lane has seen, and in the log."""

_HEADER = b"x-request-id"
# a caller's own identifier is anything, perhaps a person's
_is_identifier = re.compile(r"[0-9A-Fa-f-]{16,64}").fullmatch


def join_serve() -> None:
    """Hand this package's messages to Serve's handlers, from its level on; for the process of a replica."""
    serve, own = logging.getLogger("ray.serve"), logging.getLogger("attrition")
    keep_values_out(serve.handlers)
    own.handlers = list(serve.handlers)
    own.setLevel(serve.level)
    own.propagate = not own.handlers


def about(scope: Mapping[str, Any], snapshot: Snapshot | None = None, error: Exception | None = None) -> dict[str, str]:
    """What a message about a request says beside its text: ``extra`` of a logger's call.

    Parameters
    ----------
    scope
        ASGI scope of the request.
    snapshot, error
        What was served, and what was raised, which knows the variant if it was one's fault.
    """
    variant = getattr(error, "variant", None)
    version = snapshot.lanes[variant].variant.version if snapshot is not None and variant is not None else "none"
    found = {"model_version": version}
    identifier = scope.get(REQUEST_ID) or next((value for name, value in scope["headers"] if name == _HEADER), b"")
    if _is_identifier(text := identifier.decode("latin-1")):
        found[REQUEST_ID] = text
    return found
