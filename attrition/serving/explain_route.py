"""The gateway's side of ``POST /v1/explain``: read the request, have it recorded, pass it on to the explainer.

This is the one place that every explanation over HTTP passes, which is why the audit log is written here: before
anything is explained, and again when it is known how that ended.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Literal

from attrition.serving.protocols import explain, problems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from attrition.serving.protocols.explain import ExplainRequest
    from attrition.serving.protocols.problems import Problem
    from attrition.serving.snapshot import Snapshot

    Scope = Mapping[str, Any]
    Ask = Callable[[ExplainRequest, list[dict[str, Any]]], Awaitable[bytes | Problem]]
    Stage = Literal["started", "succeeded", "failed"]
    Record = Callable[[Scope, ExplainRequest, Stage, str], Awaitable[Problem | None]]


class ExplainRoute:
    """Answers one path of the gateway.

    Parameters
    ----------
    ask
        Has the explainer answer a request, given the served variants.
    record
        Writes an event of the action ``prediction.explain``: who asks (from the ASGI scope), about what
        (:attr:`~attrition.serving.protocols.explain.ExplainRequest.subject`), at which stage, and what all stages of
        this request have in common. A problem that it returns at the start refuses the request: nothing is explained
        that is not recorded. None records nothing.
    """

    def __init__(self, ask: Ask, record: Record | None = None) -> None:
        self._ask = ask
        self._record = record

    async def answer(self, scope: Scope, body: bytes, snapshot: Snapshot | None) -> bytes | Problem:
        """The JSON answer, or the problem that keeps it from being given."""
        request = explain.parse(body)
        if isinstance(request, problems.Problem):
            return request
        if snapshot is None:
            return problems.not_ready("ask again when /readiness answers 200")
        correlation = secrets.token_hex(16)
        if self._record is not None:
            refused = await self._record(scope, request, "started", correlation)
            if refused is not None:
                return refused
        answer: bytes | Problem = problems.internal()
        try:
            answer = await self._ask(request, [v.model_dump(mode="json") for v in snapshot.traffic.variants])
        finally:
            if self._record is not None:
                failed = isinstance(answer, problems.Problem)
                await self._record(scope, request, "failed" if failed else "succeeded", correlation)
        return answer
