"""Personal keys: how the audit log speaks about a person, and how it stops being about one.

An event that concerns a person carries a *token*, ``HMAC-SHA-256(personal key, pseudonym)``, and never the pseudonym.
While the personal key exists, whoever may read it can find the events about a person. Once it is destroyed, the token
is a random text: it can neither be computed again nor be joined with anything, although not one byte of the audit log
has changed and its hash chain still verifies (crypto-shredding).

The keys live in a store of their own, by default an SQLite file beside the pseudonym key and outside the tables: where
the audit log or the tables are copied to, the keys are not. A cluster names a database by ``person_keys_url``, best one
that the audit log's readers cannot read. A key is found by a digest of the pseudonym, so the store does not list
persons. SQLite overwrites what is deleted and keeps no write-ahead log; PostgreSQL drops a dead row at its next
vacuum. Backups of the store must be kept for less time than an erasure may take.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import Fault, PlatformError
from attrition.governance.privacy import KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Engine, Table

TOKEN_LENGTH = 32
"""Hexadecimal digits of a token: 128 bits, like a pseudonym."""

_PERSON = b"attrition/person-key\x00"
_TOKEN = b"attrition/audit-person\x00"
_BUSY_SECONDS = 30

_CONNECT_SECONDS = 5
"""Until a database is said not to answer."""


class PersonKeys:
    """The store of personal keys. Safe to use from several threads, processes and machines at once.

    Examples
    --------
    >>> keys = PersonKeys.open("sqlite://")
    >>> token = keys.token("9f" * 16)
    >>> keys.token("9f" * 16) == token
    True
    >>> keys.destroy("9f" * 16), keys.destroy("9f" * 16)
    (True, False)
    >>> keys.token("9f" * 16) == token
    False
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._table = _table()

    @classmethod
    def open(cls, url: str) -> Self:
        """The store at a database address of SQLAlchemy; made when there is none.

        Raises
        ------
        PlatformError
            The database does not answer. An action that concerns a person is refused then, not performed unnamed.
        """
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            address = make_url(url)
        except ArgumentError as error:
            found = "the address is none of a database"
            raise PlatformError(
                Fault("person keys", found, "sqlite:///file", "check ATTRITION_PERSON_KEYS_URL")
            ) from error
        keys = cls(_engine(address))
        keys._create()
        return keys

    def token(self, pseudonym: str) -> str:
        """What stands for a person in the audit log: 32 hexadecimal digits, the same until the key is destroyed.

        The personal key is made on first need.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        key = self._find(pseudonym)
        if key is None:
            self._add(pseudonym)
            key = self._find(pseudonym)
        if key is None:
            raise PlatformError(Fault("person keys", "the key was destroyed at this very moment", "", "try again"))
        return hmac.digest(key, _TOKEN + pseudonym.encode(), sha256).hex()[:TOKEN_LENGTH]

    def knows(self, pseudonym: str) -> bool:
        """Whether there is a key, so that events can be linked with the person.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        return self._find(pseudonym) is not None

    def destroy(self, pseudonym: str) -> bool:
        """Destroy a personal key; False when there is none.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        with _answering(self._engine), self._engine.begin() as connection:
            done = connection.execute(self._table.delete().where(self._table.c.person == _name(pseudonym)))
            return bool(done.rowcount)

    def close(self) -> None:
        """Give the connections up."""
        self._engine.dispose()

    def _create(self) -> None:
        from sqlalchemy import inspect
        from sqlalchemy.exc import SQLAlchemyError

        with _answering(self._engine):
            try:
                self._table.create(self._engine, checkfirst=True)
            except SQLAlchemyError:  # another process was faster, or the database does not answer
                if not inspect(self._engine).has_table(self._table.name):
                    raise

    def _find(self, pseudonym: str) -> bytes | None:
        from sqlalchemy import select

        query = select(self._table.c.secret).where(self._table.c.person == _name(pseudonym))
        with _answering(self._engine), self._engine.connect() as connection:
            found: bytes | None = connection.execute(query).scalar_one_or_none()
        return found

    def _add(self, pseudonym: str) -> None:
        """A new key, unless another process was faster."""
        from sqlalchemy.exc import IntegrityError

        row = {"person": _name(pseudonym), "secret": secrets.token_bytes(KEY_BYTES)}
        with _answering(self._engine):
            try:
                with self._engine.begin() as connection:
                    connection.execute(self._table.insert().values(row))
            except IntegrityError:
                return


def _name(pseudonym: str) -> str:
    return sha256(_PERSON + pseudonym.encode()).hexdigest()


def _table() -> Table:
    from sqlalchemy import Column, LargeBinary, MetaData, String, Table

    return Table(
        "attrition_person_keys",
        MetaData(),
        Column("person", String(64), primary_key=True),
        Column("secret", LargeBinary(KEY_BYTES), nullable=False),
    )


def _engine(address: URL) -> Engine:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    if address.get_backend_name() == "sqlite":
        arguments = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
        if address.database in {None, "", ":memory:"}:
            engine = create_engine(address, poolclass=StaticPool, connect_args=arguments, hide_parameters=True)
        else:
            _private_file(Path(address.database or ""))
            engine = create_engine(address, connect_args=arguments, hide_parameters=True)
        event.listen(engine, "connect", _overwrite_deleted)
        return engine
    if address.drivername in {"postgres", "postgresql"}:
        address = address.set(drivername="postgresql+psycopg")
    try:
        # a host that does not answer must not be waited for
        limits = {"connect_timeout": _CONNECT_SECONDS}
        return create_engine(address, pool_pre_ping=True, hide_parameters=True, connect_args=limits)
    except ModuleNotFoundError as error:
        remedy = "pip install 'attrition[postgres]'"
        raise PlatformError(Fault("ATTRITION_PERSON_KEYS_URL", "needs a driver", "", remedy)) from error


def _overwrite_deleted(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA secure_delete = ON")
    cursor.execute("PRAGMA journal_mode = DELETE")  # a write-ahead log would keep a destroyed key
    cursor.close()


def _private_file(path: Path) -> None:
    """Make an SQLite file that only its owner can read, before SQLite makes one that everybody can."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        found = f"cannot be made ({error.strerror})"
        raise PlatformError(Fault(str(path), found, "", "name another place by ATTRITION_PERSON_KEYS_URL")) from error


@contextmanager
def _answering(engine: Engine) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        where = f"person keys at {engine.url.set(query={}).render_as_string(hide_password=True)}"
        kind = type(error).__name__
        remedy = "check ATTRITION_PERSON_KEYS_URL, and that the database runs"
        # the message of a driver may quote a statement with its values
        raise PlatformError(Fault(where, f"the database does not answer ({kind})", "", remedy)) from None
