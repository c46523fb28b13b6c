"""The groups that a report is broken down by: departments, age bands and sensitive attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.data.retention import AGE, AGE_LIMITS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable

MISSING = "(missing)"
"""Label of rows whose attribute is not recorded."""

AGE_BAND = "age_band"
"""Attribute derived from the feature ``age``, in years."""

_AGE_LABELS = ("29 and younger", "30-39", "40-49", "50-59", "60 and older")
"""Labels whose alphabetical order is that of the ages."""


def attributes_of(table: EmployeeTable) -> pd.DataFrame:
    """Group labels of each row: the categorical features, the age band, then the sensitive attributes.

    Parameters
    ----------
    table : EmployeeTable

    Returns
    -------
    DataFrame of shape (n_rows, n_attributes), object
        A categorical feature loses the suffix ``_code`` (``department_code`` becomes ``department``) and shows its
        labels; a code without a label shows as a number. A table with ages has the column :data:`AGE_BAND`. Missing is
        ``(missing)``.
    """
    import pandas as pd

    columns = {}
    for name in table.schema.categorical:
        labels = table.schema[name].categories or {}
        codes = table.frame[name]
        named = codes.map(lambda code, known=labels: known.get(int(code), f"{code:g}"), na_action="ignore")
        columns[name.removesuffix("_code")] = group_labels(named)
    if AGE in table.schema.names:
        columns[AGE_BAND] = group_labels(age_bands(table.frame[AGE]))
    for name in table.sensitive:
        columns[name] = group_labels(table.frame[name])
    return pd.DataFrame(columns, index=table.frame.index, dtype=object)


def age_bands(ages: pd.Series) -> pd.Series:
    """Band of each age in years, by decades from 30 to 60, as text; a missing age has no band.

    Examples
    --------
    >>> import pandas as pd
    >>> age_bands(pd.Series([29.9, 30.0, 71.0])).tolist()
    ['29 and younger', '30-39', '60 and older']
    """
    import pandas as pd

    edges = (float("-inf"), *AGE_LIMITS, float("inf"))
    return pd.cut(ages, edges, right=False, labels=_AGE_LABELS).astype(object)


def group_labels(column: pd.Series) -> NDArray[np.object_]:
    """Labels of one attribute as str, shape (n_rows,); missing values and empty text become ``(missing)``."""
    text = column.astype(object).where(column.notna(), MISSING).astype(str)
    return text.where(text.str.strip() != "", MISSING).to_numpy(object)
