"""Named changes that a simulated workforce can undergo: what happens, from when on, and which features it moves."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Scenario:
    """One change of a simulated workforce; every effect is neutral unless the scenario sets it.

    Quarters are counted from 0, the first snapshot. Effects grow linearly over `ramp_quarters` and then stay; use
    ``dataclasses.replace`` to start one at another quarter.

    Attributes
    ----------
    name, description
        Key in :data:`SCENARIOS`, and what happens in one sentence.
    start_quarter
        First quarter whose snapshot shows the change, >= 0. Features before it equal those of a run without scenario;
        outcomes before it look ahead into the change.
    affected
        Features whose distribution moves by itself (values, or the share of missing values), in schema order.
    followed_by
        Features that may move in later quarters, because newcomers differ from those who left. All others stay quiet.
    ramp_quarters
        Quarters until the full effect, >= 1; 1 means at once.
    changes_relation
        True when the probability of leaving given the features changes too (concept drift).
    satisfaction_shift
        Points added to everybody's satisfaction.
    hours_shift
        Weekly hours added in `hours_departments`.
    hours_departments
        Codes of the departments whose hours shift; empty means all.
    hours_spread
        Factor > 0 on how far a person's hours lie from what is usual in the department.
    remote
        Share in [0, 1] of the remote relation between hours, tenure and leaving (see :mod:`attrition.data.hazards`).
    market_growth
        Log of the factor on all salaries and on the market that they are compared with.
    intake
        Additional hires per quarter from `start_quarter` on, as shares of the initial headcount, >= 0.
    intake_age
        Mean age in years of the additional hires, above 19.

    Raises
    ------
    UsageError
        An effect out of its range; names all of them.
    """

    name: str
    description: str
    start_quarter: int
    affected: tuple[str, ...]
    followed_by: tuple[str, ...] = ()
    ramp_quarters: int = 1
    changes_relation: bool = False
    satisfaction_shift: float = 0.0
    hours_shift: float = 0.0
    hours_departments: tuple[int, ...] = ()
    hours_spread: float = 1.0
    remote: float = 0.0
    market_growth: float = 0.0
    intake: tuple[float, ...] = ()
    intake_age: float = 24.0

    def __post_init__(self) -> None:
        checks = (
            ("start_quarter", self.start_quarter >= 0, "at least 0"),
            ("ramp_quarters", self.ramp_quarters >= 1, "at least 1"),
            ("hours_spread", self.hours_spread > 0, "above 0"),
            ("remote", 0 <= self.remote <= 1, "in [0, 1]"),
            ("intake", all(share >= 0 for share in self.intake), "at least 0 each"),
            ("intake_age", self.intake_age > 19, "above 19"),
        )
        faults = [
            Fault(f"scenario {self.name}", f"{field} is {getattr(self, field)}", f"it must be {allowed}")
            for field, good, allowed in checks
            if not good
        ]
        if faults:
            raise UsageError(faults)

    def intensity(self, quarter: int) -> float:
        """Share of the full effect in force at a snapshot, in [0, 1]; 0 before `start_quarter`.

        Examples
        --------
        >>> [round(SCENARIOS["salary_inflation"].intensity(quarter), 2) for quarter in (3, 4, 5, 6, 7)]
        [0.0, 0.33, 0.67, 1.0, 1.0]
        """
        return min(1.0, max(0.0, (quarter - self.start_quarter + 1) / self.ramp_quarters))


BUSINESS_AS_USUAL = Scenario("business_as_usual", "Nothing changes.", start_quarter=0, affected=())
"""The neutral scenario: a stationary workforce."""

_ALL = (
    Scenario(
        "restructuring",
        "Departments are merged: morale falls, hours rise in sales, support and operations, more people leave.",
        start_quarter=4,
        affected=("satisfaction_score", "work_hours"),
        followed_by=("tenure", "performance_rating"),
        satisfaction_shift=-0.4,
        hours_shift=4.0,
        hours_departments=(1, 3, 6),
    ),
    Scenario(
        "remote_work",
        "Work from home: hours fall and spread; long hours cost fewer people, short hours and a distant start more.",
        start_quarter=4,
        affected=("work_hours",),
        followed_by=("tenure", "performance_rating"),
        changes_relation=True,
        hours_shift=-2.5,
        hours_spread=1.3,
        remote=1.0,
    ),
    Scenario(
        "flexible_hours",
        "People set their own hours, which rise and spread: long ones are chosen and hold them, short ones do not.",
        start_quarter=4,
        affected=("work_hours",),
        followed_by=("tenure", "performance_rating"),
        # who learned that long hours cost people is wrong now, for good
        changes_relation=True,
        hours_shift=6.0,
        hours_spread=1.6,
        remote=1.0,
    ),
    Scenario(
        "salary_inflation",
        "Salaries rise by a fifth within three quarters, and the labour market with them: nobody is better off.",
        start_quarter=4,
        affected=("salary",),
        ramp_quarters=3,
        # an equal salary now means less, to a model that has learned amounts
        changes_relation=True,
        market_growth=0.18,
    ),
    Scenario(
        "hiring_wave",
        "Headcount grows by a third within two quarters: young people with short tenure and, at first, no appraisal.",
        start_quarter=4,
        affected=("tenure", "age", "performance_rating", "salary"),
        followed_by=("promotion_flag",),
        intake=(0.25, 0.1),
        intake_age=24.0,
    ),
)

SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _ALL})
"""The shipped scenarios by name."""
