"""The employee table: one row per person and snapshot date, in canonical names and units, identified by pseudonym."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema


@dataclass(frozen=True, slots=True)
class EmployeeTable:
    """Rows of employees with their features and, where known, their outcome.

    Attributes
    ----------
    frame : DataFrame
        ``employee_id`` (str, a pseudonym or a surrogate), ``snapshot_date`` (datetime64, or NaT when the extract has
        none), the features in schema order (float64, missing is NaN), ``attrition`` (int8, 1 = left within the
        horizon; absent when outcomes are unknown), then the sensitive attributes (str). RangeIndex.
    schema : FeatureSchema
        The features that `frame` has.
    sensitive : tuple of str
        Columns used for fairness only, never by a model.
    surrogate_ids : bool
        True when the extract had no employee ids: rows cannot be joined with later outcomes.
    source : str
        File name or simulator run that the rows came from.
    """

    frame: pd.DataFrame
    schema: FeatureSchema
    sensitive: tuple[str, ...] = ()
    surrogate_ids: bool = False
    source: str = ""

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.frame)

    @property
    def features(self) -> pd.DataFrame:
        """Feature matrix, shape (n_rows, n_features), float64, in schema order."""
        return self.frame.loc[:, list(self.schema.names)]

    @property
    def target(self) -> NDArray[np.int8]:
        """Outcome of each row, shape (n_rows,): 1 when the person left within the horizon.

        Raises
        ------
        KeyError
            The table has no outcomes.
        """
        return self.frame[TARGET].to_numpy(np.int8)

    @property
    def has_target(self) -> bool:
        """Whether outcomes are known."""
        return TARGET in self.frame

    @property
    def persons(self) -> NDArray[np.object_]:
        """Identity of each row's person, shape (n_rows,); splits keep a person on one side."""
        return self.frame[EMPLOYEE_ID].to_numpy(object)

    @property
    def dates(self) -> pd.Series:
        """Snapshot date of each row, datetime64."""
        return self.frame[SNAPSHOT_DATE]

    @property
    def attributes(self) -> pd.DataFrame:
        """Sensitive attributes, shape (n_rows, n_attributes), str."""
        return self.frame.loc[:, list(self.sensitive)]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> EmployeeTable:
        """The rows at positions or under a mask, in that order."""
        return replace(self, frame=self.frame.iloc[rows].reset_index(drop=True))

    def content_hash(self) -> str:
        """SHA-256 (hex) of column names, kinds and values; equal for equal content, independent of row order."""
        digest = hashlib.sha256(repr([(name, str(self.frame[name].dtype)) for name in self.frame]).encode())
        rows = pd.util.hash_pandas_object(self.frame, index=False).to_numpy(np.uint64)
        rows.sort()
        digest.update(rows.tobytes())
        return digest.hexdigest()
