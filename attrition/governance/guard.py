"""The guard of everything that matters: authorised first, recorded before and after, and not done when it cannot be.

::

    with guard.acting(Action.ROLLBACK, "endpoint", justification="errors since 14:00") as entry:
        change = control.rollback()
        entry.details["generation"] = change.generation

leaves two events with one correlation in the audit log, STARTED and SUCCEEDED or FAILED; or a single DENIED. Where the
log cannot be written nothing is done: the first event is committed before the block begins. Should the log fail after
that, the action stands with an open start, which ``attrition audit`` shows, and an error goes to the process's log.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrition.errors import AccessDenied, AccessError, AttritionError
from attrition.governance.access import Principal
from attrition.governance.access_config import AccessConfig
from attrition.governance.audit_events import Event, Outcome
from attrition.governance.credentials import identify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from attrition.governance.actions import Action
    from attrition.governance.audit import AuditLog
    from attrition.settings import Settings

logger = logging.getLogger(__name__)

NOBODY = "not authenticated"
"""Actor of a refusal whose caller is not known."""


@dataclass(slots=True)
class Entry:
    """What will be recorded at the end of an action; the block under guard completes it.

    Attributes
    ----------
    principal : Principal
        Who acts.
    subject : str
        What it is done to; a person only by pseudonym.
    justification, model_version, data_version : str or None
    details : dict
        JSON-ready: counts, settings, digests; no ids or values of persons.
    """

    principal: Principal
    subject: str
    justification: str | None = None
    model_version: str | None = None
    data_version: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def actor(self) -> str:
        """Name of who acts."""
        return self.principal.name


class Guard:
    """The guard of one project.

    Parameters
    ----------
    settings
        Whether access is open, where keys and audit log are.
    environ
        Has the caller's key or token; defaults to ``os.environ``.
    clock
        Time of now, UTC. For tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._clock = clock

    @cached_property
    def config(self) -> AccessConfig:
        """Roles, and whose tokens are accepted.

        Raises
        ------
        ConfigError
            The file named by ``ATTRITION_ACCESS_CONFIG`` cannot be used.
        """
        return AccessConfig.load(self._settings.access_config)

    @cached_property
    def audit(self) -> AuditLog:
        """The audit log, opened on first use."""
        from attrition.governance.audit import AuditLog

        self._settings.prepare_home()
        return AuditLog.open(self._settings.database_url, signing_key=self._settings.audit_key_file)

    def close(self) -> None:
        """Close the audit log; it is opened again when it is used."""
        log = self.__dict__.pop("audit", None)
        if log is not None:
            log.close()

    def identify(self) -> Principal:
        """Who asks, checked anew each time: a key may have been revoked since.

        Raises
        ------
        NotAuthenticated, AccessUnavailable, UsageError
            As of :func:`attrition.governance.credentials.identify`.
        """
        return identify(self._settings, self.config, now=self._clock(), environ=self._environ)

    def vouchers(self, principal: Principal) -> tuple[str, ...]:
        """Who made the key of a principal, and the keys of those; nobody where access is open or a token says who asks.

        Raises
        ------
        AccessUnavailable
            The database of keys does not answer.
        """
        if not principal.key_id:
            return ()
        from attrition.governance.access_keys import KeyStore, vouchers

        return vouchers(KeyStore(self._settings.database_url).keys(), principal.key_id)

    def require(self, action: Action, subject: str) -> Principal:
        """Who asks, when they may do it; only a refusal is recorded. For reading what concerns no person.

        Raises
        ------
        NotAuthenticated, AccessDenied
            Nobody known, or not permitted.
        AccessUnavailable
            It cannot be found out.
        """
        principal: Principal | None = None
        try:
            principal = self.identify()
            self.config.policy.require(principal, action)
        except AccessError as error:
            self.record_refusal(action, subject, principal, error)
            raise
        return principal

    @contextmanager
    def acting(
        self,
        action: Action,
        subject: str,
        *,
        justification: str | None = None,
        model_version: str | None = None,
        data_version: str | None = None,
        details: Mapping[str, Any] | None = None,
        principal: Principal | None = None,
        correlation: str | None = None,
    ) -> Iterator[Entry]:
        """Authorise an action, record it, and let the block do it.

        Parameters
        ----------
        action, subject, justification, model_version, data_version, details
            As of :class:`~attrition.governance.audit_events.Event`. What is known only later the block adds to the
            entry that it gets.
        principal
            Who acts, when that was decided otherwise; None: who the caller's environment says.
        correlation
            Of an action that may have been interrupted and is done again: its events belong together, so that the end
            of the second attempt also ends the first. None: a new one.

        Raises
        ------
        NotAuthenticated, AccessDenied
            Nobody known, or not permitted; nothing was done.
        AuditUnavailable, AccessUnavailable
            The action cannot be recorded, or who asks cannot be found out; nothing was done.
        UsageError
            Subject or justification cannot be recorded as they are; nothing was done.
        """
        actor = principal or self.require(action, subject)
        entry = Entry(actor, subject, justification or None, model_version, data_version, dict(details or {}))
        correlation = correlation or secrets.token_hex(16)
        self._record(action, Outcome.STARTED, entry, correlation)
        try:
            yield entry
        except BaseException as error:
            entry.details["error"] = type(error).__name__
            # a rule that needs to know the subject, such as four eyes, refuses only here
            refused = isinstance(error, AccessDenied)
            self._record_end(action, Outcome.DENIED if refused else Outcome.FAILED, entry, correlation)
            raise
        self._record_end(action, Outcome.SUCCEEDED, entry, correlation)

    def _record(self, action: Action, outcome: Outcome, entry: Entry, correlation: str) -> None:
        self.audit.append(
            Event(
                action,
                entry.subject,
                outcome,
                actor=entry.actor,
                justification=entry.justification,
                model_version=entry.model_version,
                data_version=entry.data_version,
                details={**entry.details, "via": entry.principal.via},
                correlation=correlation,
            )
        )

    def _record_end(self, action: Action, outcome: Outcome, entry: Entry, correlation: str) -> None:
        """Record what cannot be undone any more."""
        try:
            self._record(action, outcome, entry, correlation)
        except AttritionError:
            logger.exception("%s was done, but only its start is in the audit log", action)

    def record_refusal(self, action: Action, subject: str, principal: Principal | None, error: AccessError) -> None:
        """Record that somebody was refused; None is somebody who is not known."""
        entry = Entry(principal or Principal(NOBODY), subject, details={"error": type(error).__name__})
        try:
            self._record(action, Outcome.DENIED, entry, secrets.token_hex(16))
        except AttritionError as unavailable:  # it is refused all the same, for the first reason
            logger.warning("A refusal could not be recorded: %s", unavailable)
