"""The audit log on SQLite: recording, reading, signing, verifying."""

from __future__ import annotations

import logging
import multiprocessing
import re
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from attrition.errors import AuditUnavailable, ConfigError, IntegrityError, NotFound, UsageError
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome
from attrition.governance.audit_chain import GENESIS, Reason
from attrition.governance.audit_heads import SigningKey

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def database(tmp_path):
    return tmp_path / "governance.db"


@pytest.fixture
def key(tmp_path):
    return tmp_path / "audit.pem"


@pytest.fixture
def open_log(database, key):
    """Opens the log, as often as one wants."""
    opened = []

    def open_(**options):
        opened.append(AuditLog.open(f"sqlite:///{database}", **{"signing_key": key, **options}))
        return opened[-1]

    yield open_
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log):
    return open_log(head_events=10)


def event(subject="run", outcome=Outcome.SUCCEEDED, action=Action.TRAIN, **fields):
    return Event(action, subject, outcome, **fields)


def fill(log, n):
    return [log.append(event(f"run {number}")) for number in range(n)]


def tamper(database, *statements):
    """What whoever owns the database can do."""
    with closing(sqlite3.connect(database)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def test_an_event_is_recorded_as_given(log):
    """With sequence, UTC time and hashes; and read back the same."""
    given = event(
        actor="ada",
        justification="pilot",
        model_version="1.0.0",
        data_version="3",
        client_address="10.0.0.1",
        details={"n": 1, "share": 1e20, "nested": {"list": [1.5, None]}},
        correlation="c1",
    )
    record = log.append(given, now=NOON.astimezone(timezone(timedelta(hours=2))))
    assert record == log.record(1) == log.records()[0]
    assert (record.sequence, record.time, record.previous) == (1, "2026-01-31T12:00:00.000000Z", GENESIS)
    assert record.moment == NOON
    for name in Event.__slots__:
        assert getattr(record, name) == getattr(given, name)


def test_what_is_not_given_is_filled_in(log, monkeypatch):
    """The user of the operating system, the time of now, a new correlation."""
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    first, second = fill(log, 2)
    assert first.actor == "ada"
    assert abs(datetime.now(UTC) - first.moment) < timedelta(minutes=1)
    assert first.correlation != second.correlation
    assert second.previous == first.hash

    def nameless():
        raise OSError

    monkeypatch.setattr("getpass.getuser", nameless)
    assert log.append(event()).actor == "unknown"


def test_a_time_needs_a_zone(log):
    """Otherwise nobody knows when it was."""
    for use in (lambda moment: log.append(event(), now=moment), lambda moment: log.records(since=moment)):
        with pytest.raises(UsageError, match="no zone"):
            use(datetime(2026, 1, 31))  # noqa: DTZ001
    assert log.records() == []


def test_records_are_found_by_conditions(log):
    """All must hold; the newest come, the oldest of them first."""
    log.append(event("1.0.0", actor="ada", action=Action.REGISTER, correlation="c"), now=NOON)
    log.append(event("1.0.0", actor="bob", action=Action.PROMOTE), now=NOON + timedelta(hours=1))
    log.append(event("1.1.0", Outcome.DENIED, actor="bob", action=Action.PROMOTE), now=NOON + timedelta(hours=2))

    def found(**conditions):
        return [record.sequence for record in log.records(**conditions)]

    assert found() == [1, 2, 3]
    assert found(limit=2) == [2, 3]
    assert found(actor="bob") == [2, 3]
    assert (
        found(action=Action.PROMOTE, outcome=Outcome.DENIED) == found(action="traffic.promote", outcome="denied") == [3]
    )
    assert found(subject="1.0.0") == [1, 2]
    assert found(correlation="c") == [1]
    assert found(since=NOON + timedelta(hours=1)) == [2, 3]
    assert found(until=NOON + timedelta(hours=1)) == [1]
    assert found(actor="bob", subject="1.0.0", limit=1) == [2]
    assert found(actor="' OR 1=1 --") == []


def test_starts_without_an_end_are_found(log):
    """Of actions that still run, and of those whose process was killed."""
    for correlation, outcomes in {
        "done": ["started", "succeeded"],
        "broke": ["started", "failed"],
        "killed": ["started"],
        "refused": ["denied"],
    }.items():
        for outcome in outcomes:
            log.append(event(outcome=Outcome(outcome), correlation=correlation))
    assert [record.correlation for record in log.records(unfinished=True)] == ["killed"]


@pytest.mark.parametrize("condition", [{"limit": 0}, {"action": "traffic.chagne"}, {"outcome": "good"}])
def test_conditions_that_cannot_be_meant(log, condition):
    """Are refused instead of finding nothing."""
    with pytest.raises(UsageError):
        log.records(**condition)


def test_an_event_that_is_not_there(log):
    """Says which are."""
    fill(log, 2)
    with pytest.raises(NotFound, match="event 3: is not in the audit log; it holds the events 1 to 2"):
        log.record(3)


def test_a_log_outlives_its_process(log, open_log):
    """The next one continues the chain."""
    (first,) = fill(log, 1)
    (second,) = fill(open_log(), 1)
    assert (second.sequence, second.previous) == (2, first.hash)
    assert open_log(signing_key=None).verify(public_keys=[log.public_key]).intact


def test_heads_are_signed_every_so_many_events(log):
    """The first with the first event."""
    fill(log, 25)
    verdict = log.verify()
    assert (verdict.intact, verdict.last, verdict.n_heads, verdict.covered) == (True, 25, 3, 21)


def test_heads_are_signed_after_so_many_minutes(open_log):
    """However few events there were."""
    log = open_log(head_minutes=0)
    fill(log, 3)
    assert (log.verify().n_heads, log.verify().covered) == (3, 3)
    assert open_log(head_minutes=60, head_events=10).append(event()).sequence == 4
    assert log.verify().n_heads == 3


def test_processes_share_the_work_of_signing(open_log):
    """One that finds a newer head of another does not sign as well."""
    one, two = open_log(head_events=4), open_log(head_events=4)
    for _ in range(8):
        fill(one, 1)
        fill(two, 1)
    assert one.verify().n_heads == 4


def test_a_head_covers_everything_so_far(log):
    """Also nothing at all."""
    assert log.head().sequence == 0
    *_, last = fill(log, 5)
    head = log.head(now=NOON)
    assert (head.sequence, head.hash, head.time) == (
        5,
        last.hash,
        last.time.replace(last.time, "2026-01-31T12:00:00.000000Z"),
    )
    assert log.verify(heads=[head]).covered == 5


def test_without_a_key_nothing_is_signed(open_log):
    """Events are recorded all the same."""
    log = open_log(signing_key=None)
    fill(log, 3)
    verdict = log.verify()
    assert (verdict.intact, verdict.n_heads, verdict.covered) == (True, 0, 0)
    for use in (log.head, lambda: log.public_key, lambda: log.public_pem, lambda: log.export("x")):
        with pytest.raises(UsageError, match="without a signing key"):
            use()


def test_a_head_that_was_kept_shows_what_the_stored_ones_cannot(log, database):
    """Whoever owns the database can cut off the end, heads and all."""
    fill(log, 15)
    kept = log.head()
    tamper(database, "DELETE FROM audit_events WHERE sequence > 5", "DELETE FROM audit_heads WHERE sequence > 5")
    assert not log.verify().intact
    (beside_the_key,) = database.parent.rglob("*.head")
    beside_the_key.unlink()
    assert log.verify().intact
    verdict = log.verify(heads=[kept])
    assert [(found.sequence, found.reason) for found in verdict.breaks] == [(6, Reason.TRUNCATED)]
    fill(log, 15)
    verdict = log.verify(heads=[kept])
    assert [(found.sequence, found.reason) for found in verdict.breaks] == [(15, Reason.REWRITTEN)]


def test_a_head_of_an_unknown_key_is_named(log, tmp_path):
    """And believed by whoever trusts the key, such as that of another machine."""
    fill(log, 3)
    other = SigningKey.load_or_create(tmp_path / "other.pem")
    head = other.sign(log.head().mark, "2026-01-31T12:00:00.000000Z")
    (found,) = log.verify(heads=[head]).breaks
    assert (found.sequence, found.reason) == (3, Reason.UNKNOWN_KEY)
    assert log.verify(heads=[head], public_keys=[other.public_key]).intact


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET subject = 'x' WHERE sequence = 13",
        "DELETE FROM audit_events WHERE sequence = 13",
        "DELETE FROM audit_events WHERE sequence > 8",
    ],
)
def test_tampered_events_are_never_signed(log, database, statement, caplog):
    """Neither on demand nor by the way; recording goes on, and the process's log says why."""
    fill(log, 15)  # heads at 1 and 11
    tamper(database, statement)
    with pytest.raises(IntegrityError, match="cannot be signed"):
        log.head()
    with caplog.at_level(logging.ERROR):
        fill(log, 15)
    assert "tampered" in caplog.text
    assert log.verify().n_heads == 2
    assert not log.verify().intact


