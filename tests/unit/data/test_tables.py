"""Snapshots in Delta Lake."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

from attrition.data.employees import EmployeeTable
from attrition.data.findings import Finding, QualityReport, Severity
from attrition.data.quality import check_quality
from attrition.data.schema import FeatureSchema
from attrition.data.tables import SnapshotRef, Snapshots, Tables
from attrition.errors import IntegrityError, NotFound, PlatformError


@pytest.fixture
def tables(tmp_path):
    return Tables(str(tmp_path))


@pytest.fixture
def table(canonical):
    canonical.loc[3, "age"] = np.nan
    schema = FeatureSchema.default().with_categories({"department_code": {1: "sales", 2: "legal"}})
    return EmployeeTable.of(canonical, schema, sensitive=("gender",), source="extract.csv")


def test_a_snapshot_comes_back_identical(tables, table):
    """Values, types, gaps, dates, order, schema, labels and quality report."""
    report = check_quality(table)
    ref = tables.write_snapshot(table, report)
    back, same = tables.read_snapshot()
    assert same == ref
    pd.testing.assert_frame_equal(back.frame, table.frame)
    assert (back.schema, back.sensitive, back.surrogate_ids, back.source) == (
        table.schema,
        table.sensitive,
        table.surrogate_ids,
        table.source,
    )
    assert tables.quality() == report


def test_the_reference_says_which_data(tables, table):
    """And survives JSON."""
    ref = tables.write_snapshot(table)
    assert (ref.table, ref.version, ref.n_rows, ref.source) == ("snapshots", 0, 200, "extract.csv")
    assert (ref.first_date, ref.last_date) == ("2024-03-31", "2024-03-31")
    assert (ref.content_hash, ref.schema_digest) == (table.content_hash(), table.schema.digest)
    assert SnapshotRef.from_dict(ref.to_dict()) == ref
    assert tables.quality() is None


def test_no_dates_and_no_outcomes(tables, table):
    """Snapshots of scoring input are snapshots too."""
    frame = table.frame.drop(columns="attrition").assign(snapshot_date=pd.NaT)
    bare = EmployeeTable.of(frame, table.schema, surrogate_ids=True)
    ref = tables.write_snapshot(bare)
    assert (ref.first_date, ref.last_date) == (None, None)
    back, _ = tables.read_snapshot()
    pd.testing.assert_frame_equal(back.frame, bare.frame)
    assert back.surrogate_ids


def test_the_same_content_is_not_written_twice(tables, table):
    """Whatever the order of its rows."""
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    assert tables.write_snapshot(table) == tables.write_snapshot(shuffled)
    assert len(tables.snapshots()) == 1


def test_the_same_rows_with_a_new_report_are_stored_with_it(tables, table):
    """Later readers, the gates among them, see what the checks of today found."""
    clean = QualityReport((), len(table))
    warned = QualityReport((Finding("null.share", Severity.WARNING, "age", "m", 3, 0.015),), len(table))
    first, second = tables.write_snapshot(table, clean), tables.write_snapshot(table, warned)
    assert (first.version, second.version) == (0, 1)
    assert first.content_hash == second.content_hash
    assert tables.quality() == warned
    assert tables.quality(0) == clean
    assert tables.write_snapshot(table, warned) == second
    assert tables.write_snapshot(table) == second  # no report is no news


def test_versions_stay_readable_and_the_latest_is_the_last_import(tables, table):
    """Also when an older content is imported again."""
    part = table.take(np.arange(150))
    refs = [tables.write_snapshot(item) for item in (table, part, table)]
    assert [ref.version for ref in refs] == [0, 1, 2]
    assert tables.snapshots() == refs
    assert [len(tables.read_snapshot(version)[0]) for version in (0, 1, 2)] == [200, 150, 200]
    assert len(tables.read_snapshot()[0]) == 200


def test_snapshots_of_other_features_follow_each_other(tables, table):
    """Each version carries its own schema."""
    fewer = EmployeeTable.of(table.frame, table.schema.without("salary"), source="b.csv")
    tables.write_snapshot(table)
    tables.write_snapshot(fewer)
    assert tables.read_snapshot(0)[0].schema == table.schema
    assert tables.read_snapshot(1)[0].schema == fewer.schema


def test_old_versions_are_never_cleaned_up(tables, table, tmp_path):
    """A model outlives the thirty days after which Delta forgets."""
    tables.write_snapshot(table)
    configuration = DeltaTable(str(tmp_path / "snapshots")).metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"
    assert configuration["delta.logRetentionDuration"] == "interval 36500 days"


def test_writers_do_not_get_in_each_others_way(tables, table):
    """Every writer gets the version that holds its own rows."""
    parts = [table.take(np.arange(100 + i)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(tables.write_snapshot, parts))
    assert sorted(ref.version for ref in refs) == list(range(8))
    for part, ref in zip(parts, refs, strict=True):
        assert len(tables.read_snapshot(ref.version)[0]) == len(part)


def test_nothing_stored_yet(tables):
    """Says what to do."""
    assert tables.snapshots() == []
    with pytest.raises(NotFound, match="attrition data import FILE stores one"):
        tables.read_snapshot()


def test_an_unknown_version_names_the_existing_ones(tables, table):
    """Latest first."""
    tables.write_snapshot(table)
    with pytest.raises(NotFound, match="no snapshot version 7; the latest versions are 0"):
        tables.read_snapshot(7)


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda _: None], ids=["cut", "gone"])
def test_damaged_files_are_noticed(tables, table, tmp_path, damage):
    """And the reader is told what to do."""
    tables.write_snapshot(table)
    (file,) = (tmp_path / "snapshots").glob("*.parquet")
    data = damage(file.read_bytes())
    file.write_bytes(data) if data else file.unlink()
    with pytest.raises(IntegrityError, match=r"missing or damaged; import the extract again"):
        tables.read_snapshot()


def test_rows_that_do_not_fit_their_hash_are_noticed(tables, table, tmp_path):
    """A history that somebody edited, say."""
    tables.write_snapshot(table)
    (log,) = (tmp_path / "snapshots" / "_delta_log").glob("*.json")
    log.write_text(log.read_text().replace(table.content_hash(), "0" * 64))
    with pytest.raises(IntegrityError, match="not those that were written"):
        tables.read_snapshot()


def test_a_place_that_cannot_be_written(tmp_path, table):
    """A platform error, not a traceback of the store."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="cannot be written"):
        Tables(str(tmp_path / "file")).write_snapshot(table)


def test_snapshots_in_a_notebook():
    """Alone and as a list; what somebody named a file is escaped."""
    ref = SnapshotRef("snapshots", 3, "ab" * 32, 1_200, None, "2026-01-01", "<b>hr</b>.csv", "cd" * 32)
    for shown in (ref, Snapshots([ref])):
        html = shown._repr_html_()
        assert "&lt;b&gt;hr&lt;/b&gt;.csv" in html
        assert "<b>" not in html
        assert "1,200" in html


def test_a_list_of_snapshots_is_a_list(tmp_path):
    """Empty when there is none."""
    assert Tables(str(tmp_path)).snapshots() == []
