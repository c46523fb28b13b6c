"""How keys, roles and principals look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.governance.access import Principal, RolePolicy


def keys_view(keys: Sequence[dict[str, Any]]) -> Table:
    """API keys, in the order given."""
    columns = ("id", "name", "role", "state", "created_at", "created_by", "expires_at", "revoked_at")
    table = _table("API keys", *(column.replace("_at", "").replace("_", " ") for column in columns))
    for key in keys:
        table.add_row(*(str(key[column] or "") for column in columns))
    return table


def roles_view(policy: RolePolicy) -> Table:
    """Actions by role."""
    eyes = "the approver is not the author" if policy.four_eyes else "authors may approve"
    table = _table(f"Roles ({eyes})", "action", *policy.roles)
    for action, permitted in policy.rows:
        table.add_row(action, *("yes" if each else Text("-", "dim") for each in permitted))
    return table


def principal_view(principal: Principal, access: str, permitted: Sequence[str]) -> Table:
    """Who somebody is."""
    table = Table(title=Text(principal.name, "bold"), title_justify="left", box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    table.add_row("access", access)
    table.add_row("recognised by", principal.via)
    table.add_row("roles", "all" if principal.unrestricted else ", ".join(principal.roles) or "none")
    table.add_row("may", "everything" if principal.unrestricted else ", ".join(permitted) or "nothing")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column)
    return table
