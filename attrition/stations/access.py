"""API keys and roles, for those who may manage them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attrition.errors import AccessDenied, Fault, IntegrityError, UsageError
from attrition.governance.access_keys import KeyStore, key_reference, make_key
from attrition.governance.actions import Action
from attrition.governance.audit_events import Outcome
from attrition.governance.credentials import local_user

if TYPE_CHECKING:
    from datetime import timedelta

    from attrition.governance.access import Principal, RolePolicy
    from attrition.governance.access_keys import ApiKey, NewKey
    from attrition.governance.guard import Guard
    from attrition.settings import Settings


class Access:
    """Who may do what; reached as ``Workspace.access``.

    The first key of a project with closed access is made by whoever can write its database, and must be one that may
    make others: somebody has to begin, and who can write the database could have written the row.

    Parameters
    ----------
    settings
        Where the keys are.
    guard
        Of the project.
    """

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard

    @property
    def policy(self) -> RolePolicy:
        """The table of roles that holds here.

        Raises
        ------
        ConfigError
            The file named by ``ATTRITION_ACCESS_CONFIG`` cannot be used.
        """
        return self._guard.config.policy

    def whoami(self) -> Principal:
        """Who asks.

        Raises
        ------
        NotAuthenticated
            Access is closed, and nobody known asks.
        """
        return self._guard.identify()

    def list_keys(self) -> list[ApiKey]:
        """Every key, oldest first, without the secrets."""
        self._guard.require(Action.ACCESS_VIEW, "API keys")
        return list(self._store().keys().values())

    def create_key(
        self, name: str, role: str, *, lasts: timedelta | None = None, justification: str | None = None
    ) -> NewKey:
        """Make a key; its text is in the result and nowhere else.

        Parameters
        ----------
        name
            Of the person or service that gets it.
        role
            Of the table of roles.
        lasts
            How long it is valid; None: until it is revoked.

        Raises
        ------
        ConfigError
            No such role.
        UsageError
            The name is none, or that of an active key.
        AccessDenied
            The caller may not.
        """
        self.policy.require_role(role)
        now = datetime.now(UTC)
        store = self._store()
        founder = self._founder(store, role)
        with self._guard.acting(
            Action.ACCESS_MANAGE, f"API key of {name}"[:256], justification=justification, principal=founder
        ) as entry:
            expires = None if lasts is None else now + lasts
            made = make_key(name, role, created_by=entry.actor, now=now, expires_at=expires)
            store.add(made.key)
            entry.details |= {"created": made.key.id, "role": role, "first_key": founder is not None}
            return made

    def revoke_key(self, ref: str, *, justification: str | None = None) -> ApiKey:
        """End a key, by id, by name or by the key itself; the newest of those that a name has.

        The endpoint refuses it within its refresh interval.

        Raises
        ------
        NotFound
            No such key.
        AccessDenied
            The caller may not.
        UsageError
            It is the last one of a closed project that may manage access.
        """
        ref = key_reference(ref)
        with self._guard.acting(Action.ACCESS_MANAGE, f"API key {ref}"[:256], justification=justification) as entry:
            store = self._store()
            self._keep_one(store, ref)
            revoked = store.revoke(ref, datetime.now(UTC))
            entry.details |= {"revoked": ", ".join(key.id for key in revoked), "role": revoked[-1].role}
            return revoked[-1]

    def _keep_one(self, store: KeyStore, ref: str) -> None:
        """Return unless nobody could manage access any more."""
        if self._settings.access == "open" or self._guard.config.oidc is not None:
            return
        now, roles = datetime.now(UTC), self.policy.roles
        able = [
            key
            for key in store.keys().values()
            if key.state(now) == "active" and key.role in roles and Action.ACCESS_MANAGE in roles[key.role].actions
        ]
        if able and all(ref in {key.id, key.name} for key in able):
            raise UsageError(
                Fault("this key", "is the last one that may manage access", "", "make another such key first")
            )

    def _founder(self, store: KeyStore, role: str) -> Principal | None:
        """The user of the operating system, when the first key of a closed project is made; else None.

        No key although the audit log has events of them is a database that lost its keys, or was exchanged.
        """
        if self._settings.access == "open" or self._guard.config.oidc is not None or store.keys():
            return None
        if Action.ACCESS_MANAGE not in self.policy.roles[role].actions:
            able = ", ".join(name for name, rule in self.policy.roles.items() if Action.ACCESS_MANAGE in rule.actions)
            error = AccessDenied(
                Fault("the first key", f"has role {role}, which may not make others", f"roles that may: {able}")
            )
            self._guard.record_refusal(Action.ACCESS_MANAGE, "the first API key", local_user(), error)
            raise error
        if self._guard.audit.records(action=Action.ACCESS_MANAGE, outcome=Outcome.SUCCEEDED, limit=1):
            remedy = "restore the database; without its keys nobody can be told from anybody else"
            raise IntegrityError(Fault("API keys", "are gone, and the audit log has their creation", "", remedy))
        return local_user()

    def _store(self) -> KeyStore:
        self._settings.prepare_home()
        return KeyStore(self._settings.database_url)
