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
    assert table.content_hash() == "09da16d0bbbf76fe7ebc14558bbc69d915dcb0bedf0ab443a0488611331b3f7f"


def test_content_hash_sees_every_cell(frame):
    """Also a missing value that appears, and the zero's sign that does not count."""
    base = EmployeeTable.of(frame, SCHEMA).content_hash()
    assert EmployeeTable.of(frame.assign(tenure=[1, 2, 0.0]), SCHEMA).content_hash() == base
    assert EmployeeTable.of(frame.assign(age=[30, 40, 50]), SCHEMA).content_hash() != base
    assert EmployeeTable.of(frame.assign(attrition=[1, 1, 0]), SCHEMA).content_hash() != base


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
