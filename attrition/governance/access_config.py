"""How access is configured: one optional YAML file, named by ``ATTRITION_ACCESS_CONFIG``.

::

    oidc:                      # tokens of an identity provider; without it only API keys are accepted
      issuer: https://...
      audience: ...
      key_set: https://...
    four_eyes: true            # the approver of a version is somebody else than whoever trained and registered it
    roles:                     # replaces the shipped table, attrition/governance/roles.yaml
      ml_lead: {summary: ..., actions: [model.approve, ...]}

It holds no secrets: what is secret is an API key, a token, or the password in ``ATTRITION_DATABASE_URL``.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, model_validator

from attrition.governance.access import RolePolicy, RoleRule
from attrition.governance.access_tokens import OidcConfig
from attrition.settings import load_yaml

if TYPE_CHECKING:
    from pathlib import Path


class AccessConfig(BaseModel):
    """Whose tokens are accepted, and what each role permits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    oidc: OidcConfig | None = None
    """The identity provider; None: only API keys."""
    four_eyes: bool = True
    """Whether the approver of a version must be somebody else than its authors; false for somebody who works alone."""
    roles: dict[str, RoleRule] | None = None
    """An own table of roles; None: the shipped one."""

    @model_validator(mode="after")
    def _roles_exist(self) -> Self:
        mapped = self.oidc.roles.values() if self.oidc else ()
        unknown = sorted(set(mapped) - set(self.policy.roles))
        if unknown:
            raise ValueError(f"oidc.roles: unknown role {', '.join(unknown)}; roles: {', '.join(self.policy.roles)}")
        return self

    @cached_property
    def policy(self) -> RolePolicy:
        """The rules that hold."""
        roles = RolePolicy.default().roles if self.roles is None else self.roles
        return RolePolicy(four_eyes=self.four_eyes, roles=roles)

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The configuration in a file; what is shipped when there is none.

        Raises
        ------
        ConfigError
            Not YAML, an unknown key, role or action, or a value that is not allowed; all faults at once.
        """
        return cls() if path is None else load_yaml(path, cls)
