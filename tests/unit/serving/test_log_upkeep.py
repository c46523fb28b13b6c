"""The daily upkeep: when it is due, what it does, and that commits go on."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from deltalake import DeltaTable

from attrition.data.delta import Compaction
from attrition.data.outcomes import OutcomeTable
from attrition.data.predictions import PredictionTable
from attrition.errors import NotFound, PlatformError
from attrition.serving.log_commit import Committer
from attrition.serving.log_entries import Outcome, Outcomes, Predictions, Scored, doubles, encode
from attrition.serving.log_upkeep import RETRY, SETTLING, UPKEEP, Upkeep, UpkeepRecord, is_due
from attrition.serving.spool import Spool

NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
YESTERDAY_US = 1_711_886_400_000_000  # 2024-03-31T12:00:00Z
LONG_AGO = NOON - timedelta(days=9)


class Clock:
    """A time that a test sets."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


class Table:
    """Remembers what was asked of it."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def compact(self, today):
        self.asked.append(today)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def due(last, now=NOON, delay=timedelta(0)):
    return is_due(last, now, started_at=LONG_AGO, delay=delay)


def finished(moment, error=""):
    return UpkeepRecord(moment.isoformat(), error=error)


def test_the_first_is_due_when_the_node_has_settled():
    """Not while its replicas start."""
    assert due(None)
    assert not is_due(None, NOON, started_at=NOON - SETTLING / 2, delay=timedelta(0))


def test_once_a_day():
    """Some time after midnight, UTC, whatever the zone of the last record."""
    midnight = NOON.replace(hour=0)
    assert due(finished(midnight - timedelta(seconds=1)))
    assert not due(finished(midnight))
    assert not due(finished(midnight - timedelta(hours=5)), midnight + timedelta(minutes=5), timedelta(minutes=10))
    assert due(finished(midnight - timedelta(hours=5)), midnight + timedelta(minutes=15), timedelta(minutes=10))


def test_what_failed_is_tried_again():
    """Not at once."""
    assert not due(finished(NOON - RETRY / 2, "busy"))
    assert due(finished(NOON - RETRY, "busy"))


def test_every_table_gets_its_turn(tmp_path):
    """One that is busy, missing or broken keeps no other from it, and the record tells."""
    tables = [
        Table(NotFound("predictions: nothing yet.")),
        Table(PlatformError("outcomes: another process wrote to the same rows.")),
        Table(RuntimeError("secret")),
        Table(Compaction(9, 2, 5)),
    ]
    record = Upkeep(tmp_path, [table.compact for table in tables], clock=Clock()).run()
    assert [table.asked for table in tables] == [[NOON.date()]] * 4
    assert (record.n_merged, record.n_deleted) == (7, 5)
    assert "another process wrote to the same rows" in record.error
    assert "RuntimeError" in record.error
    assert "secret" not in record.error
    assert UpkeepRecord.read(tmp_path) == record


def test_a_restart_repeats_nothing(tmp_path):
    """What the node did last stands in a file; nonsense in it counts as nothing."""
    clock = Clock()
    assert Upkeep(tmp_path, [], clock=clock).run().error == ""
    again = Upkeep(tmp_path, [Table(Compaction(1, 1, 0)).compact], clock=clock)
    clock.now += SETTLING
    assert not again.tick()
    clock.now += timedelta(days=1)
    assert again.tick()
    again._thread.join(10)
    for nonsense in ("", "[]", '{"finished_at": "soon"}'):
        (tmp_path / UPKEEP).write_text(nonsense)
        assert UpkeepRecord.read(tmp_path) is None


def test_one_at_a_time_beside_the_caller(tmp_path):
    """`tick` returns at once, and does not begin a second while the first runs."""
    clock, begun, may_end = Clock(), threading.Event(), threading.Event()

    def compact(_today):
        begun.set()
        may_end.wait(10)
        return Compaction(3, 1, 0)

    upkeep = Upkeep(tmp_path, [compact], clock=clock)
    clock.now += SETTLING
    assert upkeep.tick()
    assert begun.wait(10)
    assert not upkeep.tick()
    may_end.set()
    upkeep._thread.join(10)
    assert UpkeepRecord.read(tmp_path).n_merged == 2
    assert not upkeep.tick()


def entry(*ids):
    n = len(ids)
    scored = Scored(
        "1.0.0", "blue", 0.5, ("age",), list(ids), [None] * n, ["sole"] * n, doubles([0.2] * n), doubles([40.0] * n)
    )
    return encode(Predictions(YESTERDAY_US, 1, [scored]))


@pytest.mark.timeout(60)
def test_commits_go_on_and_stay_exactly_once(tmp_path):
    """Real tables: the day before is compacted while segments are committed; a repeated segment adds nothing."""
    root, tables = tmp_path / "spool", str(tmp_path / "tables")
    predictions, outcomes = PredictionTable(tables), OutcomeTable(tables)
    committer = Committer(root, predictions, outcomes)
    spool = Spool(root, max_bytes=10**6)
    for number in range(12):
        spool.append(entry(f"a{number:02d}"))
        spool.append(encode(Outcomes("api", [Outcome(f"p{number}", None, YESTERDAY_US)])))
        spool.seal()
        committer.run()
    upkeep = Upkeep(root, (predictions.compact, lambda _today: outcomes.compact()), clock=Clock())
    thread = threading.Thread(target=upkeep.run)
    thread.start()
    for number in range(12):
        spool.append(entry(f"b{number:02d}"))
        spool.seal()
        kept = spool.backlog()[0].path.read_bytes()
        path = spool.backlog()[0].path
        committer.run()
    thread.join()
    path.write_bytes(kept)  # as if the committer had died between commit and deletion
    assert Committer(root, predictions, outcomes).run() == 0
    upkeep.run()
    assert sorted(predictions.between()["prediction_id"]) == sorted(f"{x}{n:02d}" for x in "ab" for n in range(12))
    assert len(outcomes.current()) == 12
    assert len(DeltaTable(predictions.uri).file_uris()) == 1
    assert len(DeltaTable(outcomes.uri).file_uris()) == 1
    assert predictions.committed([spool.folder.name]) == {spool.folder.name: 24}
    spool.close()
