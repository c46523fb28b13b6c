"""Entries of the prediction log as rows of the tables."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.predictions import FEATURE, prediction_schema
from attrition.serving.log_entries import n_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    import pyarrow as pa

    from attrition.serving.log_entries import Outcomes, Predictions, Scored

_MICROSECONDS_PER_DAY = 86_400_000_000


def prediction_rows(entries: Sequence[Predictions]) -> pa.Table:
    """Rows of the table ``predictions``, shape (n_records, n_columns), in the order of the entries within a version.

    Columns are those of the fixed schema and of every feature that occurs; NaN becomes null.
    """
    import pyarrow as pa

    by_features: dict[tuple[str, ...], list[tuple[Predictions, Scored]]] = {}
    for entry in entries:
        for group in entry.scored:
            by_features.setdefault(group.features, []).append((entry, group))
    tables = [_rows(features, members) for features, members in by_features.items()]
    return pa.concat_tables(tables, promote_options="default")


def _rows(features: tuple[str, ...], members: Sequence[tuple[Predictions, Scored]]) -> pa.Table:
    """Rows of groups with the same features."""
    import pyarrow as pa

    groups = [group for _, group in members]
    sizes = [n_records([group]) for group in groups]

    def repeated(values: Iterable[Any], dtype: Any) -> Any:
        return np.repeat(np.array(list(values), dtype=dtype), sizes)

    time_us = repeated((entry.time_us for entry, _ in members), np.int64)
    probability = np.frombuffer(b"".join(group.probabilities for group in groups), "<f8")
    threshold = repeated((group.threshold for group in groups), np.float64)
    matrix = np.frombuffer(b"".join(group.matrix for group in groups), "<f8").reshape(-1, len(features))
    columns: dict[str, Any] = {
        "prediction_id": list(chain.from_iterable(group.prediction_ids for group in groups)),
        "time": pa.array(time_us, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "day": pa.array((time_us // _MICROSECONDS_PER_DAY).astype(np.int32), pa.int32()).cast(pa.date32()),
        "version": repeated((group.version for group in groups), object),
        "variant": repeated((group.variant for group in groups), object),
        "reason": list(chain.from_iterable(group.reasons for group in groups)),
        "shadow_of": list(chain.from_iterable(map(_shadow_of, groups))),
        "employee_id": list(chain.from_iterable(group.employee_ids for group in groups)),
        "probability": probability,
        "threshold": threshold,
        "decision": probability >= threshold,
        "latency_us": repeated((entry.latency_us for entry, _ in members), np.int64),
    }
    schema = prediction_schema(features)
    for index, name in enumerate(features):
        column = np.ascontiguousarray(matrix[:, index])
        columns[FEATURE + name] = pa.array(column, pa.float64(), mask=np.isnan(column))
    return pa.table(columns, schema=schema)


def _shadow_of(group: Scored) -> Sequence[str | None]:
    return group.shadow_of or [None] * n_records([group])


def outcome_rows(batches: Sequence[Outcomes]) -> pd.DataFrame:
    """Statements for :meth:`attrition.data.outcomes.OutcomeTable.record`, in the order received."""
    import pandas as pd

    statements = [(batch.source, outcome) for batch in batches for outcome in batch.outcomes]
    observed_at = [
        np.datetime64("NaT" if outcome.observed_at_us is None else outcome.observed_at_us, "us")
        for _, outcome in statements
    ]
    return pd.DataFrame(
        {
            "employee_id": pd.Series([outcome.employee_id for _, outcome in statements], dtype="str"),
            "left_on": pd.Series([outcome.left_on for _, outcome in statements], dtype="datetime64[us]"),
            "observed_at": pd.Series(observed_at, dtype="datetime64[us]").dt.tz_localize("UTC"),
            "source": pd.Series([source for source, _ in statements], dtype="str"),
        }
    )
