"""Which alerts were sent and when, in the project's database, so that none is sent twice within its period.

One conditional UPDATE decides who sends: of any number of processes that notice the same thing at the same moment, one
changes the row and the others find that there is nothing to change. The row outlives every process. A process that is
killed between the claim and the delivery costs one notification; the next one comes after the period.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.governance.database import Database, from_microseconds, to_microseconds

if TYPE_CHECKING:
    from datetime import datetime, timedelta

TABLE = "alerts"
FIRING, RESOLVED = "firing", "resolved"

_TITLE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class AlertRow:
    """What is known of one alert.

    Attributes
    ----------
    key : str
    title : str
        As it was sent, for the message that says it is over.
    state : str
        ``firing`` or ``resolved``.
    severity : int
        Rank; the higher the worse.
    sent_at : datetime
        UTC; of the last notification that was claimed.
    n_suppressed : int
        Times it fired without a notification since then.
    """

    key: str
    title: str
    state: str
    severity: int
    sent_at: datetime
    n_suppressed: int


class AlertState:
    """The table of alerts; safe to use from several processes and machines at once.

    Parameters
    ----------
    url
        Address of the database, as :attr:`attrition.settings.Settings.database_url`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, _table().metadata)

    def claim(self, key: str, severity: int, *, title: str = "", now: datetime, period: timedelta) -> bool:
        """Whether the caller is to send: nobody did within `period`, or it is worse than what was sent.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        from sqlalchemy import or_
        from sqlalchemy.exc import IntegrityError

        moment = to_microseconds(now)
        table = _table()
        fresh = {
            "key": key,
            "title": title[:_TITLE_LENGTH],
            "state": FIRING,
            "severity": severity,
            "sent_at": moment,
            "n_suppressed": 0,
        }
        with contextlib.suppress(IntegrityError):  # somebody else's row: decided below
            self._database.run(lambda connection: connection.execute(table.insert(), fresh))
            return True
        due = or_(
            table.c.state == RESOLVED,
            table.c.sent_at <= to_microseconds(now - period),
            table.c.severity < severity,
        )

        def decide(connection: Any) -> bool:
            change = {name: fresh[name] for name in fresh if name != "key"}
            if connection.execute(table.update().where(table.c.key == key, due), change).rowcount == 1:
                return True
            count = {"n_suppressed": table.c.n_suppressed + 1}
            connection.execute(table.update().where(table.c.key == key).values(count))
            return False

        return bool(self._database.run(decide))

    def resolve(self, key: str) -> bool:
        """Whether the caller is to say that it is over: it was firing, and nobody did so yet.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        table = _table()
        change = table.update().where(table.c.key == key, table.c.state == FIRING).values(state=RESOLVED)
        return bool(self._database.run(lambda connection: connection.execute(change).rowcount == 1))

    def restore(self, key: str, row: AlertRow | None) -> None:
        """Take a claim back whose notification could not be delivered, so that the next attempt sends it."""
        table = _table()
        if row is None:
            self._database.run(lambda connection: connection.execute(table.delete().where(table.c.key == key)))
            return
        change = {
            "title": row.title,
            "state": row.state,
            "severity": row.severity,
            "sent_at": to_microseconds(row.sent_at),
            "n_suppressed": row.n_suppressed,
        }
        self._database.run(lambda connection: connection.execute(table.update().where(table.c.key == key), change))

    def rows(self, scope: str = "") -> dict[str, AlertRow]:
        """Alerts whose key begins with `scope`, by key.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        found = self._database.run(lambda connection: connection.execute(_table().select()).all())
        rows = (
            AlertRow(
                key=row.key,
                title=row.title,
                state=row.state,
                severity=row.severity,
                sent_at=from_microseconds(row.sent_at),
                n_suppressed=row.n_suppressed,
            )
            for row in found
        )
        return {row.key: row for row in rows if row.key.startswith(scope)}


def _table() -> Any:
    from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table

    return Table(
        TABLE,
        MetaData(),
        Column("key", String(200), primary_key=True),
        Column("title", String(_TITLE_LENGTH), nullable=False),
        Column("state", String(10), nullable=False),
        Column("severity", Integer, nullable=False),
        Column("sent_at", BigInteger, nullable=False),
        Column("n_suppressed", Integer, nullable=False),
    )