@pytest.mark.parametrize(
    "change",
    [
        "sequence = 1000000",
        "time = '2999-01-01T00:00:00.000000Z'",
        "time = 'x'",
        "sequence = 'x'",
        "public_key = x'00'",
        "hash = x'00', signature = x'00'",
    ],
)
def test_a_forged_head_does_not_keep_others_from_being_signed(open_log, database, change):
    """It is found, and events go on being recorded and signed."""
    fill(open_log(head_events=10), 5)
    tamper(database, f"UPDATE audit_heads SET {change}")
    log = open_log(head_events=10)
    fill(log, 1)
    verdict = log.verify()
    assert (verdict.n_heads, verdict.covered) == (1, 6)
    assert [found.reason for found in verdict.breaks] == [Reason.FORGED_HEAD]


@pytest.mark.parametrize("value", ["'x'", "x'00'", "NULL", "7", "1.5"])
@pytest.mark.parametrize("column", ["time", "details", "hash", "previous", "actor"])
def test_values_of_any_type_in_the_table_are_findings(log, database, column, value):
    """Not a crash of whoever verifies, reads or records."""
    fill(log, 5)
    tamper(
        database,
        "CREATE TABLE loose AS SELECT * FROM audit_events",
        "DROP TABLE audit_events",
        "ALTER TABLE loose RENAME TO audit_events",
        f"UPDATE audit_events SET {column} = {value} WHERE sequence = 3",
    )
    (found,) = log.verify().breaks
    assert found.sequence == 3
    assert len(log.records()) == 5
    assert log.append(event()).sequence == 6


