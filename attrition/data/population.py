"""The people of a simulated workforce: who is hired, how a quarter changes them, and what a snapshot shows of them.

One row per post; a post outlives its holders and stays in its department. Personal traits move as first-order
autoregressive processes whose stationary distribution is standard normal, so that nobody's situation is for ever.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TYPE_CHECKING

import numpy as np

from attrition.data.hazards import Situation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.data.scenarios import Scenario

    Array = NDArray[np.float64]
    Rows = NDArray[np.bool_]
    Columns = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Department:
    """What is usual in one department."""

    label: str
    share: float
    """Share of all posts."""
    pay: float
    """Market salary per year at the age of 38."""
    hours: float
    """Weekly hours."""
    climate: float
    """Points of satisfaction above the company's mean."""
    women: float
    """Share of women among hires."""


# Code is position + 1. The climates are set so that the departments' risks, and what a model makes of them, are alike:
# the fairness gate is to judge a model, not the simulator.
DEPARTMENT_TABLE = (
    Department("sales", share=0.19, pay=51_000, hours=41.5, climate=-0.02, women=0.45),
    Department("engineering", share=0.24, pay=58_000, hours=41.0, climate=-0.08, women=0.30),
    Department("support", share=0.16, pay=46_000, hours=40.0, climate=0.01, women=0.52),
    Department("people", share=0.12, pay=50_000, hours=40.0, climate=0.00, women=0.66),
    Department("finance", share=0.12, pay=55_000, hours=41.0, climate=-0.08, women=0.54),
    Department("operations", share=0.17, pay=47_500, hours=40.5, climate=0.03, women=0.40),
)

HIRE_AGE = 31.0
"""Mean age of ordinary hires, in years."""
RETIREMENT_AGE = 67.0
"""Age in years at which everybody goes."""

_NEVER = 999.0
_MEAN_RATING = 3.25
_NO_ANSWER_SHARE = 0.03

_SHARES = np.array([department.share for department in DEPARTMENT_TABLE])
_PAY = np.array([department.pay for department in DEPARTMENT_TABLE])
_HOURS = np.array([department.hours for department in DEPARTMENT_TABLE])
_CLIMATE = np.array([department.climate for department in DEPARTMENT_TABLE])
_WOMEN = np.array([department.women for department in DEPARTMENT_TABLE])


class Purpose(IntEnum):
    """What a random number is for. Part of its address: append, never reorder."""

    DEPARTMENT = auto()
    GENDER = auto()
    AGE = auto()
    TENURE = auto()
    LOAD = auto()
    MORALE = auto()
    TALENT = auto()
    PREMIUM = auto()
    SATISFACTION = auto()
    HOURS = auto()
    PROJECTS = auto()
    RATING = auto()
    PROMOTION = auto()
    EXIT = auto()
    SURVEY = auto()
    RESPONSE = auto()


@dataclass(frozen=True, slots=True)
class Draws:
    """Random numbers of one quarter for `n_posts` posts, a stream per purpose.

    `key` numbers the quarter, from 0. A stream's first numbers do not depend on how many posts there are.
    """

    seed: int
    key: int
    n_posts: int

    def _stream(self, purpose: Purpose) -> np.random.Generator:
        # the child that SeedSequence(seed).spawn would hand out at this address, without spawning those before it
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.key, int(purpose))))

    def normal(self, purpose: Purpose) -> Array:
        """Standard normal numbers, shape (n_posts,)."""
        return self._stream(purpose).standard_normal(self.n_posts)

    def uniform(self, purpose: Purpose) -> Array:
        """Uniform numbers in [0, 1), shape (n_posts,)."""
        return self._stream(purpose).random(self.n_posts)


