"""Ranks among thresholds and places of codes, against the plain way to find them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.scoring.ranks import Codes, Thresholds

LARGEST = float(np.finfo(np.float64).max)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def _around(points):
    edges = np.array([0.0, -1.0, LARGEST, -LARGEST, np.inf, -np.inf])
    with np.errstate(over="ignore"):
        return np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf), edges])


@settings(max_examples=200, deadline=None)
@given(st.lists(FINITE, max_size=40, unique_by=lambda x: x + 0.0))
def test_ranks_are_those_of_a_search(points):
    """For thresholds of any size and spacing, and values on, beside and far from them."""
    points = np.array(sorted(points))
    values = _around(points)
    np.testing.assert_array_equal(Thresholds(points).ranks(values), np.searchsorted(points, values))


@pytest.mark.parametrize("shape", ["even", "skewed", "with outliers"])
def test_many_thresholds(shape):
    """As those of a forest; outliers do not crowd the others into few buckets."""
    rng = np.random.default_rng(2)
    points = {
        "even": np.arange(5_000.0),
        "skewed": np.unique(rng.lognormal(11, 1.0, 30_000)),
        "with outliers": np.array([-LARGEST, *np.arange(500.0), 1e300, LARGEST]),
    }[shape]
    values = np.concatenate([_around(points), rng.choice(points, 1_000) + rng.normal(size=1_000)])
    thresholds = Thresholds(points)
    np.testing.assert_array_equal(thresholds.ranks(values), np.searchsorted(points, values))
    assert thresholds.widest <= 32


def test_nan_has_rank_zero():
    """Callers give missing values a place of their own."""
    assert Thresholds(np.array([-1.0, 1.0])).ranks(np.array([np.nan])).tolist() == [0]


@pytest.mark.parametrize("codes", [(), (1.0, 2.0, 5.0), (-3.0, 0.0, 12.0), (0.5, 2.0), (7.0, 1e9), (1e300, -1e300)])
def test_places_of_codes(codes):
    """Whole codes close together, and any others; unlisted and missing values follow."""
    n = len(codes)
    others = [value for value in (-1e308, -4.0, 0.25, 3.0, 4096.5, 1e12, np.inf, -np.inf) if value not in codes]
    values = np.array([*codes, *others, np.nan])
    expected = [*range(n), *[n] * len(others), n + 1]
    assert Codes(codes).places(values).tolist() == expected
