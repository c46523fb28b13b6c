"""The exponential function, the same to the last bit for one number, for an array, and on every machine.

``math.exp`` calls the C library and ``numpy.exp`` has code of its own for each kind of processor: the two differ in the
last place, and so would the answer to one record and the same record in a batch. Here both take the same steps, each a
correctly rounded IEEE 754 operation.

Notation: x = m · ln 2 / 256 + r with a whole m and abs(r) <= ln 2 / 512, hence
exp(x) = 2^(m div 256) · 2^((m mod 256) / 256) · exp(r): a power of two, a table, and a polynomial of degree 4.

References
----------
Tang (1989), Table-driven implementation of the exponential function in IEEE floating-point arithmetic, ACM TOMS 15(2).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

LOWEST = -708.0
"""Smaller arguments count as this one, whose result is 0: a little above it, results would begin to lose digits."""

_STEPS = 256
PER_STEP = 369.3299304675746  # 256 / ln 2
STEP_HIGH = float.fromhex("0x1.62e42fef00000p-9")  # ln 2 / 256 in 33 bits, so that m times it is exact
STEP_LOW = float.fromhex("0x1.473de6af278edp-42")  # the rest of ln 2 / 256
ROUND = 1.5 * 2.0**52  # adding it leaves no room for digits behind the point
_CUBIC, _QUARTIC = 1.0 / 6.0, 1.0 / 24.0


@lru_cache(maxsize=1)
def exponential_tables() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """2^(j/256) for j < 256, correctly rounded; and 2^-k for k < 1022, then 0."""
    from decimal import Decimal, localcontext

    with localcontext(prec=40):
        fractions = tuple(float(Decimal(2) ** (Decimal(j) / _STEPS)) for j in range(_STEPS))
    return fractions, (*(2.0**-k for k in range(1022)), 0.0)


def exponential() -> tuple[Callable[[float], float], Callable[[NDArray[np.float64]], NDArray[np.float64]]]:
    """exp(x) for one x <= 0, and for an array of them; accurate to about one unit in the last place.

    Examples
    --------
    >>> one, many = exponential()
    >>> one(-1.0)
    0.36787944117144233
    >>> float(many(np.array([-1.0]))[0]) == one(-1.0)
    True
    """
    fractions, powers = exponential_tables()
    fraction_array, power_array = np.array(fractions), np.array(powers)

    def one(x: float) -> float:
        if x <= LOWEST:
            x = LOWEST
        elif x != x:  # noqa: PLR0124 - NaN is unequal to itself
            return x
        m = (x * PER_STEP + ROUND) - ROUND
        r = (x - m * STEP_HIGH) - m * STEP_LOW
        step = int(m)
        fraction = fractions[step & 255]
        return (fraction + fraction * (r + r * r * (0.5 + r * (_CUBIC + r * _QUARTIC)))) * powers[-(step >> 8)]

    def many(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.maximum(x, LOWEST)
        m = x * PER_STEP
        m += ROUND
        m -= ROUND
        r = x - m * STEP_HIGH
        r -= m * STEP_LOW
        with np.errstate(invalid="ignore"):  # NaN has no step, and stays NaN whatever the tables say
            step = m.astype(np.intp)
        polynomial = r * _QUARTIC
        polynomial += _CUBIC
        polynomial *= r
        polynomial += 0.5
        polynomial *= r * r
        polynomial += r
        fraction = fraction_array.take(step & 255)
        polynomial *= fraction
        polynomial += fraction
        polynomial *= power_array.take(-(step >> 8), mode="clip")
        return polynomial

    return one, many
