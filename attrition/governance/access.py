"""Who may do what: principals, roles, and the one table that relates roles to actions.

Pure: nothing here asks the environment, a database or a clock. The table is ``roles.yaml`` beside this module; a
project replaces it under the key ``roles`` of its access configuration (:mod:`attrition.governance.access_config`).

What these rules can and cannot hold off: the HTTP endpoint is a boundary, its callers reach nothing but the endpoint.
A :class:`~attrition.workspace.Workspace` runs in its user's own process with the addresses of the stores, so there
the rules bind the honest and leave a record; whoever must be kept out gets no access to database, registry and storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from attrition.errors import AccessDenied, ConfigError, Fault
from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

RECORDED_ONLY = frozenset({Action.ACCESS_DENIED})
"""Events that nobody performs, so no role can permit them."""


class Role(StrEnum):
    """The shipped roles: four for persons, the last two for services."""

    ML_ENGINEER = "ml_engineer"
    ML_LEAD = "ml_lead"
    DATA_SCIENTIST = "data_scientist"
    COMPLIANCE_AUDITOR = "compliance_auditor"
    SCORER = "scorer"
    OPERATOR = "operator"


class Method(StrEnum):
    """How somebody proved who they are."""

    USER = "user"
    """Not at all: the operating system's user, where access is open."""
    KEY = "key"
    """An API key."""
    TOKEN = "token"  # noqa: S105 - a word, no secret
    """A token of the organisation's identity provider."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks.

    Attributes
    ----------
    name : str
        Of the person or service, as the audit log records it.
    roles : tuple of str
        Names of roles; unknown ones permit nothing.
    method : Method
    key_id : str
        Id of the API key; empty without one.
    unrestricted : bool
        Everything is permitted: the user of an open workspace.
    """

    name: str
    roles: tuple[str, ...] = ()
    method: Method = Method.USER
    key_id: str = ""
    unrestricted: bool = False

    @property
    def via(self) -> str:
        """How they were recognised, such as ``key 3f9c01d2``."""
        return f"{self.method} {self.key_id}".rstrip()

    def is_same_person(self, name: str) -> bool:
        """Whether `name` names this principal, however it was recognised then: spelling aside, names are identities."""
        return self.name.strip().casefold() == name.strip().casefold()


class RoleRule(BaseModel):
    """What one role is for and permits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: Annotated[str, Field(min_length=1)]
    """One sentence."""
    actions: frozenset[Action]
    """What it permits; everything else is refused."""

    @field_serializer("actions")
    def _in_order(self, actions: frozenset[Action]) -> list[str]:
        return sorted(actions)  # equal tables must look equal wherever one is stored

    @field_validator("actions", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        if not isinstance(value, list | tuple | set | frozenset):
            return value
        known = [str(action) for action in Action if action not in RECORDED_ONLY]
        unknown = sorted({str(item) for item in value} - set(known))
        if unknown:
            near = [match for name in unknown for match in get_close_matches(name, known, 1)]
            hint = f"did you mean {', '.join(near)}?" if near else f"actions: {', '.join(known)}"
            raise ValueError(f"unknown action {', '.join(unknown)}; {hint}")
        repeated = sorted({str(item) for item in value if list(value).count(item) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} stands here twice")
        return value


class RolePolicy(BaseModel):
    """The table of roles, and the rules between persons.

    Examples
    --------
    >>> policy = RolePolicy.default()
    >>> policy.permits(Principal("hr-portal", ("scorer",)), Action.PREDICT)
    True
    >>> policy.permits(Principal("hr-portal", ("scorer",)), Action.APPROVE)
    False
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    four_eyes: bool = True
    """Whether the approver of a version must be somebody else than its authors."""
    roles: Annotated[Mapping[str, RoleRule], Field(min_length=1)]
    """Rule by role."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        bad = [name for name in self.roles if not name.replace("_", "").replace("-", "").isalnum()]
        if bad:
            raise ValueError(f"role {bad[0]!r}: letters, digits, _ and - make a name")
        return self

    @classmethod
    def default(cls) -> Self:
        """The shipped table."""
        text = files("attrition.governance").joinpath("roles.yaml").read_text(encoding="utf-8")
        return cls.model_validate(yaml.safe_load(text))

    def actions_of(self, principal: Principal) -> frozenset[Action]:
        """Everything that a principal may do: the union of what their roles permit."""
        if principal.unrestricted:
            return frozenset(Action) - RECORDED_ONLY
        rules = (self.roles[role] for role in principal.roles if role in self.roles)
        return frozenset().union(*(rule.actions for rule in rules))

    def permits(self, principal: Principal, action: Action) -> bool:
        """Whether a principal may do something."""
        return action in self.actions_of(principal)

    def require(self, principal: Principal, action: Action) -> None:
        """Return when a principal may do something.

        Raises
        ------
        AccessDenied
            They may not; names the roles that may.
        """
        if self.permits(principal, action):
            return
        roles = ", ".join(principal.roles) or "no role"
        able = ", ".join(name for name, rule in self.roles.items() if action in rule.actions) or "none"
        raise AccessDenied(Fault(str(action), f"is not permitted to {principal.name} ({roles})", f"permitted: {able}"))

    @property
    def rows(self) -> list[tuple[str, tuple[bool, ...]]]:
        """The table for people to read: every action with one answer per role, in the order of `roles`."""
        rules = self.roles.values()
        return [(str(a), tuple(a in rule.actions for rule in rules)) for a in Action if a not in RECORDED_ONLY]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready document."""
        roles = {name: {"summary": rule.summary, "actions": sorted(rule.actions)} for name, rule in self.roles.items()}
        return {"four_eyes": self.four_eyes, "roles": roles}

    def require_role(self, name: str) -> str:
        """The name of a role of this table.

        Raises
        ------
        ConfigError
            There is no such role.
        """
        if name not in self.roles:
            raise ConfigError(Fault(f"role {name[:60]!r}", "does not exist", f"roles: {', '.join(self.roles)}"))
        return name

    def require_other_eyes(
        self, approver: Principal, authors: Iterable[str], subject: str, *, vouched_by: Iterable[str] = ()
    ) -> None:
        """Return when a principal may approve what `authors` made.

        A key that the approver made for an author is not refused: it looks as that of a colleague. The audit log says
        who made it, and an identity provider's tokens leave no doubt.

        Parameters
        ----------
        approver
            Who wants to approve.
        authors
            Names of those who trained and registered the version; empty names are unknown persons.
        subject
            What is approved, for the message: ``version 1.1.0``.
        vouched_by
            Who made the approver's key, and the keys of those
            (:func:`~attrition.governance.access_keys.vouchers`): a key that an author made may be a second name.

        Raises
        ------
        AccessDenied
            Four eyes are asked for, and the approver is one of the authors or has a key from one, or nobody knows who
            they are.
        """
        if not self.four_eyes:
            return
        known = [name for name in authors if name.strip()]
        if not known:
            remedy = "register it again, so that its author is recorded"
            raise AccessDenied(Fault(subject, "has no recorded author", "four eyes need one", remedy))
        if any(approver.is_same_person(name) for name in known):
            remedy = "have somebody else who may approve look at it"
            raise AccessDenied(Fault(subject, f"was made by {approver.name}", "its author may not approve it", remedy))
        own = {name.strip().casefold() for name in known}
        made = [name for name in vouched_by if name.strip().casefold() in own]
        if made:
            found = f"was made by {made[0]}, from whom the key of {approver.name} comes"
            remedy = "have somebody approve it whose key comes from somebody else"
            raise AccessDenied(Fault(subject, found, "its author may not say who approves it", remedy))
