"""The audit of requests over HTTP that matter: explanations of persons and imported outcomes, before and after.

Single predictions are in the prediction log instead.
"""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrition.errors import AttritionError
from attrition.governance.actions import Action
from attrition.serving.client_address import client_address
from attrition.serving.protocols import explain, outcomes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.governance.audit import AuditLog
    from attrition.serving.explain_route import Stage
    from attrition.serving.protocols.explain import ExplainRequest
    from attrition.serving.protocols.problems import Problem

logger = logging.getLogger(__name__)

ANYBODY = "anybody"
"""Actor where access is open: the endpoint does not know who asks."""


class RequestAudit:
    """Records requests; each method is told a stage and answers the problem that refuses the request, or None.

    Nothing is done that is not recorded: when its start cannot be, the request is refused. The database is opened at
    the first request, so that a replica that only scores imports nothing for it.

    Parameters
    ----------
    database_url
        Empty: the one that the environment of this process names.
    """

    def __init__(self, database_url: str = "") -> None:
        self._database_url = database_url

    @cached_property
    def _log(self) -> AuditLog:
        from attrition.governance.audit import AuditLog
        from attrition.settings import Settings

        address = self._database_url
        if not address:
            settings = Settings.from_environment()
            settings.prepare_home()
            address = settings.database_url
        return AuditLog.open(address)

    async def explanation(
        self, scope: Mapping[str, Any], request: ExplainRequest, stage: Stage, correlation: str
    ) -> Problem | None:
        """Record a stage of an explanation."""
        version = request.version or None
        recorded = await self._record(scope, Action.EXPLAIN, request.subject, stage, correlation, version)
        return None if recorded or stage != "started" else explain.not_audited()

    async def outcomes(self, scope: Mapping[str, Any], stage: Stage, correlation: str) -> Problem | None:
        """Record a stage of an import of outcomes."""
        recorded = await self._record(scope, Action.OUTCOME_IMPORT, "outcomes over HTTP", stage, correlation)
        return None if recorded or stage != "started" else outcomes.not_audited()

    async def _record(
        self,
        scope: Mapping[str, Any],
        action: Action,
        subject: str,
        stage: Stage,
        correlation: str,
        model_version: str | None = None,
    ) -> bool:
        def append() -> None:
            from attrition.governance.audit_events import Event, Outcome

            event = Event(
                action,
                subject,
                Outcome(stage),
                actor=scope.get("principal") or ANYBODY,
                model_version=model_version,
                client_address=client_address(scope),
                details={"via": "http"},
                correlation=correlation,
            )
            self._log.append(event)

        try:
            await asyncio.to_thread(append)
        except AttritionError:
            logger.exception("A request of the action %s is not in the audit log, stage %s", action, stage)
            return False
        return True

    def close(self) -> None:
        """Close the connections. Harmless when repeated."""
        if "_log" in self.__dict__:
            self._log.close()
