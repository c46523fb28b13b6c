"""Quality checks: each code fires where it should and is silent where it should be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attrition.data.employees import EmployeeTable
from attrition.data.extracts import read_extract
from attrition.data.quality import Finding, QualityReport, Severity, check_quality, repair
from attrition.data.schema import FeatureSchema


@pytest.fixture
def table(canonical):
    return as_table(canonical)


def as_table(frame, **options):
    return EmployeeTable.of(frame, FeatureSchema.default(), sensitive=("gender",), **options)


def codes(report):
    return {finding.code for finding in report.findings}


def only(report, code):
    (finding,) = report.by_code(code)
    return finding


def test_a_clean_table_has_no_findings(table):
    """No check cries wolf."""
    assert check_quality(table).findings == ()


@pytest.mark.parametrize(
    ("column", "rows", "value", "code", "severity"),
    [
        ("projects_count", 3, 2.5, "type.mismatch", Severity.WARNING),
        ("promotion_flag", 3, 0.5, "type.mismatch", Severity.WARNING),
        ("promotion_flag", 3, 2, "range.outside", Severity.WARNING),
        ("age", 3, 7, "range.outside", Severity.WARNING),
        ("satisfaction_score", 50, 80, "range.outside", Severity.ERROR),
        ("age", 3, np.nan, "null.share", Severity.INFO),
        ("age", 30, np.nan, "null.share", Severity.WARNING),
        ("age", 150, np.nan, "null.share", Severity.ERROR),
        ("age", 200, np.nan, "null.share", Severity.ERROR),
        ("age", 200, 40, "column.constant", Severity.WARNING),
        ("salary", 3, 10_000_000, "values.outlier", Severity.INFO),
        ("salary", 15, 10_000_000, "values.outlier", Severity.WARNING),
    ],
)
def test_feature_checks(canonical, column, rows, value, code, severity):
    """Code, severity, column and count."""
    canonical[column] = canonical[column].astype(float)
    canonical.loc[: rows - 1, column] = value
    finding = only(check_quality(as_table(canonical)), code)
    assert (finding.severity, finding.column, finding.n_rows, finding.share) == (severity, column, rows, rows / 200)


def test_a_required_feature_may_not_be_missing(canonical):
    """Serving would reject such a record."""
    schema = FeatureSchema.default()
    age = schema["age"].model_copy(update={"required": True})
    schema = schema.model_copy(update={"features": tuple(age if f.name == "age" else f for f in schema.features)})
    canonical.loc[0, "age"] = np.nan
    report = check_quality(EmployeeTable.of(canonical, schema))
    assert only(report, "null.share").severity is Severity.ERROR


def test_undeclared_codes(canonical):
    """Only where the schema declares codes at all."""
    labels = FeatureSchema.default().with_categories({"department_code": {i: str(i) for i in range(1, 6)}})
    n_sixth = int((canonical["department_code"] == 6).sum())
    assert only(check_quality(EmployeeTable.of(canonical, labels)), "category.unknown").n_rows == n_sixth


def test_two_persons_with_equal_features_are_no_duplicates(canonical):
    """With real ids, only the same person twice is."""
    canonical.loc[1, canonical.columns[1:]] = canonical.loc[0, canonical.columns[1:]]
    assert "rows.duplicate" not in codes(check_quality(as_table(canonical)))


def test_repeated_rows_are_found_and_removed(canonical):
    """Twenty pasted rows are one block."""
    pasted = as_table(pd.concat([canonical, canonical.iloc[30:50]]))
    report = check_quality(pasted)
    assert only(report, "rows.duplicate").n_rows == 20
    assert only(report, "rows.pasted_block").n_rows == 20
    assert "between rows 201 and 220" in only(report, "rows.pasted_block").message
    pd.testing.assert_frame_equal(repair(pasted, report).frame, as_table(canonical).frame)


def test_scattered_copies_are_no_block(canonical):
    """Order tells a paste from coincidences."""
    rng = np.random.default_rng(0)
    report = check_quality(as_table(pd.concat([canonical, canonical.iloc[rng.permutation(200)[:60]]])))
    assert only(report, "rows.duplicate").n_rows == 60
    assert not report.by_code("rows.pasted_block")


def test_two_accounts_of_a_person_on_one_day(canonical):
    """The leaving counts, whichever row comes first."""
    canonical.loc[[0, 2], "attrition"] = [0, 1]
    canonical.loc[[1, 3], ["employee_id", "age", "attrition"]] = [["E0000", 33, 1], ["E0002", 44, 0]]
    doubled = as_table(canonical)
    report = check_quality(doubled)
    assert only(report, "rows.conflicting").n_rows == 2
    assert only(report, "rows.conflicting").severity is Severity.WARNING
    repaired = repair(doubled, report)
    assert len(repaired) == 198
    assert repaired.frame["age"][0] == 33
    assert repaired.target[:2].tolist() == [1, 1]


def test_many_conflicts_are_an_error(canonical):
    """The key is wrong then, and no repair mends that."""
    canonical.loc[:9, "employee_id"] = "E0000"
    assert only(check_quality(as_table(canonical)), "rows.conflicting").severity is Severity.ERROR


def test_repair_without_a_reason_changes_nothing(table):
    """The very same table comes back."""
    assert repair(table, check_quality(table)) is table


def test_rare_leavers(canonical):
    """Accuracy misleads there."""
    canonical["attrition"] = np.isin(np.arange(200), [11, 50, 91, 130, 177]).astype(int)
    assert only(check_quality(as_table(canonical)), "target.imbalanced").share == 0.025


def test_a_file_sorted_by_outcome(canonical):
    """A warning to whoever would split it by position."""
    assert "rows.sorted_by_target" in codes(check_quality(as_table(canonical.sort_values("attrition"))))


def test_without_outcomes_there_is_nothing_to_leak(canonical):
    """Scoring input is checked like any other, less the target's checks."""
    report = check_quality(as_table(canonical.drop(columns="attrition")))
    assert report.n_positive is None
    assert report.findings == ()


def test_unmapped_columns_are_listed(canonical, write, key):
    """So that nobody wonders where a column went."""
    extract = read_extract(write(canonical.assign(shoe_size=np.arange(200) % 7)), None, key)
    assert extract.unmapped == ("shoe_size",)
    assert "shoe_size" in only(check_quality(extract), "column.unmapped").message


def test_reports_survive_json():
    """And are ordered by severity."""
    findings = [
        Finding("a", Severity.INFO, None, "m"),
        Finding("b", Severity.ERROR, "c", "m", 3, 0.5),
        Finding("d", Severity.WARNING, None, "m"),
    ]
    report = QualityReport.of(findings, 6, 2)
    assert [finding.code for finding in report.findings] == ["b", "d", "a"]
    assert QualityReport.from_dict(report.to_dict()) == report
    assert [finding.code for finding in report.errors] == ["b"]
    assert [finding.code for finding in report.warnings] == ["d"]
