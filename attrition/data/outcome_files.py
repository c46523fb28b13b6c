"""Files of outcomes: read, checked and pseudonymised, or refused as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from attrition.data.cells import Cells, to_text
from attrition.data.mapping import Dialect, suggestion
from attrition.data.outcomes import LEFT_ON, OBSERVED_AT
from attrition.data.readers import read_file
from attrition.data.schema import EMPLOYEE_ID
from attrition.errors import ExtractError, Fault

if TYPE_CHECKING:
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from attrition.data.readers import RawFile
    from attrition.governance.identity import Pseudonymiser


def read_outcomes(path: Path | str, pseudonym: Pseudonymiser, *, now: datetime) -> pd.DataFrame:
    """Statements of a CSV, CSV.gz or Parquet file, for :meth:`~attrition.data.outcomes.OutcomeTable.record`.

    Columns: ``employee_id`` (the HR system's number or a pseudonym), ``left_on`` (date, empty: still employed) and,
    if the file has it, ``observed_at`` (date or time; without a zone it is UTC). Other columns are not read.

    Parameters
    ----------
    path
        Of the file.
    pseudonym
        Replaces the ids.
    now
        With a time zone; nothing can have been observed later.

    Raises
    ------
    ExtractError
        The file does not yield statements; all faults at once.
    """
    path = Path(path)
    file = read_file(path, Dialect(), (EMPLOYEE_ID, LEFT_ON, OBSERVED_AT))
    _require_columns(file, path.name)
    cells = Cells(file.frame, Dialect(), where=path.name, first_line=file.first_line)
    faults: list[Fault] = []

    def refuse(column: str, rows: NDArray[np.bool_], found: str, remedy: str) -> None:
        if rows.any():
            where = f"{path.name}: column {column}"
            faults.append(Fault(where, f"{int(rows.sum())} of {len(rows)} {found} ({cells.place(rows)})", "", remedy))

    ids = to_text(file.frame[EMPLOYEE_ID])
    refuse(EMPLOYEE_ID, pd.isna(ids), "employee ids are missing", "an outcome needs its person")
    left_on = cells.dates(LEFT_ON, None, remedy="write 2024-03-31")
    observed_at = _moments(file.frame)
    if OBSERVED_AT in file.frame:
        unread = observed_at.isna().to_numpy() & file.frame[OBSERVED_AT].notna().to_numpy()
        refuse(OBSERVED_AT, unread, "cells hold no date or time", "write 2024-03-31 or 2024-03-31T12:00:00Z")
        refuse(OBSERVED_AT, (observed_at > now).to_numpy(), "times lie in the future", "give when it was observed")
    if cells.faults or faults:
        raise ExtractError([*cells.faults, *faults])
    return pd.DataFrame(
        {
            EMPLOYEE_ID: pd.Series([pseudonym(text) for text in ids], dtype="str"),
            LEFT_ON: pd.Series(left_on).dt.normalize().astype("datetime64[us]"),
            OBSERVED_AT: observed_at,
            "source": path.name,
        }
    )


def _require_columns(file: RawFile, where: str) -> None:
    lacking = [name for name in (EMPLOYEE_ID, LEFT_ON) if name not in file.frame]
    if lacking:
        raise ExtractError(
            Fault(
                where,
                f"has no column {name}",
                "employee_id and left_on are needed, observed_at is read when it is there",
                suggestion(name, map(str, file.frame.columns)) or "rename the column",
            )
            for name in lacking
        )


def _moments(frame: pd.DataFrame) -> pd.Series:
    """Times of observation, datetime64[us, UTC]; NaT where the file gives none or none that can be read."""
    if OBSERVED_AT not in frame:
        return pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    cells = frame[OBSERVED_AT]
    if cells.dtype.kind == "M":
        moments: pd.Series = cells.dt.tz_localize("UTC")
    else:
        text = pd.Series(to_text(cells), index=frame.index, dtype="str")
        moments = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
    return moments.astype("datetime64[us, UTC]")
