"""How long one record takes to score, call by call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from attrition.errors import Fault, InsufficientData
from attrition.evaluation.intervals import Estimate, quantile_estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

WARM_UP_CALLS = 100
"""Calls before the clock starts: caches fill and lazy initialisation happens."""


def measure_latency(
    score_one: Callable[[Sequence[float]], float],
    rows: NDArray[np.float64],
    *,
    n_calls: int = 2_000,
    quantile: float = 0.99,
    confidence: float = 0.95,
) -> Estimate:
    """A quantile (p99 unless told otherwise) of the time that one record takes, in milliseconds.

    Only the scoring function is timed: no HTTP, no parsing. Calls run one after another in this process, so a busy
    machine shows in the upper quantiles; the interval covers the noise of sampling, not that of the machine.

    Parameters
    ----------
    score_one
        Takes one record's values in schema order, NaN for missing.
    rows : ndarray of shape (n_rows, n_features), float64
        Records, taken in turn.
    n_calls : int
        Timed calls, at least 368 for p99 at a confidence of 0.95.
    quantile : float
        In (0, 1); 0.5 is the median.
    confidence : float
        Of the order-statistic interval.

    Raises
    ------
    InsufficientData
        `rows` is empty.
    UsageError
        Too few calls for the quantile.
    """
    return quantile_estimate(call_times(score_one, rows, n_calls=n_calls), quantile, confidence)


def call_times(
    score_one: Callable[[Sequence[float]], float], rows: NDArray[np.float64], *, n_calls: int
) -> NDArray[np.float64]:
    """Wall time of each call in milliseconds, shape (n_calls,); see :func:`measure_latency`."""
    records = rows.tolist()
    if not records:
        raise InsufficientData(Fault("rows", "no records to score", "at least one"))
    for call in range(min(WARM_UP_CALLS, n_calls)):
        score_one(records[call % len(records)])
    clock, elapsed = time.perf_counter_ns, np.empty(n_calls, dtype=np.int64)
    for call in range(n_calls):
        record = records[call % len(records)]
        started = clock()
        score_one(record)
        elapsed[call] = clock() - started
    return elapsed / 1e6
