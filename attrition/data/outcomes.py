"""Outcomes: who left and when, as it became known, in a Delta table that keeps every statement.

An outcome is a statement about a person at a time: "as observed then, had left on that day" or "was still employed".
Statements come late, twice and corrected. The table keeps each different one; what counts is the latest observed one
of each person, and of two with the same time the one that was recorded last. So importing a file again changes
nothing, a late record does not overwrite newer knowledge, and what was known at an earlier time can be asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attrition.data.delta import Compaction, ProjectTable
from attrition.data.tombstones import Tombstones
from attrition.errors import Fault, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

OUTCOMES = "outcomes"
"""Name of the table, and of its folder under the root."""

LEFT_ON = "left_on"
OBSERVED_AT = "observed_at"

_STATEMENT = ["employee_id", LEFT_ON, OBSERVED_AT]


def outcome_schema() -> pa.Schema:
    """Columns of the table: pseudonym, last day of employment or null, and where and when that was said."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("employee_id", pa.string(), nullable=False),
            pa.field(LEFT_ON, pa.date32()),
            pa.field(OBSERVED_AT, pa.timestamp("us", "UTC"), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("recorded_at", pa.timestamp("us", "UTC"), nullable=False),
        ]
    )


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an import changed.

    Attributes
    ----------
    n_rows : int
        Statements in the import.
    n_new : int
        Of them not in the table before.
    n_persons : int
        Persons about whom something was new.
    """

    n_rows: int
    n_new: int
    n_persons: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)


class OutcomeTable(ProjectTable):
    """Statements about who left: record and read."""

    _NAME = OUTCOMES
    _columns = staticmethod(outcome_schema)
    _STATISTICS = ("recorded_at",)

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        super().__init__(root, storage_options)
        self._tombstones = Tombstones(root, storage_options)

    def record(self, statements: pd.DataFrame, *, now: datetime) -> Recorded:
        """Add the statements that are new, less those about erased persons.

        Parameters
        ----------
        statements : DataFrame
            ``employee_id`` (str, pseudonym), ``left_on`` (datetime64, NaT: still employed), ``observed_at``
            (datetime64 with time zone UTC; NaT: the sender did not say, and `now` stands in), ``source`` (str).
        now
            Time of the recording, with a time zone.

        Notes
        -----
        A statement without ``observed_at`` that says what is known already says nothing new, whenever it comes. One
        that says something else counts as observed now: import files without times in the order they were made.

        Raises
        ------
        PlatformError
            The table cannot be read or written.
        """
        made: list[pd.DataFrame] = []

        def unless_known(table: DeltaTable) -> tuple[pa.Table, Mapping[str, int]] | None:
            # looked at after the table: an erasure in between makes this commit fail, and the next look sees it
            admitted = statements[~self._tombstones.erased().mask(statements["employee_id"].to_list())]
            new = _new_statements(admitted, _frame(table), now)
            made[:] = [new]
            return (_to_arrow(new), {}) if len(new) else None

        self._table.append(unless_known)
        (new,) = made
        return Recorded(len(statements), len(new), int(new["employee_id"].nunique()))

    def history(self) -> pd.DataFrame:
        """Every statement in the order of its recording; empty when there is none.

        ``employee_id``, ``left_on`` (datetime64[us], NaT: still employed), ``observed_at`` (datetime64[us, UTC]),
        ``source``, ``recorded_at`` (datetime64[us, UTC]).

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        try:
            return _frame(self._open())
        except NotFound:
            return _to_pandas(outcome_schema().empty_table())

    def compact(self) -> Compaction:
        """Merge the many small files of the imports into few, and delete those that nobody needs any more.

        Recording and reading go on meanwhile.

        Raises
        ------
        NotFound
            Nothing was ever recorded.
        PlatformError
            Another process compacts the table as well, or the storage does not answer.
        """
        n_before = len(self._open().file_uris())
        if n_before > 1:
            self._table.merge_files()
        return Compaction(n_before, len(self._table.open().file_uris()), self._table.vacuum())

    def current(self, as_of: datetime | None = None) -> pd.DataFrame:
        """What is known: one row per person, by pseudonym, columns as in :meth:`history`.

        Parameters
        ----------
        as_of
            Leaves out what was observed later; None leaves out nothing.
        """
        history = self.history()
        if as_of is not None:
            history = history[history[OBSERVED_AT] <= as_of]
        return latest(history)

    def _open(self) -> DeltaTable:
        try:
            return self._table.open()
        except NotFound as error:
            remedy = "attrition outcomes import FILE, or POST /v1/outcomes"
            raise NotFound(Fault(self.uri, "no outcome was recorded yet", "", remedy)) from error


