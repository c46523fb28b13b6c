"""Properties of the data package, on tables that nobody chose."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from attrition.data.cells import Cells
from attrition.data.derive import Expression
from attrition.data.duplicates import pasted_blocks
from attrition.data.employees import EmployeeTable
from attrition.data.extracts import surrogate_ids
from attrition.data.leakage import rank_auc
from attrition.data.mapping import ColumnSpec, Dialect
from attrition.data.quality import check_quality, check_split, repair
from attrition.data.schema import FeatureSchema
from attrition.data.splits import SplitSpec, apply_split, split_holdout
from attrition.errors import InsufficientData
from attrition.governance.privacy import PseudonymKey

SCHEMA = FeatureSchema.default().without(*FeatureSchema.default().names[2:])
KEY = PseudonymKey(bytes(32))
finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def tables(draw, surrogate=False):
    """Few persons, few dates, few values: full of repetitions."""
    n = draw(st.integers(2, 60))
    small = st.integers(0, 3)
    frame = pd.DataFrame(
        {
            "snapshot_date": [
                date(2020, 1, 1) + timedelta(days=90 * k) for k in draw(st.lists(small, min_size=n, max_size=n))
            ],
            "tenure": draw(arrays(np.float64, n, elements=st.sampled_from([0.0, -0.0, 1.5, np.nan]))),
            "age": draw(arrays(np.float64, n, elements=st.sampled_from([30.0, 40.0]))),
            "attrition": draw(arrays(np.int8, n, elements=st.integers(0, 1))),
        }
    )
    frame["employee_id"] = (
        surrogate_ids(frame, KEY) if surrogate else [f"p{draw(st.integers(0, 12))}" for _ in range(n)]
    )
    return EmployeeTable.of(frame, SCHEMA, surrogate_ids=surrogate)


@st.composite
def panels(draw):
    """Enough persons on enough dates to be split."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, n_dates = draw(st.integers(60, 200)), draw(st.integers(1, 6))
    frame = pd.DataFrame(
        {
            "employee_id": rng.integers(0, n // 2, n).astype(str),
            "snapshot_date": pd.Timestamp("2020-03-31") + pd.to_timedelta(90 * rng.integers(0, n_dates, n), unit="D"),
            "tenure": rng.normal(size=n),
            "age": rng.normal(size=n),
            "attrition": rng.integers(0, 2, n),
        }
    )
    return EmployeeTable.of(frame, SCHEMA)


@given(panels(), st.floats(0.2, 0.8), st.integers(0, 1000), st.sampled_from([0, 0, 91]))
@settings(max_examples=50, deadline=None)
def test_splits_are_disjoint_by_person_and_ordered_in_time(table, share, seed, embargo):
    """For any table that can be split at all."""
    try:
        split = split_holdout(table, holdout_share=share, seed=seed, embargo_days=embargo)
    except InsufficientData:
        assume(False)
    assert not set(table.persons[split.train]) & set(table.persons[split.holdout])
    if split.spec.kind == "temporal":
        assert table.dates[split.train].max() < table.dates[split.holdout].min()
    assert not [finding for finding in check_split(table, split) if finding.code.startswith("leakage.")]
    again = apply_split(table, SplitSpec.from_dict(split.spec.to_dict()))
    np.testing.assert_array_equal(split.train, again.train)
    np.testing.assert_array_equal(split.holdout, again.holdout)


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_content_hash_ignores_the_order_of_rows(table, random):
    """And nothing else: one changed cell changes it."""
    rows = list(range(len(table)))
    random.shuffle(rows)
    assert table.take(np.array(rows)).content_hash() == table.content_hash()
    changed = table.frame.copy()
    changed.loc[0, "age"] = 77.0
    assert EmployeeTable.of(changed, SCHEMA).content_hash() != table.content_hash()


@given(st.booleans().flatmap(tables))
@settings(max_examples=50, deadline=None)
def test_repair_leaves_one_row_per_person_and_day_and_is_idempotent(table):
    """Nobody's leaving is lost on the way."""
    repaired = repair(table, check_quality(table))
    again = check_quality(repaired)
    assert not again.by_code("rows.duplicate")
    assert not again.by_code("rows.conflicting")
    pd.testing.assert_frame_equal(repair(repaired, again).frame, repaired.frame)
    keys = ["employee_id", "snapshot_date"]
    assert not repaired.frame.duplicated(keys).any()
    if not table.surrogate_ids:
        expected = table.frame.groupby(keys)["attrition"].max()
        pd.testing.assert_series_equal(repaired.frame.groupby(keys)["attrition"].max(), expected)


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0.01, 100), finite)
@settings(max_examples=50, deadline=None)
def test_scale_and_offset_are_undone_by_their_inverse(values, scale, offset):
    """Up to rounding."""
    spec = ColumnSpec(column="x", scale=scale, offset=offset)
    there = np.array(values) * spec.scale + spec.offset
    np.testing.assert_allclose((there - offset) / scale, values, rtol=1e-6, atol=1e-6 * (1 + abs(offset)) / scale)


