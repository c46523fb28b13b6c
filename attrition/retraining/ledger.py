"""What was decided and what was trained, in the project's database, and the lease that lets one process retrain.

One conditional UPDATE decides who holds the lease, so of any number of processes one wins. It ends by itself: whoever
was killed is passed over `lease_minutes` after the last sign of life. Times are those of the callers' clocks.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, PlatformError
from attrition.monitoring.alert_state import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection, Engine

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEASE = "retraining"
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One training that was begun.

    Attributes
    ----------
    attempt_id : str
    fingerprint : str
        Of data, split, plan and code.
    started_at : datetime
    seconds : float
        Of work, once ended.
    state : str
        ``RUNNING``, ``HELD``, ``REGISTERED`` or ``FAILED``.
    version : str
        Registered; empty otherwise.
    run_id : str
    """

    attempt_id: str
    fingerprint: str
    started_at: datetime
    seconds: float
    state: str
    version: str = ""
    run_id: str = ""

    @property
    def concluded(self) -> bool:
        """Whether the gates spoke."""
        return self.state in {"HELD", "REGISTERED"}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease, and until when."""

    name: str
    until: datetime


class Ledger:
    """Decisions, attempts and the lease; safe to use from several processes and machines at once.

    Parameters
    ----------
    url
        Address of the database, as :attr:`attrition.settings.Settings.database_url`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: Engine | None = None

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        if self._opened is not None:
            self._opened.dispose()
            self._opened = None

    def note(self, decision_id: str, at: datetime, document: Mapping[str, Any]) -> None:
        """Keep a decision with what came of it; again under the same id replaces it.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        table = _tables()["decisions"]
        row = {"id": decision_id, "at": _microseconds(at), "document": json.dumps(document, allow_nan=False)}

        def write(connection: Connection) -> None:
            if not connection.execute(table.update().where(table.c.id == decision_id), row).rowcount:
                connection.execute(table.insert(), row)

        self._run(write)

    def decisions(self, last: int | None = None) -> list[dict[str, Any]]:
        """Documents of decisions, the newest first."""
        table = _tables()["decisions"]
        query = table.select().order_by(table.c.at.desc(), table.c.id).limit(last)
        return [json.loads(row.document) for row in self._run(lambda connection: connection.execute(query).all())]

    def begin(self, attempt_id: str, fingerprint: str, at: datetime) -> None:
        """Note that a training begins."""
        row = {
            "id": attempt_id,
            "fingerprint": fingerprint,
            "started_at": _microseconds(at),
            "seconds": 0.0,
            "state": "RUNNING",
            "version": "",
            "run_id": "",
        }
        self._run(lambda connection: connection.execute(_tables()["attempts"].insert(), row))

    def end(self, attempt_id: str, state: str, *, seconds: float, version: str = "", run_id: str = "") -> None:
        """Note how it ended."""
        table = _tables()["attempts"]
        change = {"state": state, "seconds": seconds, "version": version, "run_id": run_id}
        self._run(lambda connection: connection.execute(table.update().where(table.c.id == attempt_id), change))

    def attempts(self, since: datetime | None = None) -> list[Attempt]:
        """Attempts that began at or after `since`, the newest first."""
        table = _tables()["attempts"]
        query = table.select().order_by(table.c.started_at.desc(), table.c.id)
        if since is not None:
            query = query.where(table.c.started_at >= _microseconds(since))
        rows = self._run(lambda connection: connection.execute(query).all())
        return [
            Attempt(
                row.id,
                row.fingerprint,
                _EPOCH + timedelta(microseconds=row.started_at),
                row.seconds,
                row.state,
                row.version,
                row.run_id,
            )
            for row in rows
        ]

    def acquire(self, holder: str, now: datetime, minutes: float) -> Holder | None:
        """Take or keep the lease; who else holds it, or None when it is the caller's.

        Parameters
        ----------
        holder
            Name of this process and call, different from every other.
        """
        from sqlalchemy import or_
        from sqlalchemy.exc import IntegrityError

        table = _tables()["lease"]
        until = _microseconds(now + timedelta(minutes=minutes))
        with contextlib.suppress(IntegrityError):  # the row exists: decided below
            row = {"name": _LEASE, "holder": holder, "until": until}
            self._run(lambda connection: connection.execute(table.insert(), row))
            return None

        def decide(connection: Connection) -> Holder | None:
            free = or_(table.c.holder == holder, table.c.until <= _microseconds(now))
            change = table.update().where(table.c.name == _LEASE, free).values(holder=holder, until=until)
            if connection.execute(change).rowcount == 1:
                return None
            row = connection.execute(table.select().where(table.c.name == _LEASE)).one()
            return Holder(row.holder, _EPOCH + timedelta(microseconds=row.until))

        found: Holder | None = self._run(decide)
        return found

    def release(self, holder: str) -> None:
        """Give the lease back, if it is still the caller's."""
        table = _tables()["lease"]
        mine = table.update().where(table.c.name == _LEASE, table.c.holder == holder).values(until=0)
        self._run(lambda connection: connection.execute(mine))

    def _run(self, work: Callable[[Connection], Any]) -> Any:
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError

        try:
            if self._opened is None:
                self._opened = open_engine(self._url)
                _create(self._opened)
            with self._opened.begin() as connection:
                return work(connection)
        except ImportError as error:
            remedy = "pip install 'attrition[postgres]'"
            raise PlatformError(Fault("retraining", "the database's driver is not installed", "", remedy)) from error
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            self.close()
            # neither address nor driver's message: they may hold its password
            remedy = "check ATTRITION_DATABASE_URL"
            raise PlatformError(Fault("retraining", "its database does not answer", "", remedy)) from error


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _create(engine: Engine) -> None:
    """Make the tables that are not there; several processes may try at once."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError
    from sqlalchemy.schema import CreateIndex, CreateTable

    for attempt in range(_ATTEMPTS):
        try:
            with engine.begin() as connection:
                for table in _tables().values():
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in table.indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
        except (IntegrityError, ProgrammingError):  # PostgreSQL, when two make the same table at the same moment
            if attempt + 1 == _ATTEMPTS:
                raise
            time.sleep(0.1)
        else:
            return


def _tables() -> dict[str, Any]:
    from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, Text

    # times in microseconds since 1970, which every database keeps alike
    metadata = MetaData()
    return {
        "decisions": Table(
            "retraining_decisions",
            metadata,
            Column("id", String(64), primary_key=True),
            Column("at", BigInteger, nullable=False, index=True),
            Column("document", Text, nullable=False),
        ),
        "attempts": Table(
            "retraining_attempts",
            metadata,
            Column("id", String(64), primary_key=True),
            Column("fingerprint", String(64), nullable=False),
            Column("started_at", BigInteger, nullable=False, index=True),
            Column("seconds", Float, nullable=False),
            Column("state", String(20), nullable=False),
            Column("version", String(40), nullable=False),
            Column("run_id", String(64), nullable=False),
        ),
        "lease": Table(
            "retraining_lease",
            metadata,
            Column("name", String(40), primary_key=True),
            Column("holder", String(200), nullable=False),
            Column("until", BigInteger, nullable=False),
        ),
    }
