"""The record of experiments: one at a time, every look kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from attrition.errors import NotFound, PlatformError, UsageError
from attrition.experiments.plan import ExperimentPlan
from attrition.experiments.records import ExperimentRecords

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_plan(name):
    return ExperimentPlan(name=name, control="1.0.0", challenger="1.1.0")


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'governance.db'}"


def test_what_was_started_is_there_for_everybody(url):
    """Another process sees plan, looks and end."""
    records = ExperimentRecords(url)
    records.start(make_plan("first"), actor="ann", now=NOW)
    records.set_run("first", "r1")
    assert [records.add_look("first", {"verdict": "CONTINUE", "n": i}) for i in range(3)] == [0, 1, 2]
    seen = ExperimentRecords(url).get()
    assert (seen.plan, seen.started_at, seen.actor, seen.run_id) == (make_plan("first"), NOW, "ann", "r1")
    assert seen.running
    assert [look["n"] for look in seen.looks] == [0, 1, 2]
    assert seen.to_dict()["last_look"]["n"] == 2
    assert ExperimentRecords(url).stop("first", NOW + timedelta(hours=1))
    assert not records.stop("first", NOW)
    assert records.get("first").stopped_at == NOW + timedelta(hours=1)


def test_looks_at_once_have_numbers_of_their_own(url):
    """Whoever comes second waits for its turn to count."""
    ExperimentRecords(url).start(make_plan("first"), actor="ann", now=NOW)
    barrier = Barrier(6)

    def add(_):
        records = ExperimentRecords(url)
        barrier.wait(10)
        return [records.add_look("first", {"verdict": "CONTINUE"}) for _ in range(5)]

    with ThreadPoolExecutor(6) as pool:
        numbers = [number for found in pool.map(add, range(6)) for number in found]
    assert sorted(numbers) == list(range(30))


def test_one_runs_at_a_time_and_names_are_not_used_twice(url):
    """The message says which one runs, and what to do."""
    records = ExperimentRecords(url)
    records.start(make_plan("first"), actor="ann", now=NOW)
    with pytest.raises(UsageError, match=r"first is running, .*attrition experiment stop first"):
        ExperimentRecords(url).start(make_plan("second"), actor="bob", now=NOW)
    records.stop("first", NOW)
    with pytest.raises(UsageError, match="there was one of this name"):
        records.start(make_plan("first"), actor="ann", now=NOW)
    records.start(make_plan("second"), actor="ann", now=NOW + timedelta(hours=1))
    records.discard("second")
    records.start(make_plan("second"), actor="ann", now=NOW + timedelta(hours=2))
    assert [each.plan.name for each in records.list()] == ["first", "second"]
    assert records.get().plan.name == "second"


def test_what_does_not_exist_is_not_found(url):
    """With what there is."""
    records = ExperimentRecords(url)
    with pytest.raises(NotFound, match="none was started"):
        records.get()
    records.start(make_plan("first"), actor="ann", now=NOW)
    with pytest.raises(NotFound, match="there are: first"):
        records.get("other")


def test_a_database_that_does_not_answer(tmp_path):
    """Is a fault of the platform, without its address."""
    with pytest.raises(PlatformError, match="does not answer") as caught:
        ExperimentRecords("postgresql://ann:secret@127.0.0.1:1/db").list()
    assert "secret" not in str(caught.value)
