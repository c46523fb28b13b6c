"""Sketches of any partition of the data give SciPy's statistics of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance

from attrition.evaluation.sketches import (
    CategoryReference,
    Reference,
    dump_references,
    load_references,
    merge,
)
from attrition.monitoring.statistics import (
    MIN_EXPECTED,
    adjusted,
    category_bins,
    chi_square,
    kolmogorov_smirnov,
    mean_shift_percent,
    numeric_bins,
    stability_index,
    wasserstein,
)

FEW = settings(max_examples=60, deadline=None)

tied = st.integers(-3, 3).map(float)
spread = st.floats(-1e6, 1e6, allow_nan=False, width=32)
missing = st.sampled_from([np.nan, np.inf, -np.inf])
column = st.lists(st.one_of(tied, spread, missing), max_size=60)
codes = st.lists(st.one_of(st.integers(0, 6).map(float), st.just(np.nan)), max_size=200)


def partitioned(data, values):
    """The values in some consecutive parts, empty ones among them, in any order."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    parts = [values[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    return data.draw(st.permutations(parts))


def sketched(data, reference, values):
    """Sketch of the values, made in parts."""
    parts = [{"x": reference.sketch(part)} for part in partitioned(data, values)]
    return merge(parts)["x"]


def finite(values):
    """Values that are not missing."""
    array = np.asarray(values, float)
    return array[np.isfinite(array)]


