"""The committer: every segment into the tables once, and what happens when it dies or cannot read."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from attrition.data.outcomes import OutcomeTable
from attrition.data.predictions import PredictionTable
from attrition.errors import IntegrityError, PlatformError
from attrition.serving.log_commit import (
    CommitStatus,
    Committer,
    commit_orphans,
    exclusive,
    has_committer,
    read_status,
    write_status,
)
from attrition.serving.log_entries import Outcome, Outcomes, Predictions, Scored, decode, doubles, encode
from attrition.serving.log_rows import prediction_rows
from attrition.serving.spool import MAGIC, UNREADABLE, Spool, frame, spools, unframe

GOLDEN = Path(__file__).parent / "golden" / "segment-1.log"
NOON = 1_711_886_400_000_000  # 2024-03-31T12:00:00Z


def scored(*ids, version="1.0.0", features=("age", "salary"), values=(40.0, math.nan)):
    """Predictions of one version, 0.25 for each id."""
    n = len(ids)
    return Scored(
        version, "blue", 0.2, features, list(ids), [None] * n, ["sole"] * n, doubles([0.25] * n), doubles(values * n)
    )


def entry(*ids, **options):
    return encode(Predictions(NOON, 120, [scored(*ids, **options)]))


@pytest.fixture
def tables(tmp_path):
    return str(tmp_path / "tables")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def committer(root, tables):
    return Committer(root, PredictionTable(tables), OutcomeTable(tables))


def logged(tables):
    return PredictionTable(tables).between()["prediction_id"].tolist()


def test_entries_become_rows(root, tables, committer):
    """Every field of the record, NaN as null, versions with other features side by side."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(
        encode(Predictions(NOON, 120, [scored("a", "b"), scored("c", version="2.0.0", features=("tenure", "age"))]))
    )
    spool.seal()
    assert committer.run() == 3
    rows = PredictionTable(tables).between().set_index("prediction_id")
    assert rows.loc["a"].to_dict() == {
        "time": datetime(2024, 3, 31, 12, tzinfo=UTC),
        "version": "1.0.0",
        "variant": "blue",
        "reason": "sole",
        "shadow_of": rows.loc["a", "shadow_of"],
        "employee_id": rows.loc["a", "employee_id"],
        "probability": 0.25,
        "threshold": 0.2,
        "decision": True,
        "latency_us": 120,
        "feature_age": 40.0,
        "feature_salary": pytest.approx(math.nan, nan_ok=True),
        "feature_tenure": pytest.approx(math.nan, nan_ok=True),
    }
    assert rows["employee_id"].isna().all()
    assert rows["feature_tenure"].tolist()[2] == 40.0
    assert math.isnan(rows.loc["c", "feature_age"])
    spool.close()


def test_a_shadow_says_what_it_copied(root, tables, committer):
    """Its rows name the predictions that were answered; those of others name none."""
    spool = Spool(root, max_bytes=10**6)
    copy = Scored(
        "2.0.0", "green", 0.5, ("age",), ["c"], [None], ["shadow"], doubles([0.7]), doubles([40.0]), shadow_of=["a"]
    )
    spool.append(encode(Predictions(NOON, 120, [scored("a", "b")])))
    spool.append(encode(Predictions(NOON, 0, [copy])))
    spool.close()
    assert committer.run() == 3
    rows = PredictionTable(tables).between().set_index("prediction_id")
    assert rows["shadow_of"].dropna().to_dict() == {"c": "a"}


def test_only_sealed_segments_of_a_living_process_are_taken(root, tables, committer):
    """They are deleted afterwards, and the active one stays."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(entry("a"))
    spool.seal()
    spool.append(entry("b"))
    assert committer.run() == 1
    assert committer.run() == 0
    assert logged(tables) == ["a"]
    assert spool.backlog() == []
    spool.close()
    assert committer.run() == 1
    assert logged(tables) == ["a", "b"]
    assert spools(root) == []
    assert committer.status.n_adopted == 1


def test_spools_share_a_commit_up_to_a_size(root, tables):
    """Fewer, larger files; memory stays bounded."""
    made = [Spool(root, max_bytes=10**6) for _ in range(3)]
    for number, spool in enumerate(made):
        for part in range(4):
            spool.append(entry(f"{number}-{part}"))
            spool.seal()
    size = made[0].backlog()[0].n_bytes
    committer = Committer(root, PredictionTable(tables), OutcomeTable(tables), max_bytes=5 * size)
    assert committer.run() == 12
    assert committer.status.n_commits == 3
    assert sorted(logged(tables)) == [f"{number}-{part}" for number in range(3) for part in range(4)]
    for spool in made:
        spool.close()


def test_a_death_between_commit_and_deletion_commits_nothing_twice(root, tables, committer, monkeypatch):
    """The table knows the segment's number."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(entry("a"))
    spool.seal()
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        committer.run()
    monkeypatch.undo()
    assert len(spool.backlog()) == 1
    assert Committer(root, PredictionTable(tables), OutcomeTable(tables)).run() == 0
    assert spool.backlog() == []
    assert logged(tables) == ["a"]
    spool.close()


