"""The check that each request passes where access is closed: who asks, and whether they may.

The check is on the hot path, so it never asks anything: a background thread reads all keys from the database every ten
seconds, and what a request presents is compared with those. Verified credentials are remembered under the SHA-256 of
their header, so that a caller's second request costs one hash and one look-up. A revocation reaches a replica with the
next reading; when the database does not answer, known credentials go on for `max_stale_seconds` and unknown ones get
503: an outage closes the endpoint late, it never opens it.

With open access there is no check at all, and none of this is imported.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrition.errors import AccessUnavailable, NotAuthenticated, UnknownSigningKey
from attrition.governance.access_keys import PREFIX, check_key, parse_key
from attrition.governance.access_tokens import verify_token
from attrition.governance.actions import Action
from attrition.serving.client_address import client_address
from attrition.serving.permissions import EXACT, PUBLIC, methods_of, needed
from attrition.serving.protocols.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from attrition.governance.access import Principal
    from attrition.governance.access_config import AccessConfig
    from attrition.governance.access_keys import ApiKey
    from attrition.governance.access_tokens import SigningKey

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 10.0
"""Between two readings of the keys: how long a revoked key may go on."""
MAX_STALE_SECONDS = 300.0
"""How long known credentials work while the database does not answer: a failover of it takes one or two minutes."""
MAX_KEY_SET_STALE_SECONDS = 86_400.0
"""The same for the provider's public keys, which change a few times a year."""
MAX_REMEMBERED = 10_000
"""Verified credentials; beyond it they are verified again, some 100 µs each for a token."""

MAX_BUNDLES = 100
"""Refusals that are told apart by their address between two reports; the others are told without one. Many addresses
must not fill the audit log."""

_TOKEN_SECONDS = 300.0
"""After which a remembered token is verified again, by the keys of then."""
_MIN_PAUSE_SECONDS = 1.0
"""Between two readings that unknown credentials ask for; that of the provider's key set is the longer one."""
_MIN_KEY_SET_PAUSE_SECONDS = 30.0

_REALM = b'Bearer realm="attrition"'


@dataclass(frozen=True, slots=True)
class _Verified:
    """Credentials that were found valid."""

    principal: Principal
    permitted: frozenset[str]
    until: float
    """Seconds since 1970; for keys also the end of what may be believed of the keys that were read."""


