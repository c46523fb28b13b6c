"""Why simulated people leave: the yearly rate of leaving as a non-linear function of a person's situation.

The rate is a constant for life's events plus ``exp(sum of causes)``, so causes multiply. Their shapes follow what is
known of turnover: weak satisfaction weighs most, and here more under overload [1]_; poor performers go and so do
unrewarded top performers, whom pay and promotion hold [2]_. Leaving peaks around the end of the second year; too little
work drives people away as too much does. The sizes are set for a useful exercise, not estimated from people.

References
----------
.. [1] Griffeth, Hom & Gaertner (2000), J. Management 26(3), 463-488.
.. [2] Trevor, Gerhart & Boudreau (1997), J. Applied Psychology 82(1), 44-61.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision to leave depends on, arrays of shape (n_posts,), float64.

    Gender is not among them, nor is the department: neither causes anything by itself.

    Attributes
    ----------
    tenure, age : months, years
    satisfaction, performance : points, 1 to 5
    hours : per week
    projects : count
    promoted : 1.0 when promoted in the last 24 months, else 0.0
    premium : log of salary over the market of the department and age
    """

    tenure: Array
    age: Array
    satisfaction: Array
    performance: Array
    hours: Array
    projects: Array
    promoted: Array
    premium: Array


_LOG_RATE = -3.05
"""Log yearly rate at the knees of all causes."""

_LIFE_EVENTS = 0.006
"""Yearly rate of leaving for reasons that no feature shows; it bounds what any model can find."""


def yearly_rate(now: Situation, *, remote: float = 0.0) -> Array:
    """Rate of leaving per year, shape (n,), > 0; above 1 the person is expected to go within the year.

    Parameters
    ----------
    now
        Situation of each person.
    remote
        Share in [0, 1] of the remote-work relation between hours, tenure and leaving; 0 is the office.
    """
    log_rate = (
        _LOG_RATE
        + _satisfaction(now)
        + (1 - remote) * _hours(now)
        + remote * _remote_hours(now)
        + _tenure(now)
        + _career(now)
        + _pay(now)
        + _age(now)
        + _projects(now)
    )
    return _LIFE_EVENTS + np.exp(log_rate)


def quarterly_probability(rate: Array) -> Array:
    """Probability in [0, 1] of leaving within a quarter at a constant yearly rate."""
    return -np.expm1(-rate / 4)


def _over(x: Array, knee: float, scale: float) -> Array:
    """How far `x` lies above the knee, in units of `scale`: near 0 below it, linear above, smooth between."""
    return np.logaddexp(0.0, 3 * (x - knee) / scale) / 3


def _under(x: Array, knee: float, scale: float) -> Array:
    """How far `x` lies below the knee, in units of `scale`."""
    return _over(-x, -knee, scale)


def _peak(x: Array, centre: float, width: float) -> Array:
    """1 at the centre, falling to both sides."""
    return np.exp(-0.5 * ((x - centre) / width) ** 2)


def _satisfaction(now: Situation) -> Array:
    return 4.5 * _under(now.satisfaction, 3.2, 1.0) + 2.5 * (3.2 - now.satisfaction)


def _hours(now: Situation) -> Array:
    overload = _over(now.hours, 47.0, 5.0)
    idle = _under(now.hours, 35.0, 4.0)
    unhappy = _under(now.satisfaction, 3.4, 1.0)
    return 1.8 * overload + 2.0 * idle + 3.0 * overload * unhappy


def _remote_hours(now: Situation) -> Array:
    # flexible hours hold most people, and long ones are chosen; who works little has inwardly left; newcomers never
    # met the team
    inwardly_gone = _under(now.hours, 37.0, 4.0)
    newcomer = _peak(now.tenure, 3.0, 8.0)
    return -1.5 - 0.5 * _over(now.hours, 48.0, 5.0) + 3.5 * inwardly_gone + 3.0 * newcomer


def _tenure(now: Situation) -> Array:
    return 3.2 * _peak(now.tenure, 23.0, 9.0) - 1.0 * np.log1p(now.tenure / 12)


def _career(now: Situation) -> Array:
    top = _over(now.performance, 3.9, 0.5)
    passed_over = (1 - now.promoted) * np.clip((now.tenure - 30) / 12, 0, 1)
    return -2.4 * now.promoted + 3.4 * _under(now.performance, 2.4, 0.5) + 2.4 * top * passed_over


def _pay(now: Situation) -> Array:
    underpaid = _under(now.premium, -0.05, 0.15)
    top = _over(now.performance, 3.9, 0.5)
    return -2.5 * now.premium + 2.2 * underpaid + 1.5 * underpaid * top


def _age(now: Situation) -> Array:
    return 1.0 * _under(now.age, 28.0, 5.0) + 3.0 * _over(now.age, 62.0, 2.0)


def _projects(now: Situation) -> Array:
    too_many = np.clip(now.projects - 5, 0, 3)
    too_few = np.clip(3 - now.projects, 0, 2)
    return 1.7 * too_many + 1.7 * too_few
