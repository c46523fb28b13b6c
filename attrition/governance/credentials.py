"""Who is asking: from the caller's environment to a principal.

``ATTRITION_API_KEY`` holds an API key, ``ATTRITION_TOKEN`` a token of the identity provider; one of them. They are read
from the environment and never from a file or an option, so that they stand in no shell history and no process list.
"""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from attrition.errors import Fault, NotAuthenticated, UsageError
from attrition.governance.access import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from attrition.governance.access_config import AccessConfig
    from attrition.settings import Settings

API_KEY, TOKEN = "ATTRITION_API_KEY", "ATTRITION_TOKEN"


def presented(environ: Mapping[str, str] | None = None) -> str:
    """The key or token of the caller's environment, as it is sent to the endpoint; empty when there is none.

    Parameters
    ----------
    environ
        Defaults to ``os.environ``.

    Raises
    ------
    UsageError
        Both are set, so it is not clear who asks; or one holds a blank or a line break, which no header can carry.
    """
    environ = os.environ if environ is None else environ
    given = {name: environ[name].strip() for name in (API_KEY, TOKEN) if environ.get(name, "").strip()}
    if len(given) > 1:
        raise UsageError(Fault(f"{API_KEY} and {TOKEN}", "are both set", remedy="unset one of them"))
    for name, text in given.items():
        if not text.isascii() or not text.isprintable() or " " in text:
            raise UsageError(Fault(name, "holds characters that neither a key nor a token has", remedy="copy it again"))
    return next(iter(given.values()), "")


def authorization(text: str | None = None) -> dict[str, str]:
    """The request header that says who asks; empty when nobody is named.

    Parameters
    ----------
    text
        API key or token; None: the one of the environment, see :func:`presented`.
    """
    text = presented() if text is None else text
    return {"authorization": f"Bearer {text}"} if text else {}


def local_user() -> Principal:
    """The user of the operating system, who may do everything where access is open."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        name = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return Principal(name, unrestricted=True)


def identify(
    settings: Settings, config: AccessConfig, *, now: datetime, environ: Mapping[str, str] | None = None
) -> Principal:
    """The principal behind this process.

    With open access it is the user of the operating system, whatever the variables say: they may be meant for a remote
    endpoint.

    Raises
    ------
    NotAuthenticated
        Access is closed, and there is no key or token, or it is not valid.
    AccessUnavailable
        The database of keys or the provider's key set cannot be asked.
    UsageError
        Both a key and a token are set.
    """
    if settings.access == "open":
        return local_user()
    from attrition.governance.access_keys import PREFIX, KeyStore
    from attrition.governance.access_tokens import KeySet, authenticate_token

    environ = os.environ if environ is None else environ
    text = presented(environ)
    is_key = text.startswith(PREFIX) or bool(environ.get(API_KEY, "").strip())
    if is_key or not text:
        settings.prepare_home()
        store = KeyStore(settings.database_url)
        if text:
            return store.authenticate(text, now)
        has_keys = config.oidc is not None or bool(store.keys())
        allowed = f"{API_KEY}, or {TOKEN}" if config.oidc else API_KEY
        remedy = "ask whoever manages access here"
        if not has_keys:
            remedy = "make the first key: attrition access key create NAME --role ml_lead"
        raise NotAuthenticated(Fault("access", "is closed here, and nobody says who asks", f"set {allowed}", remedy))
    if config.oidc is None:
        raise NotAuthenticated(
            Fault(
                TOKEN, "cannot be checked", "no identity provider is configured", "name one in ATTRITION_ACCESS_CONFIG"
            )
        )
    return authenticate_token(text, config.oidc, KeySet(config.oidc))
