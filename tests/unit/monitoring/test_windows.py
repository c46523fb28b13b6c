"""Windows: what a text names, the parts it has, and what is read from them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from attrition.data.schema import FeatureSchema
from attrition.errors import ExtractError, InsufficientData, NotFound, PlatformError, UsageError
from attrition.evaluation.references import DriftReference
from attrition.monitoring import run, windows
from attrition.monitoring.baselines import Baseline
from attrition.monitoring.buckets import parse_period
from attrition.monitoring.drift import DriftPolicy
from attrition.monitoring.drift_run import compare_window
from attrition.monitoring.run import in_threads, sketch_part, sketch_window
from attrition.monitoring.windows import plan_window
from attrition.serving import batch_plan

SCHEMA = FeatureSchema.default()
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


def planned(text, log, version="1.0.0"):
    return plan_window(str(text), SCHEMA.names, tables=log.tables, now=NOW, version=version)


def reference_of(frame):
    return DriftReference.of(frame, SCHEMA, np.linspace(0, 1, len(frame)))


def test_periods():
    """Days are whole and in UTC, the last one included; moments are moments."""
    assert parse_period("2w", now=NOW) == (datetime(2026, 2, 24, 12, tzinfo=UTC), NOW)
    day = parse_period("2026-01-01..2026-01-01", now=NOW)
    assert day == (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    hours = parse_period("2026-01-01T06:00..2026-01-01T08:00+01:00", now=NOW)
    assert hours == (datetime(2026, 1, 1, 6, tzinfo=UTC), datetime(2026, 1, 1, 7, tzinfo=UTC))
    for text in ("people.parquet", "7", "../people.csv", "2026-01-01", "7days", "data..csv"):
        assert parse_period(text, now=NOW) is None
    for text in ("2026-01-02..2026-01-01", "0d"):
        with pytest.raises(UsageError):
            parse_period(text, now=NOW)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz"])
def test_a_file_is_the_same_in_any_format_and_any_parts(suffix, people, log, tmp_path, monkeypatch):
    """Row groups, byte ranges, and blocks of a part."""
    frame = people(3_000)
    path = tmp_path / f"people.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path, row_group_size=400)
        monkeypatch.setattr(batch_plan, "PARQUET_ROWS", 800)
    else:
        frame.to_csv(path, index=False)
        monkeypatch.setattr(batch_plan, "CSV_BYTES", 30_000)
    monkeypatch.setattr(windows, "BLOCK_ROWS", 100)
    reference = reference_of(people(1_000, 5))
    window = planned(path, log)
    assert (len(window.parts) > 1) == (suffix != "csv.gz")
    found = sketch_window(reference, window, in_threads)
    assert found.n_rows == 3_000
    whole = reference.sketch({name: frame[name].to_numpy() for name in SCHEMA.names})
    assert set(found.sketches) == set(whole)
    for name, sketch in whole.items():
        assert (found.sketches[name].n, found.sketches[name].n_missing) == (sketch.n, sketch.n_missing)
        for counts in ("upto", "below", "counts"):
            np.testing.assert_array_equal(
                getattr(found.sketches[name], counts, None), getattr(sketch, counts, None), err_msg=name
            )


def test_the_sample_is_the_same_whoever_reads(people, log, tmp_path, monkeypatch):
    """Chosen by place, at most so many, rows of the file."""
    frame = people(3_000)
    frame.to_parquet(tmp_path / "people.parquet", row_group_size=500)
    monkeypatch.setattr(batch_plan, "PARQUET_ROWS", 500)
    monkeypatch.setattr(run, "SAMPLE_ROWS", 200)
    reference, window = reference_of(people(500, 5)), planned(tmp_path / "people.parquet", log)
    samples = []
    for size in (64, 2**17):
        monkeypatch.setattr(windows, "BLOCK_ROWS", size)
        samples.append(sketch_window(reference, window, in_threads).sample)
    assert len(samples[0].rows) == 200
    np.testing.assert_array_equal(samples[0].rows, samples[1].rows)
    known = set(map(tuple, frame.drop(columns="salary").to_numpy().tolist()))
    names = list(SCHEMA.names)
    rows = np.delete(samples[0].rows, names.index("salary"), axis=1)
    order = [name for name in names if name != "salary"]
    assert list(frame.drop(columns="salary").columns) == order
    assert set(map(tuple, rows.tolist())) <= known


def test_true_and_false_are_one_and_zero(people, log, tmp_path):
    """In a CSV file too."""
    frame = people(300)
    frame.assign(promotion_flag=frame["promotion_flag"] == 1).to_csv(tmp_path / "people.csv", index=False)
    reference = reference_of(frame)
    found = sketch_window(reference, planned(tmp_path / "people.csv", log), in_threads)
    assert found.sketches["promotion_flag"] == reference.features["promotion_flag"].own()


def test_features_that_are_gone_are_all_named(people, log, tmp_path):
    """In one message, before anything is read."""
    people(200).drop(columns=["age", "salary"]).to_parquet(tmp_path / "people.parquet")
    with pytest.raises(ExtractError) as error:
        planned(tmp_path / "people.parquet", log)
    assert {fault.found for fault in error.value.faults} == {"has no column age", "has no column salary"}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_type_that_changed_is_named_without_its_values(suffix, people, log, tmp_path):
    """Text, and in Parquet dates."""
    frame = people(300)
    frame["age"] = frame["age"].astype(str).mask(frame.index == 250, "secret")
    frame["tenure"] = pd.Timestamp("2024-01-01")
    path = tmp_path / f"people.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path, index=False)
    with pytest.raises(ExtractError) as error:
        sketch_window(reference_of(people(300)), planned(path, log), in_threads)
    text = str(error.value)
    assert "column age" in text
    assert "column tenure" in text
    assert "numbers are needed" in text
    assert "secret" not in text
    assert "2024" not in text


def test_a_period_of_the_log(people, log):
    """Part by day; only times of the period count."""
    for day in (7, 8, 9):
        log(date(2026, 3, day), people(400, day))
    window = planned("2d", log)
    assert [part.day for part in window.parts] == [date(2026, 3, 8), date(2026, 3, 9)]
    found = sketch_window(reference_of(people(1_000)), window, in_threads)
    assert 590 < found.n_rows < 610  # half of the 8th
    assert found.sketches["probability"].n == found.n_rows
    everything = sketch_window(reference_of(people(1_000)), planned("2026-03-07..2026-03-09", log), in_threads)
    assert everything.n_rows == 1_200


def test_what_a_wrong_clock_dated_is_told(people, log):
    """In the plan of every window of the log, and when there is nothing else."""
    log(date(2026, 12, 1), people(30))
    with pytest.raises(InsufficientData, match=r"from 2026-03-03 .* UTC; 30 are dated later than now"):
        planned("7d", log)
    log(date(2026, 3, 9), people(400))
    window = planned("7d", log)
    assert window.n_ahead == 30
    report = compare_window(
        Baseline("1.0.0", "1.0.0", reference_of(people(1_000)), None),
        window,
        sketch_window(reference_of(people(1_000)), window, in_threads),
        policy=DriftPolicy(),
        now=NOW,
    )
    assert report.n_window == 400
    assert "30 predictions are dated later than this run; check the clocks of the replicas." in report.notes


def test_a_part_reads_what_was_planned(people, log):
    """Rows that arrive later do not come into a task that is run again."""
    log(date(2026, 3, 9), people(400))
    window = planned("7d", log)
    log(date(2026, 3, 9), people(100, 1))
    assert sketch_part(reference_of(people(500)), window.parts[0]).n_rows == 400
    assert planned("7d", log).fingerprint != window.fingerprint


def test_shadows_and_what_retention_left_do_not_count(people, log):
    """They are told of."""
    log(date(2026, 3, 9), people(400))
    log(date(2026, 3, 9), people(400, 1, shift=3), version="1.1.0", reason="shadow")
    log(date(2026, 3, 9), people(50, 2) * np.nan)
    found = sketch_window(reference_of(people(500)), planned("7d", log), in_threads)
    assert (found.n_rows, found.n_left_out) == (400, 450)
    log(date(2026, 3, 1), people(50, 2) * np.nan)
    with pytest.raises(InsufficientData, match="no rows to compare; 50 are a shadow"):
        sketch_window(reference_of(people(500)), planned("2026-03-01..2026-03-01", log), in_threads)


def test_scores_are_those_of_the_version_and_features_of_all_that_read_them(people, log):
    """A version without a feature does not make it look lost."""
    log(date(2026, 3, 9), people(400), probability=np.full(400, 0.25))
    log(date(2026, 3, 9), people(300, 1).drop(columns="age"), version="2.0.0", probability=np.full(300, 0.9))
    found = sketch_window(reference_of(people(500)), planned("7d", log), in_threads)
    assert found.n_rows == 700
    assert (found.sketches["probability"].n, found.sketches["probability"].maximum) == (400, 0.25)
    assert (found.sketches["age"].n, found.sketches["age"].n_missing) == (400, 0)
    assert found.sketches["tenure"].n == 700
    assert len(found.sample.rows) == 400
    lost = people(400).assign(age=np.nan)
    log(date(2026, 3, 8), lost)
    found = sketch_window(reference_of(people(500)), planned("7d", log), in_threads)
    assert found.sketches["age"].n_missing == 400


def test_windows_that_are_not_there(people, log, tmp_path):
    """Nothing logged, nothing in the period, a column that nobody reads, no file, no rows."""
    with pytest.raises(NotFound, match="no prediction was logged yet"):
        planned("7d", log)
    log(date(2026, 3, 1), people(10).drop(columns="age"))
    with pytest.raises(InsufficientData, match="no prediction was logged from 2026-03-09"):
        planned("1d", log)
    with pytest.raises(ExtractError, match="no version that answered reads age"):
        planned("2w", log)
    with pytest.raises(NotFound, match="no such file"):
        planned(tmp_path / "absent.csv", log)
    people(0).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ExtractError, match="has no rows"):
        planned(tmp_path / "empty.parquet", log)


def test_a_table_that_is_gone_may_be_tried_again(people, log):
    """It is the platform's fault, which a task is run again for."""
    log(date(2026, 3, 9), people(10))
    part = planned("7d", log).parts[0]
    gone = type(part)(0, part.tables, 99, part.day, part.start, part.end, None)
    with pytest.raises(PlatformError, match="version 99 cannot be read"):
        sketch_part(reference_of(people(500)), gone)
