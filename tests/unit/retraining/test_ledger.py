"""Decisions, attempts, and the lease that only one holds."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta

import pytest

from attrition.errors import PlatformError
from attrition.retraining.ledger import Ledger

NOW = datetime(2026, 5, 4, 8, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(f"sqlite:///{tmp_path / 'governance.db'}")


def test_one_holds_the_lease(ledger):
    """The second is told who has it and until when; after its release, or its end, the second has it."""
    assert ledger.acquire("ada", NOW, 60) is None
    assert ledger.acquire("ada", NOW + timedelta(minutes=30), 60) is None
    other = ledger.acquire("bob", NOW + timedelta(minutes=80), 60)
    assert other is not None
    assert (other.name, other.until) == ("ada", NOW + timedelta(minutes=90))
    assert ledger.acquire("bob", NOW + timedelta(minutes=90), 60) is None
    ledger.release("ada")
    assert ledger.acquire("ada", NOW + timedelta(minutes=91), 60) is not None
    ledger.release("bob")
    assert ledger.acquire("ada", NOW + timedelta(minutes=91), 60) is None


def compete(url, name, ready, won):
    ledger = Ledger(url)
    ready.wait()
    if ledger.acquire(name, NOW, 60) is None:
        won.put(name)


def test_of_many_processes_one_wins(tmp_path):
    """Each tries at the same moment, on a database that nobody has made yet."""
    url = f"sqlite:///{tmp_path / 'governance.db'}"
    context = multiprocessing.get_context("fork")
    ready, won = context.Barrier(4), context.Queue()
    processes = [context.Process(target=compete, args=(url, f"p{i}", ready, won)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    assert won.get(timeout=5)
    assert won.empty()


def test_attempts(ledger):
    """Newest first, with how they ended; an attempt counts as concluded once the gates spoke."""
    ledger.begin("a", "f1", NOW)
    ledger.begin("b", "f2", NOW + timedelta(days=1))
    ledger.end("a", "HELD", seconds=12.5, run_id="r1")
    second, first = ledger.attempts()
    assert (first.state, first.seconds, first.run_id, first.concluded) == ("HELD", 12.5, "r1", True)
    assert (second.state, second.concluded) == ("RUNNING", False)
    assert [attempt.attempt_id for attempt in ledger.attempts(NOW + timedelta(hours=1))] == ["b"]


def test_decisions(ledger):
    """A decision is replaced by what came of it; newest first."""
    ledger.note("a", NOW, {"state": "DECIDED"})
    ledger.note("a", NOW, {"state": "HELD"})
    ledger.note("b", NOW + timedelta(days=1), {"state": "DECIDED"})
    assert ledger.decisions() == [{"state": "DECIDED"}, {"state": "HELD"}]
    assert ledger.decisions(1) == [{"state": "DECIDED"}]


def test_a_database_that_does_not_answer(tmp_path):
    """One sentence that names the setting."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'absent' / 'governance.db'}")
    with pytest.raises(PlatformError, match="ATTRITION_DATABASE_URL"):
        ledger.decisions()
