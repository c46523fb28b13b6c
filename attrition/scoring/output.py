"""From the raw score of a model to the probability of leaving."""

from __future__ import annotations

from bisect import bisect_right
from math import exp
from typing import TYPE_CHECKING

import numpy as np

from attrition.scoring.format import Identity, Logistic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attrition.scoring.format import Output

    Scalar = Callable[[float], float]
    Vector = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def output_functions(output: Output) -> tuple[Scalar, Vector]:
    """The same function for one raw score and for an array of shape (n,): raw score to probability in [0, 1].

    The two differ by rounding of the exponential only, at most a few units in the last place.
    """
    if isinstance(output, Identity):
        return float, lambda raw: raw
    if isinstance(output, Logistic):
        return _logistic(output.slope, output.intercept)
    return _isotonic(output.raw, output.probability)


def _logistic(slope: float, intercept: float) -> tuple[Scalar, Vector]:
    def one(raw: float) -> float:
        logit = slope * raw + intercept
        if logit >= 0.0:
            return 1.0 / (1.0 + exp(-logit))
        # exp of a negative number cannot overflow, and keeps the small probability's relative precision
        odds = exp(logit)
        return odds / (1.0 + odds)

    def many(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        logit = slope * raw + intercept
        odds = np.exp(-np.abs(logit))
        return np.where(logit >= 0.0, 1.0, odds) / (1.0 + odds)

    return one, many


def _isotonic(raw_points: tuple[float, ...], probabilities: tuple[float, ...]) -> tuple[Scalar, Vector]:
    xs, ys = np.array(raw_points), np.array(probabilities)
    # numpy.interp's own arithmetic, so that one record and a batch agree to the last bit
    slopes = [
        (y1 - y0) / (x1 - x0)
        for x0, x1, y0, y1 in zip(raw_points, raw_points[1:], probabilities, probabilities[1:], strict=False)
    ]
    last = len(raw_points) - 1

    def one(raw: float) -> float:
        place = bisect_right(raw_points, raw) - 1
        if place < 0:
            return probabilities[0]
        if place >= last:
            return probabilities[last]
        return slopes[place] * (raw - raw_points[place]) + probabilities[place]

    def many(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.interp(raw, xs, ys))

    return one, many
