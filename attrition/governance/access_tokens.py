"""Tokens of the organisation's identity provider: OpenID Connect JSON Web Tokens, checked offline by its public keys.

Microsoft Entra ID, for example: register an application, give it app roles (``Attrition.Lead``, ...), assign people and
services to them, and configure ::

    oidc:
      issuer: https://login.microsoftonline.com/<tenant id>/v2.0
      audience: <application id>                      # in v2.0 tokens; api://<application id> in v1.0 tokens
      key_set: https://login.microsoftonline.com/<tenant id>/discovery/v2.0/keys
      name_claim: preferred_username                  # services have none: for them azp, or sub
      roles_claim: roles
      roles: {Attrition.Lead: ml_lead, Attrition.Auditor: compliance_auditor}

A caller gets a token with ``az account get-access-token --resource api://<application id> --query accessToken -o tsv``
and sends it as ``Authorization: Bearer``, or sets ``ATTRITION_TOKEN``. An application whose manifest does not say
``requestedAccessTokenVersion: 2`` gets v1.0 tokens, whose issuer is ``https://sts.windows.net/<tenant id>/``.

Only signatures by a private key are accepted: with a shared secret whoever can check a token could also make one, and
the published key would pass for that secret (the confusion of algorithms of RFC 8725, section 2.1). The key's own type
decides together with the configuration, never the token alone.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from attrition.errors import AccessUnavailable, Fault, NotAuthenticated, UnknownSigningKey
from attrition.governance.access import Method, Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

MAX_TOKEN_LENGTH = 16_384
"""Characters; Entra's longest have a few thousand."""
MAX_KEY_SET_BYTES = 1_048_576

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_FETCH_SECONDS = 5.0
_KEY_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""Kind of key by the beginning of an algorithm's name."""


