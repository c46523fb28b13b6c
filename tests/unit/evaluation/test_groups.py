"""Labels of the groups that reports are broken down by."""

from __future__ import annotations

import numpy as np
import pandas as pd

from attrition.data.employees import EmployeeTable
from attrition.data.schema import FeatureSchema
from attrition.evaluation.groups import age_bands, attributes_of, group_labels


def test_codes_become_labels_and_missing_becomes_a_group():
    """Known codes show their label, unknown ones their number, missing ones say so."""
    schema = FeatureSchema.default().with_categories({"department_code": {0: "sales", 1: "IT"}})
    frame = pd.DataFrame({name: np.zeros(4) for name in schema.names})
    frame["department_code"] = [0.0, 1.0, 7.0, np.nan]
    frame["gender"] = ["f", "m", None, ""]
    found = attributes_of(EmployeeTable(frame, schema, sensitive=("gender",)))
    assert list(found) == ["department", "age_band", "gender"]
    assert found["department"].tolist() == ["sales", "IT", "7", "(missing)"]
    assert found["gender"].tolist() == ["f", "m", "(missing)", "(missing)"]


def test_any_dtype_becomes_text():
    """Categories, numbers and booleans are labels too."""
    assert group_labels(pd.Series(["x", None, "x"], dtype="category")).tolist() == ["x", "(missing)", "x"]
    assert group_labels(pd.Series([True, False])).tolist() == ["True", "False"]
    assert group_labels(pd.Series([1, 2])).tolist() == ["1", "2"]


def test_age_bands_start_at_their_lower_limit_and_sort_by_age():
    """Thirty belongs to the thirties; a missing age is a group of its own, and labels sort as ages do."""
    bands = group_labels(age_bands(pd.Series([18, 29.9, 30, 39.9, 40, 50, 60, 85, np.nan])))
    assert bands.tolist() == [
        "29 and younger",
        "29 and younger",
        "30-39",
        "30-39",
        "40-49",
        "50-59",
        "60 and older",
        "60 and older",
        "(missing)",
    ]
    assert sorted(bands[:-1].tolist()) == bands[:-1].tolist()


def test_a_schema_without_ages_has_no_bands():
    """The attribute follows from the feature."""
    schema = FeatureSchema.default().without("age")
    frame = pd.DataFrame({name: np.zeros(2) for name in schema.names})
    assert list(attributes_of(EmployeeTable(frame, schema))) == ["department"]
