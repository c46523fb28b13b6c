"""The employee table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attrition.data.employees import EmployeeTable
from attrition.data.schema import FeatureSchema

SCHEMA = FeatureSchema.default().without(*FeatureSchema.default().names[2:])


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "attrition": [0, 1, 0],
            "age": [30, np.nan, 50],
            "tenure": [1, 2, -0.0],
            "gender": ["f", "m", "f"],
            "employee_id": ["a", "b", "c"],
            "snapshot_date": ["2024-03-31"] * 3,
        }
    )


def test_columns_come_in_table_order_and_type(frame):
    """Whatever order and types they had."""
    table = EmployeeTable.of(frame, SCHEMA, sensitive=("gender",))
    assert list(table.frame) == ["employee_id", "snapshot_date", "tenure", "age", "attrition", "gender"]
    assert [str(kind) for kind in table.frame.dtypes] == ["str", "datetime64[us]", "float64", "float64", "int8", "str"]
    assert table.features.shape == (3, 2)
    assert table.attributes.shape == (3, 1)


def test_content_hash_is_pinned(frame):
    """Golden value: stored lineage refers to it."""
    table = EmployeeTable.of(frame, SCHEMA, sensitive=("gender",))
    assert table.content_hash() == "3e0f3d284c7573ec7e88c0f7d165f005e10d00ab56f0d488a958f46b9a2fa5eb"


def test_content_hash_sees_every_cell(frame):
    """Also a missing value that appears, and the zero's sign that does not count."""
    base = EmployeeTable.of(frame, SCHEMA).content_hash()
    assert EmployeeTable.of(frame.assign(tenure=[1, 2, 0.0]), SCHEMA).content_hash() == base
    assert EmployeeTable.of(frame.assign(age=[30, 40, 50]), SCHEMA).content_hash() != base
    assert EmployeeTable.of(frame.assign(attrition=[1, 1, 0]), SCHEMA).content_hash() != base


def test_content_hash_ignores_the_order_of_rows(frame):
    """Also where a person stands twice on a day, in full or with another account."""
    table = EmployeeTable.of(frame.iloc[[0, 1, 2, 0, 1]].assign(tenure=[1, 2, 3, 1, 9]), SCHEMA)
    hashes = {table.take(np.array(rows)).content_hash() for rows in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 4, 0, 2, 3])}
    assert len(hashes) == 1


def test_content_hash_tells_texts_apart_that_run_into_each_other(frame):
    """Where one text ends and the next begins is part of the content."""
    one, other = (
        EmployeeTable.of(frame.assign(gender=texts), SCHEMA, sensitive=("gender",)).content_hash()
        for texts in (["ab", "c", "d"], ["a", "bc", "d"])
    )
    assert one != other


def test_surrogate_repeats_are_one_person(frame):
    """So that no split tears copies apart."""
    ids = frame.assign(employee_id=["x", "x-2", "y"])
    table = EmployeeTable.of(ids, SCHEMA, surrogate_ids=True)
    assert table.persons.tolist() == ["x", "x", "y"]
    assert table.repeated.tolist() == [False, True, False]
    assert EmployeeTable.of(ids, SCHEMA).persons.tolist() == ["x", "x-2", "y"]


def test_take_keeps_the_order_asked_for(frame):
    """Positions or a mask."""
    table = EmployeeTable.of(frame, SCHEMA)
    assert table.take(np.array([2, 0])).persons.tolist() == ["c", "a"]
    assert table.take(np.array([True, False, True])).persons.tolist() == ["a", "c"]
