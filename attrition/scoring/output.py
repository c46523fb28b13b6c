"""From the raw score of a model to the probability of leaving."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import numpy as np

from attrition.scoring.exponential import exponential
from attrition.scoring.format import Identity, Logistic
from attrition.scoring.ranks import Thresholds

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from attrition.scoring.format import Output

    Scalar = Callable[[float], float]
    Vector = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def output_functions(output: Output) -> tuple[Scalar, Vector]:
    """The same function for one raw score and for an array of shape (n,): raw score to probability in [0, 1].

    Both take the same steps in the same order: equal to the last bit.
    """
    if isinstance(output, Identity):
        return float, lambda raw: raw
    if isinstance(output, Logistic):
        return _logistic(output.slope, output.intercept)
    return _isotonic(output.raw, output.probability)


def _logistic(slope: float, intercept: float) -> tuple[Scalar, Vector]:
    exp, exp_of = exponential()

    def one(raw: float) -> float:
        logit = slope * raw + intercept
        if logit >= 0.0:
            return 1.0 / (1.0 + exp(-logit))
        # the odds keep the small probability's relative precision
        odds = exp(logit)
        return odds / (1.0 + odds)

    def many(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        logit = slope * raw
        logit += intercept
        odds = exp_of(-np.abs(logit))
        probability = np.where(logit >= 0.0, 1.0, odds)
        odds += 1.0
        probability /= odds
        return probability

    return one, many


def _isotonic(raw_points: tuple[float, ...], probabilities: tuple[float, ...]) -> tuple[Scalar, Vector]:
    xs, ys = np.array(raw_points), np.array(probabilities)
    last = len(raw_points) - 1
    slopes = np.diff(ys) / np.diff(xs)
    steps: list[float] = slopes.tolist()
    # a point counts as reached from its own value on: #(points <= raw) is #(the numbers next below them < raw)
    reached = Thresholds(np.nextafter(xs, -np.inf))

    def one(raw: float) -> float:
        place = bisect_right(raw_points, raw) - 1
        if place < 0:
            return probabilities[0]
        if place >= last:
            return probabilities[last]
        return steps[place] * (raw - raw_points[place]) + probabilities[place]

    def many(raw: NDArray[np.float64]) -> NDArray[np.float64]:
        place = reached.ranks(raw) - 1
        inside = np.clip(place, 0, max(last - 1, 0))
        probability = ys.take(inside)
        if last:
            probability += slopes.take(inside) * (raw - xs.take(inside))
        probability[place < 0] = probabilities[0]
        probability[place >= last] = probabilities[last]
        return probability

    return one, many
