"""The audit of explanations over HTTP: who asked about which prediction, before it is explained and after."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import PlatformError
from attrition.governance.actions import Action
from attrition.serving.protocols import explain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.governance.audit import AuditLog
    from attrition.serving.explain_route import Stage
    from attrition.serving.protocols.explain import ExplainRequest
    from attrition.serving.protocols.problems import Problem

logger = logging.getLogger(__name__)

_MAX_ADDRESS = 64
"""Characters of an address that the audit log takes."""

ANYBODY = "anybody"
"""Actor where access is open: the endpoint does not know who asks."""


class ExplainAudit:
    """Records explanations; the `record` of an :class:`~attrition.serving.explain_route.ExplainRoute`.

    Parameters
    ----------
    log
        May be written by several threads; closed with this object.
    """

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    @classmethod
    def open(cls, database_url: str = "") -> Self:
        """The audit in a database.

        Parameters
        ----------
        database_url
            Empty: the one that the environment of this process names.

        Raises
        ------
        ConfigError
            It is no address of a database.
        """
        from attrition.governance.audit import AuditLog
        from attrition.settings import Settings

        if not database_url:
            settings = Settings.from_environment()
            settings.prepare_home()
            database_url = settings.database_url
        return cls(AuditLog.open(database_url))

    async def __call__(
        self, scope: Mapping[str, Any], request: ExplainRequest, stage: Stage, correlation: str
    ) -> Problem | None:
        """Record one stage; the problem that refuses the request when its start cannot be recorded."""
        from attrition.governance.audit_events import Event, Outcome

        event = Event(
            Action.EXPLAIN,
            request.subject,
            Outcome(stage),
            actor=scope.get("principal") or ANYBODY,
            model_version=request.version or None,
            client_address=client_address(scope),
            details={"via": "http"},
            correlation=correlation,
        )
        try:
            await asyncio.to_thread(self._log.append, event)
        except PlatformError:
            logger.exception("An explanation is not in the audit log, stage %s", stage)
            return explain.not_audited() if stage == "started" else None
        return None

    def close(self) -> None:
        """Close the connections. Harmless when repeated."""
        self._log.close()


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
