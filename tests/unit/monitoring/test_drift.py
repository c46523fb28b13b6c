"""Verdicts of features and windows."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import chi2_contingency, ks_2samp

from attrition.evaluation.sketches import CategoryReference, Reference
from attrition.monitoring.drift import DriftPolicy, FeatureDrift, Level, compare, overall

RNG = np.random.default_rng(11)
NORMAL = RNG.normal(50, 10, 2_000)


def judged(reference, window, policy=None):
    """One feature alone."""
    (drift,) = compare({"x": reference}, {"x": reference.sketch(window)}, policy)
    return drift


def test_the_same_distribution_is_stable():
    """Another draw of it, with every figure at hand."""
    drift = judged(Reference.of(NORMAL), RNG.normal(50, 10, 1_500))
    assert drift.level is Level.STABLE
    assert drift.psi < drift.psi_critical
    assert drift.p_value == drift.p_adjusted > 0.05
    assert (drift.n_reference, drift.n_window) == (2_000, 1_500)
    assert drift.p_missing is None
    assert drift.mean_shift_percent == pytest.approx(0, abs=2)
    assert sum(drift.shares_window) == pytest.approx(1)


@pytest.mark.parametrize(("shift", "level"), [(0.4, Level.MODERATE), (1.0, Level.MAJOR)])
def test_a_large_and_significant_difference_is_drift(shift, level):
    """The bands of the stability index say how much."""
    drift = judged(Reference.of(NORMAL), RNG.normal(50 + 10 * shift, 10, 1_500))
    assert drift.level is level
    assert drift.mean_shift_percent == pytest.approx(20 * shift, abs=3)
    assert drift.wasserstein == pytest.approx(10 * shift, abs=1.5)
    assert drift.p_value == pytest.approx(ks_2samp(NORMAL, RNG.normal(50 + 10 * shift, 10, 1_500)).pvalue, abs=1e-6)


def test_significant_alone_is_no_drift():
    """With many rows every difference is significant."""
    drift = judged(Reference.of(RNG.normal(0, 1, 40_000)), RNG.normal(0.08, 1, 40_000))
    assert drift.p_adjusted < 1e-6
    assert drift.level is Level.STABLE


def test_large_alone_is_no_drift():
    """With few rows a large difference is chance: here the index of most windows is beyond the band."""
    reference = Reference.of(RNG.normal(0, 1, 120))
    found = [judged(reference, RNG.normal(0, 1, 100)) for _ in range(40)]
    assert sum(drift.psi > 0.1 for drift in found) > 20
    assert sum(drift.level.drifted for drift in found) <= 4


def test_too_few_rows_are_neither():
    """On either side, and none at all."""
    for reference, window in ((NORMAL, NORMAL[:99]), (NORMAL[:99], NORMAL), (NORMAL, []), ([], NORMAL), ([], [])):
        drift = judged(Reference.of(reference), window)
        assert drift.level is Level.INSUFFICIENT
        assert drift.p_adjusted is None
        _no_nan(drift)
    assert overall((drift,)) is Level.INSUFFICIENT
    assert overall(()) is Level.INSUFFICIENT


def test_a_share_of_missing_values_that_changed_is_drift():
    """Of a column that lost some, and of one that lost all, where there is nothing left to rank."""
    reference = Reference.of(NORMAL)
    some, none = NORMAL.copy(), np.full(500, np.nan)
    some[::6] = np.nan
    for window in (some, none):
        drift = judged(reference, window)
        assert drift.level is Level.MAJOR
        assert drift.p_missing < 1e-6
        _no_nan(drift)
    assert drift.p_value is None
    assert drift.missing_window == 1.0
    few = NORMAL.copy()
    few[:30] = np.nan
    assert judged(reference, few).level is Level.STABLE


def test_missing_values_count_in_the_test_of_a_numeric_feature():
    """The p-value is that of values and missing share together, by Bonferroni."""
    some = NORMAL.copy()
    some[::12] = np.nan
    drift = judged(Reference.of(NORMAL), some)
    n_missing = int(np.isnan(some).sum())
    table = [[len(NORMAL), 0], [len(some) - n_missing, n_missing]]
    assert drift.p_missing == pytest.approx(chi2_contingency(table, correction=False).pvalue)
    assert drift.p_adjusted == pytest.approx(2 * min(drift.p_missing, drift.p_value))


def test_a_constant_that_stays_and_one_that_moves():
    """No division by a spread of zero."""
    reference = Reference.of(np.full(500, 3.0))
    assert judged(reference, np.full(300, 3.0)).level is Level.STABLE
    for value in (2.0, 4.0):
        moved = judged(reference, np.full(300, value))
        assert moved.mean_shift_percent == pytest.approx(100 * (value - 3) / 3)
        assert moved.statistic == 1.0
        _no_nan(moved)
    zero = judged(Reference.of(np.zeros(500)), np.ones(300))
    assert zero.mean_shift_percent is None
    _no_nan(zero)


def test_codes_that_were_never_seen():
    """Are counted, and make drift when they are many."""
    reference = CategoryReference.of(RNG.integers(0, 4, 1_000).astype(float))
    window = RNG.integers(0, 4, 1_000).astype(float)
    window[:300] = 99.0
    drift = judged(reference, window)
    assert drift.n_unseen == 300
    assert drift.level is Level.MAJOR
    assert drift.labels[-2:] == ("unseen", "missing")
    window[2:300] = 1.0
    assert judged(reference, window).n_unseen == 2


def test_a_column_without_any_value_on_either_side():
    """Has not changed."""
    for kind in (Reference, CategoryReference):
        drift = judged(kind.of(np.full(400, np.nan)), np.full(300, np.nan))
        assert drift.level is Level.STABLE
        assert drift.p_value is None
        _no_nan(drift)


def test_p_values_are_adjusted_over_all_features():
    """A feature among many needs a smaller p-value than one alone."""
    references = {f"x{i}": Reference.of(RNG.normal(0, 1, 500)) for i in range(20)}
    sketches = {name: each.sketch(RNG.normal(0, 1, 300)) for name, each in references.items()}
    sketches["x0"] = references["x0"].sketch(RNG.normal(1, 1, 300))
    found = compare(references, sketches)
    assert [drift.feature for drift in found] == list(references)
    assert found[0].p_adjusted == pytest.approx(min(1, 20 * found[0].p_value))
    assert overall(found) is Level.MAJOR
    assert sum(drift.level.drifted for drift in found) == 1


def test_documents_survive_json_without_nan():
    """Every field, also of a window without rows."""
    for window in (NORMAL + 5, np.full(200, np.inf), []):
        drift = judged(Reference.of(NORMAL), window)
        again = FeatureDrift.from_dict(json.loads(json.dumps(drift.to_dict(), allow_nan=False)))
        assert again == drift
    assert {field.name for field in fields(drift)} == set(drift.to_dict())


def test_a_policy_out_of_order_is_refused():
    """With both values in the message."""
    with pytest.raises(ValidationError, match=r"moderate 0\.5 must lie below major 0\.25"):
        DriftPolicy(moderate=0.5)
    with pytest.raises(ValidationError):
        DriftPolicy(alpha=0.9)


def test_sketches_of_another_kind_are_a_bug():
    """A category's sketch against a number's reference."""
    with pytest.raises(TypeError, match="x"):
        compare({"x": Reference.of(NORMAL)}, {"x": CategoryReference.of([1.0]).sketch([1.0])})


def _no_nan(drift):
    numbers = [value for value in drift.to_dict().values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in numbers)
