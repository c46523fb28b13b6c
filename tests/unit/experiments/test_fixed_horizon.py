"""The classical tests are SciPy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency, mannwhitneyu

from attrition.experiments.fixed_horizon import chi_square, mann_whitney
from attrition.experiments.samples import SCORE_EDGES, Distribution


@pytest.mark.parametrize("counts", [(30, 400, 12, 380), (1, 50, 9, 700), (5, 5, 2, 9)])
def test_chi_square(counts):
    """Pearson's, without correction."""
    k0, n0, k1, n1 = counts
    expected = chi2_contingency([[k0, n0 - k0], [k1, n1 - k1]], correction=False).pvalue
    found = chi_square("error_rate", *counts)
    assert found.p_value == pytest.approx(expected, rel=1e-10)
    assert found.effect == pytest.approx(k1 / n1 - k0 / n0)


@pytest.mark.parametrize("counts", [(0, 0, 3, 5), (0, 10, 0, 20), (10, 10, 20, 20)])
def test_what_cannot_be_tested_is_undefined(counts):
    """No units, or nothing but one kind."""
    found = chi_square("error_rate", *counts)
    assert math.isnan(found.p_value)
    assert found.to_dict()["p_value"] is None


def test_mann_whitney():
    """Of the values as their cells have them, ties included."""
    rng = np.random.default_rng(1)
    one, other = np.round(rng.beta(1, 5, 700), 2), np.round(rng.beta(1, 4, 300), 2)
    expected = mannwhitneyu(other, one, use_continuity=False, method="asymptotic")
    found = mann_whitney("score", Distribution.of(one, SCORE_EDGES), Distribution.of(other, SCORE_EDGES))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.effect == pytest.approx(expected.statistic / (700 * 300))


def test_equal_values_and_none():
    """Nothing varies, or nothing is there."""
    same = Distribution.of(np.full(10, 0.5), SCORE_EDGES)
    assert math.isnan(mann_whitney("score", same, same).p_value)
    assert math.isnan(mann_whitney("score", same, Distribution.empty(SCORE_EDGES)).p_value)
