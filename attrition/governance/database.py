"""A few tables in the project's database, SQLite or PostgreSQL, for state that several processes share."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from attrition.errors import Fault, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Engine, MetaData

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ATTEMPTS = 5
"""At making tables that several processes make at once."""


def to_microseconds(moment: datetime) -> int:
    """Microseconds from 1970 to a time with a zone: a number is what every database keeps alike.

    Examples
    --------
    >>> to_microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(microseconds: int) -> datetime:
    """The time, UTC, that :func:`to_microseconds` made a number of."""
    return _EPOCH + timedelta(microseconds=microseconds)


class Database:
    """Tables that are made on first use; safe to use from several processes and machines at once.

    Each piece of work has a connection of its own, so there is nothing to close: this is for what happens now and then.

    Parameters
    ----------
    url
        Address, as :attr:`attrition.settings.Settings.database_url`.
    tables
        Made when they are missing.
    """

    def __init__(self, url: str, tables: MetaData) -> None:
        self._url = url
        self._tables = tables
        self._opened: Engine | None = None

    def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, done in one transaction.

        Raises
        ------
        PlatformError
            The database does not answer, or its driver is not installed.
        sqlalchemy.exc.IntegrityError
            A constraint of the tables; what it means is known to the caller only.
        """
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError

        try:
            if self._opened is None:
                engine = _engine(self._url)
                self._create(engine)
                self._opened = engine
            with self._opened.begin() as connection:
                return work(connection)
        except ImportError as error:
            remedy = "pip install 'attrition[postgres]'"
            raise PlatformError(Fault(self._where, "the database's driver is not installed", remedy=remedy)) from error
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            # not the driver's message, which may hold the password
            remedy = "check ATTRITION_DATABASE_URL"
            raise PlatformError(Fault(self._where, "the project's database does not answer", remedy=remedy)) from error

    @property
    def _where(self) -> str:
        """Tables and address, without password and without what else stands behind the database's name."""
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        names = ", ".join(sorted(self._tables.tables))
        try:
            url = make_url(self._url).set(query={})
        except (ArgumentError, ValueError):  # whose words may repeat a password
            return names
        if "@" in (url.host or ""):  # the rest of a password that holds this character
            return names
        return f"{names} at {url.render_as_string(hide_password=True)}"

    def _create(self, engine: Engine) -> None:
        from sqlalchemy.exc import DBAPIError

        for left in reversed(range(_ATTEMPTS)):
            try:
                self._tables.create_all(engine)
            except DBAPIError as error:
                # refused a statement: another process may be making them at this moment; else there is no connection
                if not left or error.statement is None:
                    raise
                time.sleep(0.1)
            else:
                return


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.pool import NullPool

    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 5})
    if parsed.database:
        with contextlib.suppress(OSError):
            # only a new file: closing any descriptor of an open database drops this process's locks on it (POSIX)
            os.close(os.open(parsed.database, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    return create_engine(parsed, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": 20})
