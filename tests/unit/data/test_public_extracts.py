"""The two public HR extracts, with the traps that they are known for."""

from __future__ import annotations

import time
from datetime import date

import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from attrition.data.extracts import read_extract
from attrition.data.leakage import rank_auc
from attrition.data.quality import Severity, check_quality, check_split, repair
from attrition.data.splits import split_holdout
from attrition.errors import ExtractError


@pytest.fixture(scope="module")
def hr(shared_data, key):
    return read_extract(shared_data / "HR_comma_sep.csv", "hr_comma_sep", key)


@pytest.fixture(scope="module")
def mfg(shared_data, key):
    return read_extract(shared_data / "MFG10YearTerminationData.csv.gz", "mfg10", key)


@pytest.fixture(scope="module")
def mfg_report(mfg):
    return check_quality(mfg)


@pytest.fixture(scope="module")
def mfg_repaired(mfg, mfg_report):
    return repair(mfg.table, mfg_report)


class TestHrCommaSep:
    """No ids, no dates, no age, and a fifth of it pasted twice."""

    def test_units(self, hr):
        """Canonical, within the schema's ranges."""
        report = check_quality(hr)
        assert not report.by_code("range.outside")
        assert "age" not in hr.table.schema.names
        assert hr.table.frame["work_hours"].mean() == pytest.approx(46.4, abs=0.1)
        assert hr.table.target.mean() == pytest.approx(0.238, abs=0.001)

    def test_pasted_rows_are_reported_and_removed(self, hr):
        """3,008 exact duplicates, 2,999 of them one block at the end."""
        report = check_quality(hr)
        assert report.by_code("rows.duplicate")[0].n_rows == 3008
        assert report.by_code("rows.pasted_block")[0].n_rows == 2999
        repaired = repair(hr.table, report)
        assert len(repaired) == 11_991
        assert not check_quality(repaired).by_code("rows.duplicate")

    def test_the_wrong_mapping_is_noticed(self, shared_data, key):
        """And the right one is named."""
        with pytest.raises(ExtractError, match="mapping hr_comma_sep fits them"):
            read_extract(shared_data / "HR_comma_sep.csv", "mfg10", key)

    def test_nothing_leaks(self, hr):
        """Satisfaction is a strong feature, not a leak."""
        assert not [finding for finding in check_quality(hr).findings if finding.code.startswith("leakage")]

    def test_unrepaired_copies_stay_on_one_side(self, hr):
        """Even without the repair, no row is both learned and tested."""
        split = split_holdout(hr.table)
        assert not set(hr.table.persons[split.train]) & set(hr.table.persons[split.holdout])


class TestMfg10:
    """Ten years, and columns that were written when people left."""

    def test_leaking_columns_are_flagged(self, mfg_report):
        """Exactly these, and as warnings: no feature uses them."""
        leaks = mfg_report.by_code("leakage.single_column")
        assert {finding.column for finding in leaks} == {
            "recorddate_key",
            "terminationdate_key",
            "termreason_desc",
            "termtype_desc",
        }
        assert {finding.severity for finding in leaks} == {Severity.WARNING}

    def test_dates_from_the_future_are_flagged(self, mfg_report):
        """The file knows in 2008 who will leave in 2014, and on 1 January who will leave within the year."""
        found = {finding.column: finding for finding in mfg_report.by_code("leakage.future_date")}
        assert {name: finding.n_rows for name, finding in found.items()} == {
            "terminationdate_key": 7200,
            "recorddate_key": 49_565,
            "orighiredate_key": 1936,  # hired in the course of the row's year
        }

    def test_double_accounts_are_settled(self, mfg, mfg_report, mfg_repaired):
        """Five persons stand twice in the year they left; the leaving stays."""
        assert mfg_report.by_code("rows.conflicting")[0].n_rows == 5
        assert len(mfg_repaired) == 49_648
        assert mfg_repaired.target.sum() == mfg.table.target.sum() == 1485

    def test_a_row_is_dated_before_its_outcome(self, mfg):
        """A row tells how its year ended, so it stands at the year's beginning."""
        assert set(mfg.table.dates.dt.strftime("%m-%d")) == {"01-01"}
        ends = pd.to_datetime(mfg.raw["terminationdate_key"], format="%m/%d/%Y")
        left = mfg.table.target == 1
        days = (ends - mfg.table.dates)[left].dt.days
        assert days.between(0, 365).all()

    def test_the_split_holds_out_the_last_two_years(self, mfg_repaired):
        """Of persons that training never saw, with two hundred leavers; the embargo of a year costs nothing."""
        table = mfg_repaired
        split = split_holdout(table, embargo_days=table.schema.horizon_days)
        assert (split.spec.cutoff, split.spec.embargo_days) == (date(2014, 1, 1), 365)
        assert set(table.dates[split.holdout].dt.year) == {2014, 2015}
        assert table.dates[split.train].max().year == 2013
        assert table.target[split.holdout].sum() >= 200
        assert {finding.severity for finding in check_split(table, split)} <= {Severity.INFO}

    def test_the_holdout_is_foretold_with_an_honest_auc(self, mfg_repaired):
        """Neither a coin nor an oracle."""
        table = mfg_repaired
        split = split_holdout(table, embargo_days=table.schema.horizon_days)
        model = HistGradientBoostingClassifier(random_state=0)
        model.fit(table.features.to_numpy()[split.train], table.target[split.train])
        score = model.predict_proba(table.features.to_numpy()[split.holdout])[:, 1]
        assert 0.7 < rank_auc(table.target[split.holdout], score) < 0.8

    def test_fifty_thousand_rows_are_checked_in_seconds(self, shared_data, key):
        """Reading and checking must not be what one waits for."""
        start = time.process_time()
        check_quality(read_extract(shared_data / "MFG10YearTerminationData.csv.gz", "mfg10", key))
        assert time.process_time() - start < 5
