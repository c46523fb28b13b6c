"""Splits that do not flatter: no person on both sides and, where there are dates, the future held out.

A random split of rows puts a person's 2013 into training and the same person's 2014 into the holdout, and learns from
2015 what it then foretells for 2014. So a temporal split takes persons *and* time: training rows are those of training
persons before the cutoff, holdout rows those of the other persons from the cutoff on. Both are needed. With time alone
a model may recognise persons whose stable features it has seen; with persons alone it knows the later climate. The rows
that lie on neither side are the price.

An outcome is known only when its horizon is over. A training row that is younger than the horizon at the cutoff carries
news from the time of the holdout, so an embargo of the horizon keeps such rows out. Short series cannot afford it in
full; it is then shortened, and :func:`attrition.data.quality.check_split` says how many rows know too much.

The holdout persons are drawn from all persons, those long gone included. To draw them only from the persons who are
still there would keep the early leavers in training at full strength and raise its share of leavers above the real one.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from attrition.errors import Fault, InsufficientData, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable

LATEST_DATES_SHARE = 0.2
"""Share of the snapshot dates, the latest ones, that a temporal split holds out when no cutoff is given."""
MINIMUM_HOLDOUT_LEAVERS = 200
"""Leavers that a temporal holdout should have: a DeLong interval of an AUC near 0.75 is then about 0.07 wide."""
WIDEST_HOLDOUT_SHARE = 0.5
"""Largest share of persons that is held out for the sake of `MINIMUM_HOLDOUT_LEAVERS`."""
MINIMUM_TRAINING_OUTCOMES = 100
"""Leavers, and stayers, that an embargo must leave to train on, or it is shortened: ten events for each of ten
variables (Peduzzi et al. (1996), J. Clin. Epidemiol. 49(12))."""


@dataclass(frozen=True, slots=True)
class SplitSpec:
    """A split as a rule: applied to the same table it gives the same rows, on every machine.

    Attributes
    ----------
    kind : "temporal" or "random"
    holdout_share : float in (0, 1)
        Share of persons.
    seed : int
        Chooses the persons.
    cutoff : date or None
        First day of the holdout; None for kind "random".
    embargo_days : int, >= 0
        Days before the cutoff that training leaves out. With the horizon of the target, training knows no outcome that
        became known after the cutoff. In a split that was made it is the embargo that was kept, not the one asked for.
    """

    kind: Literal["temporal", "random"]
    holdout_share: float
    seed: int
    cutoff: date | None = None
    embargo_days: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.holdout_share < 1:
            raise UsageError(
                Fault("holdout_share", f"is {self.holdout_share}", "a share of persons between 0 and 1 is needed")
            )
        if (self.kind == "temporal") != (self.cutoff is not None):
            raise UsageError(Fault("cutoff", f"is {self.cutoff}", "a temporal split has one, a random split has none"))
        if self.embargo_days < 0:
            raise UsageError(Fault("embargo_days", f"is {self.embargo_days}", "0 or more days are allowed"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "kind": self.kind,
            "holdout_share": self.holdout_share,
            "seed": self.seed,
            "cutoff": self.cutoff.isoformat() if self.cutoff else None,
            "embargo_days": self.embargo_days,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SplitSpec:
        """Inverse of :meth:`to_dict`."""
        cutoff = document.get("cutoff")
        return cls(**{**document, "cutoff": date.fromisoformat(cutoff) if cutoff else None})


@dataclass(frozen=True, slots=True)
class Split:
    """Rows of the two sides, ascending positions in the table that was split."""

    spec: SplitSpec
    train: NDArray[np.intp]
    holdout: NDArray[np.intp]


def split_holdout(
    table: EmployeeTable,
    *,
    holdout_share: float = 0.25,
    seed: int = 42,
    cutoff: date | None = None,
    embargo_days: int = 0,
) -> Split:
    """Split of `table` into training and holdout: by time and person when it has several dates, else by person.

    Parameters
    ----------
    holdout_share
        Share of persons to hold out. A temporal split widens it, up to `WIDEST_HOLDOUT_SHARE`, while fewer than
        `MINIMUM_HOLDOUT_LEAVERS` leavers are expected from the cutoff on; the spec says what was used.
    seed
        Chooses the persons.
    cutoff
        First day of the holdout. None: the latest fifth of the dates is held out, one date at least. The outcomes of
        these rows must be known: the extract's owner says so by giving them.
    embargo_days
        Embargo wanted, see :class:`SplitSpec`: callers give the schema's ``horizon_days``. It is shortened, date by
        date, while fewer than `MINIMUM_TRAINING_OUTCOMES` leavers or stayers are left to train on; the spec says what
        was kept.

    Raises
    ------
    UsageError
        A share outside (0, 1), or a cutoff for a table without dates.
    InsufficientData
        A side is empty or lacks leavers or stayers.
    """
    dates = np.unique(table.dates.dropna().to_numpy("datetime64[D]"))
    if cutoff is not None and not len(dates):
        raise UsageError(Fault("cutoff", f"is {cutoff}, but {table.source or 'the table'} has no snapshot dates"))
    if cutoff is None and len(dates) > 1:
        n_latest = max(1, round(LATEST_DATES_SHARE * len(dates)))
        cutoff = dates[-n_latest].item()
    if cutoff is None:
        return apply_split(table, SplitSpec("random", holdout_share, seed))
    if table.has_target:
        n_leavers = int(table.target[(table.dates >= pd.Timestamp(cutoff)).to_numpy()].sum())
        needed = math.ceil(100 * MINIMUM_HOLDOUT_LEAVERS / max(n_leavers, 1)) / 100
        holdout_share = max(holdout_share, min(needed, WIDEST_HOLDOUT_SHARE))
    wanted = SplitSpec("temporal", holdout_share, seed, cutoff, embargo_days)
    return apply_split(table, replace(wanted, embargo_days=_affordable_embargo(table, wanted)))


def apply_split(table: EmployeeTable, spec: SplitSpec) -> Split:
    """Split of `table` by the rule `spec`.

    Raises
    ------
    InsufficientData
        A side is empty or lacks leavers or stayers.
    """
    held_out = _held_out_persons(table.persons, spec)
    train, holdout = ~held_out, held_out
    if spec.cutoff is not None:
        last = pd.Timestamp(spec.cutoff - timedelta(days=spec.embargo_days))
        train = train & ((table.dates < pd.Timestamp(spec.cutoff)) & (table.dates <= last)).to_numpy()
        holdout = holdout & (table.dates >= pd.Timestamp(spec.cutoff)).to_numpy()
    split = Split(spec, np.flatnonzero(train), np.flatnonzero(holdout))
    faults = [
        Fault(
            f"{spec.kind} split, {side}",
            found,
            "both sides need leavers and stayers",
            "give more rows or another cutoff",
        )
        for side, rows in (("training", split.train), ("holdout", split.holdout))
        if (found := _lacking(table, rows))
    ]
    if faults:
        raise InsufficientData(faults)
    return split


def stratified_folds(table: EmployeeTable, n_folds: int, seed: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Folds (train, validation) with nearly equal shares of leavers and every person's rows in one validation part.

    Parameters
    ----------
    n_folds : int, >= 2
    seed
        Shuffles persons; the same table in the same order gives the same folds.

    Raises
    ------
    InsufficientData
        Fewer leavers or stayers than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    persons, n_persons = pd.factorize(table.persons)[0], len(set(table.persons))
    n_rare = min(
        len(np.unique(persons[table.target == 1])),
        len(np.unique(persons[table.target == 0])),
    )
    if n_rare < n_folds:
        raise InsufficientData(
            Fault("folds", f"{n_rare} persons have the rarer outcome", f"{n_folds} folds need as many")
        )
    # one row per person: grouping changes nothing, and the plain splitter is a hundred times faster
    if n_persons == len(table):
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(persons, table.target)
    else:
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed).split(persons, table.target, persons)
    return [(np.asarray(train, np.intp), np.asarray(validation, np.intp)) for train, validation in folds]


def _held_out_persons(persons: NDArray[np.object_], spec: SplitSpec) -> NDArray[np.bool_]:
    """Mask of the rows whose person is held out: a hash decides, so that other rows never move a person."""
    codes, unique = pd.factorize(persons)
    salt = f"holdout\x00{spec.seed}\x00".encode()
    limit = int(spec.holdout_share * 2**64)
    chosen = [
        int.from_bytes(hashlib.sha256(salt + str(person).encode()).digest()[:8], "big") < limit for person in unique
    ]
    return np.array(chosen, dtype=bool)[codes]


def _affordable_embargo(table: EmployeeTable, wanted: SplitSpec) -> int:
    """Longest embargo, at most the one of `wanted`, that leaves enough to train on; 0 when none does."""
    assert wanted.cutoff is not None
    dates = table.dates.to_numpy("datetime64[D]")
    ages = np.where(np.isnat(dates), -1, (np.datetime64(wanted.cutoff, "D") - dates).astype(np.int64))
    ages[_held_out_persons(table.persons, wanted)] = -1
    shorter = np.unique(ages[(ages > 0) & (ages < wanted.embargo_days)])[::-1]
    for embargo_days in (wanted.embargo_days, *map(int, shorter)):
        rows = ages >= max(embargo_days, 1)
        n_leavers = int(table.target[rows].sum()) if table.has_target else int(rows.sum())
        n_stayers = int(rows.sum()) - n_leavers if table.has_target else n_leavers
        if min(n_leavers, n_stayers) >= MINIMUM_TRAINING_OUTCOMES:
            return embargo_days
    return 0


def _lacking(table: EmployeeTable, rows: NDArray[np.intp]) -> str:
    if not len(rows):
        return "has no rows"
    if table.has_target:
        n_leavers = int(table.target[rows].sum())
        if n_leavers in {0, len(rows)}:
            return f"has {n_leavers} leavers among {len(rows)} rows"
    return ""
