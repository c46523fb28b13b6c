"""Leakage: columns of an extract that tell the outcome because they were written after it.

Every column is looked at, mapped or not, in its best form: numbers by rank, texts and small sets of numbers by the
share of leavers among equal values, dates by their distance from the snapshot. Shares are estimated out of fold, with a
person's rows in one fold, so that ids and birthdays, which name a person, say nothing about other persons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.cells import to_dates, to_numbers, to_text
from attrition.data.findings import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from attrition.data.mapping import Dialect

AUC_LIMIT = 0.97
"""AUC of one column alone beyond which it leaks. The strongest honest column of the public extracts, satisfaction,
reaches 0.905."""
MARK_PRECISION = 0.98
MARK_RECALL = 0.5
"""A single value that holds for half of all leavers and hardly anybody else leaks, though the AUC may be 0.75."""
FILLED_RECALL = 0.1
"""The same for being filled in at all (an exit interview's date): here a tenth of the leavers is enough, for no cause
of leaving is only recorded for those who leave."""
MARK_ROWS = 10
"""Rows below which a mark is a coincidence."""

_BINS = 50
_FOLDS = 5
_PRIOR_WEIGHT = 5.0
_TEXT_IS_TYPED = 0.99
_DATE_FORMATS = (
    None,
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d.%m.%Y",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%Y/%m/%d",
)
_NO_DATE_BEFORE = np.datetime64("1901-01-01", "us")
_NO_DATE_FROM = np.datetime64("2100-01-01", "us")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What columns are held against.

    Attributes
    ----------
    target : int8 ndarray of shape (n_rows,)
    persons : object ndarray of shape (n_rows,)
    dates : datetime64[us] ndarray of shape (n_rows,)
        Snapshot dates, NaT where there are none.
    """

    target: NDArray[np.int8]
    persons: NDArray[np.object_]
    dates: NDArray[np.datetime64]

    @property
    def folds(self) -> NDArray[np.intp]:
        """Fold of each row, a person's rows together."""
        return pd.factorize(self.persons)[0] % _FOLDS


def check_leakage(
    raw: pd.DataFrame, outcomes: Outcomes, dialect: Dialect, features_fed: Mapping[str, Iterable[str]]
) -> list[Finding]:
    """Findings ``leakage.single_column``, ``leakage.marker`` and ``leakage.future_date``.

    Parameters
    ----------
    raw
        Columns to look at; leave out those of the target and of the ids.
    outcomes
        Of the same rows, with leavers and stayers among them.
    dialect
        How numbers are written.
    features_fed
        Features that a column feeds: a leak there is an ERROR, elsewhere a WARNING that nobody should map it.
    """
    findings = []
    folds = outcomes.folds
    for column in raw.columns:
        fed = ", ".join(features_fed.get(column, ()))
        severity = Severity.ERROR if fed else Severity.WARNING
        use = f"it feeds {fed}: take it out of the mapping" if fed else "no feature uses it: leave it so"
        view = _view(raw[column], outcomes, dialect)
        auc = max(view.rank_auc, grouped_auc(view.groups, outcomes.target, folds))
        marked = _marked(view.groups, outcomes.target)
        n_rows, n_total = int((view.groups >= 0).sum()), len(raw)
        if auc >= AUC_LIMIT:
            message = f"alone it predicts the outcome with AUC {auc:.3f}: it was written after the outcome; {use}"
            findings.append(Finding("leakage.single_column", severity, str(column), message, n_rows, n_rows / n_total))
        elif marked:
            message = f"one of its values marks {marked} of {outcomes.target.sum()} leavers and hardly a stayer; {use}"
            findings.append(Finding("leakage.marker", severity, str(column), message, marked, marked / n_total))
        if 0 < view.n_future < n_total:
            message = f"{view.n_future} rows hold a date after their snapshot, known then only if it was planned; {use}"
            findings.append(
                Finding("leakage.future_date", severity, str(column), message, view.n_future, view.n_future / n_total)
            )
    return findings


def rank_auc(y_true: NDArray[np.int8], values: NDArray[np.float64]) -> float:
    """Probability that a leaver's value is above a stayer's, ties counting half (the Mann-Whitney statistic)."""
    from scipy.stats import rankdata

    n_positive = int(y_true.sum())
    n_negative = len(y_true) - n_positive
    rank_sum = float(rankdata(values)[y_true == 1].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def grouped_auc(groups: NDArray[np.intp], y_true: NDArray[np.int8], folds: NDArray[np.intp]) -> float:
    """AUC of the share of leavers in the same group in the other folds, shrunk towards the overall share.

    Parameters
    ----------
    groups : ndarray of shape (n_rows,)
        Codes from 0; -1 is the group of missing values.
    """
    slots = groups + 1
    n_slots = int(slots.max()) + 1
    prior = float(y_true.mean())
    score = np.empty(len(groups))
    n_all = np.bincount(slots, minlength=n_slots)
    n_left = np.bincount(slots, weights=y_true, minlength=n_slots)
    for fold in range(_FOLDS):
        inside = folds == fold
        n = n_all - np.bincount(slots[inside], minlength=n_slots)
        left = n_left - np.bincount(slots[inside], weights=y_true[inside], minlength=n_slots)
        score[inside] = ((left + _PRIOR_WEIGHT * prior) / (n + _PRIOR_WEIGHT))[slots[inside]]
    return rank_auc(y_true, score)


@dataclass(frozen=True, slots=True)
class _View:
    """A column in its most telling form."""

    groups: NDArray[np.intp]
    rank_auc: float = 0.5
    n_future: int = 0


def _view(series: pd.Series, outcomes: Outcomes, dialect: Dialect) -> _View:
    n_filled = int(series.notna().sum())
    if series.dtype.kind != "M":
        numbers = to_numbers(series, dialect)
        if n_filled and np.isfinite(numbers).sum() >= _TEXT_IS_TYPED * n_filled:
            return _number_view(numbers, outcomes.target)
    dates = _as_dates(series, n_filled)
    if dates is not None:
        return _date_view(dates, outcomes)
    return _View(pd.factorize(to_text(series))[0])


def _number_view(numbers: NDArray[np.float64], target: NDArray[np.int8], edges: Iterable[float] = ()) -> _View:
    known = np.isfinite(numbers)
    groups = np.full(len(numbers), -1, dtype=np.intp)
    values = numbers[known]
    distinct = np.unique(values)
    if len(distinct) > 2 * _BINS:
        distinct = np.unique(
            np.concatenate([np.quantile(values, np.linspace(0, 1, _BINS + 1)), np.fromiter(edges, float)])
        )
    groups[known] = np.searchsorted(distinct, values)
    auc = 0.5
    if 0 < target[known].sum() < known.sum():
        # missing values in the middle: they neither help nor hurt the ranking
        auc = rank_auc(target, np.where(known, numbers, np.median(values)))
    return _View(groups, max(auc, 1 - auc))


def _as_dates(series: pd.Series, n_filled: int) -> NDArray[np.datetime64] | None:
    if series.dtype.kind == "M":
        return series.to_numpy("datetime64[us]")
    sample = series.dropna().drop_duplicates().iloc[:200]
    for date_format in _DATE_FORMATS if len(sample) else ():
        if (~np.isnat(to_dates(sample, date_format))).mean() < _TEXT_IS_TYPED:
            continue
        dates = to_dates(series, date_format)
        if (~np.isnat(dates)).sum() >= _TEXT_IS_TYPED * n_filled:
            return dates
    return None


def _date_view(dates: NDArray[np.datetime64], outcomes: Outcomes) -> _View:
    """Days from the snapshot; 1/1/1900 and 31/12/9999 say "none"."""
    dates = dates.copy()
    dates[(dates < _NO_DATE_BEFORE) | (dates >= _NO_DATE_FROM)] = np.datetime64("NaT")
    has_snapshot = not bool(np.isnat(outcomes.dates).any())
    start = outcomes.dates if has_snapshot else np.datetime64("2000-01-01", "us")
    days = np.asarray((dates - start) / np.timedelta64(1, "D"), dtype=np.float64)
    view = _number_view(days, outcomes.target, edges=(-365, -1, 0, 1, 365))
    return _View(view.groups, view.rank_auc, int((days >= 1).sum()) if has_snapshot else 0)


def _marked(groups: NDArray[np.intp], target: NDArray[np.int8]) -> int:
    """Leavers that the most telling value marks; 0 when no value is precise and frequent enough."""
    n_leavers = int(target.sum())
    n = np.bincount(groups + 1)
    left = np.bincount(groups + 1, weights=target)
    filled = groups >= 0
    if not filled.all():
        n, left = np.append(n, filled.sum()), np.append(left, target[filled].sum())
    recall = np.full(len(n), MARK_RECALL)
    if not filled.all():
        recall[-1] = FILLED_RECALL
    marks = (n >= MARK_ROWS) & (left >= MARK_PRECISION * n) & (left >= recall * n_leavers)
    return int(left[marks].max()) if marks.any() else 0
