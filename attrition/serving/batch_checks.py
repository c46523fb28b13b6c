"""Arrow columns as the feature matrix of a scorer, with a count of everything noteworthy on the way.

Same rules as for a request over HTTP where a value has no meaning (text, infinity, a required value that is missing):
the input is refused. What has a meaning but is odd (outside the plausible range, an unknown code, missing) is scored as
the model learned it, and counted: one slip among five million rows must not stop a batch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.findings import Finding, Severity
from attrition.errors import Fault
from attrition.serving.batch_arrays import to_doubles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from attrition.data.schema import Feature, FeatureSchema
    from attrition.scoring.scorer import Scorer

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_MANY_SHARE = 0.05  # as in attrition.data.columns: beyond it these are no slips, the unit or the labels are wrong


@dataclass(slots=True)
class Tally:
    """Counts of one partition or of many; per feature where a dictionary.

    Attributes
    ----------
    n_rows, n_leavers : int
    n_without_id : int
    missing, outside, unknown : dict of str to int
        Values that are missing, outside the plausible range, codes that training did not see.
    """

    n_rows: int = 0
    n_leavers: int = 0
    n_without_id: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Count the rows of `other` too."""
        self.n_rows += other.n_rows
        self.n_leavers += other.n_leavers
        self.n_without_id += other.n_without_id
        for mine, theirs in (
            (self.missing, other.missing),
            (self.outside, other.outside),
            (self.unknown, other.unknown),
        ):
            for name, n in theirs.items():
                mine[name] = mine.get(name, 0) + n

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Tally:
        """Inverse of :meth:`to_dict`."""
        return cls(**document)

    def findings(self, schema: FeatureSchema) -> tuple[Finding, ...]:
        """What is worth knowing, the gravest first; with the codes of :mod:`attrition.data.quality`."""
        found = []
        for name, n in self.outside.items():
            low, high = schema[name].bounds
            unit = f" ({schema[name].unit})" if schema[name].unit else ""
            message = f"{n:,} values lie outside {low:g} to {high:g}{unit}; check scale and unit"
            found.append(self._finding("range.outside", name, message, n))
        for name, n in self.unknown.items():
            message = f"{n:,} codes are none that training saw; they are scored as the model learned it"
            found.append(self._finding("category.unknown", name, message, n))
        for name, n in self.missing.items():
            message = f"{n:,} values are missing; they are scored as the model learned it"
            found.append(self._finding("null.share", name, message, n))
        if self.n_without_id:
            message = f"{self.n_without_id:,} rows have no employee id; only their order says whose they are"
            found.append(self._finding("ids.missing", "employee_id", message, self.n_without_id))
        return tuple(sorted(found, key=lambda item: (item.severity is not Severity.WARNING, -item.n_rows)))

    def _finding(self, code: str, column: str, message: str, n: int) -> Finding:
        share = n / self.n_rows
        severity = Severity.WARNING if share > _MANY_SHARE else Severity.INFO
        return Finding(code, severity, column, message, n, share)


