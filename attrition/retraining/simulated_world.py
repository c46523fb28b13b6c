"""A simulated company as its own systems would show it, quarter by quarter: extracts, leavers, what came true. Pure.

::

    history        labels open    in production, undisturbed     simulated quarters
    0 1 2 3 4 5    6 7 8 9        10 11 12 13                     14 15 16 ...
    first version learns          scored, labels mature           scored, checked, retrained

The first version learns from the history. Its labels are complete a year after its last quarter, so production begins
then; after a year of production the first labels of predictions are there, and the simulated quarters begin. Quarters
of the report count from 1; earlier ones are 0, -1, -2, -3.

A person who is in one quarter's extract and not in the next has left in between, on a day that a hash of the person's
number names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET
from attrition.data.workforce import HORIZON_QUARTERS, SCENARIOS, simulate
from attrition.errors import Fault, UsageError
from attrition.retraining.simulation_report import UNDISTURBED

if TYPE_CHECKING:
    from attrition.data.scenarios import Scenario

HISTORY_QUARTERS = 6
PRODUCTION_QUARTERS = 4
"""Quarters in production before the report begins: the year after which a prediction's label is known."""
_FIRST = HISTORY_QUARTERS - 1 + HORIZON_QUARTERS
_OFFSET = _FIRST + PRODUCTION_QUARTERS

_EARLIEST_DAY, _LATEST_DAY = 10, 80


@dataclass(frozen=True)
class World:
    """One company over time.

    Attributes
    ----------
    extract : DataFrame
        Everything that ever happens, as :func:`attrition.data.workforce.simulate` gives it.
    n_quarters : int
        Quarters of the report.
    scenario : str
    drift_quarter : int
        Quarter of the report in which the scenario starts.
    """

    extract: pd.DataFrame
    n_quarters: int
    scenario: str
    drift_quarter: int

    @property
    def quarters(self) -> range:
        """Quarters in production: those before the report, and those of it."""
        return range(1 - PRODUCTION_QUARTERS, self.n_quarters + 1)

    def day(self, quarter: int) -> date:
        """Last day of a quarter, that of its extract."""
        day: date = self._dates[_OFFSET + quarter - 1].date()
        return day

    def scored_at(self, quarter: int) -> datetime:
        """When a quarter's extract is scored: at noon of its day, UTC."""
        return datetime.combine(self.day(quarter), time(12), UTC)

    def reported_at(self, quarter: int) -> datetime:
        """When personnel reports who has left by the quarter's end: five days later."""
        return datetime.combine(self.day(quarter) + timedelta(days=5), time(8), UTC)

    def checked_at(self, quarter: int) -> datetime:
        """When monitoring and retraining run: the day after that."""
        return self.reported_at(quarter) + timedelta(days=1)

    def history(self) -> pd.DataFrame:
        """Extract with outcomes that the first version learns from."""
        return self.extract[self.extract[SNAPSHOT_DATE] <= self._dates[HISTORY_QUARTERS - 1]].reset_index(drop=True)

    def staff(self, quarter: int) -> pd.DataFrame:
        """Extract of a quarter, without outcomes."""
        return self._rows(quarter).drop(columns=TARGET)

    def truth(self, quarter: int) -> pd.Series:
        """What becomes of the people of :meth:`staff`: 1 when gone four quarters later; int8, by ``employee_id``."""
        rows = self._rows(quarter)
        return pd.Series(rows[TARGET].to_numpy(np.int8), index=rows[EMPLOYEE_ID].to_list())

    def leavers(self, quarter: int) -> pd.DataFrame:
        """Who has left since the extract before and by this one: ``employee_id``, ``left_on`` (datetime64)."""
        before, now = self._rows(quarter - 1), self._rows(quarter)
        gone = before.loc[~before[EMPLOYEE_ID].isin(now[EMPLOYEE_ID]), EMPLOYEE_ID].to_list()
        since = pd.Timestamp(self.day(quarter - 1))
        left_on = pd.Series([since + pd.Timedelta(days=_days(person)) for person in gone], dtype="datetime64[us]")
        return pd.DataFrame({EMPLOYEE_ID: pd.Series(gone, dtype="str"), "left_on": left_on})

    @property
    def _dates(self) -> list[pd.Timestamp]:
        return sorted(self.extract[SNAPSHOT_DATE].unique())

    def _rows(self, quarter: int) -> pd.DataFrame:
        day = self._dates[_OFFSET + quarter - 1]
        return self.extract[self.extract[SNAPSHOT_DATE] == day].reset_index(drop=True)


def make_world(n_quarters: int, *, n_employees: int, seed: int, scenario: str | Scenario, drift_quarter: int) -> World:
    """A company of `n_quarters` simulated quarters, and of the years before them.

    Parameters
    ----------
    scenario
        Name in :data:`~attrition.data.workforce.SCENARIOS`, or ``none``; or a scenario of your own.
    drift_quarter
        Quarter of the report in which it starts; 0 and below is in the year of production before.

    Raises
    ------
    UsageError
        An argument out of its range; names all of them.
    """
    change = _scenario(scenario)
    faults = []
    if n_quarters < 1:
        faults.append(Fault("quarters", f"is {n_quarters}", "at least 1"))
    if n_employees < 500:
        faults.append(Fault("employees", f"is {n_employees}", "at least 500", "fewer have too few leavers to tell"))
    if change is not None and not 1 - PRODUCTION_QUARTERS <= drift_quarter <= n_quarters:
        faults.append(Fault("drift quarter", f"is {drift_quarter}", f"{1 - PRODUCTION_QUARTERS} to {n_quarters}"))
    if faults:
        raise UsageError(faults)
    extract = simulate(
        n_employees,
        n_quarters=_OFFSET + n_quarters,
        seed=seed,
        scenario=None if change is None else replace(change, start_quarter=_OFFSET + drift_quarter - 1),
        first_quarter_end=date(2020, 3, 31),
    )
    return World(extract, n_quarters, UNDISTURBED if change is None else change.name, drift_quarter)


def _scenario(scenario: str | Scenario) -> Scenario | None:
    if not isinstance(scenario, str):
        return scenario
    if scenario != UNDISTURBED and scenario not in SCENARIOS:
        raise UsageError(Fault("scenario", f"{scenario[:40]!r} is unknown", f"{', '.join(SCENARIOS)} or {UNDISTURBED}"))
    return SCENARIOS.get(scenario)


def _days(person: str) -> int:
    """Days from an extract to the leaving; before the next one, whatever the quarter's length."""
    digest = hashlib.sha256(person.encode()).digest()
    return _EARLIEST_DAY + digest[0] % (_LATEST_DAY - _EARLIEST_DAY)
