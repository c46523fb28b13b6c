"""What is learned from when retraining: the latest imported snapshot and what matured in production since.

A prediction becomes a record when its horizon has passed and its outcome is known; until then it stays out, also when
the person is known to have left: those who leave are known early and those who stay late, so an early record is always
a leaver (:mod:`attrition.data.maturity`). A shadow's rows repeat requests, rows without a person or without features
can teach nothing, and of a person only the first prediction of a period counts. Where the snapshot has a record of the
same person and period it is taken, as it is the extract's own account. Which records came in and which did not is
counted.

Age counts in one of two ways. A *window* drops records older than so many days against the newest. A *half-life* keeps
a record of age a with the probability 2^(-a / half-life): in expectation the same as exponential weights, but every
family, fold, calibration and threshold sees it. Chance is a hash of person and date, so the same data give the same
records.

Sensitive attributes are taken from the snapshot. Those of persons who came later are missing, so fairness by them is
judged on the others; import a newer snapshot to have them.

Outcomes are those of a world in which somebody may have acted on the predictions: a person who was flagged, talked to
and stayed is a record of a stayer.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attrition.data.employees import EmployeeTable
from attrition.data.predictions import FEATURE
from attrition.data.retention import first_to_go
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET
from attrition.errors import Fault, InsufficientData
from attrition.monitoring.buckets import bucket_names, first_per_person
from attrition.monitoring.performance import labelled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from attrition.data.tables import SnapshotRef
    from attrition.retraining.policy import DataRules

MADE_HERE = "retraining: "
"""What the source of a snapshot begins with that was made for a retraining; the next one does not start from it."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the records come from, and what was left out.

    Attributes
    ----------
    n_history, n_production : int
        Records of the snapshot and of production that are learned from or judged on.
    n_immature : int
        Predictions whose horizon has not passed, or that came after the person had left.
    n_repeated : int
        Of a person in the same period, or of a person and period that the snapshot has.
    n_shadow, n_without_person, n_emptied : int
        Shadow's predictions, those that name nobody, those whose features retention removed.
    n_aged : int
        Records dropped for their age.
    n_unknown_persons : int
        Persons with an outcome who were never predicted.
    """

    n_history: int
    n_production: int
    n_immature: int
    n_repeated: int
    n_shadow: int
    n_without_person: int
    n_emptied: int
    n_aged: int
    n_unknown_persons: int

    def to_dict(self) -> dict[str, int]:
        """JSON-ready document."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [f"{self.n_history:,} records of the snapshot and {self.n_production:,} that matured in production"]
        told = (
            (self.n_immature, "predictions are not mature"),
            (self.n_repeated, "repeat a person's record"),
            (self.n_shadow, "are a shadow's"),
            (self.n_without_person, "name no person"),
            (self.n_emptied, "have lost their features to retention"),
            (self.n_aged, "records are left out for their age"),
            (self.n_unknown_persons, "persons with an outcome were never predicted"),
        )
        return "; ".join([*parts, *(f"{count:,} {text}" for count, text in told if count)])


def imported(snapshots: Sequence[SnapshotRef]) -> int:
    """Version of the latest snapshot that was not made here.

    Raises
    ------
    InsufficientData
        There is none.
    """
    for snapshot in reversed(snapshots):
        if not snapshot.source.startswith(MADE_HERE):
            return snapshot.version
    raise InsufficientData(Fault("retraining", "there is no snapshot to start from", "", "attrition data import FILE"))


def assemble(
    history: EmployeeTable, predictions: pd.DataFrame, outcomes: pd.DataFrame, rules: DataRules, *, as_of: datetime
) -> tuple[EmployeeTable, Counts]:
    """Records to learn from, and where they come from.

    Parameters
    ----------
    history
        The imported snapshot, with outcomes, ids and dates.
    predictions : DataFrame
        Rows of the prediction log with the history's features, see :mod:`attrition.data.predictions`.
    outcomes : DataFrame
        ``employee_id`` and ``left_on``, one row per person, as known at `as_of`.
    as_of
        Moment up to which outcomes are complete, with a time zone.

    Raises
    ------
    InsufficientData
        The history lacks ids, dates or outcomes: without them production records cannot be joined, or not be split
        from the past; names all that is missing.
    """
    _check(history)
    names = list(history.schema.names)
    shadow = predictions["shadow_of"].notna()
    nobody = predictions["employee_id"].isna()
    emptied = predictions[[FEATURE + name for name in first_to_go(names)]].isna().all(axis=1)
    rows = predictions[~(shadow | nobody | emptied)].reset_index(drop=True)
    known = labelled(rows, outcomes, history.schema.horizon_days, as_of)
    mature = known[known["is_mature"]].reset_index(drop=True)
    first = _once(mature, rules)
    known_already = _keys(history.frame[EMPLOYEE_ID], history.dates, rules)
    periods = _keys(first["employee_id"], _days(first), rules)
    new = first[~periods.isin(set(known_already)).to_numpy()].reset_index(drop=True)
    table = _joined(history, new, names)
    kept = _by_age(table, rules)
    n_history = int(kept[: len(history)].sum())
    counts = Counts(
        n_history=n_history,
        n_production=int(kept.sum()) - n_history,
        n_immature=len(known) - len(mature),
        n_repeated=len(mature) - len(new),
        n_shadow=int(shadow.sum()),
        n_without_person=int((nobody & ~shadow).sum()),
        n_emptied=int((emptied & ~nobody & ~shadow).sum()),
        n_aged=len(kept) - int(kept.sum()),
        n_unknown_persons=int((~outcomes["employee_id"].isin(predictions["employee_id"])).sum()),
    )
    return table.take(kept), counts