class OidcConfig(BaseModel):
    """Whose tokens are accepted, and what they say about a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Annotated[str, Field(min_length=1)]
    """What ``iss`` must be, to the letter."""
    audience: Annotated[str, Field(min_length=1)]
    """What ``aud`` must be or contain: this service's id at the provider."""
    key_set: Annotated[str, Field(min_length=1)]
    """The provider's JSON Web Key Set: an ``https`` address, or a file that every replica's node has."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    """Signatures that are accepted; RS256 is what providers use unless told otherwise."""
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 60
    """How far clocks may differ."""
    name_claim: Annotated[str, Field(min_length=1)] = "sub"
    """Who it is, for the audit log; ``sub`` is in every token and never given to somebody else."""
    roles_claim: Annotated[str, Field(min_length=1)] = "roles"
    """Where the roles stand: a text or a list of texts; dots descend (``realm_access.roles``)."""
    roles: dict[str, str] = Field(default_factory=dict)
    """Our role by the provider's name for it; empty: the provider uses our names."""
    key_set_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """Between two readings of the key set; an unknown key id causes one at once."""

    @field_validator("key_set")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        address = urlsplit(value)
        if address.scheme in {"http", "https"} and not address.hostname:
            raise ValueError("is an address without a host")
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            raise ValueError("whoever stands between could give their own keys; https is needed")
        return value


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of the provider."""

    key: Any
    """What ``cryptography`` makes of it."""
    kind: str
    """``RSA``, ``EC`` or ``OKP``."""
    algorithm: str
    """The only one it is meant for; empty when the set does not say."""


class KeySet:
    """The provider's public keys by key id, read when asked for and kept.

    Not for several threads at once.

    Parameters
    ----------
    config
        Says where they are and how long they are kept.
    """

    def __init__(self, config: OidcConfig) -> None:
        self._config = config
        self._keys: dict[str, SigningKey] | None = None
        self._read_at = 0.0

    def current(self, max_age_seconds: float | None = None) -> dict[str, SigningKey]:
        """The keys, read again when they are older than `max_age_seconds` or the configured time.

        Raises
        ------
        AccessUnavailable
            The set cannot be read, or is none.
        """
        limit = 60.0 * self._config.key_set_minutes if max_age_seconds is None else max_age_seconds
        if self._keys is None or time.monotonic() - self._read_at > limit:
            self._keys = parse_key_set(_read(self._config.key_set), self._config.key_set)
            self._read_at = time.monotonic()
        return self._keys


def parse_key_set(text: bytes, where: str) -> dict[str, SigningKey]:
    """The signing keys of a JSON Web Key Set (RFC 7517) by key id; a key without an id has the empty one.

    Shared secrets, keys for encryption and kinds that are not known are left out.

    Raises
    ------
    AccessUnavailable
        No key set, or none with a usable key.
    """
    import jwt

    found: dict[str, SigningKey] = {}
    try:
        documents = json.loads(text)["keys"]
        for document in documents:
            kind = document.get("kty")
            if kind not in {"RSA", "EC", "OKP"} or document.get("use", "sig") != "sig" or "d" in document:
                continue
            try:
                key = jwt.PyJWK(document).key
            except jwt.PyJWTError:  # a curve that is not known here must not take the others with it
                continue
            found[str(document.get("kid", ""))] = SigningKey(key, kind, str(document.get("alg", "")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise AccessUnavailable(
            Fault(f"key set {where}", "is no JSON Web Key Set", remedy="check oidc.key_set")
        ) from error
    if not found:
        raise AccessUnavailable(Fault(f"key set {where}", "has no usable public key", remedy="check oidc.key_set"))
    return found


def verify_token(text: str, config: OidcConfig, keys: Mapping[str, SigningKey]) -> tuple[Principal, int]:
    """Whom a token stands for, and until when it is valid, in seconds since 1970.

    Raises
    ------
    UnknownSigningKey
        Signed by a key that is not among `keys`: they may be outdated.
    NotAuthenticated
        No token, not signed, by another algorithm, changed, expired, for another audience, from another issuer.
    """
    import jwt

    algorithm, key = _signature(_header(text), config, keys)
    try:
        claims = jwt.decode(
            text,
            key.key,
            algorithms=[algorithm],
            audience=config.audience,
            issuer=config.issuer,
            leeway=config.leeway_seconds,
            options={"require": ["exp", "iss", "aud"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise _reason(error, config) from error
    name = claims.get(config.name_claim)
    if not isinstance(name, str) or not name.strip():
        raise _refused(f"lacks the claim {config.name_claim}", "it says who somebody is")
    principal = Principal(name.strip()[:200], _roles(claims, config), Method.TOKEN)
    return principal, int(claims["exp"]) + config.leeway_seconds


def authenticate_token(text: str, config: OidcConfig, keys: KeySet) -> Principal:
    """Whom a token stands for; the key set is read again when it does not have the token's key.

    Raises
    ------
    NotAuthenticated
        As of :func:`verify_token`.
    AccessUnavailable
        The key set cannot be read.
    """
    try:
        return verify_token(text, config, keys.current())[0]
    except UnknownSigningKey:
        return verify_token(text, config, keys.current(0.0))[0]


def _header(text: str) -> dict[str, Any]:
    import jwt

    if len(text) > MAX_TOKEN_LENGTH:
        raise _refused(f"has more than {MAX_TOKEN_LENGTH} characters")
    try:
        return jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError) as error:
        raise _refused("is no JSON Web Token") from error


def _signature(header: Mapping[str, Any], config: OidcConfig, keys: Mapping[str, SigningKey]) -> tuple[str, SigningKey]:
    """The accepted algorithm that a token names, and the key by which it must be signed."""
    algorithm = str(header.get("alg", ""))
    if algorithm not in config.algorithms:
        unsigned = not algorithm or algorithm.lower() == "none"
        found = "is not signed" if unsigned else f"is signed by {algorithm[:20]}"
        raise _refused(found, f"accepted: {', '.join(config.algorithms)}")
    # a set with a single key need not name it
    key_id = header.get("kid", next(iter(keys)) if len(keys) == 1 else "")
    key = keys.get(key_id) if isinstance(key_id, str) else None
    if key is None:
        remedy = "get a new token"
        raise UnknownSigningKey(Fault("token", "is signed by a key that the provider does not publish", "", remedy))
    if key.kind != _KEY_KINDS[algorithm[:2]] or key.algorithm not in {"", algorithm}:
        raise _refused(f"is signed by {algorithm}, for which its key is not meant")
    return algorithm, key


def _reason(error: Exception, config: OidcConfig) -> NotAuthenticated:
    """What is wrong with a token that cannot be decoded, in words that do not repeat it."""
    import jwt

    if isinstance(error, jwt.MissingRequiredClaimError):
        return _refused(f"lacks the claim {error.claim}")
    reasons: tuple[tuple[type[Exception], str, str], ...] = (
        (jwt.ExpiredSignatureError, "has expired", "get a new one"),
        (jwt.InvalidAudienceError, "is for another audience", f"{config.audience} is expected"),
        (jwt.InvalidIssuerError, "comes from another issuer", f"{config.issuer} is expected"),
        (jwt.ImmatureSignatureError, "is not valid yet", "check the clocks"),
        (jwt.InvalidIssuedAtError, "is not valid yet", "check the clocks"),
        (jwt.InvalidSignatureError, "has a signature that does not fit", ""),
    )
    found = next((reason[1:] for reason in reasons if isinstance(error, reason[0])), ("is no valid JSON Web Token", ""))
    return _refused(*found)


def _roles(claims: Mapping[str, Any], config: OidcConfig) -> tuple[str, ...]:
    value: Any = claims
    for part in (config.roles_claim,) if config.roles_claim in claims else config.roles_claim.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    given = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    names = [name for name in given if isinstance(name, str)]
    if config.roles:
        names = [config.roles[name] for name in names if name in config.roles]
    return tuple(dict.fromkeys(names))


def _refused(found: str, allowed: str = "", remedy: str = "") -> NotAuthenticated:
    return NotAuthenticated(Fault("token", found, allowed, remedy))


def _read(place: str) -> bytes:
    """The document at an address or in a file."""
    where, remedy = f"key set {place}", "check oidc.key_set, and that the provider answers from here"
    if not place.startswith(("http://", "https://")):
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise AccessUnavailable(Fault(where, f"cannot be read ({error.strerror})", remedy=remedy)) from error
    import httpx

    try:
        response = httpx.get(place, timeout=_FETCH_SECONDS, headers={"accept": "application/json"})
    except httpx.HTTPError as error:
        found = "no answer" if isinstance(error, httpx.TimeoutException) else "no connection"
        raise AccessUnavailable(Fault(where, found, remedy=remedy)) from error
    if response.status_code != 200 or len(response.content) > MAX_KEY_SET_BYTES:
        raise AccessUnavailable(Fault(where, f"answered {response.status_code}", remedy=remedy))
    return response.content
