"""How a served application checks who asks: from the serve configuration and the settings to the check itself.

Access is closed when anybody says so: the serve configuration (``args.access.mode``), ``ATTRITION_ACCESS`` where
``attrition serve up`` runs, or the same variable in the replicas' environment. The database's address goes to the
replicas with the other arguments unless it has a password, which would stand in Ray's dashboard; then they read
``ATTRITION_DATABASE_URL`` of their own environment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from attrition.governance.access_config import AccessConfig
from attrition.governance.actions import Action
from attrition.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrition.serving.access import AccessCheck, Denied

Mode = Literal["open", "closed"]


class AccessTuning(BaseModel):
    """Access of the endpoint; part of the serve configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode | None = None
    """``closed`` asks everybody for a key or a token; None follows ``ATTRITION_ACCESS``."""
    refresh_seconds: Annotated[float, Field(ge=1, le=60)] = 10.0
    """Between two readings of the keys: how long a revoked key may go on."""
    max_stale_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    """How long known keys work while the database does not answer; a failover of it takes one or two minutes."""


class AccessOptions(AccessTuning):
    """What a replica is told."""

    mode: Mode = "open"
    """Decided."""
    database_url: str = ""
    """Of API keys and audit log; empty: ``ATTRITION_DATABASE_URL`` in the replica's environment."""
    config: AccessConfig | None = None
    """Roles and identity provider; None: ``ATTRITION_ACCESS_CONFIG`` in the replica's environment."""

    @classmethod
    def of(cls, settings: Settings, tuning: AccessTuning | None = None) -> Self:
        """The options of a project, with what the serve configuration says.

        Raises
        ------
        ConfigError
            The access configuration cannot be used.
        """
        tuning = tuning or AccessTuning()
        address = settings.database_url if urlsplit(settings.database_url).password is None else ""
        fields = {**tuning.model_dump(), "mode": tuning.mode or "open", "database_url": address}
        options = cls.model_validate(fields)
        if "closed" not in {tuning.mode, settings.access}:
            return options
        return options.model_copy(update={"mode": "closed", "config": AccessConfig.load(settings.access_config)})

    def check(self) -> AccessCheck | None:
        """The check of one replica, with its background thread running; None when access is open.

        Raises
        ------
        ConfigError
            The replica's environment has settings that cannot be used.
        """
        settings = Settings.from_environment()
        if "closed" not in {self.mode, settings.access}:
            return None
        from attrition.governance.access_keys import KeyStore
        from attrition.governance.access_tokens import KeySet
        from attrition.serving.access import AccessCheck

        config = self.config or AccessConfig.load(settings.access_config)
        database_url = self.database_url or settings.database_url
        key_set = None if config.oidc is None else KeySet(config.oidc)
        check = AccessCheck(
            config,
            KeyStore(database_url).keys,
            None if key_set is None else key_set.current,
            on_denied=denial_log(database_url),
            refresh_seconds=self.refresh_seconds,
            max_stale_seconds=self.max_stale_seconds,
        )
        check.start()
        return check


def denial_log(database_url: str) -> Callable[[Denied, int], None]:
    """Function that records in the audit log who was refused what, from where, and how often since the last time.

    Refusals are recorded in bundles by the check's background thread: neither the scoring path nor whoever sends a
    million forbidden requests may wait for, or fill, the audit log.
    """

    def record(denied: Denied, times: int) -> None:
        from attrition.governance.audit import AuditLog
        from attrition.governance.audit_events import Event, Outcome
        from attrition.governance.guard import NOBODY

        principal = denied.principal
        details: dict[str, object] = {"times": times}
        if denied.action is not None:
            details["action"] = str(denied.action)
        if principal is not None:
            details["via"] = principal.via
        event = Event(
            Action.ACCESS_DENIED,
            "endpoint",
            Outcome.DENIED,
            actor=NOBODY if principal is None else principal.name,
            client_address=denied.address,
            details=details,
        )
        with AuditLog.open(database_url) as log:
            log.append(event)

    return record
