"""Decoded records into predictions: assignment to variants and one call of each scorer.

What comes out (:class:`Scores`) is everything that a response, the prediction log, the metrics and the shadows need, so
each of them is one call per request and none looks into another's work.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attrition.serving.identifiers import new_prediction_id
from attrition.serving.traffic import N_BUCKETS, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.serving.snapshot import Lane, Snapshot
    from attrition.serving.traffic import Variant

_NAN = float("nan")
_draw = random.Random().randrange  # noqa: S311 - traffic assignment, not a secret


class Scores(NamedTuple):
    """Predictions of one variant in one request; item i of every sequence belongs to its i-th record."""

    lane: Lane
    """The variant that scored."""
    rows: Sequence[int]
    """Positions of the records in the request."""
    employee_ids: list[str | float | None]
    """As sent."""
    prediction_ids: list[str]
    """UUIDs version 7."""
    reasons: list[Reason]
    """Why this variant scored the record."""
    probabilities: list[float]
    """Of leaving within the version's horizon."""
    matrix: Sequence[float] | NDArray[np.float64]
    """Feature values, NaN where missing, shape (n, n_features); for one record the plain sequence of its values."""
    shadow_of: Sequence[str] = ()
    """For a shadow: identifiers of the predictions that were answered instead."""

    @property
    def version(self) -> str:
        """Semantic version."""
        return self.lane.variant.version

    @property
    def variant(self) -> str:
        """Name under which it is deployed."""
        return self.lane.variant.name

    @property
    def threshold(self) -> float:
        """Its decision threshold."""
        return self.lane.bundle.threshold

    @property
    def features(self) -> tuple[str, ...]:
        """Names in the order of the matrix."""
        return self.lane.bundle.schema.names


def score(snapshot: Snapshot, records: Sequence[Any], pinned: tuple[Variant, Reason] | None = None) -> list[Scores]:
    """Score the records of one request.

    Parameters
    ----------
    records
        Decoded by the snapshot's codec.
    pinned
        Variant that the request's headers decided on, and why; None lets each record decide.

    Returns
    -------
    list of Scores
        One per variant that answers at least one record; together they cover every record once.
    """
    fixed = (
        (snapshot.lanes[pinned[0].name], pinned[1])
        if pinned
        else snapshot.sole and (snapshot.sole, snapshot.sole_reason)
    )
    if len(records) == 1:
        lane, reason = fixed or assign(snapshot, records[0])
        return [score_one(lane, reason, records[0])]
    if fixed:
        lane, reason = fixed
        return [score_lane(lane, records, range(len(records)), [reason] * len(records))]
    return [score_lane(lane, records, rows, reasons) for lane, rows, reasons in drawn(snapshot, records)]


def drawn(snapshot: Snapshot, records: Sequence[Any]) -> list[tuple[Lane, list[int], list[Reason]]]:
    """Records that decide each for itself, by the variant that they fall to: positions and reasons."""
    found: dict[str, tuple[Lane, list[int], list[Reason]]] = {}
    for row, record in enumerate(records):
        lane, reason = assign(snapshot, record)
        _, rows, reasons = found.setdefault(lane.variant.name, (lane, [], []))
        rows.append(row)
        reasons.append(reason)
    return list(found.values())


def assign(snapshot: Snapshot, record: Any) -> tuple[Lane, Reason]:
    """Lane that answers a record of a request without a pin, and why."""
    employee_id = record.employee_id
    # the person is the same whether the id was written "7", 7 or 7.0
    key = employee_id if employee_id is None or isinstance(employee_id, str) else str(int(employee_id))
    variant, reason = snapshot.split.assign(key, draw=_draw(N_BUCKETS))
    return snapshot.lanes[variant.name], reason


def score_lane(
    lane: Lane, records: Sequence[Any], rows: Sequence[int], reasons: list[Reason], shadow_of: Sequence[str] = ()
) -> Scores:
    """Score some records of a request by one variant, as one matrix."""
    # None becomes NaN and a boolean 0 or 1 by the conversion to float64
    matrix = np.array([lane.select(records[row]) for row in rows], dtype=np.float64)
    return Scores(
        lane,
        rows,
        [records[row].employee_id for row in rows],
        [new_prediction_id() for _ in rows],
        reasons,
        lane.bundle.scorer.score(matrix).tolist(),
        matrix,
        shadow_of,
    )


def score_one(lane: Lane, reason: Reason, record: Any) -> Scores:
    """Score the only record of a request."""
    values = feature_values(lane, record)
    probability = lane.bundle.scorer.score_one(values)
    return Scores(lane, (0,), [record.employee_id], [new_prediction_id()], [reason], [probability], values)


def feature_values(lane: Lane, record: Any) -> tuple[float, ...]:
    """A record's values in the order of the version's features, NaN where missing."""
    values: Any = lane.select(record)
    if None in values:
        return tuple(_NAN if value is None else value for value in values)
    return values  # type: ignore[no-any-return]
