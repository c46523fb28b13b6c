"""Tombstones: who was erased, and that no writer brings them back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from attrition.data.removal import fence
from attrition.data.tombstones import Erased, ErasureState, Tombstone, Tombstones, digest

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
ANNA, BERT, CARL = "a1" * 16, "b2" * 16, "c3" * 16


@pytest.fixture
def stones(tmp_path):
    return Tombstones(str(tmp_path))


def test_an_erasure_is_begun_once_and_finished_once(stones):
    """Repeating a step changes nothing; the time is that of the beginning."""
    assert stones.find(ANNA) is None
    assert stones.set(ANNA, ErasureState.BEGUN, now=NOW) == Tombstone(ErasureState.BEGUN, NOW)
    assert stones.set(ANNA, ErasureState.BEGUN, now=LATER) == Tombstone(ErasureState.BEGUN, NOW)
    assert stones.set(ANNA, ErasureState.FINISHED, now=LATER) == Tombstone(ErasureState.FINISHED, NOW)
    assert stones.set(ANNA, ErasureState.BEGUN, now=LATER) == Tombstone(ErasureState.FINISHED, NOW)
    assert stones.find(BERT) is None


def test_the_table_does_not_name_the_person(stones, tmp_path):
    """Neither in rows nor in its log."""
    stones.set(ANNA, ErasureState.BEGUN, now=NOW)
    assert ANNA not in str(stones._rows().to_pylist())
    log = "".join(path.read_text() for path in tmp_path.rglob("_delta_log/*.json"))
    assert ANNA not in log
    assert digest(ANNA) not in log


def test_only_finished_erasures_end(stones):
    """One that was interrupted has to be finished first."""
    stones.set(ANNA, ErasureState.BEGUN, now=NOW)
    stones.set(BERT, ErasureState.BEGUN, now=NOW)
    stones.set(BERT, ErasureState.FINISHED, now=NOW)
    assert stones.before(NOW) == []
    assert stones.before(LATER) == [digest(BERT)]


def test_rows_of_the_erased_are_told_from_others():
    """Numbered repetitions of a surrogate id are the same rows; nobody's rows are nobody's."""
    erased = Erased(frozenset({digest(ANNA)}))
    ids = [ANNA, BERT, None, f"{ANNA}-2", f"{BERT}-2"]
    assert erased.mask(ids).tolist() == [True, False, False, True, False]
    rows = pa.table({"employee_id": pa.array(ids, pa.string()), "x": range(5)})
    assert erased.without(rows)["x"].to_pylist() == [1, 2, 4]
    assert Erased(frozenset()).without(rows) is rows


def test_no_table_takes_an_erased_person(records):
    """Predictions, outcomes and snapshots of everybody else arrive."""
    records.tables.tombstones.set(ANNA, ErasureState.BEGUN, now=NOW)
    records.predict(ANNA, BERT, None)
    assert records.state(ANNA, BERT) == 1
    ref = records.write_snapshot(ANNA, BERT, CARL)
    assert ref.n_rows == 2
    assert records.readable() == {BERT, CARL}
    assert len(records.predictions.between()) == 2


def test_a_segment_of_erased_persons_only_is_done_with(records):
    """Its number is committed, or the committer would try for ever."""
    records.tables.tombstones.set(ANNA, ErasureState.BEGUN, now=NOW)
    records.predict(ANNA, ANNA)
    assert records.predictions.committed(["spool-1"]) == {"spool-1": 1}
    assert len(records.predictions.between()) == 0


@pytest.mark.parametrize("kind", ["predictions", "outcomes", "snapshots"])
def test_a_writer_that_looked_before_the_erasure_looks_again(records, monkeypatch, kind):
    """It has read the table and the tombstones; then the tombstone is set and the table fenced; then it commits."""
    write = {
        "predictions": records.predict,
        "outcomes": records.state,
        "snapshots": records.write_snapshot,
    }[kind]
    write(BERT)
    look = Tombstones.erased
    looks = []

    def look_and_be_overtaken(stones):
        seen = look(stones)
        looks.append(len(seen))
        if len(looks) == 1:
            stones.set(ANNA, ErasureState.BEGUN, now=NOW)
            fence(f"{records.root}/{kind}", None, now=NOW)
        return seen

    monkeypatch.setattr(Tombstones, "erased", look_and_be_overtaken)
    write(ANNA, CARL)
    assert looks[0] == 0
    assert len(looks) > 1
    monkeypatch.undo()
    uri = f"{records.root}/{kind}"
    from deltalake import DeltaTable

    assert set(DeltaTable(uri).to_pyarrow_table()["employee_id"].to_pylist()) - {BERT} == {CARL}
