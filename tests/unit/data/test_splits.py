"""Splits: by person and time, as a rule that can be applied again."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from attrition.data.employees import EmployeeTable
from attrition.data.quality import Severity, check_split
from attrition.data.schema import FeatureSchema
from attrition.data.splits import Split, SplitSpec, apply_split, split_holdout, stratified_folds
from attrition.errors import InsufficientData, UsageError

SCHEMA = FeatureSchema.default().without(*FeatureSchema.default().names[1:])


def panel(
    n_persons=400, dates=("2020-12-31", "2021-12-31", "2022-12-31", "2023-12-31", "2024-12-31"), rate=0.2, **options
):
    """Every person at every date."""
    rng = np.random.default_rng(3)
    rows = [(f"p{i}", day) for i in range(n_persons) for day in dates]
    frame = pd.DataFrame(rows, columns=["employee_id", "snapshot_date"])
    frame["tenure"] = rng.uniform(0, 100, len(frame))
    frame["attrition"] = (rng.uniform(size=len(frame)) < rate).astype(int)
    return EmployeeTable.of(frame, SCHEMA, **options)


def test_one_date_is_split_at_random_by_person():
    """About the share asked for, and the same again."""
    table = panel(dates=("2024-03-31",))
    split = split_holdout(table)
    assert split.spec == SplitSpec("random", 0.25, 42)
    assert len(split.train) + len(split.holdout) == len(table)
    assert 0.18 < len(split.holdout) / len(table) < 0.32
    np.testing.assert_array_equal(split.holdout, split_holdout(table).holdout)
    assert not np.array_equal(split.holdout, split_holdout(table, seed=1).holdout)


def test_several_dates_are_split_by_time_and_person():
    """The latest fifth of the dates is held out."""
    table = panel(rate=0.5)
    split = split_holdout(table, holdout_share=0.5, embargo_days=365)
    assert split.spec == SplitSpec("temporal", 0.5, 42, date(2024, 12, 31), 365)
    assert table.dates[split.train].max() < table.dates[split.holdout].min()
    assert not set(table.persons[split.train]) & set(table.persons[split.holdout])
    assert check_split(table, split) == ()


def test_a_cutoff_may_be_given():
    """And an embargo before it."""
    table = panel(rate=0.5)
    split = split_holdout(table, holdout_share=0.5, cutoff=date(2023, 12, 31), embargo_days=400)
    assert sorted(set(table.dates[split.holdout].dt.year)) == [2023, 2024]
    assert sorted(set(table.dates[split.train].dt.year)) == [2020, 2021]


QUARTERS = ("2024-03-31", "2024-06-30", "2024-09-30", "2024-12-31", "2025-03-31", "2025-06-30", "2025-09-30")


def test_no_training_outcome_is_younger_than_the_cutoff():
    """Every window of a year has ended by then, though snapshots come each quarter."""
    table = panel(2000, QUARTERS)
    split = split_holdout(table, embargo_days=SCHEMA.horizon_days)
    assert (split.spec.cutoff, split.spec.embargo_days) == (date(2025, 9, 30), 365)
    assert set(table.dates[split.train].dt.date.astype(str)) == set(QUARTERS[:3])
    ends = table.dates[split.train] + pd.Timedelta(days=SCHEMA.horizon_days)
    assert ends.max() <= pd.Timestamp(split.spec.cutoff)
    assert not [finding for finding in check_split(table, split) if finding.code == "split.embargo"]


def test_an_embargo_that_leaves_too_little_is_shortened_and_reported():
    """By as few dates as possible; the finding counts the rows whose outcome came after the cutoff."""
    table = panel(2000, QUARTERS[:4])
    split = split_holdout(table, embargo_days=365)
    assert split.spec.embargo_days == (date(2024, 12, 31) - date(2024, 3, 31)).days
    assert set(table.dates[split.train].dt.date.astype(str)) == {QUARTERS[0]}
    (finding,) = [finding for finding in check_split(table, split) if finding.code == "split.embargo"]
    assert (finding.severity, finding.n_rows, finding.share) == (Severity.WARNING, len(split.train), 1.0)
    assert f"{len(split.train)} of {len(split.train)} training rows have outcome windows" in finding.message
    again = apply_split(table, SplitSpec.from_dict(split.spec.to_dict()))
    np.testing.assert_array_equal(split.train, again.train)


def test_a_small_table_gives_up_its_embargo():
    """Better a little too much knowledge, reported, than nothing to train on."""
    table = panel(200, QUARTERS[:3])
    split = split_holdout(table, embargo_days=365)
    assert split.spec.embargo_days == 0
    assert set(table.dates[split.train].dt.date.astype(str)) == set(QUARTERS[:2])
    assert "split.embargo" in {finding.code for finding in check_split(table, split)}


def test_scoring_input_is_split_by_rows_alone():
    """Without outcomes it is the rows that must be enough."""
    table = panel(400, QUARTERS)
    bare = EmployeeTable.of(table.frame.drop(columns="attrition"), SCHEMA)
    assert split_holdout(bare, embargo_days=365).spec.embargo_days == 365


def test_few_leavers_widen_a_temporal_holdout():
    """Up to half of the persons; the spec says so."""
    table = panel(n_persons=2000, rate=0.25)
    expected = int(table.target[(table.dates >= "2024-12-31").to_numpy()].sum())
    assert split_holdout(table).spec.holdout_share == pytest.approx(200 / expected, abs=0.01)
    assert split_holdout(panel(rate=0.25)).spec.holdout_share == 0.5


def test_a_spec_gives_the_same_rows_again():
    """Also after a journey through JSON, and whatever the order of rows."""
    table = panel()
    split = split_holdout(table)
    again = apply_split(table, SplitSpec.from_dict(split.spec.to_dict()))
    np.testing.assert_array_equal(split.train, again.train)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    other = apply_split(shuffled, split.spec)
    assert set(shuffled.persons[other.holdout]) == set(table.persons[split.holdout])


def test_new_rows_move_nobody():
    """A person stays on the side that the seed chose."""
    small, large = panel(200, dates=("2024-03-31",)), panel(400, dates=("2024-03-31",))
    held = set(small.persons[split_holdout(small).holdout])
    assert held == set(large.persons[split_holdout(large).holdout]) & set(small.persons)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_shares_outside_0_and_1_are_refused(share):
    """A side would be empty."""
    with pytest.raises(UsageError, match="holdout_share"):
        split_holdout(panel(dates=("2024-03-31",)), holdout_share=share)


@pytest.mark.parametrize(("kind", "cutoff"), [("temporal", None), ("random", date(2024, 1, 1))])
def test_a_cutoff_belongs_to_temporal_splits(kind, cutoff):
    """And only to those."""
    with pytest.raises(UsageError, match="cutoff"):
        SplitSpec(kind, 0.25, 42, cutoff)


def test_a_cutoff_needs_dates():
    """A table without dates has no past."""
    table = panel(dates=(None,))
    assert split_holdout(table).spec.kind == "random"
    with pytest.raises(UsageError, match="no snapshot dates"):
        split_holdout(table, cutoff=date(2024, 1, 1))


def test_a_side_without_leavers_is_refused():
    """Both sides are named at once."""
    with pytest.raises(InsufficientData, match="training: has no rows"):
        split_holdout(panel(), cutoff=date(2010, 1, 1))
    with pytest.raises(InsufficientData) as caught:
        split_holdout(panel(rate=0))
    assert len(caught.value.faults) == 2


def test_folds_keep_persons_together_and_shares_equal():
    """Every row is validated once."""
    table = panel()
    folds = stratified_folds(table, 5, 42)
    assert sorted(np.concatenate([validation for _, validation in folds])) == list(range(len(table)))
    for train, validation in folds:
        assert not set(table.persons[train]) & set(table.persons[validation])
        assert abs(table.target[validation].mean() - table.target.mean()) < 0.03


def test_folds_of_single_rows_are_plainly_stratified():
    """One row per person needs no grouping."""
    table = panel(dates=("2024-03-31",))
    for _, validation in stratified_folds(table, 4, 1):
        assert abs(table.target[validation].sum() - table.target.sum() / 4) < 1


def test_more_folds_than_leavers_are_refused():
    """A fold without leavers has no AUC."""
    table = panel(60, dates=("2024-03-31",), rate=0.05)
    with pytest.raises(InsufficientData, match="folds"):
        stratified_folds(table, 20, 1)


def test_check_split_sees_shared_persons_and_times():
    """A careless split by rows."""
    table = panel()
    rows = np.random.default_rng(0).permutation(len(table))
    spec = SplitSpec("temporal", 0.5, 0, date(2024, 12, 31))
    found = {f.code: f for f in check_split(table, Split(spec, np.sort(rows[:1000]), np.sort(rows[1000:])))}
    assert found["leakage.person_across_split"].severity is Severity.ERROR
    assert found["leakage.time_across_split"].severity is Severity.ERROR


def test_check_split_sees_copies_under_surrogate_ids():
    """Equal rows on both sides are suspicious only where ids say nothing."""
    table = panel(dates=("2024-03-31",))
    frame = pd.concat([table.frame, table.frame.assign(employee_id=[f"q{i}" for i in range(400)])])
    split = Split(SplitSpec("random", 0.5, 0), np.arange(400), np.arange(400, 800))
    doubled = EmployeeTable.of(frame, SCHEMA, surrogate_ids=True)
    (finding,) = check_split(doubled, split)
    assert (finding.code, finding.severity, finding.n_rows) == ("leakage.duplicate_across_split", Severity.WARNING, 400)
    assert check_split(EmployeeTable.of(frame, SCHEMA), split) == ()


def test_check_split_compares_the_shares_of_leavers():
    """A file sorted by outcome and split by position."""
    table = panel(dates=("2024-03-31",))
    order = np.argsort(table.target, kind="stable")
    split = Split(SplitSpec("random", 0.5, 0), np.sort(order[:250]), np.sort(order[250:]))
    (finding,) = check_split(table, split)
    assert (finding.code, finding.severity) == ("split.prevalence", Severity.WARNING)
