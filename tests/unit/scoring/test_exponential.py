"""The exponential of the scorers: accurate, and the same for one number and many."""

from __future__ import annotations

from math import exp, inf, nan

import numpy as np
import pytest

from attrition.scoring.exponential import exponential

EDGES = [0.0, -0.0, -5e-324, -1e-300, -1e-9, -0.5, -1.0, -36.7, -707.0, -708.0, -745.0, -1e9, -inf]


@pytest.fixture
def arguments():
    """Of all sizes, with the edges."""
    rng = np.random.default_rng(5)
    return np.concatenate([EDGES, -rng.uniform(0, 710, 5_000), -(10.0 ** rng.uniform(-20, 2.8, 5_000))])


def test_one_and_many_agree_to_the_last_bit(arguments):
    """Also with NaN, and whatever the place in the array."""
    one, many = exponential()
    arguments = np.append(arguments, nan)
    expected = [one(x) for x in arguments.tolist()]
    np.testing.assert_array_equal(many(arguments), expected)
    np.testing.assert_array_equal(many(arguments[::3]), expected[::3])
    np.testing.assert_array_equal([many(arguments[i : i + 1])[0] for i in range(50)], expected[:50])


def test_it_is_the_exponential(arguments):
    """Within one unit in the last place of the C library's; 0 where digits would be lost."""
    _, many = exponential()
    for x, found in zip(arguments.tolist(), many(arguments).tolist(), strict=True):
        if x > -707.0:
            assert abs(found - exp(x)) <= np.spacing(exp(x))
        else:
            assert found <= 1e-307


def test_it_never_decreases():
    """A step of the table is no step of the function."""
    _, many = exponential()
    x = np.sort(-np.random.default_rng(1).uniform(0, 3, 100_000))
    assert (np.diff(many(x)) >= 0).all()
