"""Small scoring requests that arrive in one turn of a replica's event loop, answered together.

They share what costs as much for one as for several: the write of the prediction log. Everything else about a request
is as in :meth:`attrition.serving.gateway.Gateway.__call__`, which answers the others.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from attrition.serving.exchange import Exchange, answer_native
from attrition.serving.logs import about
from attrition.serving.protocols import problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attrition.serving.gateway import Gateway
    from attrition.serving.snapshot import Snapshot

    Headers = Iterable[tuple[bytes, bytes]]
    Answer = Callable[["LaneRequest", int, bytes, bytes, Headers], None]

logger = logging.getLogger(__name__)


class LaneRequest:
    """A complete request for ``/v1/predict`` until it is answered; stands for uvicorn's cycle meanwhile.

    Parameters
    ----------
    scope
        What ASGI would say about the request.
    body
        Unpacked.
    echoed
        Headers of the answer that follow from the request's.
    answer
        Sends status, body, content type and further headers.

    Attributes
    ----------
    disconnected, keep_alive, response_complete : bool
        As in uvicorn's cycle, which also has a `message_event`.
    """

    __slots__ = ("_answer", "body", "disconnected", "echoed", "keep_alive", "response_complete", "scope")

    def __init__(self, scope: Any, body: bytes, echoed: tuple[tuple[bytes, bytes], ...], answer: Answer) -> None:
        self.scope = scope
        self.body = body
        self.echoed = echoed
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False
        self._answer = answer

    @property
    def message_event(self) -> LaneRequest:
        """What uvicorn sets when the client leaves; nobody waits for it here."""
        return self

    def set(self) -> None:
        """See `message_event`."""

    def answer(self, status: int, body: bytes, content_type: bytes, headers: Headers) -> None:
        """Send the whole response, once."""
        self.response_complete = True
        self._answer(self, status, body, content_type, headers)

    def refuse(self, problem: problems.Problem) -> None:
        """Send a problem as the whole response."""
        self.answer(problem.status, problem.body, problems.CONTENT_TYPE, problem.headers)


def answer_together(gateway: Gateway, snapshot: Snapshot, requests: Sequence[LaneRequest]) -> None:
    """Answer requests by one snapshot: all are scored, all are logged by one write, then all answers are sent.

    Parameters
    ----------
    snapshot
        Has no variant in a deployment of its own: nothing has to be awaited.
    """
    answered: list[tuple[LaneRequest, Exchange | None, bytes | problems.Problem]] = []
    for request in requests:
        if request.disconnected:
            continue
        started = time.perf_counter()
        exchange: Exchange | None = None
        try:
            answer: bytes | problems.Problem | None = None
            if gateway.access is not None:
                answer = gateway.access.authorise(request.scope)
            if answer is None:
                exchange = Exchange(snapshot, request.scope["path"], request.scope["headers"], request.body)
                answer = answer_native(exchange)
        except Exception as error:
            logger.exception("A scoring request failed", extra=about({"headers": request.echoed}, snapshot, error))
            answer = problems.internal()
        if isinstance(answer, problems.Problem):
            gateway.meter.failed(answer.kind, exchange.refused_by if exchange is not None else None)
        else:
            assert exchange is not None
            gateway.account(exchange, time.perf_counter() - started, write=False)
        answered.append((request, exchange, answer))
    gateway.write_log()
    for request, exchange, answer in answered:
        if isinstance(answer, problems.Problem):
            request.refuse(answer)
        else:
            assert exchange is not None
            request.answer(200, answer, b"application/json", exchange.served)
            gateway.offer(exchange)
