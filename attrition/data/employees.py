"""The employee table: one row per person and snapshot date, in canonical names and units, identified by pseudonym."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, TARGET
from attrition.governance.identity import REPEAT_MARK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema


@dataclass(frozen=True, slots=True)
class EmployeeTable:
    """Rows of employees with their features and, where known, their outcome.

    Attributes
    ----------
    frame : DataFrame
        ``employee_id`` (str, a pseudonym or a surrogate), ``snapshot_date`` (datetime64[us], NaT when the extract has
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

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        schema: FeatureSchema,
        *,
        sensitive: tuple[str, ...] = (),
        surrogate_ids: bool = False,
        source: str = "",
    ) -> EmployeeTable:
        """Table with the columns of `frame` in table order and in the types of :attr:`frame`.

        Equal content thus has equal types wherever it came from, and so an equal :meth:`content_hash`.

        Raises
        ------
        KeyError
            A feature or a sensitive attribute is not in `frame`.
        """
        columns: dict[str, pd.Series] = {
            EMPLOYEE_ID: frame[EMPLOYEE_ID].astype("str"),
            SNAPSHOT_DATE: frame[SNAPSHOT_DATE].astype("datetime64[us]"),
        }
        for name in schema.names:
            columns[name] = frame[name].astype(np.float64) + 0.0  # no negative zero: it would hash differently
        if TARGET in frame:
            columns[TARGET] = frame[TARGET].astype(np.int8)
        for name in sensitive:
            columns[name] = frame[name].astype("str")
        table = pd.DataFrame(columns).reset_index(drop=True)
        return cls(table, schema, sensitive, surrogate_ids, source)

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
        """Identity of each row's person, shape (n_rows,); splits keep a person on one side.

        With surrogate ids, rows of the same content count as one person: copies must not be torn apart.
        """
        ids = self.frame[EMPLOYEE_ID]
        if self.surrogate_ids:
            ids = ids.str.partition(REPEAT_MARK)[0]
        return ids.to_numpy(object)

    @property
    def repeated(self) -> NDArray[np.bool_]:
        """Mask, shape (n_rows,): rows whose whole content in the extract occurred before.

        With real ids, a row repeats another one when person, date and all values agree: two persons with the same
        features are two persons. With surrogate ids there is only the content to go by.
        """
        if self.surrogate_ids:
            return self.frame[EMPLOYEE_ID].str.contains(REPEAT_MARK, regex=False).to_numpy(bool)
        return self.frame.duplicated().to_numpy(bool)

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
        """SHA-256 (hex) of column names, types and every value; equal for equal content, whatever the order of rows.

        The bytes that are hashed are those of the sorted columns, one after the other: numbers and dates in little
        endian with one pattern for NaN, texts as UTF-8 behind their lengths (-1 is missing). Nothing of pandas' own
        hashing is in it.
        """
        keys = [EMPLOYEE_ID, SNAPSHOT_DATE]
        if self.frame.duplicated(keys).any():
            keys = [str(name) for name in self.frame]
        # rows that agree in every key are equal, so their order cannot matter
        frame = self.frame.sort_values(keys, kind="stable")
        digest = hashlib.sha256(repr([(name, str(frame[name].dtype)) for name in frame]).encode())
        for name in frame:
            digest.update(_bytes(frame[name]))
        return digest.hexdigest()


def _bytes(column: pd.Series) -> bytes:
    if column.dtype.kind == "f":
        values = column.to_numpy("<f8")
        return np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()
    if column.dtype.kind in "iM":
        return column.to_numpy().astype("<i8").tobytes()
    texts = [None if pd.isna(value) else value.encode() for value in column.tolist()]
    lengths = np.array([-1 if text is None else len(text) for text in texts], dtype="<i8")
    return lengths.tobytes() + b"".join(text for text in texts if text is not None)