@dataclass(frozen=True, slots=True)
class Denied:
    """What a bundle of refusals has in common.

    Attributes
    ----------
    principal : Principal or None
        None: nobody who is known, so the request had no valid key or token.
    action : Action or None
        What was wanted; None when nobody known wanted it.
    address : str or None
        Where the requests came from; None when it is not known, or when there were too many addresses.
    """

    principal: Principal | None
    action: Action | None
    address: str | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What one reading of the database and the key set has brought; replaced as a whole, so a check sees no mixture."""

    keys: Mapping[str, ApiKey] = field(default_factory=dict)
    keys_until: float = 0.0
    keys_failed: bool = True
    tokens: Mapping[str, SigningKey] = field(default_factory=dict)
    tokens_until: float = 0.0
    tokens_failed: bool = True
    verified: dict[bytes, _Verified] = field(default_factory=dict)
    """By SHA-256 of the header's value. It belongs to this reading: what is verified by an old one cannot slip into
    the next."""


class AccessCheck:
    """The check that each request of one replica passes.

    Parameters
    ----------
    config
        Roles, and whose tokens are accepted.
    read_keys
        Reads every API key by id; raises AccessUnavailable. Called by the background thread only.
    read_tokens
        Reads the provider's signing keys, given the greatest age that will do; None: no tokens are accepted.
    on_denied
        Told by the background thread who was refused which action from where, and how often; for the audit log.
    refresh_seconds, max_stale_seconds
        See `REFRESH_SECONDS` and `MAX_STALE_SECONDS`.
    clock
        Seconds since 1970. For tests.
    """

    def __init__(
        self,
        config: AccessConfig,
        read_keys: Callable[[], Mapping[str, ApiKey]],
        read_tokens: Callable[[float | None], Mapping[str, SigningKey]] | None = None,
        *,
        on_denied: Callable[[Denied, int], None] | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
        max_stale_seconds: float = MAX_STALE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._read_keys = read_keys
        self._read_tokens = read_tokens
        self._on_denied = on_denied
        self._refresh_seconds = refresh_seconds
        self._max_stale_seconds = max_stale_seconds
        self._clock = clock
        self._known = _Known()
        self._denied: Counter[Denied] = Counter()
        self._unknown_signer = False
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def authorise(self, scope: MutableMapping[str, Any]) -> Problem | None:
        """Why a request is not answered; None when it may be. Takes microseconds and never waits.

        Parameters
        ----------
        scope
            ASGI scope of an HTTP request. The name of a permitted caller is left in it as ``principal``.
        """
        path = scope["path"]
        if scope.get("root_path"):
            path = path.removeprefix(scope["root_path"])
        permission = EXACT.get((scope["method"], path)) or needed(scope["method"], path)
        if permission == PUBLIC:
            return None
        header = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                header = value
                break
        if header is None:
            return self._turn_away(scope, "send an API key or a token as Authorization: Bearer ...", error="")
        known = self._known
        digest = sha256(header).digest()
        verified = known.verified.get(digest)
        if verified is None or verified.until <= self._clock():
            found = self._verify(known, header, scope)
            if isinstance(found, Problem):
                return found
            verified = found
            if len(known.verified) >= MAX_REMEMBERED:
                known.verified.clear()
            known.verified[digest] = verified
        scope["principal"] = verified.principal.name
        if permission in verified.permitted:
            return None
        return self._refuse(verified.principal, permission, path, scope)

    def refresh(self) -> None:
        """Read the keys and the key set once; what cannot be read stays as it was, and is said in the log."""
        before, now = self._known, self._clock()
        keys, keys_until, keys_failed = before.keys, before.keys_until, True
        try:
            keys, keys_until, keys_failed = self._read_keys(), now + self._max_stale_seconds, False
        except AccessUnavailable as error:
            logger.warning("%s", error)
        tokens, tokens_until, tokens_failed = before.tokens, before.tokens_until, self._read_tokens is not None
        if self._read_tokens is not None:
            again, self._unknown_signer = self._unknown_signer, False
            try:
                tokens = self._read_tokens(_MIN_KEY_SET_PAUSE_SECONDS if again else None)
                tokens_until, tokens_failed = now + MAX_KEY_SET_STALE_SECONDS, False
            except AccessUnavailable as error:
                logger.warning("%s", error)
        # a list: requests go on adding to the dictionary meanwhile
        kept = {
            digest: _Verified(verified.principal, verified.permitted, until)
            for digest, verified in list(before.verified.items())
            if (until := self._valid_until(verified, keys, keys_until)) > now
        }
        self._known = _Known(keys, keys_until, keys_failed, tokens, tokens_until, tokens_failed, kept)

    def start(self) -> None:
        """Read everything once, then go on in the background. An outage does not keep a replica from starting."""
        self.refresh()
        self._thread = threading.Thread(target=self._run, name="attrition-access", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the background thread."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _run(self) -> None:
        while not self._stopped:
            woken = self._wake.wait(self._refresh_seconds)
            if woken and not self._stopped:
                time.sleep(_MIN_PAUSE_SECONDS)  # whoever sends nonsense does not decide how often the database is asked
            self._wake.clear()
            if not self._stopped:
                try:
                    self.refresh()
                    self._report()
                except Exception:  # this thread must live: without it revocations would not arrive
                    logger.exception("Access could not be refreshed")

    def _report(self) -> None:
        denied, self._denied = self._denied, Counter()
        if self._on_denied is not None:
            for bundle, times in list(denied.items()):
                self._on_denied(bundle, times)

    def _count(self, principal: Principal | None, action: Action | None, scope: Mapping[str, Any]) -> None:
        bundle = Denied(principal, action, client_address(scope))
        if bundle not in self._denied and len(self._denied) >= MAX_BUNDLES:
            bundle = Denied(principal, action, None)
        if bundle in self._denied or len(self._denied) < MAX_REMEMBERED:
            self._denied[bundle] += 1

    def _valid_until(self, verified: _Verified, keys: Mapping[str, ApiKey], keys_until: float) -> float:
        """Until when remembered credentials hold by a new reading; 0 when they do not."""
        if not verified.principal.key_id:
            return verified.until
        key = keys.get(verified.principal.key_id)
        if key is None or key.revoked_at is not None or key.role not in verified.principal.roles:
            return 0.0
        return min(keys_until, key.expires_at.timestamp() if key.expires_at else keys_until)

    def _verify(self, known: _Known, header: bytes, scope: Mapping[str, Any]) -> _Verified | Problem:
        scheme, _, text = header.decode("latin-1").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            return self._turn_away(scope, "the header Authorization must be: Bearer, a blank, an API key or a token")
        try:
            return self._verify_key(known, text) if text.startswith(PREFIX) else self._verify_token(known, text)
        except AccessUnavailable as error:
            return _unavailable(str(error))
        except NotAuthenticated as error:
            return self._turn_away(scope, str(error))

    def _turn_away(self, scope: Mapping[str, Any], detail: str, *, error: str = "invalid_token") -> Problem:
        self._count(None, None, scope)
        return _unauthenticated(detail, error=error)

    def _verify_key(self, known: _Known, text: str) -> _Verified:
        now = self._clock()
        id_and_secret = parse_key(text)
        if id_and_secret is None:
            raise NotAuthenticated("API key: has not the form of one; check that it was copied whole.")
        key = known.keys.get(id_and_secret[0])
        if known.keys_until <= now or (key is None and known.keys_failed):
            raise AccessUnavailable("API keys cannot be checked at the moment.")
        if key is None:
            self._wake.set()  # it may have been made a second ago
        principal = check_key(key, id_and_secret[1], datetime.fromtimestamp(now, UTC))
        assert key is not None
        until = min(known.keys_until, key.expires_at.timestamp() if key.expires_at else known.keys_until)
        return _Verified(principal, self._permitted(principal), until)

    def _verify_token(self, known: _Known, text: str) -> _Verified:
        now, oidc = self._clock(), self._config.oidc
        if oidc is None:
            raise NotAuthenticated("Tokens are not accepted here; send an API key.")
        if known.tokens_until <= now:
            self._wake.set()
            raise AccessUnavailable("Tokens cannot be checked at the moment.")
        try:
            principal, expires = verify_token(text, oidc, known.tokens)
        except UnknownSigningKey:
            self._unknown_signer = True  # the provider may have begun to sign by a new key
            self._wake.set()
            if known.tokens_failed:
                raise AccessUnavailable("Tokens cannot be checked at the moment.") from None
            raise
        return _Verified(principal, self._permitted(principal), min(expires, now + _TOKEN_SECONDS))

    def _permitted(self, principal: Principal) -> frozenset[str]:
        return frozenset(action.value for action in self._config.policy.actions_of(principal))

    def _refuse(self, principal: Principal, permission: str | None, path: str, scope: Mapping[str, Any]) -> Problem:
        if permission is None:
            methods = methods_of(path)
            if methods:
                headers = ((b"allow", ", ".join(methods).encode()),)
                detail = f"use {' or '.join(methods)}"
                return Problem(405, "method-not-allowed", "The method is not allowed", detail, headers=headers)
            return Problem(404, "not-found", "Nothing is here", "the paths of this service are listed at /docs")
        self._count(principal, Action(permission), scope)
        roles = ", ".join(principal.roles) or "none"
        return Problem(
            403,
            "forbidden",
            "This is not permitted",
            f"it needs {permission}, which the roles of this caller ({roles}) do not permit",
            headers=((b"www-authenticate", _REALM + b', error="insufficient_scope"'),),
        )


def _unauthenticated(detail: str, *, error: str) -> Problem:
    challenge = _REALM + (f', error="{error}"'.encode() if error else b"")
    headers = ((b"www-authenticate", challenge),)
    return Problem(401, "unauthenticated", "Say who asks", detail.rstrip("."), headers=headers)


def _unavailable(detail: str) -> Problem:
    headers = ((b"retry-after", b"5"),)
    return Problem(503, "access-unavailable", "Access cannot be checked", detail.rstrip("."), headers=headers)
