"""What was decided and what was trained, in the project's database, and the lease that lets one process retrain.

One conditional UPDATE decides who holds the lease, so of any number of processes one wins. It ends by itself: whoever
was killed is passed over `lease_minutes` after the last sign of life. Times are those of the callers' clocks.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrition.governance.database import Database, from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

_LEASE = "retraining"


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
        self._database = Database(url, _tables()["lease"].metadata)

    def note(self, decision_id: str, at: datetime, document: Mapping[str, Any]) -> None:
        """Keep a decision with what came of it; again under the same id replaces it.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        table = _tables()["decisions"]
        row = {"id": decision_id, "at": to_microseconds(at), "document": json.dumps(document, allow_nan=False)}

        def write(connection: Connection) -> None:
            if not connection.execute(table.update().where(table.c.id == decision_id), row).rowcount:
                connection.execute(table.insert(), row)

        self._database.run(write)

    def decisions(self, last: int | None = None) -> list[dict[str, Any]]:
        """Documents of decisions, the newest first."""
        table = _tables()["decisions"]
        query = table.select().order_by(table.c.at.desc(), table.c.id).limit(last)
        return [
            json.loads(row.document) for row in self._database.run(lambda connection: connection.execute(query).all())
        ]

    def begin(self, attempt_id: str, fingerprint: str, at: datetime) -> None:
        """Note that a training begins."""
        row = {
            "id": attempt_id,
            "fingerprint": fingerprint,
            "started_at": to_microseconds(at),
            "seconds": 0.0,
            "state": "RUNNING",
            "version": "",
            "run_id": "",
        }
        self._database.run(lambda connection: connection.execute(_tables()["attempts"].insert(), row))

    def end(self, attempt_id: str, state: str, *, seconds: float, version: str = "", run_id: str = "") -> None:
        """Note how it ended."""
        table = _tables()["attempts"]
        change = {"state": state, "seconds": seconds, "version": version, "run_id": run_id}
        self._database.run(
            lambda connection: connection.execute(table.update().where(table.c.id == attempt_id), change)
        )

    def attempts(self, since: datetime | None = None) -> list[Attempt]:
        """Attempts that began at or after `since`, the newest first."""
        table = _tables()["attempts"]
        query = table.select().order_by(table.c.started_at.desc(), table.c.id)
        if since is not None:
            query = query.where(table.c.started_at >= to_microseconds(since))
        rows = self._database.run(lambda connection: connection.execute(query).all())
        return [
            Attempt(
                row.id,
                row.fingerprint,
                from_microseconds(row.started_at),
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
        until = to_microseconds(now + timedelta(minutes=minutes))
        with contextlib.suppress(IntegrityError):  # the row exists: decided below
            row = {"name": _LEASE, "holder": holder, "until": until}
            self._database.run(lambda connection: connection.execute(table.insert(), row))
            return None

        def decide(connection: Connection) -> Holder | None:
            free = or_(table.c.holder == holder, table.c.until <= to_microseconds(now))
            change = table.update().where(table.c.name == _LEASE, free).values(holder=holder, until=until)
            if connection.execute(change).rowcount == 1:
                return None
            row = connection.execute(table.select().where(table.c.name == _LEASE)).one()
            return Holder(row.holder, from_microseconds(row.until))

        found: Holder | None = self._database.run(decide)
        return found

    def release(self, holder: str) -> None:
        """Give the lease back, if it is still the caller's."""
        table = _tables()["lease"]
        mine = table.update().where(table.c.name == _LEASE, table.c.holder == holder).values(until=0)
        self._database.run(lambda connection: connection.execute(mine))


def _tables() -> dict[str, Any]:
    from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, Text

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