@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful")
@FEW
@given(st.data(), column, column)
def test_the_ks_test_is_scipys(data, reference_values, window_values):
    """Statistic and p-value, with ties, constants, one row, empty parts and missing values."""
    reference = Reference.of(reference_values)
    sketch = sketched(data, reference, window_values)
    found = kolmogorov_smirnov(reference, sketch)
    a, b = finite(reference_values), finite(window_values)
    if len(a) == 0 or len(b) == 0:
        assert found is None
        return
    expected = ks_2samp(a, b)
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10_001, 30_000), st.booleans())
def test_the_ks_test_is_scipys_for_many_rows_too(seed, n, ties):
    """Beyond the exact method, where the p-value is asymptotic."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(0.01, 1.0, size=n // 2)
    if ties:
        a, b = a.round(1), b.round(1)
    reference = Reference.of(a)
    parts = [{"x": reference.sketch(part)} for part in np.array_split(b, 7)]
    found, expected = kolmogorov_smirnov(reference, merge(parts)["x"]), ks_2samp(a, b, method="asymp")
    assert found.statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-12)


@FEW
@given(st.data(), column, column)
def test_the_wasserstein_distance_is_within_its_bound(data, reference_values, window_values):
    """Exact where the distribution functions do not cross inside a cell."""
    reference = Reference.of(reference_values)
    found = wasserstein(reference, sketched(data, reference, window_values))
    a, b = finite(reference_values), finite(window_values)
    if len(a) == 0 or len(b) == 0:
        assert found is None
        return
    scale = max(np.abs(a).max(), np.abs(b).max(), 1.0)
    assert abs(found.value - wasserstein_distance(a, b)) <= found.error + 1e-9 * scale


@FEW
@given(st.data(), column, column)
def test_mean_and_counts_are_those_of_the_raw_values(data, reference_values, window_values):
    """Whatever the parts were."""
    reference = Reference.of(reference_values, low=-2.0, high=2.0)
    sketch = sketched(data, reference, window_values)
    b = finite(window_values)
    assert (sketch.n, sketch.n_missing) == (len(b), len(window_values) - len(b))
    assert sketch.n_implausible == ((b < -2) | (b > 2)).sum()
    if len(b):
        assert sketch.mean(reference) == pytest.approx(b.mean(), abs=1e-9 * max(np.abs(b).max(), 1.0))
        assert (sketch.minimum, sketch.maximum) == (b.min(), b.max())


@FEW
@given(st.data(), column, column)
def test_merging_knows_no_order(data, reference_values, window_values):
    """Counts are the same to the last one, whatever the parts and their order; so is every statistic of counts."""
    reference = Reference.of(reference_values)
    one = reference.sketch(window_values)
    parts = sketched(data, reference, window_values)
    for name in ("below", "upto", "n", "n_missing", "n_implausible", "minimum", "maximum"):
        np.testing.assert_array_equal(getattr(one, name), getattr(parts, name))
    assert stability_index(numeric_bins(reference, one)) == stability_index(numeric_bins(reference, parts))


@FEW
@given(column)
def test_a_distribution_does_not_drift_from_itself(values):
    """All distances are zero, and bins hold every row once."""
    reference = Reference.of(values)
    assert reference.sketch(values) == reference.own()
    bins = numeric_bins(reference, reference.own())
    assert bins.reference.sum() == bins.window.sum() == len(values)
    if values:
        assert stability_index(bins) == pytest.approx(0.0, abs=1e-12)
    if reference.n:
        assert kolmogorov_smirnov(reference, reference.own()).statistic == 0.0
        assert wasserstein(reference, reference.own()).value == pytest.approx(0.0, abs=1e-9)
        shift = mean_shift_percent(reference, reference.own())
        assert shift is None or shift == pytest.approx(0.0, abs=1e-6)


@FEW
@given(st.data(), codes, codes)
def test_the_chi_square_test_is_scipys_on_the_pooled_table(data, reference_values, window_values):
    """Codes by union, rare cells pooled; None where no table remains."""
    reference = CategoryReference.of(reference_values)
    sketch = sketched(data, reference, window_values)
    bins = category_bins(reference, sketch)
    assert bins.reference.sum() == len(reference_values)
    assert bins.window.sum() == len(window_values)
    found = chi_square(bins)
    table = np.array([bins.reference, bins.window], float)
    table = table[:, table.sum(axis=0) > 0]
    if found is None:
        return
    assert 0 <= found.p_value <= 1
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    if (expected >= MIN_EXPECTED).all() and table.shape[1] > 1:
        scipys = chi2_contingency(table, correction=False)
        assert found.statistic == pytest.approx(scipys.statistic, rel=1e-12, abs=1e-12)
        assert found.p_value == pytest.approx(scipys.pvalue, rel=1e-9, abs=1e-12)


@FEW
@given(codes, codes)
def test_the_stability_index_is_symmetric_and_not_negative(first, second):
    """As the formula is, for equal bins."""
    assume(first and second)
    a, b = CategoryReference.of([*first, *second]), None
    bins = category_bins(a, a.sketch(second))
    b = type(bins)(bins.labels, bins.window, bins.reference)
    index = stability_index(bins)
    assert index >= 0
    assert index == pytest.approx(stability_index(b))


@FEW
@given(st.lists(st.floats(0, 1), max_size=20))
def test_adjusted_p_values_are_monotone_and_not_smaller(p_values):
    """As Benjamini and Hochberg's are."""
    found = adjusted(p_values)
    assert all(q >= p - 1e-12 for p, q in zip(p_values, found, strict=True))
    assert all(0 <= q <= 1 for q in found)
    order = np.argsort(p_values)
    assert (np.diff(np.asarray(found)[order]) >= -1e-12).all()


@FEW
@given(column, codes)
def test_references_survive_their_file(numeric, category):
    """With their ranges, and without pickles."""
    references = {"salary": Reference.of(numeric, low=0.0), "department_code": CategoryReference.of(category)}
    again = load_references(dump_references(references))
    assert set(again) == set(references)
    np.testing.assert_array_equal(again["salary"].values, references["salary"].values)
    np.testing.assert_array_equal(again["salary"].counts, references["salary"].counts)
    assert (again["salary"].low, again["salary"].high) == (0.0, np.inf)
    np.testing.assert_array_equal(again["department_code"].codes, references["department_code"].codes)
    assert again["department_code"].n_missing == references["department_code"].n_missing
