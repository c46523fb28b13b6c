"""From raw score to probability."""

from __future__ import annotations

import numpy as np
import pytest

from attrition.scoring.format import Identity, Isotonic, Logistic
from attrition.scoring.output import output_functions

OUTPUTS = [
    Identity(),
    Logistic(1.0, 0.0),
    Logistic(-2.5, 0.3),
    Isotonic((0.1, 0.4, 0.8), (0.0, 0.5, 1.0)),
    Isotonic((0.5,), (0.25,)),
]


@pytest.mark.parametrize("output", OUTPUTS)
def test_one_and_many_agree(output):
    """To the last bit, at the points and between and beyond them."""
    raw = np.concatenate([np.linspace(-1, 2, 401), [0.1, 0.4, 0.8], np.nextafter([0.1, 0.4, 0.8, 0.5], 0.0)])
    one, many = output_functions(output)
    np.testing.assert_array_equal([one(value) for value in raw.tolist()], many(raw))


@pytest.mark.parametrize("raw", [-1e6, -800.0, 800.0, 1e6])
def test_a_saturated_logit_neither_overflows_nor_leaves_the_interval(raw):
    """Warnings are errors here."""
    one, many = output_functions(Logistic(1.0, 0.0))
    assert one(raw) == many(np.array([raw]))[0] == (1.0 if raw > 0 else 0.0)


def test_a_small_probability_keeps_its_relative_precision():
    """1 - 1/(1 + tiny) would be zero."""
    one, many = output_functions(Logistic(1.0, 0.0))
    assert one(-100.0) == pytest.approx(np.exp(-100.0), rel=1e-14)
    assert many(np.array([-100.0]))[0] == pytest.approx(np.exp(-100.0), rel=1e-14)


def test_isotonic_is_constant_beyond_its_points():
    """As scikit-learn clips."""
    one, _ = output_functions(OUTPUTS[3])
    assert (one(-5.0), one(0.1), one(0.8), one(9.0)) == (0.0, 0.0, 1.0, 1.0)
    assert one(0.25) == pytest.approx(0.25)
