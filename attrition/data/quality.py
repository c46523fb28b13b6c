"""Checks of an employee table before it is learned from, and the repairs that need no person's judgement.

========================== =========================================================================================
Code                       Fires when
========================== =========================================================================================
type.mismatch              a feature of whole numbers has fractions, or a binary one other values than 0 and 1
range.outside              values outside the schema's plausible range
null.share                 missing values
category.unknown           labels or codes that neither mapping nor schema declares
column.constant            a feature has one value in all rows
column.unmapped            columns of the extract that the mapping does not use
values.outlier             values beyond three interquartile ranges from the middle half (Tukey's far fences)
rows.duplicate             rows that repeat another row
rows.pasted_block          runs of rows that repeat an earlier run in the same order
rows.conflicting           two accounts of one person on one day
rows.sorted_by_target      the file is sorted by outcome: nobody may split it by position
target.imbalanced          fewer than 5 % of one outcome
leakage.single_column      a column alone predicts the outcome
leakage.marker             one value of a column marks leavers
leakage.future_date        a column holds dates after the snapshot in some rows
leakage.person_across_split      a person on both sides of a split
leakage.duplicate_across_split   rows of equal content on both sides
leakage.time_across_split        training rows that are not older than the holdout
split.embargo              training rows whose outcome window ends after the cutoff of a temporal split
split.prevalence           the share of leavers differs between the sides
========================== =========================================================================================
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.columns import check_feature
from attrition.data.duplicates import check_duplicates, without_repeats
from attrition.data.extracts import Extract
from attrition.data.findings import Finding, QualityReport, Severity
from attrition.data.leakage import Outcomes, check_leakage
from attrition.data.mapping import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable
    from attrition.data.splits import Split

__all__ = ["Finding", "QualityReport", "Severity", "check_quality", "check_split", "repair"]

LISTED_COLUMNS = 20
"""Names of columns listed in one message."""
IMBALANCE_SHARE = 0.05
PREVALENCE_Z = 4.0
"""Standard errors between the shares of leavers on both sides of a split before it is reported."""

_TYPICAL_RUNS = 0.1

logger = logging.getLogger(__name__)


def check_quality(data: Extract | EmployeeTable) -> QualityReport:
    """Every finding about an extract, or about a table whose extract is not at hand.

    Parameters
    ----------
    data
        For an :class:`Extract`, columns that the mapping does not use are searched for leaks too.

    Returns
    -------
    QualityReport
        Nothing is changed; see :func:`repair`.
    """
    table = data.table if isinstance(data, Extract) else data
    raw = data.raw if isinstance(data, Extract) else None
    findings = list(data.findings) if isinstance(data, Extract) else []
    for feature in table.schema.features:
        findings += check_feature(feature, table.frame[feature.name].to_numpy(np.float64))
    findings += check_duplicates(table, raw)
    if isinstance(data, Extract) and data.unmapped:
        more = ", ..." if len(data.unmapped) > LISTED_COLUMNS else ""
        message = f"columns that the mapping does not use: {', '.join(data.unmapped[:LISTED_COLUMNS])}{more}"
        findings.append(Finding("column.unmapped", Severity.INFO, None, message))
    n_positive = int(table.target.sum()) if table.has_target else None
    if n_positive is not None and 0 < n_positive < len(table):
        findings += _check_target(table.target)
        findings += _check_columns(data, table)
    return QualityReport.of(findings, len(table), n_positive)


def repair(table: EmployeeTable, report: QualityReport) -> EmployeeTable:
    """Table without the rows that `report` found to be there twice; the number dropped is the difference in length.

    Exact copies go (with real ids: the same person, date and values; with surrogate ids: the same content), so pasted
    blocks go with them. Of two different accounts of one person on one day, the one that records the leaving stays.
    Everything else a person must decide. Idempotent.
    """
    if not (report.by_code("rows.duplicate") or report.by_code("rows.conflicting")):
        return table
    repaired = without_repeats(table)
    logger.info("%s: dropped %d of %d rows that were there twice", table.source, len(table) - len(repaired), len(table))
    return repaired


def check_split(table: EmployeeTable, split: Split) -> tuple[Finding, ...]:
    """Findings about what the two sides of a split have in common, and about their shares of leavers."""
    train, holdout = table.take(split.train), table.take(split.holdout)
    n_holdout = max(len(holdout), 1)
    findings = []
    shared = np.isin(holdout.persons.astype(str), train.persons.astype(str))
    if shared.any():
        message = f"{shared.sum()} holdout rows belong to persons that are trained on"
        findings.append(
            _split_finding("leakage.person_across_split", Severity.ERROR, message, int(shared.sum()), n_holdout)
        )
    if table.surrogate_ids:
        columns = [*table.schema.names, *(["attrition"] if table.has_target else [])]
        copies = pd.concat([train.frame[columns], holdout.frame[columns]]).duplicated().to_numpy()[len(train) :]
        if copies.any():
            severity = Severity.WARNING if copies.mean() > 0.01 else Severity.INFO
            message = (
                f"{copies.sum()} holdout rows agree with a training row or one another in all features and the outcome"
            )
            findings.append(
                _split_finding("leakage.duplicate_across_split", severity, message, int(copies.sum()), n_holdout)
            )
    if split.spec.kind == "temporal" and len(train) and len(holdout):
        late = (train.dates >= holdout.dates.min()).to_numpy()
        if late.any():
            message = f"{late.sum()} training rows are not older than the holdout"
            findings.append(
                _split_finding("leakage.time_across_split", Severity.ERROR, message, int(late.sum()), len(train))
            )
    findings += _check_embargo(train, split)
    if table.has_target and len(train) and len(holdout):
        findings += _check_prevalence(train.target, holdout.target, temporal=split.spec.kind == "temporal")
    return tuple(findings)


def _check_embargo(train: EmployeeTable, split: Split) -> list[Finding]:
    if split.spec.cutoff is None or not len(train):
        return []
    window = pd.Timedelta(days=train.schema.horizon_days)
    n_open = int((train.dates + window > pd.Timestamp(split.spec.cutoff)).sum())
    if not n_open:
        return []
    message = (
        f"{n_open} of {len(train)} training rows have outcome windows of {train.schema.horizon_days} days that end "
        f"after the cutoff {split.spec.cutoff}: the holdout's figures may be a little too good; give more dates"
    )
    return [_split_finding("split.embargo", Severity.WARNING, message, n_open, len(train))]


def _split_finding(code: str, severity: Severity, message: str, n_rows: int, n_total: int) -> Finding:
    return Finding(code, severity, None, message, n_rows, n_rows / n_total)


def _check_prevalence(train: NDArray[np.int8], holdout: NDArray[np.int8], *, temporal: bool) -> list[Finding]:
    pooled = np.concatenate([train, holdout]).mean()
    error = np.sqrt(pooled * (1 - pooled) * (1 / len(train) + 1 / len(holdout)))
    if error == 0 or abs(train.mean() - holdout.mean()) < PREVALENCE_Z * error:
        return []
    # over time the share of leavers may well change: that is what a temporal holdout is there to show
    severity = Severity.INFO if temporal else Severity.WARNING
    message = f"leavers are {train.mean():.1%} of the training rows and {holdout.mean():.1%} of the holdout"
    return [
        Finding("split.prevalence", severity, None, message, len(holdout), len(holdout) / (len(train) + len(holdout)))
    ]


def _check_target(target: NDArray[np.int8]) -> list[Finding]:
    n_rows, n_leavers = len(target), int(target.sum())
    rare = min(n_leavers, n_rows - n_leavers)
    findings = []
    if rare / n_rows < IMBALANCE_SHARE:
        message = f"{n_leavers} of {n_rows} rows are leavers: accuracy says nothing here, look at average precision"
        findings.append(
            Finding("target.imbalanced", Severity.WARNING, "attrition", message, n_leavers, n_leavers / n_rows)
        )
    # Wald and Wolfowitz's count of runs: 2 n1 n0 / n + 1 are expected in random order
    n_runs = 1 + int((np.diff(target) != 0).sum())
    if n_runs < _TYPICAL_RUNS * (2 * n_leavers * (n_rows - n_leavers) / n_rows + 1):
        message = (
            f"leavers and stayers stand in {n_runs} runs: the file is sorted by outcome, never split it by position"
        )
        findings.append(Finding("rows.sorted_by_target", Severity.INFO, None, message, n_rows, 1.0))
    return findings


def _check_columns(data: Extract | EmployeeTable, table: EmployeeTable) -> list[Finding]:
    outcomes = Outcomes(table.target, table.persons, table.dates.to_numpy("datetime64[us]"))
    if not isinstance(data, Extract):
        return check_leakage(table.features, outcomes, Dialect(), {name: (name,) for name in table.schema.names})
    sources: Mapping[str, tuple[str, ...]] = data.mapping.sources
    telling = [
        name for name in data.raw.columns if not sources.get(name) or set(sources[name]) - {"attrition", "employee_id"}
    ]
    fed = {name: [use for use in uses if use in table.schema.names] for name, uses in sources.items()}
    return check_leakage(data.raw[telling], outcomes, data.mapping.dialect, fed)