def test_a_second_log_in_a_process_leaves_the_locks_of_the_first(log, open_log, database):
    """Otherwise another process that ends takes itself for the last one and removes the journal."""
    fill(log, 2)
    fill(open_log(), 1)
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM audit_heads'); c.close()"
    subprocess.run([sys.executable, "-c", code, database], check=True)
    assert database.with_name(f"{database.name}-wal").exists()
    fill(log, 1)
    assert log.verify().last == 4


def test_a_forked_process_records_by_itself(log):
    """The parent's connections stay the parent's."""
    fill(log, 1)
    child = multiprocessing.get_context("fork").Process(target=fill, args=(log, 3))
    child.start()
    fill(log, 3)
    child.join()
    assert child.exitcode == 0
    assert (log.verify().intact, log.verify().last) == (True, 7)


def test_tampered_events_can_still_be_read(log, database):
    """Somebody must look at them."""
    fill(log, 3)
    tamper(database, "UPDATE audit_events SET action = '?', outcome = '', time = '', details = '{' WHERE sequence = 2")
    record = log.record(2)
    assert (record.action, record.outcome, record.details) == ("?", "", "{")


def test_the_file_belongs_to_its_user(log, database):
    """It holds what people did."""
    fill(log, 1)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"no database" * 1_000, None], ids=["another file", "a folder"])
def test_a_file_that_is_no_database(database, key, content):
    """What cannot be recorded is refused, in one sentence, and the file stays as it is."""
    if content is None:
        database.mkdir()
    else:
        database.write_bytes(content)
    log = AuditLog.open(f"sqlite:///{database}", signing_key=key)
    for use in (log.records, log.verify, log.head, lambda: log.append(event())):
        with pytest.raises(AuditUnavailable, match=re.escape(str(database))) as caught:
            use()
        assert len(str(caught.value).splitlines()) == 1
    assert content is None or database.read_bytes() == content
    log.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no address"),
        ("nonsense", "no address"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://hr:s3cret@host/db", "begins with mysql"),
        ("postgresql://", "names no host"),
        ("hr:s3cret@host", "no address"),
        ("postgresql://hr:s3cret@host:port/db", "no address"),
    ],
)
def test_addresses_that_are_none(url, message):
    """Say what is allowed, and repeat no password."""
    with pytest.raises(ConfigError, match=message) as caught:
        AuditLog.open(url)
    assert "sqlite:///path or postgresql://" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_there_is_no_call_that_deletes():
    """Retention is by not offering it."""
    names = [name for name in dir(AuditLog) if not name.startswith("_")]
    assert not re.search("delete|remove|purge|update|truncate|clear", " ".join(names))


def test_a_password_with_an_unescaped_at_sign_is_not_repeated():
    """What stands before the last @ of such an address is taken for a host, and it is a secret."""
    with pytest.raises(ConfigError) as caught:
        AuditLog.open("postgresql://u:se@cret@localhost/x")
    assert "cret" not in str(caught.value)
    assert "%40" in str(caught.value)