@dataclass(slots=True)
class Posts:
    """State of every post and its holder, arrays of shape (n_posts,).

    Attributes
    ----------
    number : int64, of the holder, never given twice; 0 when vacant
    department : int64, code; 0 when the post was never opened
    woman : bool
    age, tenure, since_promotion : years, months, months
    load, morale, talent : personal traits, standard normal
    hours, projects : passing deviations from what the load implies, standard normal
    satisfaction : points, unbounded
    rating : points of the latest appraisal, NaN before the first
    premium : log of salary over the market of department and age
    """

    number: NDArray[np.int64]
    department: NDArray[np.int64]
    woman: Rows
    age: Array
    tenure: Array
    since_promotion: Array
    load: Array
    morale: Array
    talent: Array
    hours: Array
    projects: Array
    satisfaction: Array
    rating: Array
    premium: Array

    @classmethod
    def unopened(cls, n_posts: int) -> Posts:
        """Posts that nobody was hired for yet."""
        floats = (np.zeros(n_posts) for _ in range(11))
        return cls(np.zeros(n_posts, np.int64), np.zeros(n_posts, np.int64), np.zeros(n_posts, np.bool_), *floats)

    def hire(self, rows: Rows, draws: Draws, first_number: int, *, mean_age: float = HIRE_AGE) -> int:
        """Fill the posts under the mask with new people; returns the next free number."""
        n_hired = int(rows.sum())
        if self.department[rows].min(initial=1) == 0:
            codes = 1 + np.searchsorted(np.cumsum(_SHARES)[:-1], draws.uniform(Purpose.DEPARTMENT), side="right")
            self.department[rows] = np.where(self.department == 0, codes, self.department)[rows]
        place = self.department[rows] - 1
        self.number[rows] = np.arange(first_number, first_number + n_hired)
        self.woman[rows] = draws.uniform(Purpose.GENDER)[rows] < _WOMEN[place]
        older = np.exp(0.5 * draws.normal(Purpose.AGE)[rows] - 0.5 * 0.5**2)
        self.age[rows] = np.clip(18.5 + (mean_age - 18.5) * older, 18.0, 58.0)
        self.tenure[rows] = np.floor(3 * draws.uniform(Purpose.TENURE))[rows]
        self.since_promotion[rows] = _NEVER
        self.load[rows] = draws.normal(Purpose.LOAD)[rows]
        self.morale[rows] = draws.normal(Purpose.MORALE)[rows]
        self.talent[rows] = draws.normal(Purpose.TALENT)[rows]
        self.hours[rows] = draws.normal(Purpose.HOURS)[rows]
        self.projects[rows] = draws.normal(Purpose.PROJECTS)[rows]
        mood = 3.35 + _CLIMATE[place] + 0.85 * self.morale[rows]
        self.satisfaction[rows] = mood + 0.25 * draws.normal(Purpose.SATISFACTION)[rows]
        self.rating[rows] = np.nan
        self.premium[rows] = 0.16 * draws.normal(Purpose.PREMIUM)[rows]
        return first_number + n_hired

    def backdate(self, rows: Rows, draws: Draws) -> None:
        """Give the people under the mask a past in the company, up to ten years."""
        months = 3 * np.floor(-47 * np.log1p(-0.92 * draws.uniform(Purpose.PROMOTION)))[rows]
        self.tenure[rows] += months
        self.age[rows] = np.minimum(self.age[rows] + months / 12, RETIREMENT_AGE - 5)
        self.rating[rows] = np.clip(_MEAN_RATING + 0.62 * self.talent[rows], 1.0, 5.0)

    def live_a_quarter(self, draws: Draws) -> None:
        """Three months pass: people age, traits move, appraisals fall due, satisfaction follows."""
        self.age += 0.25
        self.tenure += 3
        self.since_promotion += 3
        self.load = _move(self.load, 0.97, draws.normal(Purpose.LOAD))
        self.morale = _move(self.morale, 0.97, draws.normal(Purpose.MORALE))
        self.talent = _move(self.talent, 0.97, draws.normal(Purpose.TALENT))
        self.hours = _move(self.hours, 0.8, draws.normal(Purpose.HOURS))
        self.projects = _move(self.projects, 0.8, draws.normal(Purpose.PROJECTS))
        self._appraise(draws)
        recently_promoted = self.since_promotion < 12
        target = 3.3 + _CLIMATE[self.department - 1] + 0.85 * self.morale
        target = target + 0.25 * recently_promoted + 0.5 * self.premium - 0.1 * np.maximum(self.load, 0)
        self.satisfaction += 0.4 * (target - self.satisfaction) + 0.15 * draws.normal(Purpose.SATISFACTION)

    def _appraise(self, draws: Draws) -> None:
        """Rating, pay review and perhaps promotion, after three to five months and then every year."""
        due = np.floor(self.tenure / 3) % 4 == 1
        rating = np.clip(_MEAN_RATING + 0.62 * self.talent + 0.38 * draws.normal(Purpose.RATING), 1.0, 5.0)
        self.rating = np.where(due, rating, self.rating)
        raised = 0.88 * self.premium + 0.02 * (rating - _MEAN_RATING) + 0.07 * draws.normal(Purpose.PREMIUM)
        worth = 1.1 * (rating - 3.6) - 1.4 * (self.since_promotion < 30)
        chance = 0.28 * np.exp(np.minimum(worth, 1.0))
        promoted = due & (self.tenure > 10) & (draws.uniform(Purpose.PROMOTION) < chance)
        self.premium = np.where(due, raised, self.premium) + 0.06 * promoted
        self.since_promotion = np.where(promoted, 0.0, self.since_promotion)

    def situation(self, scenario: Scenario, quarter: int) -> Situation:
        """What the holders experience at a quarter's end, with the scenario's share in force."""
        share = scenario.intensity(quarter)
        shifted = np.isin(self.department, scenario.hours_departments) if scenario.hours_departments else True
        own_hours = 5.3 * self.load + 1.2 * self.hours + 0.5 * np.maximum(self.load, 0) ** 2
        spread = 1 + share * (scenario.hours_spread - 1)
        hours = _HOURS[self.department - 1] + share * scenario.hours_shift * shifted + spread * own_hours
        return Situation(
            tenure=self.tenure,
            age=self.age,
            satisfaction=np.clip(self.satisfaction + share * scenario.satisfaction_shift, 1.0, 5.0),
            performance=np.where(np.isnan(self.rating), _MEAN_RATING, self.rating),
            hours=np.clip(hours, 12.0, 80.0),
            projects=np.clip(np.rint(3.9 + 0.9 * self.load + self.projects), 1, 9),
            promoted=(self.since_promotion < 24).astype(np.float64),
            premium=self.premium,
        )

    def snapshot(self, now: Situation, draws: Draws, *, inflation: float) -> Columns:
        """What HR records at a quarter's end, one element per holder.

        Returns
        -------
        dict of arrays: ``number``, the nine features of the default schema, ``gender``. Missing (NaN) are the
        satisfaction of those who did not answer the survey and the rating before the first appraisal.
        """
        survey = np.clip(now.satisfaction + 0.12 * draws.normal(Purpose.SURVEY), 1.0, 5.0)
        answered = draws.uniform(Purpose.RESPONSE) >= _NO_ANSWER_SHARE
        market = _PAY[self.department - 1] * (1.0 + 0.38 * np.tanh((self.age - 38.0) / 13.0))
        columns: Columns = {
            "number": self.number,
            "tenure": self.tenure,
            "age": np.floor(self.age),
            "satisfaction_score": np.where(answered, np.round(survey, 1), np.nan),
            "performance_rating": np.round(self.rating, 1),
            "work_hours": np.round(now.hours, 1),
            "projects_count": now.projects.astype(np.int64),
            "promotion_flag": now.promoted.astype(np.int64),
            "salary": np.round(inflation * market * np.exp(self.premium), -2),
            "department_code": self.department,
            "gender": np.where(self.woman, "female", "male"),
        }
        held = self.number > 0
        return {name: values[held] for name, values in columns.items()}


def _move(state: Array, persistence: float, noise: Array) -> Array:
    """Next value of an autoregressive process whose stationary distribution is standard normal."""
    return persistence * state + math.sqrt(1 - persistence**2) * noise
