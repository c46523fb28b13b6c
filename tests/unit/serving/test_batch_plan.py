"""Inputs are cut into partitions that cover every row once, whatever stands in their cells."""

from __future__ import annotations

import gzip
import io
import os

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import csv, parquet

from attrition.errors import ExtractError, NotFound, UsageError
from attrition.serving import batch_plan
from attrition.serving.batch_plan import line_ranges, plan_input
from attrition.serving.batch_read import last_line_end

CELLS = st.text(alphabet='ab"\n,', max_size=6)


def _text(rows):
    return b"".join(b",".join(b'"' + cell.replace('"', '""').encode() + b'"' for cell in row) + b"\n" for row in rows)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20), st.integers(1, 40), st.integers(1, 64))
def test_ranges_are_whole_rows(rows, target, block):
    """Ranges follow each other without gaps, and each parses into whole rows: no cell is torn."""
    content = b"a,b\n" + _text(rows)
    size, batch_plan._BLOCK = batch_plan._BLOCK, block
    try:
        ranges, quoted = line_ranges(io.BytesIO(content), 4, target)
    finally:
        batch_plan._BLOCK = size
    assert quoted
    assert b"".join(content[a:b] for a, b in ranges) == content[4:]
    options = csv.ParseOptions(newlines_in_values=True)
    names = csv.ReadOptions(column_names=["a", "b"])
    n_rows = 0
    for a, b in ranges:
        table = csv.read_csv(io.BytesIO(content[a:b]), read_options=names, parse_options=options)
        n_rows += len(table)
    assert n_rows == len(rows)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.integers(0, 60))
def test_the_last_line_end_is_outside_quotes(rows, n_bytes):
    """The prefix that it ends is whole rows, and there is no longer one."""
    content = _text(rows)[:n_bytes]
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(_text([row])))
    assert last_line_end(content) == max(end for end in ends if end <= len(content))


def test_a_csv_file_is_cut(tmp_path, monkeypatch):
    """A large file yields several partitions of about the wanted size; a second plan is equal."""
    monkeypatch.setattr(batch_plan, "CSV_BYTES", 100)
    path = tmp_path / "in.csv"
    path.write_bytes(b"\xef\xbb\xbf\r\nage,salary\r\n" + b"40,50000\r\n" * 50)
    plan = plan_input(path)
    assert len(plan.partitions) == 5
    assert plan.partitions[0].columns == ("age", "salary")
    assert not plan.partitions[0].quoted
    assert sum(partition.size for partition in plan.partitions) == 500
    assert plan == plan_input(path)


def test_the_fingerprint_changes_with_the_file(tmp_path):
    """Another content or time is another input."""
    path = tmp_path / "in.csv"
    path.write_text("age\n40\n")
    before = plan_input(path).fingerprint
    os.utime(path, ns=(1, 1))
    assert plan_input(path).fingerprint != before


def test_a_compressed_file_is_one_partition(tmp_path):
    """A gzip stream cannot be entered in the middle."""
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(b"age,salary\n40,1\n"))
    (partition,) = plan_input(path).partitions
    assert (partition.kind, partition.columns) == ("csv.gz", ("age", "salary"))


def test_row_groups_are_put_together(tmp_path, monkeypatch):
    """Small row groups share a partition, none is cut, none is lost."""
    monkeypatch.setattr(batch_plan, "PARQUET_ROWS", 25)
    parquet.write_table(pa.table({"age": range(100)}), tmp_path / "in.parquet", row_group_size=10)
    plan = plan_input(tmp_path / "in.parquet")
    assert [partition.row_groups for partition in plan.partitions] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9,)]


def test_a_folder_leaves_out_bookkeeping(tmp_path):
    """Files and folders that begin with a dot or an underscore are no data."""
    for name in ("b.parquet", "a.parquet", "_old.parquet", ".c.parquet"):
        parquet.write_table(pa.table({"age": [1]}), tmp_path / name)
    (tmp_path / "_progress").mkdir()
    parquet.write_table(pa.table({"age": [1]}), tmp_path / "_progress" / "d.parquet")
    plan = plan_input(tmp_path)
    assert [os.path.basename(partition.path) for partition in plan.partitions] == ["a.parquet", "b.parquet"]  # noqa: PTH119
    assert [partition.number for partition in plan.partitions] == [0, 1]


def test_a_delta_table_is_read_by_its_log(tmp_path):
    """A version is what its log says; what files lack comes from the log."""
    write_deltalake(tmp_path / "t", pa.table({"age": [1.0, 2.0], "unit": ["x", "y"]}), partition_by=["unit"])
    write_deltalake(tmp_path / "t", pa.table({"age": [3.0], "unit": ["x"]}), mode="append")
    latest, first = plan_input(tmp_path / "t"), plan_input(tmp_path / "t", table_version=0)
    assert (len(latest.partitions), len(first.partitions)) == (3, 2)
    assert sorted(partition.constants["unit"] for partition in first.partitions) == ["x", "y"]
    assert latest.fingerprint != first.fingerprint
    with pytest.raises(NotFound, match="version 7 cannot be read"):
        plan_input(tmp_path / "t", table_version=7)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "is empty"),
        ("in.csv", b"\n\n", "is empty"),
        ("in.csv", b"age,salary\n", "a header and no rows"),
        ("in.csv", b"age,salary\n\n\n", "a header and no rows"),
        ("in.csv", b"age,salary,age\n1,2,3\n", "column age stands 2 times"),
        ("in.csv", b"age\x00\x01\n", "binary file"),
        ("in.csv", b"PK\x03\x04abc", "binary file"),
        ("in.csv.gz", b"\x1f\x8bbroken", "damaged gzip"),
        ("in.parquet", b"PAR1broken", "damaged Parquet"),
    ],
)
def test_unusable_files_are_refused(tmp_path, name, content, message):
    """The message says what is wrong with the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExtractError, match=message):
        plan_input(tmp_path / name)


def test_unusable_inputs_are_refused(tmp_path):
    """Nothing there, nothing in it, several kinds or columns in it, a version of something without versions."""
    with pytest.raises(NotFound, match="no such file"):
        plan_input(tmp_path / "nothing.csv")
    with pytest.raises(ExtractError, match="folder without"):
        plan_input(tmp_path)
    (tmp_path / "a.csv").write_text("age\n1\n")
    with pytest.raises(UsageError, match="no Delta table"):
        plan_input(tmp_path / "a.csv", table_version=1)
    (tmp_path / "b.csv").write_text("salary\n1\n")
    with pytest.raises(ExtractError, match=r"b\.csv: has other columns than a\.csv"):
        plan_input(tmp_path)
    parquet.write_table(pa.table({"age": [1]}), tmp_path / "b.parquet")
    (tmp_path / "b.csv").unlink()
    with pytest.raises(ExtractError, match=r"b\.parquet: is parquet, a\.csv is csv"):
        plan_input(tmp_path)
