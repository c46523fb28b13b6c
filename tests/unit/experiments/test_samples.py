"""Distributions: moments and cells of parts together are those of the whole."""

from __future__ import annotations

import numpy as np

from attrition.experiments.samples import LATENCY_EDGES, Distribution


def test_parts_add_up():
    """In any number of pieces, without cancellation at large values."""
    values = np.random.default_rng(1).lognormal(2, 0.5, 5_000) + 1e4
    whole = Distribution.of(values, LATENCY_EDGES)
    parts = Distribution.empty(LATENCY_EDGES)
    for piece in np.array_split(values, 7):
        parts = parts.with_values(piece)
    assert parts.n == whole.n == 5_000
    np.testing.assert_allclose([whole.mean, whole.variance], [values.mean(), values.var(ddof=1)], rtol=1e-9)
    np.testing.assert_allclose([parts.mean, parts.variance], [whole.mean, whole.variance], rtol=1e-9)
    np.testing.assert_array_equal(parts.counts, whole.counts)


def test_cells_are_narrow_and_hold_everything():
    """Half a per cent wide; what lies beyond the last finite end is in the last cell."""
    assert np.max(LATENCY_EDGES[1:-1] / LATENCY_EDGES[:-2]) < 1.00501
    found = Distribution.of([0.0, 0.02, 8.0, 1e9], LATENCY_EDGES)
    assert found.counts.sum() == 4
    assert found.counts[-1] == 1
    assert found.with_values(np.empty(0)) is found
