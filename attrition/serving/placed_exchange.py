"""Requests of a snapshot with placed variants: how protocols that do not wait get answers that have to be awaited.

The protocols are plain functions, and stay so: without a placed variant no request pays for another one. A body of the
native protocol is decoded, awaited and encoded here. A protocol that translates asks for its predictions in the midst
of its own work; it is run once to learn what it asks, and again when the answer is there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrition.errors import VariantFailed
from attrition.serving.exchange import Exchange
from attrition.serving.logs import about
from attrition.serving.placed_scoring import Unanswered, score_placed
from attrition.serving.protocols import dispatch, native
from attrition.serving.protocols.problems import Problem, internal, variant_unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from attrition.serving.protocols.messages import Reply
    from attrition.serving.snapshot import Snapshot

logger = logging.getLogger(__name__)

_NOT_YET = variant_unavailable("the answer is awaited")


async def answer_placed(exchange: Exchange) -> bytes | Problem:
    """The native protocol's answer; see :func:`attrition.serving.exchange.answer_native`.

    A record whose variant cannot be reached fails its request: another variant must not answer for it, since that would
    break the assignment that an experiment counts on.
    """
    snapshot = exchange.snapshot
    batch = snapshot.codec.decode(exchange.body)
    if isinstance(batch, Problem):
        return batch
    split = snapshot.split
    pinned = split.pinned(exchange.headers) if split.pins else None
    try:
        scores = await score_placed(snapshot, batch.records, pinned)
    except VariantFailed as error:
        exchange.refused_by = snapshot.lanes[error.variant]
        raise
    if isinstance(scores, Unanswered):
        exchange.refused_by = scores.lane
        return variant_unavailable(scores.reason)
    exchange.records, exchange.scores = batch.records, scores
    return native.encode(scores, single=batch.single)


async def translate_placed(
    scope: Mapping[str, Any],
    path: str,
    read: Callable[[], Awaitable[bytes | Problem | None]],
    current: Callable[[], Snapshot | None],
) -> tuple[Reply | None, Exchange | None]:
    """The reply in a protocol of :mod:`~attrition.serving.protocols.dispatch`, and the exchange that was scored for it.

    Parameters
    ----------
    scope, path, read
        As of :func:`attrition.serving.protocols.dispatch.answer`.
    current
        What is served. Asked once the body is there: between this and the call of a deployment nothing is awaited, so
        that a deployment which no current snapshot names gets no new calls.
    """
    asked: Exchange | None = None
    answer: tuple[bytes, str] | Problem = _NOT_YET

    def predict(wanted: Snapshot, body: bytes) -> tuple[bytes, str] | Problem:
        nonlocal asked
        asked = asked or Exchange(wanted, path, scope["headers"], body)
        return answer

    try:
        body = await read() if scope["method"] == "POST" else b""
    except Exception:
        logger.exception("A request could not be read", extra=about(scope))
        body = internal()

    async def body_again() -> bytes | Problem | None:
        return body

    snapshot = current()
    reply = await dispatch.answer(scope, path, body_again, snapshot, predict)
    if asked is None:
        return reply, None
    try:
        content = await answer_placed(asked)
    except Exception as error:
        logger.exception("A scoring request failed", extra=about(scope, asked.snapshot, error))
        content = internal()
    answer = content if isinstance(content, Problem) else (content, asked.versions)
    return await dispatch.answer(scope, path, body_again, snapshot, predict), asked
