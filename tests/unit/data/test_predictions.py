"""The prediction log as a table: exactly-once appends, several versions, reading and exporting."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from attrition.data import delta
from attrition.data.delta import Compaction
from attrition.data.predictions import PredictionTable, prediction_schema
from attrition.errors import NotFound, PlatformError, UsageError

MIDNIGHT = datetime(2024, 4, 1, tzinfo=UTC)


GOLDEN = Path(__file__).parent / "golden" / "tables-1"


def rows(first, n, *, start=MIDNIGHT - timedelta(hours=1), features=("age",), version="1.0.0"):
    """`n` predictions, a minute apart."""
    times = [start + timedelta(minutes=number) for number in range(n)]
    columns = {
        "prediction_id": [f"{first + number:04d}" for number in range(n)],
        "time": times,
        "day": [time.date() for time in times],
        "version": [version] * n,
        "variant": ["blue"] * n,
        "reason": ["sole"] * n,
        "shadow_of": [None] * n,
        "employee_id": [None] * n,
        "probability": [0.3] * n,
        "threshold": [0.5] * n,
        "decision": [False] * n,
        "latency_us": [120] * n,
        **{f"feature_{name}": [float(number) for number in range(n)] for name in features},
    }
    return pa.table(columns, schema=prediction_schema(features))


@pytest.fixture
def table(tmp_path):
    return PredictionTable(str(tmp_path))


def test_a_segment_is_added_once(table):
    """The second try says that it was there."""
    assert table.committed(["s"]) == {"s": -1}
    assert table.append(rows(0, 3), {"s": 4})
    assert not table.append(rows(0, 3), {"s": 4})
    assert table.committed(["s", "t"]) == {"s": 4, "t": -1}
    assert len(table.between()) == 3


def test_half_committed_segments_are_refused(table):
    """Another committer took a part of them: nothing can be right then."""
    table.append(rows(0, 3), {"s": 4})
    with pytest.raises(PlatformError, match="1 of 2 spools are committed already"):
        table.append(rows(0, 3), {"s": 4, "t": 1})
    assert len(table.between()) == 3


def test_writers_on_several_machines_do_not_get_in_each_others_way(table, tmp_path):
    """Each adds its own segments, and two that try the same one add it once."""
    barrier = threading.Barrier(6)

    def write(number):
        barrier.wait()
        return PredictionTable(str(tmp_path)).append(rows(100 * (number // 2), 2), {f"s{number // 2}": 1})

    with ThreadPoolExecutor(6) as pool:
        added = list(pool.map(write, range(6)))
    assert sum(added) == 3
    assert table.between()["prediction_id"].is_unique
    assert len(table.between()) == 6


def test_rows_are_partitioned_by_day(table, tmp_path):
    """In UTC."""
    table.append(rows(0, 120), {"s": 1})
    assert sorted(partition["day"] for partition in DeltaTable(str(tmp_path / "predictions")).partitions()) == [
        "2024-03-31",
        "2024-04-01",
    ]


def test_versions_with_other_features_share_the_table(table):
    """What a version does not have is missing in its rows."""
    table.append(rows(0, 2), {"s": 1})
    table.append(rows(10, 2, features=("tenure",), version="2.0.0"), {"s": 2})
    frame = table.between()
    assert frame["feature_age"].notna().tolist() == [True, False, True, False]
    assert frame["feature_tenure"].notna().tolist() == [False, True, False, True]
    assert frame["feature_tenure"].dtype == "float64"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(None, None, 120), (MIDNIGHT, None, 60), (None, MIDNIGHT, 60), (MIDNIGHT - timedelta(minutes=5), MIDNIGHT, 5)],
)
def test_a_period_includes_its_start_and_not_its_end(table, start, end, expected):
    """Across days, in the order of time."""
    table.append(rows(60, 60, start=MIDNIGHT), {"s": 1})
    table.append(rows(0, 60), {"s": 2})
    frame = table.between(start, end)
    assert len(frame) == expected
    assert frame["time"].is_monotonic_increasing
    assert str(frame["time"].dtype) == "datetime64[us, UTC]"
    assert "day" not in frame


def test_only_the_columns_asked_for(table):
    """In the order asked; an unknown one is a mistake."""
    table.append(rows(0, 3), {"s": 1})
    assert list(table.between(columns=["feature_age", "version"]).columns) == ["feature_age", "version"]
    with pytest.raises(UsageError, match="has no column feature_height"):
        table.between(columns=["feature_height"])


@pytest.mark.parametrize("n", [1, 5, 40, 500])
def test_the_tail_is_what_was_answered_last(table, n):
    """Whatever the order in which replicas committed."""
    for number, first in enumerate((80, 0, 40, 20, 60, 100)):
        start = MIDNIGHT + timedelta(minutes=first)
        table.append(rows(first, 25, start=start), {f"s{number}": 1})
    expected = table.between().tail(n).reset_index(drop=True)
    pd.testing.assert_frame_equal(table.tail(n), expected)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_export_holds_the_same_rows(table, tmp_path, suffix):
    """A whole file or none, for its owner only."""
    table.append(rows(0, 120), {"s": 1})
    path = tmp_path / "out" / f"april{suffix}"
    assert table.export(path, MIDNIGHT) == 60
    back = pd.read_parquet(path) if suffix == ".parquet" else pd.read_csv(path, parse_dates=["time"], dtype={0: str})
    assert back["prediction_id"].tolist() == table.between(MIDNIGHT)["prediction_id"].tolist()
    assert back["feature_age"].sum() == table.between(MIDNIGHT)["feature_age"].sum()
    assert path.stat().st_mode & 0o077 == 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_an_export_of_another_kind_is_a_usage_error(table, tmp_path):
    """Before anything is read."""
    with pytest.raises(UsageError, match=r"\.parquet or \.csv"):
        table.export(tmp_path / "x.xlsx")


def test_an_export_to_nowhere_is_a_usage_error(table, tmp_path):
    """The path is named."""
    table.append(rows(0, 2), {"s": 1})
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        table.export(tmp_path / "file" / "x.csv")


def test_many_small_files_become_few(table):
    """And hold the same rows."""
    for number in range(5):
        table.append(rows(10 * number, 10), {"s": number})
    before = table.between()
    assert table.compact() == Compaction(5, 1, 0)
    pd.testing.assert_frame_equal(table.between(), before)
    pd.testing.assert_frame_equal(table.tail(7), before.tail(7).reset_index(drop=True))
    assert table.committed(["s"]) == {"s": 4}
    assert not table.append(rows(40, 10), {"s": 4})
    assert table.compact() == Compaction(1, 1, 0)


def test_what_is_merged_is_not_written_again(table, monkeypatch):
    """Neither one file nor several that are large enough; otherwise a long day would be rewritten each day."""
    for number in range(5):
        table.append(rows(10 * number, 10), {"s": number})

    def n_writes():
        return [entry["operation"] for entry in DeltaTable(table.uri).history()].count("WRITE")

    table.compact()
    assert n_writes() == 6
    table.compact()
    assert n_writes() == 6
    table.append(rows(50, 10), {"s": 5})
    monkeypatch.setattr(delta, "MERGED_BYTES", 4096)
    assert table.compact() == Compaction(2, 2, 0)


def test_today_may_be_left_as_it_is(table):
    """It still grows; each day is merged for itself."""
    for number in range(3):
        table.append(rows(0, 120), {f"s{number}": 1})
    assert table.compact(before=MIDNIGHT.date()) == Compaction(6, 4, 0)
    assert table.compact() == Compaction(4, 2, 0)


def test_the_notes_of_what_was_committed_outlive_the_log(table):
    """A checkpoint keeps them when the log behind it is cleaned up."""
    for number in range(4):
        table.append(rows(10 * number, 10), {"s": number, f"t{number}": 7})
    table.compact()
    delta = DeltaTable(table.uri)
    delta.alter.set_table_properties({"delta.logRetentionDuration": "interval 0 seconds"})
    delta = DeltaTable(table.uri)
    delta.create_checkpoint()
    delta.cleanup_metadata()
    assert len(list(Path(table.uri, "_delta_log").glob("*.json"))) < 4
    assert table.committed(["s", "t0", "t3"]) == {"s": 3, "t0": 7, "t3": 7}
    assert not table.append(rows(30, 10), {"s": 3})
    assert len(table.between()) == 40


def test_readers_and_writers_go_on_during_a_compaction(table):
    """Every row once, whoever comes first; a reader keeps the files that it has opened."""
    for number in range(10):
        table.append(rows(10 * number, 10), {"s": number})
    opened = DeltaTable(table.uri)
    failures = []

    def grow():
        for number in range(10, 30):
            try:
                table.append(rows(10 * number, 10, start=MIDNIGHT + timedelta(hours=number)), {"s": number})
            except PlatformError as error:
                failures.append(error)

    writer = threading.Thread(target=grow)
    writer.start()
    n_merged = 0
    while writer.is_alive():
        done = table.compact(before=MIDNIGHT.date())
        n_merged += done.n_before > 1
    writer.join()
    assert not failures
    assert n_merged > 0
    assert sorted(table.between()["prediction_id"]) == [f"{number:04d}" for number in range(300)]
    assert table.committed(["s"]) == {"s": 29}
    assert opened.to_pyarrow_table().num_rows == 100


def test_of_two_compactions_one_gives_way(table):
    """The other says so and has changed nothing."""
    for number in range(30):
        table.append(rows(10 * number, 10), {"s": number})
    barrier = threading.Barrier(2)

    def compact(_):
        barrier.wait()
        try:
            return table.compact()
        except PlatformError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(compact, range(2)))
    assert all(isinstance(one, Compaction) or "wrote to the same rows" in one for one in done)
    assert any(isinstance(one, Compaction) for one in done)
    assert sorted(table.between()["prediction_id"]) == [f"{number:04d}" for number in range(300)]
    assert len(DeltaTable(table.uri).file_uris()) == 1


def test_a_day_that_grows_meanwhile_is_left_as_it_is(table, monkeypatch):
    """The rows that came are worth more than fewer files."""
    for number in range(3):
        table.append(rows(10 * number, 10), {"s": number})
    scan = DeltaTable.to_pyarrow_dataset

    def overtaken(self, *arguments, **options):
        monkeypatch.undo()
        table.append(rows(30, 10), {"s": 3})
        return scan(self, *arguments, **options)

    monkeypatch.setattr(DeltaTable, "to_pyarrow_dataset", overtaken)
    with pytest.raises(PlatformError, match="another process wrote to the same rows"):
        table.compact()
    assert len(table.between()) == 40
    assert table.compact() == Compaction(4, 1, 0)
    assert len(table.between()) == 40


def test_files_are_deleted_after_seven_days(table):
    """Those that the compaction replaced, and those that an interrupted write left."""
    for number in range(3):
        table.append(rows(10 * number, 10), {"s": number})
    table.compact()
    folder = next(Path(table.uri).glob("day=*"))
    (folder / "part-left-behind.parquet").write_bytes(b"half a file")
    assert table.compact().n_deleted == 0
    eight_days_ago = time.time() - 8 * 86_400
    os.utime(folder / "part-left-behind.parquet", (eight_days_ago, eight_days_ago))
    assert table.compact().n_deleted == 1
    assert not (folder / "part-left-behind.parquet").exists()
    assert len(list(folder.glob("*.parquet"))) == 4
    assert len(table.between()) == 30


@pytest.fixture
def first_table(tmp_path):
    """A table as the first version wrote it: without `shadow_of`."""
    shutil.copytree(GOLDEN, tmp_path / "old")
    return PredictionTable(str(tmp_path / "old"))


def test_a_table_of_the_first_version_is_read(first_table, tmp_path):
    """Nobody knows any more what its shadow copied."""
    assert "shadow_of" not in DeltaTable(first_table.uri).schema().to_json()
    frame = first_table.between()
    assert frame["prediction_id"].tolist() == [f"018e-{part}-{number}" for part in range(2) for number in range(4)]
    assert frame["feature_age"].tolist() == pytest.approx([40.0, float("nan"), 30.0, 25.0] * 2, nan_ok=True)
    assert frame["shadow_of"].isna().all()
    assert first_table.tail(1)["shadow_of"].isna().all()
    assert first_table.between(columns=["shadow_of", "reason"])["reason"].tolist()[2] == "shadow"
    assert first_table.export(tmp_path / "all.parquet") == 8
    assert pd.read_parquet(tmp_path / "all.parquet")["shadow_of"].isna().all()


def test_a_table_of_the_first_version_grows(first_table):
    """The next append adds the column; the old rows and the notes of what was committed stay."""
    assert first_table.committed(["spool"]) == {"spool": 1}
    copies = rows(0, 2).set_column(6, "shadow_of", pa.array(["018e-1-0", "018e-1-1"]))
    assert copies.schema.names == prediction_schema(["age"]).names
    first_table.append(copies, {"spool": 2})
    frame = first_table.between().set_index("prediction_id")
    assert frame["shadow_of"].dropna().to_dict() == {"0000": "018e-1-0", "0001": "018e-1-1"}
    assert len(frame) == 10
    assert frame["feature_age"].notna().sum() == 8
    assert not first_table.append(rows(0, 2), {"spool": 1})


@pytest.mark.parametrize("read", ["between", "tail"])
def test_nothing_logged_yet(table, read):
    """Says when to look again."""
    with pytest.raises(NotFound, match="no prediction was logged yet"):
        getattr(table, read)()


def test_a_place_that_cannot_be_written(tmp_path):
    """A platform error with the table's address."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="predictions: the table cannot be"):
        PredictionTable(str(tmp_path / "file")).append(rows(0, 1), {"s": 1})


