"""The audit log on real databases: many writers, tampering by whoever owns the tables, and a database that is down."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time

import pytest
import sqlalchemy as sa

from attrition.errors import AuditUnavailable
from attrition.governance import audit_store
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome
from attrition.governance.audit_chain import Reason

WRITE = """
import sys
from pathlib import Path
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome

url, key, writer, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
sys.stdin.readline()
with AuditLog.open(url, signing_key=key) as log:
    for number in range(n):
        log.append(Event(Action.TRAIN, f"run {number}", Outcome.SUCCEEDED, actor=f"writer {writer}"))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'governance.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def key(tmp_path):
    return tmp_path / "keys" / "audit.pem"


@pytest.fixture
def log(url, key):
    with AuditLog.open(url, signing_key=key, head_events=10) as opened:
        yield opened


def write_concurrently(url, key, n_processes, n_events):
    """Seconds from the moment all writers may begin until the last has ended."""
    command = [sys.executable, "-c", WRITE, url, str(key)]
    writers = [
        subprocess.Popen([*command, str(number), str(n_events)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in range(n_processes)
    ]
    start = time.perf_counter()
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * n_processes, errors
    return time.perf_counter() - start


def check(url, key, n_processes, n_events):
    """Every event of every writer is there, in the writer's order, in an intact chain."""
    with AuditLog.open(url, signing_key=key) as log:
        verdict = log.verify()
        assert verdict.intact, verdict
        assert verdict.last == n_processes * n_events
        for writer in range(n_processes):
            records = log.records(actor=f"writer {writer}", limit=n_events + 1)
            assert [record.subject for record in records] == [f"run {number}" for number in range(n_events)]


def test_concurrent_writers_lose_nothing(url, key):
    """Four processes that find an empty database and no key write one chain."""
    write_concurrently(url, key, 4, 25)
    check(url, key, 4, 25)


@pytest.mark.slow
def test_many_concurrent_writers_lose_nothing(url, key, capsys):
    """Eight processes with 500 events each."""
    seconds = write_concurrently(url, key, 8, 500)
    with capsys.disabled():
        print(f"\n8 x 500 events: {seconds:.1f} s, {4_000 / seconds:,.0f} events a second")  # noqa: T201
    check(url, key, 8, 500)


def fill(log, n):
    for number in range(n):
        log.append(Event(Action.TRAFFIC_CHANGE, f"1.{number}.0", Outcome.SUCCEEDED, details={"share": number / 7}))


@contextlib.contextmanager
def owner(url, *, without_barriers=False):
    """A transaction of whoever owns the database, and may drop the triggers."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.begin() as connection:
            if without_barriers and engine.dialect.name == "sqlite":
                triggers = sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                for name in connection.execute(triggers).scalars().all():
                    connection.execute(sa.text(f"DROP TRIGGER {name}"))
            elif without_barriers:
                connection.execute(sa.text("DROP FUNCTION audit_events_refuse CASCADE"))
            yield connection
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET actor = 'mallory' WHERE sequence = 3",
        "DELETE FROM audit_events WHERE sequence = 3",
        "UPDATE audit_heads SET sequence = 1",
        "DELETE FROM audit_heads",
    ],
)
def test_the_database_refuses_to_change_what_was_recorded(log, url, statement):
    """Also for the owner, until the triggers are dropped."""
    fill(log, 5)
    with pytest.raises(sa.exc.DatabaseError, match="append-only"), owner(url) as connection:
        connection.execute(sa.text(statement))
    assert log.verify().intact


def test_rows_cannot_be_replaced_or_the_tables_emptied(log, url):
    """The ways around UPDATE and DELETE that each database has."""
    fill(log, 5)
    statements = ["TRUNCATE audit_events", "TRUNCATE audit_heads"]
    if url.startswith("sqlite"):
        statements = [
            "INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events WHERE sequence = 2",
            "INSERT OR REPLACE INTO audit_heads SELECT * FROM audit_heads",
        ]
    for statement in statements:
        with pytest.raises(sa.exc.DatabaseError, match="append-only"), owner(url) as connection:
            connection.execute(sa.text(statement))
    assert log.verify().intact


@pytest.mark.parametrize(
    ("statement", "sequence", "reason"),
    [
        ("UPDATE audit_events SET actor = 'mallory' WHERE sequence = 7", 7, Reason.HASH_MISMATCH),
        ("UPDATE audit_events SET details = '{\"share\": 0}' WHERE sequence = 7", 7, Reason.HASH_MISMATCH),
        ("UPDATE audit_events SET details = ' ' || details WHERE sequence = 7", 7, Reason.HASH_MISMATCH),
        ("UPDATE audit_events SET details = repeat('[', 100000) WHERE sequence = 7", 7, Reason.HASH_MISMATCH),
        ("UPDATE audit_events SET hash = 'x' WHERE sequence = 7", 7, Reason.MALFORMED),
        ("DELETE FROM audit_events WHERE sequence = 7", 7, Reason.MISSING),
        ("DELETE FROM audit_events WHERE sequence = 1", 1, Reason.MISSING),
        ("DELETE FROM audit_events WHERE sequence >= 7", 7, Reason.TRUNCATED),
        ("DELETE FROM audit_events", 1, Reason.TRUNCATED),
        ("UPDATE audit_events SET sequence = -1 WHERE sequence = 7", 7, Reason.MISSING),
        ("UPDATE audit_heads SET sequence = sequence + 1", 12, Reason.FORGED_HEAD),
    ],
)
def test_what_the_owner_of_the_database_changes_shows(log, url, statement, sequence, reason):
    """The first broken event is named, and why."""
    fill(log, 25)
    if url.startswith("sqlite"):
        statement = statement.replace("repeat('[', 100000)", "replace(hex(zeroblob(50000)), '0', '[')")
    with owner(url, without_barriers=True) as connection:
        connection.execute(sa.text(statement))
    verdict = log.verify()
    assert not verdict.intact
    found = [(found.sequence, found.reason) for found in verdict.breaks]
    assert (sequence, reason) in found
    assert verdict.breaks[0].sequence == min(number for number, _ in found) or reason == Reason.FORGED_HEAD


def test_a_database_that_is_down_is_named_without_its_password(unused_port, key):
    """At once, for reading and for writing."""
    log = AuditLog.open(
        f"postgresql://hr:s3cret@127.0.0.1:{unused_port}/governance?sslpassword=s3cret", signing_key=key
    )
    begin = time.monotonic()
    for use in (lambda: log.append(Event(Action.TRAIN, "x", Outcome.STARTED)), log.records, log.verify, log.head):
        with pytest.raises(AuditUnavailable) as caught:
            use()
        message = str(caught.value)
        assert f"127.0.0.1:{unused_port}/governance" in message
        assert "s3cret" not in message
        assert len(message.splitlines()) == 1
    assert time.monotonic() - begin < 10


def test_a_host_that_accepts_and_says_nothing_is_not_waited_for(key):
    """The connection has a time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}/governance?connect_timeout=2"
        log = AuditLog.open(f"postgresql://hr:s3cret@{address}", signing_key=key)
        begin = time.monotonic()
        with pytest.raises(AuditUnavailable, match="does not answer"):
            log.append(Event(Action.TRAIN, "x", Outcome.STARTED))
        assert time.monotonic() - begin < 10


def test_a_writer_that_never_ends_is_not_waited_for(url, key, monkeypatch):
    """The turn has a time limit, and the event is not recorded."""
    monkeypatch.setattr(audit_store, "LOCK_SECONDS", 1)
    with AuditLog.open(url, signing_key=key) as log:
        fill(log, 1)
        lock = f"SELECT pg_advisory_xact_lock({audit_store._LOCK})"
        with owner(url) as connection:
            connection.execute(sa.text("BEGIN IMMEDIATE" if url.startswith("sqlite") else lock))
            begin = time.monotonic()
            with pytest.raises(AuditUnavailable, match="lock"):
                fill(log, 1)
            assert time.monotonic() - begin < 5
        fill(log, 1)
        assert log.verify().last == 2


def test_a_wrong_password_is_not_repeated(postgres_server):
    """The server's words, without ours."""
    url = postgres_server.url().replace("not-a-secret", "s3cret")
    with pytest.raises(AuditUnavailable, match="password authentication failed") as caught:
        AuditLog.open(url).records()
    assert "s3cret" not in str(caught.value)


def test_a_role_that_may_only_add_and_read_is_enough(postgres_server, key):
    """The account of the application owns nothing: it cannot drop the triggers."""
    url = postgres_server.new_database()
    with AuditLog.open(url, signing_key=key) as log:
        fill(log, 1)
    with owner(url) as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS recorder"))
        for statement in (
            "CREATE ROLE recorder LOGIN PASSWORD 'recorder'",
            "GRANT SELECT, INSERT ON audit_events, audit_heads TO recorder",
            "GRANT USAGE ON SEQUENCE audit_heads_id_seq TO recorder",
        ):
            connection.execute(sa.text(statement))
    with AuditLog.open(url.replace("attrition:not-a-secret", "recorder:recorder"), signing_key=key) as log:
        fill(log, 2)
        assert log.head().sequence == 3
        assert log.verify().intact
    with owner(url) as connection:
        connection.execute(sa.text("DROP OWNED BY recorder"))
        connection.execute(sa.text("DROP ROLE recorder"))


def test_a_server_that_restarts_is_found_again(log, url, postgres_server):
    """A connection that died while it was not used costs nothing but its replacement."""
    if url.startswith("sqlite"):
        pytest.skip("a file has no server")
    fill(log, 1)
    with owner(postgres_server.url()) as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'attrition audit'")
        )
    fill(log, 1)
    assert log.verify().last == 2
