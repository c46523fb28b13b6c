"""Erasing a person from the tables: nothing is left, nobody else is touched, a crash is answered by the same call."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import parquet

from attrition.data import removal
from attrition.data.holdings import export_values
from attrition.data.person_tables import OLD_FILES, LogStore, SnapshotStore
from attrition.data.tables import SnapshotRef, Tables
from attrition.data.tombstones import ErasureState
from attrition.errors import IntegrityError, NotFound, PlatformError, UsageError

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ANNA, BERT, CARL = "a1" * 16, "b2" * 16, "c3" * 16


def content(records):
    """Every row of everybody but Anna."""
    frames = [records.predictions.between(), records.outcomes.history()]
    frames += [records.tables.read_snapshot(ref.version)[0].frame for ref in records.tables.snapshots()]
    return [frame[frame["employee_id"] != ANNA].reset_index(drop=True) for frame in frames]


def test_a_report_lists_every_row_and_no_value(filled):
    """By store and version, with columns and dates."""
    report = filled.persons().report(ANNA)
    counts = {(item.store, item.place.partition(" ")[0]): 0 for item in report.holdings}
    for item in report.holdings:
        counts[item.store, item.place.partition(" ")[0]] += item.n_rows
    assert counts == {("predictions", "version"): 3, ("outcomes", "version"): 1, ("snapshots", "version"): 2}
    assert [item.place for item in report.holdings if item.store == "snapshots"] == ["version 0", "version 1"]
    (predictions,) = [item for item in report.holdings if item.store == "predictions"]
    assert (predictions.first_date, predictions.last_date) == ("2024-05-31", "2024-06-01")
    assert "feature_salary" in predictions.columns
    assert "40.0" not in json.dumps(report.to_dict())
    assert report.n_rows == 6


def test_values_go_to_a_file_of_the_owner(filled, tmp_path):
    """Every row, whole; an existing file is not overwritten."""
    persons, path = filled.persons(), tmp_path / "answer.json"
    report = persons.report(ANNA)
    assert export_values(persons.stores, report, path) == 6
    assert path.stat().st_mode & 0o777 == 0o600
    rows = json.loads(path.read_text())["rows"]
    assert [row["feature_salary"] for row in rows["predictions"]] == [40.0] * 3
    assert {row["version"] for row in rows["snapshots"]} == {0, 1}
    assert all(row["salary"] == 161.0 for row in rows["snapshots"])
    assert all(row["employee_id"] == ANNA for store in rows.values() for row in store)
    with pytest.raises(UsageError, match="exists already"):
        export_values(persons.stores, report, path)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_nothing_is_left_and_nobody_else_is_touched(filled):
    """At any version, in any file, in any log."""
    before = content(filled)
    done = filled.persons().erase(ANNA, now=NOW)
    assert done.n_rows == {"predictions": 3, "outcomes": 1, "snapshots": 2}
    assert done.is_finished
    assert filled.readable() == {BERT, CARL}
    assert ANNA not in filled.logs()
    for one, other in zip(before, content(filled), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_nobody_stands_in_a_log(filled):
    """Neither as the extreme of a file nor as the value of a condition."""
    filled.persons().erase(ANNA, now=NOW)
    assert all(person not in filled.logs() for person in (ANNA, BERT, CARL))


def test_a_version_keeps_its_number_and_says_what_became_of_it(filled):
    """Its date of import, too; the latest one stays the latest."""
    before = filled.tables.stored()
    filled.persons().erase(ANNA, now=NOW)
    after = filled.tables.stored()
    assert [stored.ref.version for stored in after] == [0, 1]
    for one, other in zip(before, after, strict=True):
        assert other.ref.earlier_hashes == (one.ref.content_hash,)
        assert (other.ref.n_rows, other.ref.n_erased) == (2, 1)
        assert other.ref.held(one.ref.content_hash)
        assert other.stored_at.replace(microsecond=0) == one.stored_at.replace(microsecond=0)
    table, ref = filled.tables.read_snapshot()
    assert ref.version == 1
    assert ref.last_date == "2024-04-30"
    assert SnapshotRef.from_dict(json.loads(json.dumps(ref.to_dict()))) == ref
    assert table.content_hash() == ref.content_hash
    head = DeltaTable(filled.tables.uri).to_pyarrow_table()
    assert set(head["snapshot_date"].to_pylist()) == {datetime(2024, 4, 30)}  # noqa: DTZ001 (dates have no zone)


def test_a_second_erasure_adds_to_the_first(filled):
    """A model that was trained between them still finds its data."""
    before = filled.tables.snapshots()[0].content_hash
    filled.persons().erase(ANNA, now=NOW)
    between = filled.tables.snapshots()[0].content_hash
    filled.persons().erase(BERT, now=NOW)
    ref = filled.tables.snapshots()[0]
    assert ref.earlier_hashes == (before, between)
    assert (ref.n_rows, ref.n_erased) == (1, 2)
    assert filled.readable() == {CARL}


def test_damaged_rows_are_still_noticed(filled):
    """An erasure is no licence to tamper."""
    filled.persons().erase(ANNA, now=NOW)
    stored = filled.tables.stored()[0]
    (path,) = DeltaTable(filled.tables.uri, version=stored.commit).file_uris()
    table = parquet.read_table(path)
    parquet.write_table(table.set_column(2, "tenure", [[99.0] * table.num_rows]), path)
    with pytest.raises(IntegrityError):
        filled.tables.read_snapshot(0)


def test_importing_the_same_extract_again_is_no_new_version(filled):
    """The erased person is left out, and the rest is what is stored."""
    filled.persons().erase(ANNA, now=NOW)
    again = filled.write_snapshot(ANNA, BERT, CARL, date="2024-04-30")
    assert again.version == 1
    assert len(filled.tables.snapshots()) == 2


def test_nobody_is_held(filled):
    """Neither for a report nor for an erasure, which leaves no tombstone."""
    for call in (filled.persons().report, lambda who: filled.persons().erase(who, now=NOW)):
        with pytest.raises(NotFound, match="nothing is held about this person") as caught:
            call("dd" * 16)
        assert "dd" * 16 not in str(caught.value)
    assert filled.tables.tombstones.find("dd" * 16) is None


def test_no_tables_at_all(records):
    """The same message, and still no tables."""
    with pytest.raises(NotFound, match="nothing is held"):
        records.persons().erase(ANNA, now=NOW)
    assert not Path(records.root).exists()


def test_an_erased_person_is_nobody_with_a_date(filled):
    """Whoever asks again learns when."""
    filled.persons().erase(ANNA, now=NOW)
    with pytest.raises(NotFound, match="erasure finished on 2024-06-01"):
        filled.persons().erase(ANNA, now=NOW)


def test_the_personal_key_is_destroyed_last(filled):
    """The token in the audit log cannot be computed again."""
    token = filled.keys.token(ANNA)
    assert filled.persons().report(ANNA).has_key
    assert filled.persons().erase(ANNA, now=NOW).key_destroyed
    assert not filled.keys.knows(ANNA)
    assert filled.keys.token(ANNA) != token


def test_a_person_with_nothing_but_a_key_is_held(records):
    """The key links events with the person, so it can be erased."""
    records.keys.token(ANNA)
    assert records.persons().erase(ANNA, now=NOW).key_destroyed


STEPS = [
    (LogStore, "fence"),
    (LogStore, "erase"),
    (Tables, "erase_rows"),
    (SnapshotStore, "clean"),
]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("kind", "step"), STEPS, ids=[f"{kind.__name__}.{step}" for kind, step in STEPS])
def test_a_crash_anywhere_is_answered_by_the_same_call(filled, monkeypatch, kind, step, moment):
    """What was begun is known, nothing is half-true meanwhile, and the second call finishes."""
    before = content(filled)
    original = getattr(kind, step)
    token = filled.keys.token(ANNA)
    filled.tables.tombstones.set(ANNA, ErasureState.BEGUN, now=NOW)  # so that the first look is not what dies

    def die(self, *args, **kwargs):
        if moment == "after":
            original(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(kind, step, die)
    with pytest.raises(KeyboardInterrupt):
        filled.persons().erase(ANNA, now=NOW)
    monkeypatch.undo()
    assert filled.tables.tombstones.find(ANNA).state is ErasureState.BEGUN
    assert filled.keys.token(ANNA) == token
    assert filled.tables.read_snapshot()[1].version in {0, 1}
    done = filled.persons().erase(ANNA, now=NOW + timedelta(days=1))
    assert done.is_finished
    assert done.erased_at == NOW
    assert filled.readable() == {BERT, CARL}
    assert not filled.keys.knows(ANNA)
    assert filled.tables.read_snapshot()[1].version == 1
    for one, other in zip(before, content(filled), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_a_crash_after_the_key_is_finished_too(filled, monkeypatch):
    """Nothing is held any more, but the tombstone knows that something is unfinished."""
    set_stone = type(filled.tables.tombstones).set

    def die(stones, pseudonym, state, *, now):
        if state is ErasureState.FINISHED:
            raise KeyboardInterrupt
        return set_stone(stones, pseudonym, state, now=now)

    monkeypatch.setattr(type(filled.tables.tombstones), "set", die)
    with pytest.raises(KeyboardInterrupt):
        filled.persons().erase(ANNA, now=NOW)
    monkeypatch.undo()
    assert filled.persons().erase(ANNA, now=NOW).is_finished


def test_old_files_may_outlive_the_erasure_by_policy(filled):
    """Readers that are under way finish; the erasure is not finished, says so, and the repetition finishes it."""
    filled.keys.token(ANNA)
    persons = filled.persons(old_file_hours=1)
    done = persons.erase(ANNA, now=NOW)
    assert not done.is_finished
    assert {(item.store, item.place) for item in done.remaining} == {
        ("predictions", OLD_FILES),
        ("outcomes", OLD_FILES),
        ("snapshots", OLD_FILES),
    }
    assert filled.keys.knows(ANNA)
    assert filled.persons().erase(ANNA, now=NOW).is_finished
    assert filled.readable() == {BERT, CARL}


def test_files_that_no_version_ever_named_go_too(filled):
    """A writer that was refused leaves its file behind."""
    stray = Path(filled.root) / "predictions" / "day=2024-06-01" / "part-stray.parquet"
    other = stray.with_name("part-other.parquet")
    rows = DeltaTable(f"{filled.root}/predictions").to_pyarrow_table().drop_columns("day")
    parquet.write_table(rows, stray)
    parquet.write_table(rows.filter([row == CARL for row in rows["employee_id"].to_pylist()]), other)
    assert OLD_FILES in {item.place for item in filled.persons().report(ANNA).holdings}
    filled.persons().erase(ANNA, now=NOW)
    assert not stray.exists()
    assert other.exists()  # it may be about to be committed


def test_numbered_repetitions_are_the_same_person(records):
    """Extracts without ids number rows of equal content."""
    records.write_snapshot(ANNA, f"{ANNA}-2", BERT)
    assert records.persons().erase(ANNA, now=NOW).n_rows["snapshots"] == 2
    assert records.readable() == {BERT}


def test_the_last_person_of_a_version(records):
    """An empty version is still a version."""
    records.write_snapshot(ANNA)
    records.persons().erase(ANNA, now=NOW)
    table, ref = records.tables.read_snapshot(0)
    assert (len(table), ref.n_rows, ref.first_date) == (0, 0, None)


def test_commits_meanwhile_do_not_get_in_the_way(filled, monkeypatch):
    """The erasure looks again, until it is the one that commits."""
    real = removal.open_table
    opened = []

    def open_and_be_overtaken(uri, options=None):
        table = real(uri, options)
        if uri.endswith("predictions") and len(opened) < 3:
            opened.append(uri)
            filled.predict(BERT)
        return table

    monkeypatch.setattr(removal, "open_table", open_and_be_overtaken)
    assert filled.persons().erase(ANNA, now=NOW).is_finished
    assert len(opened) == 3
    assert len(filled.predictions.between()) == 7 - 3 + 3


def test_a_table_that_cannot_be_written(filled, monkeypatch):
    """A platform error with the table, and what to do."""

    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DeltaTable, "merge", refuse)
    with pytest.raises(PlatformError, match="cannot be written") as caught:
        filled.persons().erase(ANNA, now=NOW)
    assert ANNA not in str(caught.value)
    monkeypatch.undo()
    assert filled.persons().erase(ANNA, now=NOW).is_finished


def test_a_reader_that_was_overtaken_reads_again(filled, monkeypatch):
    """The files of the version it looked up are gone; that is not tampering."""
    real = Tables._read
    calls = []

    def read_late(tables, stored):
        calls.append(stored.commit)
        if len(calls) == 1:
            monkeypatch.setattr(Tables, "_read", real)
            filled.persons().erase(ANNA, now=NOW)
        return real(tables, stored)

    monkeypatch.setattr(Tables, "_read", read_late)
    table, ref = filled.tables.read_snapshot(0)
    assert (len(table), ref.n_erased) == (2, 1)


def test_rows_that_another_library_appended_are_found(filled):
    """Whatever kind of text it wrote."""
    rows = DeltaTable(f"{filled.root}/predictions").to_pyarrow_table()
    write_deltalake(f"{filled.root}/predictions", rows, mode="append")
    assert filled.persons().erase(ANNA, now=NOW).n_rows["predictions"] == 6


def test_files_that_cannot_be_read_make_no_report(filled, monkeypatch):
    """An incomplete list would be a wrong one."""

    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(DeltaTable, "to_pyarrow_dataset", refuse)
    with pytest.raises(PlatformError, match="its files cannot be read") as caught:
        filled.persons().report(ANNA)
    assert ANNA not in str(caught.value)


def test_a_file_that_was_cut_off_holds_nobody(filled):
    """A writer died in the middle of it."""
    torn = Path(filled.root) / "predictions" / "day=2024-06-01" / "part-torn.parquet"
    torn.write_bytes(b"PAR1" + bytes(100))
    assert filled.persons().erase(ANNA, now=NOW).is_finished
    assert torn.exists()


def test_versions_that_are_imported_meanwhile_keep_their_files(filled, monkeypatch):
    """Two of them, between the last look at the versions and the deletion of files."""
    real = DeltaTable.vacuum
    imported = []

    def vacuum_late(table, *args, **kwargs):
        if not imported and table.table_uri.rstrip("/").endswith("snapshots"):
            imported.append(filled.write_snapshot(BERT, CARL, date="2024-05-10").version)
            imported.append(filled.write_snapshot(BERT, CARL, date="2024-05-20").version)
        return real(table, *args, **kwargs)

    monkeypatch.setattr(DeltaTable, "vacuum", vacuum_late)
    assert filled.persons().erase(ANNA, now=NOW).is_finished
    assert len(imported) == 2
    assert {ref.version for ref in filled.tables.snapshots()} == {0, 1, *imported}
    assert all(len(filled.tables.read_snapshot(ref.version)[0]) == 2 for ref in filled.tables.snapshots())


@pytest.mark.parametrize("max_rows", [1, 5, 1000])
def test_days_are_looked_through_in_runs(filled, monkeypatch, max_rows):
    """So that memory does not grow with the years; together they are all days."""
    monkeypatch.setattr(removal, "MAX_MERGE_ROWS", max_rows)
    for day in range(2, 6):
        filled.predict(ANNA, BERT, start=NOW - timedelta(days=day))
    assert filled.persons().erase(ANNA, now=NOW).n_rows["predictions"] == 3 + 4
    merges = [entry for entry in DeltaTable(f"{filled.root}/predictions").history() if entry["operation"] == "MERGE"]
    assert len(merges) == {1: 6, 5: 4, 1000: 1}[max_rows]
    assert filled.readable() == {BERT, CARL}
