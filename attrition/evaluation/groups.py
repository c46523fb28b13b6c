"""The groups that a report is broken down by: departments and sensitive attributes, as labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable

MISSING = "(missing)"
"""Label of rows whose attribute is not recorded."""


def attributes_of(table: EmployeeTable) -> pd.DataFrame:
    """Group labels of each row: the categorical features, then the sensitive attributes.

    Parameters
    ----------
    table : EmployeeTable

    Returns
    -------
    DataFrame of shape (n_rows, n_attributes), object
        A categorical feature loses the suffix ``_code`` (``department_code`` becomes ``department``) and shows its
        labels; a code without a label shows as a number. Missing is ``(missing)``.
    """
    import pandas as pd

    columns = {}
    for name in table.schema.categorical:
        labels = table.schema[name].categories or {}
        codes = table.frame[name]
        named = codes.map(lambda code, known=labels: known.get(int(code), f"{code:g}"), na_action="ignore")
        columns[name.removesuffix("_code")] = group_labels(named)
    for name in table.sensitive:
        columns[name] = group_labels(table.frame[name])
    return pd.DataFrame(columns, index=table.frame.index, dtype=object)


def group_labels(column: pd.Series) -> NDArray[np.object_]:
    """Labels of one attribute as str, shape (n_rows,); missing values and empty text become ``(missing)``."""
    text = column.astype(object).where(column.notna(), MISSING).astype(str)
    return text.where(text.str.strip() != "", MISSING).to_numpy(object)