class FeatureChecks:
    """Turns the feature columns of one partition into matrices; counts, and collects what cannot be scored.

    Parameters
    ----------
    schema
        Of the version, in the order of the matrix.
    scorer
        Knows the codes that training saw.
    """

    def __init__(self, schema: FeatureSchema, scorer: Scorer) -> None:
        self.tally = Tally()
        self._features = schema.features
        self._codes = {
            feature.name: points
            for feature, points in zip(schema.features, scorer.split_points, strict=True)
            if feature.kind == "category" and len(points)
        }
        self._not_numbers: dict[str, int] = {}
        self._absent: dict[str, int] = {}
        self._types: dict[str, str] = {}

    @property
    def sound(self) -> bool:
        """Whether every row so far can be scored."""
        return not (self._not_numbers or self._absent or self._types)

    def matrix(self, columns: Sequence[pa.Array]) -> NDArray[np.float64]:
        """Feature matrix of shape (n_rows, n_features), float64, missing is NaN.

        Parameters
        ----------
        columns
            In schema order, of any Arrow type.
        """
        n_rows = len(columns[0])
        # columns together in memory, as they come and as scorers read them
        matrix = np.empty((len(columns), n_rows)).T
        for place, (feature, column) in enumerate(zip(self._features, columns, strict=True)):
            matrix[:, place] = self._checked(feature, column)
        self.tally.n_rows += n_rows
        return matrix

    def _checked(self, feature: Feature, column: pa.Array) -> NDArray[np.float64]:
        try:
            values, n_bad = to_numbers(column)
        except TypeError:
            self._types[feature.name] = str(column.type)
            return np.full(len(column), np.nan)
        _count(self._not_numbers, feature.name, n_bad)
        n_missing = int(np.count_nonzero(np.isnan(values))) - n_bad
        _count(self.tally.missing, feature.name, n_missing)
        if feature.required:
            _count(self._absent, feature.name, n_missing)
        if n_missing + n_bad < len(values):
            self._check_range(feature, values)
        return values

    def _check_range(self, feature: Feature, values: NDArray[np.float64]) -> None:
        low, high = feature.bounds
        smallest, largest = np.fmin.reduce(values), np.fmax.reduce(values)
        if np.isinf(smallest) or np.isinf(largest):
            _count(self._not_numbers, feature.name, int(np.isinf(values).sum()))
        if smallest < low or largest > high:
            _count(self.tally.outside, feature.name, int(np.count_nonzero((values < low) | (values > high))))
        codes = self._codes.get(feature.name)
        if codes is not None:
            known = np.isnan(values)
            for code in codes:
                known |= values == code
            _count(self.tally.unknown, feature.name, len(values) - int(np.count_nonzero(known)))

    def faults(self, where: str) -> list[Fault]:
        """Everything that keeps the rows so far from being scored; counts and columns, never values."""
        n_rows = f"{self.tally.n_rows:,}"
        faults = [
            Fault(f"{where}: column {name}", f"is of type {kind}", "numbers are needed")
            for name, kind in self._types.items()
        ]
        faults += [
            Fault(
                f"{where}: column {name}",
                f"{n:,} of {n_rows} cells hold text or no finite number",
                "",
                "correct the export, or convert them by a mapping",
            )
            for name, n in self._not_numbers.items()
        ]
        faults += [
            Fault(f"{where}: column {name}", f"{n:,} of {n_rows} cells are empty", "this feature is required")
            for name, n in self._absent.items()
        ]
        return faults


def _count(counts: dict[str, int], name: str, n: int) -> None:
    if n:
        counts[name] = counts.get(name, 0) + n


def to_numbers(column: pa.Array) -> tuple[NDArray[np.float64], int]:
    """A column as float64, NaN where missing or no number, and how many cells are no number.

    True and false count as 1 and 0, also as text.

    Raises
    ------
    TypeError
        Dates, lists and other types that are never numbers.
    """
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if types.is_dictionary(kind):
        return to_numbers(column.dictionary_decode())
    if types.is_string(kind) or types.is_large_string(kind):
        return _parse(column)
    if types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)):
        raise TypeError(kind)
    if not types.is_float64(column.type):
        column = column.cast(pa.float64(), safe=False)
    return to_doubles(column), 0


def _parse(column: pa.Array) -> tuple[NDArray[np.float64], int]:
    import pyarrow as pa
    from pyarrow import compute

    text = compute.utf8_lower(compute.utf8_trim_whitespace(column))
    written = compute.match_substring_regex(text, _NUMBER)
    truth = compute.if_else(compute.or_(compute.equal(text, "true"), compute.equal(text, "false")), text, None)
    # Arrow reads no plus sign; the one of an exponent is needless too
    digits = compute.replace_substring(compute.if_else(written, text, None), "+", "")
    values = compute.coalesce(compute.cast(digits, pa.float64()), compute.equal(truth, "true").cast(pa.float64()))
    n_bad = values.null_count - column.null_count
    return to_doubles(values), n_bad
