"""Rollouts in the project's database: their state, what people ask of them, and who may drive them.

A controller must hold the lease. It expires unless it is renewed, and every holder gets a higher token than the one
before. Nothing is stored for a token that is not the newest, whatever its holder believes: a process that was suspended
while another took over finds out at its next write. Times of the lease are the database's on PostgreSQL, so clocks of
different machines need not agree; an SQLite file belongs to one machine.

A unique column keeps a second rollout from beginning while one is under way.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, LeaseLost, NotFound, UsageError
from attrition.governance.database import Database
from attrition.release.rollout import Command, Request, Rollout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, MetaData

LEASE_SECONDS = 10.0
"""After a controller was killed, its successor waits as long as this."""

ROLLOUTS, REQUESTS, LEASE = "rollouts", "rollout_requests", "rollout_lease"

_NAME = "rollout"
_MICROSECONDS = 1_000_000


class RolloutStore:
    """The tables of rollouts; safe to use from several processes and machines at once.

    Every method raises ``PlatformError`` when the database does not answer.

    Parameters
    ----------
    url
        Address of the database, as :attr:`attrition.settings.Settings.database_url`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, _tables())
        self._rollouts, self._requests, self._lease = (_tables().tables[name] for name in (ROLLOUTS, REQUESTS, LEASE))

    def begin(self, make: Callable[[int], Rollout]) -> Rollout:
        """Store a new rollout, made from its number.

        Raises
        ------
        UsageError
            Another one is under way.
        """
        from sqlalchemy import func, select
        from sqlalchemy.exc import IntegrityError

        table = self._rollouts

        def insert(connection: Connection) -> Rollout:
            last = connection.execute(select(func.max(table.c.id))).scalar_one_or_none() or 0
            rollout = make(last + 1)
            connection.execute(table.insert(), {"id": rollout.id, "active": 1, "document": rollout.model_dump_json()})
            return rollout

        try:
            begun: Rollout = self._database.run(insert)
        except IntegrityError:
            running = self.active()
            what = f"rollout {running.id} of {running.challenger}" if running else "a rollout"
            remedy = "wait for it, or end it: attrition release rollback"
            raise UsageError(Fault(what, "is under way", "one at a time", remedy)) from None
        return begun

    def active(self) -> Rollout | None:
        """The rollout that is under way; None when there is none."""
        return self._one(lambda table: table.select().where(table.c.active == 1))

    def latest(self) -> Rollout:
        """The rollout that is under way, or the last one.

        Raises
        ------
        NotFound
            There was none yet.
        """
        found = self._one(lambda table: table.select().order_by(table.c.id.desc()).limit(1))
        if found is None:
            remedy = "attrition release start VERSION --plan serve_configs/rollout.yaml"
            raise NotFound(Fault("rollout", "there was none yet", remedy=remedy))
        return found

    def save(self, rollout: Rollout, token: int, *, handled: int | None = None) -> None:
        """Store a rollout's new state, and that a request is dealt with.

        Raises
        ------
        LeaseLost
            Another controller has taken over; nothing was stored.
        """
        active = None if rollout.status.is_final else 1

        def update(connection: Connection) -> None:
            self._renew(connection, token)
            row = self._rollouts.update().where(self._rollouts.c.id == rollout.id)
            connection.execute(row.values(active=active, document=rollout.model_dump_json()))
            if handled is not None:
                request = self._requests.update().where(self._requests.c.id == handled)
                connection.execute(request.values(handled=1))

        self._database.run(update)

    def ask(self, rollout: Rollout, command: Command, actor: str, justification: str) -> int:
        """Leave a request for whoever drives the rollout; its number."""
        row = {
            "rollout": rollout.id,
            "command": str(command),
            "actor": actor,
            "justification": justification,
            "asked_at": datetime.now(UTC).isoformat(),
            "handled": 0,
        }
        table = self._requests

        def insert(connection: Connection) -> int:
            key = connection.execute(table.insert(), row).inserted_primary_key
            assert key is not None
            return int(key[0])

        return self._database.run(insert)

    def request(self, rollout: Rollout) -> Request | None:
        """The oldest request that was not dealt with; a rollback waits for no other."""
        table = self._requests
        open_ = table.select().where(table.c.rollout == rollout.id, table.c.handled == 0)
        query = open_.order_by(table.c.command != str(Command.ROLLBACK), table.c.id).limit(1)
        row = self._database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else Request(row.id, Command(row.command), row.actor, row.justification)

    def is_handled(self, request: int) -> bool:
        """Whether a request was dealt with."""
        table = self._requests
        query = table.select().where(table.c.id == request)
        return bool(self._database.run(lambda connection: connection.execute(query).one().handled))

    def acquire(self, holder: str) -> int | None:
        """Token of the lease, higher than every one before; None while somebody else holds it."""
        from sqlalchemy.exc import IntegrityError

        table = self._lease
        first = {"name": _NAME, "holder": "", "token": 0, "expires_at": 0}
        with contextlib.suppress(IntegrityError):  # the row is there
            self._database.run(lambda connection: connection.execute(table.insert(), first))

        def take(connection: Connection) -> int | None:
            now = self._now(connection)
            free = table.update().where(table.c.name == _NAME, table.c.expires_at <= now)
            until = now + int(LEASE_SECONDS * _MICROSECONDS)
            if connection.execute(free.values(holder=holder, token=table.c.token + 1, expires_at=until)).rowcount != 1:
                return None
            return int(connection.execute(table.select().where(table.c.name == _NAME)).one().token)

        token: int | None = self._database.run(take)
        return token

    def renew(self, token: int) -> None:
        """Hold the lease for another `LEASE_SECONDS`.

        Raises
        ------
        LeaseLost
            It expired, or another controller has it.
        """
        self._database.run(lambda connection: self._renew(connection, token))

    def release(self, token: int) -> None:
        """Let the lease go; harmless when it is not held any more."""
        table = self._lease
        mine = table.update().where(table.c.name == _NAME, table.c.token == token)
        self._database.run(lambda connection: connection.execute(mine.values(expires_at=0)))

    def holder(self) -> str | None:
        """Who drives the rollout; None: nobody."""
        table = self._lease

        def read(connection: Connection) -> str | None:
            row = connection.execute(table.select().where(table.c.name == _NAME)).one_or_none()
            return str(row.holder) if row is not None and row.expires_at > self._now(connection) else None

        found: str | None = self._database.run(read)
        return found

    def _renew(self, connection: Connection, token: int) -> None:
        table = self._lease
        now = self._now(connection)
        mine = table.update().where(table.c.name == _NAME, table.c.token == token, table.c.expires_at > now)
        if connection.execute(mine.values(expires_at=now + int(LEASE_SECONDS * _MICROSECONDS))).rowcount != 1:
            raise LeaseLost(Fault("rollout", "another controller has taken over", remedy="leave it to that one"))

    def _one(self, query: Callable[[Any], Any]) -> Rollout | None:
        row = self._database.run(lambda connection: connection.execute(query(self._rollouts)).one_or_none())
        return None if row is None else Rollout.model_validate_json(row.document)

    def _now(self, connection: Connection) -> int:
        """Microseconds since 1970, by the one clock that all controllers share."""
        from sqlalchemy import text

        if connection.dialect.name == "sqlite":
            return time.time_ns() // 1_000
        seconds = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        return int(seconds * _MICROSECONDS)


@cache
def _tables() -> MetaData:
    from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

    found = MetaData()
    Table(
        ROLLOUTS,
        found,
        Column("id", Integer, primary_key=True, autoincrement=False),
        # 1 while it is under way, else null, of which a unique column holds any number
        Column("active", Integer, unique=True),
        Column("document", Text, nullable=False),
    )
    Table(
        REQUESTS,
        found,
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("rollout", Integer, nullable=False),
        Column("command", String(20), nullable=False),
        Column("actor", Text, nullable=False),
        Column("justification", Text, nullable=False),
        Column("asked_at", String(40), nullable=False),
        Column("handled", Integer, nullable=False),
    )
    Table(
        LEASE,
        found,
        Column("name", String(20), primary_key=True),
        Column("holder", Text, nullable=False),
        Column("token", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
    )
    return found