@given(
    st.dictionaries(
        st.text(st.characters(categories=["L", "N"]), min_size=1), st.integers(0, 99), min_size=1, max_size=8
    ),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_recoding_is_undone_by_the_labels(recode, data):
    """A code's label is recoded to that code again."""
    spec = ColumnSpec(column="x", recode=recode)
    words = data.draw(st.lists(st.sampled_from(sorted(recode)), min_size=1, max_size=20))
    cells = Cells(pd.DataFrame({"x": words}, dtype="str"), Dialect(), where="x", first_line=2)
    codes, unknown = cells.recoded(spec, "x")
    assert not unknown
    assert [recode[spec.code_labels[int(code)]] for code in codes] == codes.tolist()


@given(arrays(np.float64, (2, 6), elements=finite))
@settings(max_examples=40, deadline=None)
def test_expressions_compute_what_numpy_computes(values):
    """On numbers that went through text."""
    a, b = values
    cells = Cells(
        pd.DataFrame({"a": map(repr, a.tolist()), "b": map(repr, b.tolist())}, dtype="str"),
        Dialect(),
        where="x",
        first_line=2,
    )
    np.testing.assert_array_equal(Expression.parse("(a - 2) * b + a").evaluate(cells), (a - 2) * b + a)
    with np.errstate(all="ignore"):
        quotient = a / b
    np.testing.assert_array_equal(
        Expression.parse("a / b").evaluate(cells), np.where(np.isfinite(quotient), quotient, np.nan)
    )


@given(st.text(), st.text(), st.binary(min_size=32, max_size=32))
@settings(max_examples=50, deadline=None)
def test_pseudonyms_depend_on_id_and_key_only(one, other, secret):
    """Deterministic, and another one under another key."""
    key = PseudonymKey(secret)
    assert key.pseudonym(one) == PseudonymKey(secret).pseudonym(one)
    assert len(key.pseudonym(one)) == 32
    assert (key.pseudonym(one) == KEY.pseudonym(one)) == (key == KEY)
    if one.strip() == other.strip():
        assert key.pseudonym(one) == key.pseudonym(other)


@given(arrays(np.uint64, st.integers(0, 80), elements=st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_every_pasted_row_repeats_an_earlier_one(rows):
    """Blocks are disjoint, ordered, and long enough."""
    blocks = pasted_blocks(rows, n_consecutive=4)
    ends = [0, *(edge for block in blocks for edge in block)]
    assert ends == sorted(ends)
    for start, stop in blocks:
        assert stop - start >= 4
        assert all(rows[i] in rows[:i] for i in range(start, stop))


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_rank_auc_is_that_of_scikit_learn(data):
    """Ties included."""
    from sklearn.metrics import roc_auc_score

    n = data.draw(st.integers(2, 40))
    y = data.draw(arrays(np.int8, n, elements=st.integers(0, 1)))
    assume(0 < y.sum() < n)
    values = data.draw(arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0, 2.5, -3.0])))
    assert rank_auc(y, values) == pytest.approx(roc_auc_score(y, values))
