"""Checks of one feature at a time: types, ranges, gaps, codes, constants and far values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attrition.data.extracts import unknown_category
from attrition.data.findings import Finding, Severity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.data.schema import Feature

    Values = NDArray[np.float64]

RANGE_ERROR_SHARE = 0.05
"""Beyond it values outside the range are no slips: the unit is wrong."""
NULL_WARNING_SHARE = 0.05
NULL_ERROR_SHARE = 0.5
"""A feature that half of the rows lack should be declared absent."""
OUTLIER_WARNING_SHARE = 0.05
"""Below it a long tail is what pay and tenure look like."""


def check_feature(feature: Feature, values: Values) -> list[Finding]:
    """Findings about one feature.

    Parameters
    ----------
    feature
        What the schema says about it.
    values : float64 ndarray of shape (n_rows,), n_rows > 0
        Missing is NaN.
    """
    known = values[~np.isnan(values)]
    checks = [_check_nulls(feature, len(values) - len(known), len(values))]
    if len(known):
        checks += [
            check(feature, known, len(values))
            for check in (_check_constant, _check_type, _check_range, _check_codes, _check_tails)
        ]
    return [finding for finding in checks if finding]


def _finding(code: str, severity: Severity, feature: Feature, message: str, n_rows: int, n_total: int) -> Finding:
    return Finding(code, severity, feature.name, message, n_rows, n_rows / n_total)


def _check_nulls(feature: Feature, n_null: int, n_total: int) -> Finding | None:
    if not n_null:
        return None
    share = n_null / n_total
    severity, remedy = Severity.INFO, "they are scored as the model learned them"
    if share > NULL_ERROR_SHARE or feature.required:
        severity, remedy = Severity.ERROR, "declare it absent, or repair the export"
    elif share > NULL_WARNING_SHARE:
        severity = Severity.WARNING
    return _finding(
        "null.share", severity, feature, f"{share:.1%} of the values are missing; {remedy}", n_null, n_total
    )


def _check_constant(feature: Feature, known: Values, n_total: int) -> Finding | None:
    if known.min() != known.max():
        return None
    message = "has one value in all rows: nothing can be learned from it"
    return _finding("column.constant", Severity.WARNING, feature, message, len(known), n_total)


def _check_type(feature: Feature, known: Values, n_total: int) -> Finding | None:
    n_broken = int((known != np.floor(known)).sum())
    if feature.kind == "continuous" or not n_broken:
        return None
    allowed = "0 or 1" if feature.kind == "binary" else "whole numbers"
    return _finding(
        "type.mismatch", Severity.WARNING, feature, f"{n_broken} values are not {allowed}", n_broken, n_total
    )


def _check_range(feature: Feature, known: Values, n_total: int) -> Finding | None:
    low, high = feature.bounds
    n_outside = int(((known < low) | (known > high)).sum())
    if not n_outside:
        return None
    severity = Severity.ERROR if n_outside / n_total > RANGE_ERROR_SHARE else Severity.WARNING
    unit = f" ({feature.unit})" if feature.unit else ""
    message = f"{n_outside} values lie outside {low:g} to {high:g}{unit}; check scale and unit"
    return _finding("range.outside", severity, feature, message, n_outside, n_total)


def _check_codes(feature: Feature, known: Values, n_total: int) -> Finding | None:
    n_unknown = int((~np.isin(known, list(feature.categories))).sum()) if feature.categories else 0
    if not n_unknown:
        return None
    message = f"{n_unknown} codes are none of the {len(feature.categories or ())} declared ones"
    return unknown_category(feature.name, message, n_unknown, n_total)


def _check_tails(feature: Feature, known: Values, n_total: int) -> Finding | None:
    first, third = np.quantile(known, [0.25, 0.75])
    reach = 3 * (third - first)
    n_far = int(((known < first - reach) | (known > third + reach)).sum())
    if feature.kind != "continuous" or not reach or not n_far:
        return None
    severity = Severity.WARNING if n_far / n_total > OUTLIER_WARNING_SHARE else Severity.INFO
    message = f"{n_far} values lie beyond three interquartile ranges from the middle half"
    return _finding("values.outlier", severity, feature, message, n_far, n_total)
