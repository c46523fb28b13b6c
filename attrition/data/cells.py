"""Cells of an extract as numbers, dates or text; what cannot be read is collected as faults, by count and line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attrition.errors import Fault

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.data.mapping import ColumnSpec, Dialect

LISTED_LABELS = 10
"""Category labels listed in one message."""
LISTED_LINES = 3
"""Line numbers listed in one message."""

_TIME_ZONE = r"(:\d{2}(?:\.\d+)?)\s*(?:Z|[+-]\d{2}:?\d{2})$"  # dropped: the day on the clock there is the day
_TRUTH = {"true": 1.0, "false": 0.0}  # what software writes for truth values; other words are for `recode`


class Cells:
    """Columns of a raw frame in the type that a mapping needs them.

    Parameters
    ----------
    frame : DataFrame
        As read: text columns of a CSV file, typed columns of a Parquet file.
    dialect
        How numbers and gaps are written.
    where
        File name for messages.
    first_line
        Line of the first row in the file; None when rows have no lines of their own (Parquet, cells with line breaks).

    Attributes
    ----------
    faults : list of Fault
        Grows with every cell that cannot be read, once per column and type.
    """

    def __init__(self, frame: pd.DataFrame, dialect: Dialect, *, where: str, first_line: int | None) -> None:
        self.faults: list[Fault] = []
        self.snapshot_date: NDArray[np.datetime64] | None = None
        self._frame = frame
        self._dialect = dialect
        self._where = where
        self._first_line = first_line
        self._numbers: dict[str, NDArray[np.float64]] = {}
        self._dates: dict[tuple[str, str | None], NDArray[np.datetime64]] = {}

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Column as float64, missing is NaN; a cell that is no finite number is a fault."""
        if column not in self._numbers:
            series = self._frame[column]
            if series.dtype.kind == "M":
                self._fault(column, "is a date, a number is needed")
                values = np.full(len(series), np.nan)
            else:
                values = to_numbers(series, self._dialect)
                bad = series.notna().to_numpy() & ~np.isfinite(values)
                self._report(column, bad, "no number", "check the column, dialect.decimal and dialect.missing")
            self._numbers[column] = values
        return self._numbers[column]

    def dates(self, column: str, date_format: str | None, *, remedy: str = "set date_format") -> NDArray[np.datetime64]:
        """Column as datetime64[us], missing is NaT; a cell in another format is a fault."""
        if column == "snapshot_date" and self.snapshot_date is not None:
            return self.snapshot_date
        if (column, date_format) not in self._dates:
            series = self._frame[column]
            values = to_dates(series, date_format)
            expected = date_format or "YYYY-MM-DD"
            self._report(column, series.notna().to_numpy() & np.isnat(values), f"no date written {expected}", remedy)
            self._dates[column, date_format] = values
        return self._dates[column, date_format]

    def text(self, column: str) -> NDArray[np.object_]:
        """Column as stripped str, missing is None."""
        return to_text(self._frame[column])

    def recoded(self, spec: ColumnSpec, name: str) -> tuple[NDArray[np.float64], dict[str, int]]:
        """Numbers that `spec.recode` gives to the texts of its column, and how often each unknown text occurs.

        An unknown text is NaN, and a fault when the spec says so.
        """
        assert spec.column is not None
        assert spec.recode is not None
        codes, texts = pd.factorize(self.text(spec.column))
        known = np.array([spec.recode.get(text, np.nan) for text in texts] + [np.nan])
        counts = np.bincount(codes[codes >= 0], minlength=len(texts))
        unknown = {str(text): int(n) for text, n in zip(texts, counts, strict=True) if text not in spec.recode}
        if unknown and spec.unknown == "error":
            allowed = f"recode of {name} knows {_listed(spec.recode)}"
            bad = np.isin(codes, [i for i, text in enumerate(texts) if text in unknown])
            self._report(spec.column, bad, "no known label", allowed)
        return known[codes], unknown

    def _report(self, column: str, bad: NDArray[np.bool_], what: str, remedy: str) -> None:
        n_bad = int(bad.sum())
        if n_bad:
            self._fault(column, f"{n_bad} of {len(bad)} cells hold {what} ({self.place(bad)})", remedy)

    def _fault(self, column: str, found: str, remedy: str = "") -> None:
        self.faults.append(Fault(f"{self._where}: column {column}", found, "", remedy))

    def place(self, rows: NDArray[np.bool_]) -> str:
        """Where the first of the marked rows stand, for a message."""
        unit, first = ("row", 1) if self._first_line is None else ("line", self._first_line)
        numbers = np.flatnonzero(rows)[: LISTED_LINES + 1] + first
        more = ", ..." if len(numbers) > LISTED_LINES else ""
        plural = "s" if len(numbers) > 1 else ""
        return f"{unit}{plural} {', '.join(map(str, numbers[:LISTED_LINES]))}{more}"


def to_numbers(series: pd.Series, dialect: Dialect) -> NDArray[np.float64]:
    """Values as float64, true and false as 1 and 0; NaN where missing or no number."""
    if series.dtype.kind in "bifu":
        return series.to_numpy(np.float64, na_value=np.nan)
    text = series.str.strip()
    if dialect.thousands:
        text = text.str.replace(dialect.thousands, "", regex=False)
    if dialect.decimal != ".":
        text = text.str.replace(dialect.decimal, ".", regex=False)
    values: Any = pd.to_numeric(text, errors="coerce")
    numbers = np.array(values.to_numpy(np.float64, na_value=np.nan))
    unread = np.isnan(numbers)
    if unread.any():
        numbers[unread] = text[unread].str.lower().map(_TRUTH).to_numpy(np.float64, na_value=np.nan)
    return numbers


def to_dates(series: pd.Series, date_format: str | None) -> NDArray[np.datetime64]:
    """Values as datetime64[us], without time zone; NaT where missing or not in the format."""
    if series.dtype.kind == "M":
        return series.to_numpy("datetime64[us]")
    codes, texts = pd.factorize(to_text(series))
    local = pd.Series(texts, dtype="str").str.replace(_TIME_ZONE, r"\1", regex=True)
    parsed = pd.to_datetime(local, format=date_format or "ISO8601", errors="coerce", utc=True)
    known = np.append(parsed.dt.tz_localize(None).to_numpy("datetime64[us]"), np.datetime64("NaT", "us"))
    return known[codes]


def to_text(series: pd.Series) -> NDArray[np.object_]:
    """Values as stripped str; whole floats lose their ``.0``, so that 1318.0 and 1318 are one id. Missing is None."""
    missing = series.isna().to_numpy()
    if series.dtype.kind == "f":
        values = np.array(
            [f"{value:.0f}" if value.is_integer() else repr(value) for value in series.tolist()], dtype=object
        )
    elif series.dtype.kind == "O" or str(series.dtype) == "str":
        values = np.array([str(value).strip() for value in series.tolist()], dtype=object)
    else:
        values = series.astype(str).to_numpy(object)
    values[missing] = None
    return values


def _listed(labels: dict[str, float]) -> str:
    shown = ", ".join(list(labels)[:LISTED_LABELS])
    return shown + (f" and {len(labels) - LISTED_LABELS} more" if len(labels) > LISTED_LABELS else "")