def latest(history: pd.DataFrame) -> pd.DataFrame:
    """The statement of each person that counts: observed last, and among equal times recorded last."""
    ordered = history.sort_values([OBSERVED_AT, "recorded_at"], kind="stable")
    return ordered.drop_duplicates("employee_id", keep="last").sort_values("employee_id", ignore_index=True)


def complete_until(history: pd.DataFrame, now: datetime) -> datetime | None:
    """Moment up to which outcomes count as complete: the latest at which any was observed, but not later than now.

    Who is not known to have left by then counts as employed. So a statement that is dated in the future completes
    nothing beyond now.

    Parameters
    ----------
    history : DataFrame
        Of :meth:`OutcomeTable.history`.
    now
        With a time zone.

    Returns
    -------
    datetime or None
        None when no outcome was observed by now.
    """
    observed = history[OBSERVED_AT]
    if not (observed <= now).any():
        return None
    latest_observed: datetime = observed.max().to_pydatetime()
    return min(latest_observed, now)


def _new_statements(statements: pd.DataFrame, known: pd.DataFrame, now: datetime) -> pd.DataFrame:
    """Statements that are not in `known`, each once, with `now` where the sender gave no time."""
    import pandas as pd

    # of several undated statements about a person only the last one can be meant
    spoken_over = statements[OBSERVED_AT].isna() & statements.duplicated(["employee_id", OBSERVED_AT], keep="last")
    new = statements[~spoken_over].drop_duplicates(_STATEMENT, keep="last")
    standing = new[["employee_id"]].merge(latest(known), on="employee_id", how="left", validate="many_to_one")
    standing.index = new.index
    is_known = new[LEFT_ON].eq(standing[LEFT_ON]) | (new[LEFT_ON].isna() & standing[LEFT_ON].isna())
    is_known &= standing[OBSERVED_AT].notna()
    undated = new[OBSERVED_AT].isna()
    marked = new[_STATEMENT].merge(known[_STATEMENT].drop_duplicates(), how="left", indicator="origin")
    repeated = (marked["origin"] == "both").to_numpy()
    # said before, overruled by another statement of the same time, and now said again: it counts anew
    overruled = ~is_known & new[OBSERVED_AT].eq(standing[OBSERVED_AT])
    new = new[~((undated & is_known) | (~undated & repeated & ~overruled))]
    moment = pd.Timestamp(now)
    return new.assign(observed_at=new[OBSERVED_AT].fillna(moment), recorded_at=moment)


def _frame(table: DeltaTable) -> pd.DataFrame:
    frame = _to_pandas(table.to_pyarrow_table())
    return frame.sort_values("recorded_at", kind="stable", ignore_index=True)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    return frame.astype({LEFT_ON: "datetime64[us]", "employee_id": "str", "source": "str"})


def _to_arrow(frame: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    def moments(name: str) -> pa.Array:
        return pa.array(frame[name].dt.tz_convert(None).to_numpy("datetime64[us]")).cast(pa.timestamp("us", "UTC"))

    columns = {
        "employee_id": frame["employee_id"].to_list(),
        LEFT_ON: pa.array(frame[LEFT_ON].to_numpy("datetime64[us]")).cast(pa.date32()),
        OBSERVED_AT: moments(OBSERVED_AT),
        "source": frame["source"].to_list(),
        "recorded_at": moments("recorded_at"),
    }
    return pa.table(columns, schema=outcome_schema())
