"""API keys for services and people: ``attr_<id>_<secret>``, of which only a salted hash is stored.

The secret has 256 random bits, so nobody can guess it or search for it, and one SHA-256 protects it as well as a slow
password hash would; the salt keeps equal hashes from meaning equal keys in two projects' databases. The id in front is
no secret: it finds the row and names the key in lists and in the audit log.

Keys are never deleted, only revoked: the audit log names them for years.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrition.errors import AccessUnavailable, Fault, NotAuthenticated, NotFound, PlatformError, UsageError
from attrition.governance.access import Method, Principal
from attrition.governance.database import Database, from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

PREFIX = "attr_"
"""With which every key begins, so that scanners of repositories and logs recognise one."""

TABLE = "api_keys"

_LOCK = int.from_bytes(sha256(b"attrition/api-keys/lock").digest()[:8], "big", signed=True)
_ID_BYTES, _SECRET_BYTES, _SALT_BYTES = 6, 32, 16
_DOMAIN = b"attrition/api-key\x00"
_FORM = re.compile(r"attr_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key; it does not contain the secret.

    Attributes
    ----------
    id : str of 12 hexadecimal digits
    name : str
        Of the person or service that has it.
    role : str
    salt, digest : bytes
        What the secret is compared with.
    created_at : datetime
        UTC, like all times here.
    created_by : str
    expires_at : datetime or None
        None: never.
    revoked_at : datetime or None
        None: it is not revoked.
    """

    id: str
    name: str
    role: str
    salt: bytes
    digest: bytes
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    @property
    def principal(self) -> Principal:
        """Whom it stands for."""
        return Principal(self.name, (self.role,), Method.KEY, self.id)

    def state(self, now: datetime) -> str:
        """``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    def opens(self, secret: str) -> bool:
        """Whether `secret` is this key's; takes as long for a wrong one as for the right one."""
        return hmac.compare_digest(self.digest, _digest(self.salt, secret))

    def to_dict(self, now: datetime) -> dict[str, Any]:
        """JSON-ready document, without salt and hash."""
        moments = {"created_at": self.created_at, "expires_at": self.expires_at, "revoked_at": self.revoked_at}
        return {
            "id": self.id,
            "name": self.name,
            "role": self.role,
            "state": self.state(now),
            "created_by": self.created_by,
            **{name: moment and moment.isoformat(timespec="seconds") for name, moment in moments.items()},
        }


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with the text that nobody can read again."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.key.id!r}, name={self.key.name!r})"


def make_key(name: str, role: str, *, created_by: str, now: datetime, expires_at: datetime | None = None) -> NewKey:
    """A new random key.

    Raises
    ------
    UsageError
        A name that is none, or an expiry in the past.
    """
    faults = []
    if not _NAME.fullmatch(name):
        faults.append(Fault("name of a key", repr(name[:100]), "1 to 100 letters, digits and . _ @ -"))
    if expires_at is not None and expires_at <= now:
        faults.append(Fault("expiry of a key", "lies in the past"))
    if faults:
        raise UsageError(faults)
    key_id, secret, salt = (
        secrets.token_hex(_ID_BYTES),
        secrets.token_urlsafe(_SECRET_BYTES),
        secrets.token_bytes(_SALT_BYTES),
    )
    key = ApiKey(key_id, name, role, salt, _digest(salt, secret), now, created_by, expires_at)
    return NewKey(key, f"{PREFIX}{key_id}_{secret}")


def parse_key(text: str) -> tuple[str, str] | None:
    """Id and secret of what has the form of a key; None for anything else.

    Examples
    --------
    >>> parse_key("attr_0123456789ab_" + "s" * 43)[0]
    '0123456789ab'
    >>> parse_key("attr_0123456789ab_short") is None
    True
    """
    found = _FORM.fullmatch(text)
    return None if found is None else (found[1], found[2])


def key_reference(text: str) -> str:
    """What names a key in records: the id of a whole key, which itself must never be written anywhere; else the text.

    Raises
    ------
    UsageError
        A part of a key: it is not repeated.

    Examples
    --------
    >>> key_reference("attr_0123456789ab_" + "s" * 43), key_reference("hr-portal")
    ('0123456789ab', 'hr-portal')
    """
    parsed = parse_key(text.strip())
    if parsed is not None:
        return parsed[0]
    if text.strip().startswith("attr_"):
        raise UsageError(Fault("key", "is named by a part of it", remedy="give its id, its name, or the whole key"))
    return text


def check_key(key: ApiKey | None, secret: str, now: datetime) -> Principal:
    """Whom a presented secret stands for; the stored key is None when its id is unknown.

    Only who has the secret learns that a key was revoked or has expired.

    Raises
    ------
    NotAuthenticated
        The key is unknown, revoked or expired.
    """
    if key is None or not key.opens(secret):
        raise NotAuthenticated(Fault("API key", "is not known", remedy="check that it was copied whole"))
    state = key.state(now)
    if state != "active":
        since = key.revoked_at if state == "revoked" else key.expires_at
        assert since is not None
        found = f"was revoked on {since:%Y-%m-%d}" if state == "revoked" else f"expired on {since:%Y-%m-%d}"
        remedy = "ask for a new one: attrition access key create"
        raise NotAuthenticated(Fault(f"API key {key.id}", found, remedy=remedy))
    return key.principal