def test_a_table_that_cannot_be_written_loses_nothing(root, tmp_path, tables, committer):
    """Segments stay until it can."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(entry("a"))
    spool.seal()
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(PlatformError, match="predictions: the table cannot be"):
        committer.run()
    assert len(spool.backlog()) == 1
    (tmp_path / "tables").unlink()
    assert committer.run() == 1
    assert logged(tables) == ["a"]
    spool.close()


@pytest.mark.parametrize(
    "content", [b"attrition spool 9\n" + frame(b"x"), MAGIC + frame(b"x")], ids=["segment", "entry"]
)
def test_what_a_later_version_wrote_is_set_aside(root, tables, committer, content):
    """Not lost, not in the way, and its folder stays."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(entry("a"))
    spool.seal()
    spool.backlog()[0].path.write_bytes(content)
    spool.append(entry("b"))
    spool.close()
    assert committer.run() == 1
    assert logged(tables) == ["b"]
    assert committer.status.n_unreadable == 1
    assert [path.suffix for path in spool.folder.glob("0*")] == [UNREADABLE]
    assert committer.run() == 0


def test_torn_entries_are_counted(root, committer):
    """Nobody was answered from them."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(entry("a"))
    spool.seal()
    with spool.backlog()[0].path.open("ab") as file:
        file.write(frame(entry("b"))[:20])
    assert committer.run() == 1
    assert committer.status.n_torn_bytes == 20
    spool.close()


def test_outcomes_go_to_their_own_table(root, tables, committer):
    """Also without any prediction; twice is once."""
    spool = Spool(root, max_bytes=10**6)
    batch = Outcomes(
        "api", [Outcome("p1", "2024-03-31", NOON), Outcome("p2", None, None), Outcome("p3", "0001-01-01", 0)]
    )
    for _ in range(2):
        spool.append(encode(batch))
        spool.seal()
        assert committer.run() == 0
    current = OutcomeTable(tables).current().set_index("employee_id")
    assert [str(day)[:10] for day in current["left_on"]] == ["2024-03-31", "NaT", "0001-01-01"]
    assert current.loc["p1", "observed_at"] == datetime(2024, 3, 31, 12, tzinfo=UTC)
    assert current.loc["p3", "observed_at"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert committer.status.n_outcomes == 3
    assert spool.backlog() == []
    spool.close()


def test_one_committer_at_a_time(root, tables):
    """Others learn that there is one."""
    assert not has_committer(root)
    with exclusive(root) as is_ours:
        assert is_ours
        assert has_committer(root)
        assert commit_orphans(root, tables) is None
    assert commit_orphans(root, tables).n_records == 0


def test_the_status_is_for_others(root):
    """Nobody's word, or a broken one, is none."""
    assert read_status(root) is None
    root.mkdir()
    write_status(root, CommitStatus(pid=1, n_records=3, error="no table"))
    assert read_status(root) == CommitStatus(pid=1, n_records=3, error="no table")
    (root / "committer.json").write_text(json.dumps([1]))
    assert read_status(root) is None


def test_an_unknown_entry_is_not_repeated_in_the_message():
    """It may hold what a person's record holds."""
    with pytest.raises(IntegrityError) as caught:
        decode(encode(["p", "secret"]))
    assert "secret" not in str(caught.value)


def test_the_first_format_of_entries_stays_readable():
    """A golden segment: two versions in one request, and a batch of outcomes."""
    first, second = map(decode, unframe(GOLDEN.read_bytes()).payloads)
    rows = prediction_rows([first]).to_pylist()
    assert [row["prediction_id"] for row in rows] == ["id-1", "id-2", "id-3"]
    assert [row["feature_age"] for row in rows] == [40.0, 50.0, None]
    assert [row["decision"] for row in rows] == [False, True, True]
    assert rows[0]["employee_id"] == "0123456789abcdef0123456789abcdef"
    assert second == Outcomes("api", [Outcome("p1", "2024-03-31", NOON), Outcome("p2", None, None)])


def test_numbers_are_doubles_however_they_come():
    """A tuple of one record, or a matrix of many."""
    assert doubles((1, True, 0.5)) == doubles(np.array([[1.0, 1.0, 0.5]])) == doubles(np.array([1, 1, 0.5], np.float32))
