"""Timing of single records."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from attrition.errors import InsufficientData
from attrition.evaluation.gates import measure_latency


def test_the_quantile_of_a_known_delay_is_found():
    """A scorer that sleeps 1 ms has a p99 of at least 1 ms, inside its interval."""

    def slow(values):
        time.sleep(0.001)
        return 0.0

    found = measure_latency(slow, np.zeros((3, 2)), n_calls=400)
    assert found.n == 400
    assert 1 <= found.low <= found.value <= found.high


def test_the_median_lies_below_p99():
    """Another quantile of the same scorer can be asked for."""
    rows = np.zeros((5, 9))
    p50 = measure_latency(math.fsum, rows, quantile=0.5)
    assert 0 < p50.value <= measure_latency(math.fsum, rows).high


def test_records_are_scored_in_turn_as_plain_numbers():
    """The scorer gets what a replica gives it: a sequence of floats, NaN for missing."""
    seen = []
    measure_latency(lambda values: seen.append(values) or 0.0, np.array([[1.0, np.nan], [2.0, 3.0]]), n_calls=400)
    assert len(seen) == 500
    assert seen[1] == [2.0, 3.0]
    assert type(seen[0][0]) is float
    assert math.isnan(seen[0][1])


def test_no_records_are_refused():
    """There is nothing to time."""
    with pytest.raises(InsufficientData):
        measure_latency(math.fsum, np.empty((0, 9)))