def vouchers(keys: Mapping[str, ApiKey], key_id: str) -> tuple[str, ...]:
    """Who made a key, who made the keys of those, and so on: the names behind a principal, the nearest first.

    Parameters
    ----------
    keys
        Every key by id, also revoked ones: whoever made a key made it, whatever became of their own.
    key_id
        Of the principal; an unknown or empty one has nobody behind it.
    """
    key = keys.get(key_id)
    found: dict[str, str] = {}
    waiting = [] if key is None else [key.created_by]
    while waiting:
        name = waiting.pop(0)
        if name.casefold() not in found:
            found[name.casefold()] = name
            waiting += [other.created_by for other in keys.values() if other.name.casefold() == name.casefold()]
    return tuple(found.values())


class KeyStore:
    """The table of keys.

    Parameters
    ----------
    url
        Of the database that has it, for SQLAlchemy; the table is made on first use.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, _table().metadata)

    def add(self, key: ApiKey) -> None:
        """Store a new key.

        Raises
        ------
        UsageError
            Another key of this name is active: two that cannot be told apart could not be revoked one by one.
        AccessUnavailable
            The database does not answer.
        """
        row = {
            "id": key.id,
            "name": key.name,
            "role": key.role,
            "salt": key.salt,
            "digest": key.digest,
            "created_at": to_microseconds(key.created_at),
            "created_by": key.created_by,
            "expires_at": None if key.expires_at is None else to_microseconds(key.expires_at),
        }

        def insert(connection: Any, table: Any) -> bool:
            """Look and insert in one statement, so that of two writers with one name the second finds the first."""
            import sqlalchemy as sa

            if connection.dialect.name == "postgresql":  # whose statements do not see what is not committed yet
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            valid = sa.or_(table.c.expires_at.is_(None), table.c.expires_at > row["created_at"])
            taken = sa.exists().where(table.c.name == key.name, table.c.revoked_at.is_(None), valid)
            values = sa.select(*(sa.literal(value, table.c[name].type) for name, value in row.items())).where(~taken)
            return bool(connection.execute(table.insert().from_select(list(row), values)).rowcount)

        if not self._run(insert):
            remedy = f"revoke it first (attrition access key revoke {key.name}), or take another name"
            raise UsageError(Fault(f"name {key.name}", "an active key has it", remedy=remedy))

    def keys(self) -> dict[str, ApiKey]:
        """Every key by id, also expired and revoked ones, oldest first.

        Raises
        ------
        AccessUnavailable
            The database does not answer.
        """

        def read(connection: Any, table: Any) -> Any:
            return connection.execute(table.select().order_by(table.c.created_at, table.c.id)).all()

        return {row.id: _key(row) for row in self._run(read)}

    def revoke(self, ref: str, now: datetime) -> tuple[ApiKey, ...]:
        """End a key by its id, or every key of a name; one that is revoked stays as it is.

        Returns
        -------
        tuple of ApiKey
            The keys that `ref` names, as they are now; at least one.

        Raises
        ------
        NotFound
            No such key.
        AccessUnavailable
            The database does not answer.
        """
        keys = self.keys()
        named = [key for key in keys.values() if key.name == ref and key.revoked_at is None]
        found = [keys[ref]] if ref in keys else named
        if not found:
            active = ", ".join(key.name for key in keys.values() if key.state(now) == "active")[:200] or "none"
            remedy = "attrition access key list"
            raise NotFound(Fault(f"API key {ref[:60]}", "does not exist", f"active: {active}", remedy))
        ids = [key.id for key in found if key.revoked_at is None]
        change = {"revoked_at": to_microseconds(now)}
        if ids:
            self._run(lambda connection, table: connection.execute(table.update().where(table.c.id.in_(ids)), change))
        return tuple(replace(key, revoked_at=now) if key.id in ids else key for key in found)

    def authenticate(self, text: str, now: datetime) -> Principal:
        """Whom a key stands for.

        Raises
        ------
        NotAuthenticated
            It is none, or unknown, revoked or expired.
        AccessUnavailable
            The database does not answer.
        """
        parsed = parse_key(text)
        if parsed is None:
            raise NotAuthenticated(
                Fault("API key", "has not the form of one", "attr_<id>_<secret>", "check that it was copied whole")
            )
        return check_key(self.keys().get(parsed[0]), parsed[1], now)

    def _run(self, work: Any) -> Any:
        try:
            return self._database.run(lambda connection: work(connection, _table()))
        except PlatformError as error:
            raise AccessUnavailable(error.faults) from error


def _table() -> Any:
    from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table

    return Table(
        TABLE,
        MetaData(),
        Column("id", String(2 * _ID_BYTES), primary_key=True),
        Column("name", String(100), nullable=False),
        Column("role", String(100), nullable=False),
        Column("salt", LargeBinary(_SALT_BYTES), nullable=False),
        Column("digest", LargeBinary(sha256().digest_size), nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("created_by", String(200), nullable=False),
        Column("expires_at", BigInteger),
        Column("revoked_at", BigInteger),
    )


def _digest(salt: bytes, secret: str) -> bytes:
    return sha256(_DOMAIN + salt + secret.encode()).digest()


def _key(row: Any) -> ApiKey:
    expires, revoked = (
        None if microseconds is None else from_microseconds(microseconds)
        for microseconds in (row.expires_at, row.revoked_at)
    )
    created = from_microseconds(row.created_at)
    return ApiKey(row.id, row.name, row.role, row.salt, row.digest, created, row.created_by, expires, revoked)
