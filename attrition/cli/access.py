"""``attrition access``: who may do what, and the API keys that prove who somebody is."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from attrition.cli.console import JsonFlag, JustificationOption, emit, open_workspace, say
from attrition.errors import Fault, UsageError

app = typer.Typer(help="Show roles, manage API keys, see who you are.", no_args_is_help=True)
key = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
app.add_typer(key, name="key")

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@key.command()
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Person or service that gets it.")],
    role: Annotated[str, typer.Option(help="Role, as in `attrition access roles`.")],
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="Valid for: 12h, 90d, 8w.", show_default="until it is revoked")
    ] = None,
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create an API key and print it, once: only a salted hash of it is stored.

    Example: attrition access key create hr-portal --role scorer --expires 90d
    """
    from datetime import UTC, datetime

    lasts = None if expires is None else duration(expires)
    made = open_workspace(ctx).access.create_key(name, role, lasts=lasts, justification=justification)
    emit({**made.key.to_dict(datetime.now(UTC)), "key": made.text}, as_json=as_json)
    if not as_json:
        typer.echo(made.text)
        until = f"until {made.key.expires_at:%Y-%m-%d %H:%M} UTC" if made.key.expires_at else "until it is revoked"
        say(f"Valid {until} as {name}, {role}. Keep it now: it is not shown again. Its owner sets ATTRITION_API_KEY.")


@key.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """List the API keys, oldest first, without the secrets.

    Example: attrition access key list
    """
    from datetime import UTC, datetime

    from attrition.cli.access_views import keys_view

    now = datetime.now(UTC)
    documents = [each.to_dict(now) for each in open_workspace(ctx).access.list_keys()]
    emit(documents, keys_view(documents), as_json=as_json)


@key.command()
def revoke(
    ctx: typer.Context,
    ref: Annotated[str, typer.Argument(metavar="ID|NAME", help="As in `attrition access key list`.")],
    justification: JustificationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Revoke an API key; a running endpoint refuses it within ten seconds.

    Example: attrition access key revoke hr-portal --justification "left in a public repository"
    """
    from datetime import UTC, datetime

    revoked = open_workspace(ctx).access.revoke_key(ref, justification=justification)
    emit(revoked.to_dict(datetime.now(UTC)), as_json=as_json)
    say(f"Revoked key {revoked.id} of {revoked.name}.")


@app.command()
def roles(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Print the table of roles: what each of them permits.

    Example: attrition access roles
    """
    from attrition.cli.access_views import roles_view

    policy = open_workspace(ctx).access.policy
    emit(policy.to_dict(), roles_view(policy), as_json=as_json)


@app.command()
def whoami(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Show who you are to attrition here, how it knows, and what you may do.

    Example: attrition access whoami
    """
    from attrition.cli.access_views import principal_view

    workspace = open_workspace(ctx)
    principal, mode = workspace.access.whoami(), workspace.settings.access
    permitted = sorted(workspace.access.policy.actions_of(principal))
    document = {
        "name": principal.name,
        "roles": list(principal.roles),
        "via": principal.via,
        "access": mode,
        "actions": permitted,
    }
    emit(document, principal_view(principal, mode, permitted), as_json=as_json)


def duration(text: str) -> timedelta:
    """How long ``90d`` is.

    Raises
    ------
    UsageError
        Not a number of hours, days or weeks from one hour to ten years.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([hdw])", text.strip())
    lasts = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if lasts is None or lasts > timedelta(days=3660):
        raise UsageError(Fault("--expires", repr(text[:20]), "hours, days or weeks: 12h, 90d, 8w; at most ten years"))
    return lasts