def test_messages_hold_no_values(table):
    """A record that does not fit is refused without being quoted."""
    table.append(rows(0, 1), {"s": 1})
    bad = rows(0, 1).set_column(1, "time", pa.array(["1234567"]))
    with pytest.raises(PlatformError) as caught:
        table.append(bad, {"s": 2})
    assert "1234567" not in str(caught.value)


def test_one_prediction_is_found_by_its_id_and_time(table):
    """Across midnight, with the features of its version; another time or id finds nothing."""
    assert table.find("0000", MIDNIGHT) is None
    table.append(rows(0, 120, features=("age",)), {"s": 1})
    table.append(rows(500, 3, features=("salary",), version="2.0.0"), {"s": 2})
    made_at = MIDNIGHT - timedelta(seconds=0.5)
    found = table.find("0060", made_at)
    assert (found.prediction_id, found.version, found.probability) == ("0060", "1.0.0", 0.3)
    assert found.features["age"] == 60.0
    assert math.isnan(found.features["salary"])
    assert table.find("0501", MIDNIGHT - timedelta(minutes=59, seconds=1)).features["salary"] == 1.0
    assert table.find("0060", made_at - timedelta(hours=1)) is None
    assert table.find("9999", made_at) is None


def test_features_of_every_version_are_named(table):
    """In the order in which they came to the table."""
    with pytest.raises(NotFound):
        table.features()
    table.append(rows(0, 2), {"s": 1})
    table.append(rows(2, 2, features=("tenure",), version="1.1.0"), {"s": 2})
    assert table.features() == ("age", "tenure")
