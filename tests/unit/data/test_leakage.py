"""Leakage: columns written after the outcome are found in whatever form, honest ones are left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attrition.data.extracts import read_extract
from attrition.data.leakage import grouped_auc, rank_auc
from attrition.data.mapping import ColumnSpec, load_mapping
from attrition.data.quality import Severity, check_quality


@pytest.fixture
def leaks(canonical, write, key):
    """Findings about a column added to the canonical extract."""

    def check(values, mapping=None):
        extract = read_extract(write(canonical.assign(extra=values)), mapping, key)
        return {
            f.code: f for f in check_quality(extract).findings if f.code.startswith("leakage") and f.column == "extra"
        }

    return check


@pytest.fixture
def left(canonical):
    return canonical["attrition"].to_numpy() == 1


def test_a_number_that_is_the_outcome(leaks, left):
    """In either direction, with some noise."""
    rng = np.random.default_rng(0)
    assert set(leaks(left + rng.normal(0, 0.1, 200))) == {"leakage.single_column"}
    assert set(leaks(~left + rng.normal(0, 0.1, 200))) == {"leakage.single_column"}


def test_a_number_without_order(leaks, left):
    """Reason codes around those of the stayers."""
    codes = np.where(left, np.where(np.arange(200) % 2, 1, 3), 2)
    assert set(leaks(codes)) == {"leakage.single_column"}


def test_a_text(leaks, left):
    """The termination reason."""
    reasons = np.where(left, np.where(np.arange(200) % 2, "resigned", "dismissed"), "not applicable")
    finding = leaks(reasons)["leakage.single_column"]
    assert finding.severity is Severity.WARNING
    assert "no feature uses it" in finding.message
    assert "resigned" not in finding.message


def test_a_date_that_only_leavers_have(leaks, left):
    """By its being there, and by lying after the snapshot."""
    days = pd.Timestamp("2024-04-01") + pd.to_timedelta(np.arange(200), unit="D")
    found = leaks(np.where(left, days.strftime("%Y-%m-%d"), ""))
    assert set(found) == {"leakage.single_column", "leakage.future_date"}
    assert found["leakage.future_date"].n_rows == left.sum()


def test_a_date_that_says_none(leaks, left):
    """1/1/1900 is no date."""
    days = pd.Timestamp("2024-02-01") + pd.to_timedelta(np.arange(200) % 20, unit="D")
    assert set(leaks(np.where(left, days.strftime("%m/%d/%Y"), "1/1/1900"))) == {"leakage.single_column"}


def test_a_column_filled_for_some_leavers(leaks, left):
    """The exit interview, which a third of them gave."""
    some = left & (np.cumsum(left) % 3 == 0)
    assert set(leaks(np.where(some, "3", ""))) == {"leakage.marker"}


def test_one_value_that_marks_leavers(leaks, left):
    """Two thirds of them, and no stayer."""
    some = left & (np.cumsum(left) % 3 != 0)
    assert set(leaks(np.where(some, "desk cleared", np.where(np.arange(200) % 2, "a", "b")))) == {"leakage.marker"}


def test_a_leak_that_feeds_a_feature_is_an_error(leaks, left):
    """It would be in the model."""
    mapping = load_mapping("workforce")
    mapping = mapping.model_copy(update={"features": {**mapping.features, "salary": ColumnSpec(column="extra")}})
    finding = leaks(left * 10_000 + np.arange(200), mapping)["leakage.single_column"]
    assert finding.severity is Severity.ERROR
    assert "feeds salary" in finding.message


@pytest.mark.parametrize(
    "values",
    [
        [f"person {i}" for i in range(200)],
        np.arange(200),
        np.arange(200) % 7,
        ["1990-01-01"] * 100 + ["1985-05-05"] * 100,
        [""] * 200,
        ["2025-01-01"] * 200,
    ],
    ids=["names", "row numbers", "a small number", "birthdays", "nothing", "a date planned for all"],
)
def test_honest_columns(leaks, values):
    """Silence."""
    assert leaks(values) == {}


def test_a_strong_cause_is_no_leak(leaks, left):
    """AUC 0.9 is a good feature."""
    rng = np.random.default_rng(1)
    values = left * 1.8 + rng.normal(size=200)
    assert 0.85 < rank_auc(left.astype(np.int8), values) < 0.95
    assert leaks(values) == {}


def test_ids_name_a_person_and_nothing_else():
    """A person's rows are in one fold, so that repetition does not help."""
    persons = np.repeat(np.arange(100), 5)
    y = (persons % 3 == 0).astype(np.int8)
    assert grouped_auc(persons, y, persons % 5) == pytest.approx(0.5)