def _check(history: EmployeeTable) -> None:
    lacking = (
        (not history.has_target, "has no outcomes", "import an extract with the column attrition"),
        (history.surrogate_ids, "has no employee ids, so outcomes cannot be joined", "map employee_id"),
        (
            bool(history.dates.isna().any()),
            "has rows without a date, so past and present are not told apart",
            "map snapshot_date; a constant will do for an extract of one day",
        ),
    )
    faults = [Fault(history.source or "snapshot", found, "", remedy) for holds, found, remedy in lacking if holds]
    if faults:
        raise InsufficientData(faults)


def _once(rows: pd.DataFrame, rules: DataRules) -> pd.DataFrame:
    """The first prediction of each person in each period."""
    if rows.empty:
        return rows
    periods = rows.groupby(bucket_names(rows["time"], rules.one_per), sort=True)
    return pd.concat([first_per_person(members) for _, members in periods], ignore_index=True)


def _days(rows: pd.DataFrame) -> pd.Series:
    days: pd.Series = rows["time"].dt.tz_convert(None).dt.normalize()
    return days


def _keys(persons: pd.Series, days: pd.Series, rules: DataRules) -> pd.Series:
    """Person and period as one text."""
    if not len(days):
        return pd.Series([], dtype="str")
    keys: pd.Series = persons.str.cat(bucket_names(days.dt.tz_localize("UTC"), rules.one_per), sep="\x00")
    return keys


def _joined(history: EmployeeTable, new: pd.DataFrame, names: list[str]) -> EmployeeTable:
    columns: dict[str, Any] = {EMPLOYEE_ID: new["employee_id"], SNAPSHOT_DATE: _days(new)}
    columns |= {name: new[FEATURE + name] for name in names}
    columns[TARGET] = new["label"].astype("int8")
    # the log holds no sensitive attributes, and a person's last known ones stay true. Newcomers have none: as a group
    # of their own they would be compared for being new, so theirs are missing, which is shown and not compared
    by_date = history.frame.sort_values(SNAPSHOT_DATE, kind="stable")
    latest = by_date.drop_duplicates(EMPLOYEE_ID, keep="last").set_index(EMPLOYEE_ID)
    for name in history.sensitive:
        columns[name] = latest[name].reindex(new["employee_id"]).fillna("").to_numpy()
    frame = pd.concat([history.frame, pd.DataFrame(columns)], ignore_index=True) if len(new) else history.frame
    return EmployeeTable.of(
        frame, history.schema, sensitive=history.sensitive, source=f"{MADE_HERE}{history.source} and production"
    )


def _by_age(table: EmployeeTable, rules: DataRules) -> NDArray[np.bool_]:
    """Mask of the records that are not too old."""
    days = (table.dates.max() - table.dates).dt.days.to_numpy(np.float64)
    kept = np.ones(len(table), dtype=bool)
    if rules.max_age_days is not None:
        kept &= days <= rules.max_age_days
    if rules.half_life_days is not None:
        kept &= _chance(table) < np.exp2(-days / rules.half_life_days)
    return kept


def _chance(table: EmployeeTable) -> NDArray[np.float64]:
    """A number in [0, 1) for each record, of person and date alone."""
    texts = table.frame[EMPLOYEE_ID].str.cat(table.dates.dt.strftime("%Y-%m-%d"), sep="\x00")
    digests = (hashlib.sha256(f"age\x00{text}".encode()).digest()[:8] for text in texts)
    return np.array([int.from_bytes(digest, "big") / 2**64 for digest in digests])
