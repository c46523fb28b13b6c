"""Tables that several processes share: made once, times kept as numbers, and what is said when the database is away."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from attrition.errors import PlatformError
from attrition.governance.database import Database, from_microseconds, to_microseconds


@pytest.fixture
def tables():
    metadata = sa.MetaData()
    for name in ("first", "second"):
        sa.Table(name, metadata, sa.Column("id", sa.Integer, primary_key=True))
    return metadata


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 5, 4, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=-3))),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_a_time_comes_back_as_it_was(moment):
    """To the microsecond, whatever its zone was."""
    assert from_microseconds(to_microseconds(moment)) == moment


def test_tables_are_made_by_whoever_comes_first(tmp_path, tables):
    """Of eight that begin at the same moment none fails."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    barrier = threading.Barrier(8)

    def add(number):
        barrier.wait()
        insert = tables.tables["second"].insert().values(id=number)
        Database(url, tables).run(lambda connection: connection.execute(insert))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    rows = Database(url, tables).run(lambda connection: connection.execute(tables.tables["second"].select()).all())
    assert sorted(row.id for row in rows) == list(range(8))


def test_a_server_that_hangs_up_is_called_once(tables):
    """Each attempt may take the whole time-out of a connection, and a person waits."""
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                calls.append(connection.close())

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"postgresql://user:hidden-word@127.0.0.1:{server.getsockname()[1]}/project?sslmode=disable"
        with pytest.raises(PlatformError, match="ATTRITION_DATABASE_URL") as caught:
            Database(url, tables).run(lambda connection: connection.execute(sa.select(1)))
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(calls) == 1
    assert str(caught.value).startswith("first, second at postgresql://user:***@127.0.0.1:")


@pytest.mark.parametrize("url", ["hidden-word", "postgresql://user:very@hidden-word@127.0.0.1:1/project"])
def test_an_address_that_is_none_is_not_repeated(url, tables):
    """It may hold a password where none is expected."""
    with pytest.raises(PlatformError, match="ATTRITION_DATABASE_URL") as caught:
        Database(url, tables).run(lambda connection: connection.execute(sa.select(1)))
    assert "hidden-word" not in str(caught.value)
