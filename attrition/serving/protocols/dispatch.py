"""The protocols beside the native one, as the gateway mounts them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from attrition.serving.logs import about
from attrition.serving.protocols import invocations, open_inference, problems
from attrition.serving.protocols.messages import Call, Reply
from attrition.serving.protocols.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from attrition.serving.protocols.translation import Predict
    from attrition.serving.snapshot import Snapshot

logger = logging.getLogger(__name__)


class WireProtocol(Protocol):
    """A protocol; the modules of this package are such objects, and all they do is pure."""

    def owns(self, path: str, /) -> bool:
        """Whether a path belongs to this protocol."""

    def answer(self, call: Call, snapshot: Snapshot | None, predict: Predict, /) -> Reply:
        """The response to any request for its paths."""

    def refusal(self, problem: Problem, /) -> Reply:
        """An error in the form of this protocol."""


PROTOCOLS: dict[str, WireProtocol] = {"open inference": open_inference, "MLflow": invocations}
"""By name, for the log."""


def owns(path: str) -> bool:
    """Whether a path belongs to one of the `PROTOCOLS`."""
    return any(protocol.owns(path) for protocol in PROTOCOLS.values())


def refusal(path: str, problem: Problem) -> Reply:
    """An error in the form of whichever protocol a path belongs to; the native form when it is none of these."""
    for protocol in PROTOCOLS.values():
        if protocol.owns(path):
            return protocol.refusal(problem)
    return Reply(problem.status, problem.body, problems.CONTENT_TYPE, problem.headers)


async def answer(
    scope: Mapping[str, Any],
    path: str,
    read: Callable[[], Awaitable[bytes | Problem | None]],
    snapshot: Snapshot | None,
    predict: Predict,
) -> Reply | None:
    """The response to a request for a path of one of the `PROTOCOLS`; None when it is of none, or the client left.

    Parameters
    ----------
    scope
        ASGI scope of the request.
    path
        Its path below the application's prefix.
    read
        Reads the body, without its content encoding, or says why it does not; called only for POST.
    snapshot
        What is served; None while nothing is.
    predict
        The native scoring path, including whatever the gateway does with a prediction beside sending it.
    """
    name, protocol = next(((name, known) for name, known in PROTOCOLS.items() if known.owns(path)), ("", None))
    if protocol is None:
        return None
    try:
        body = await read() if scope["method"] == "POST" else b""
        if body is None:
            return None
        if isinstance(body, Problem):
            return protocol.refusal(body)
        return protocol.answer(Call(scope["method"], path, dict(scope["headers"]), body), snapshot, predict)
    except Exception as error:
        logger.exception("A request of the %s protocol failed", name, extra=about(scope, snapshot, error))
        return protocol.refusal(problems.internal())
