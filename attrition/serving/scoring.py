"""Decoded records into predictions: assignment to variants and one call of each scorer.

What comes out (:class:`Scores`) is everything that a response, the prediction log, the metrics and the shadows need, so
each of them is one call per request and none looks into another's work.
"""

from __future__ import annotations

import random
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attrition.errors import VariantFailed
from attrition.serving.identifiers import new_prediction_id, new_prediction_ids
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
        return self.lane.threshold

    @property
    def features(self) -> tuple[str, ...]:
        """Names in the order of the matrix."""
        return self.lane.features


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
    """Records that decide each for itself, by the variant that they fall to: positions and reasons.

    The same as :func:`assign` for each record, a few times faster.
    """
    split = snapshot.split
    keys = [record.employee_id for record in records]
    if set(map(type, keys)) != {str}:
        keys = list(map(_key, keys))
    names = [key for key in keys if key is not None]
    buckets = split.buckets(names)
    if len(names) < len(keys):
        anonymous = np.array([key is None for key in keys])
        known, buckets = buckets, np.empty(len(keys), dtype=np.int64)
        buckets[~anonymous] = known
        buckets[anonymous] = [_draw(N_BUCKETS) for _ in range(len(keys) - len(names))]
    ranges = np.searchsorted(np.array(split.bounds, dtype=np.int64), buckets, side="right")
    variants = list(dict.fromkeys(variant.name for variant in split.variants))
    # a variant may have several ranges
    owners = np.array([variants.index(variant.name) for variant in split.variants])[ranges]
    found: list[tuple[Lane, list[int], list[Reason]]] = []
    for number, name in enumerate(variants):
        rows = np.flatnonzero(owners == number).tolist()
        if rows:
            reasons = [Reason.RANDOM if keys[row] is None else Reason.STICKY for row in rows]
            found.append((snapshot.lanes[name], rows, reasons))
    return found


def assign(snapshot: Snapshot, record: Any) -> tuple[Lane, Reason]:
    """Lane that answers a record of a request without a pin, and why."""
    key = _key(record.employee_id)
    variant, reason = snapshot.split.assign(key, draw=_draw(N_BUCKETS) if key is None else 0)
    return snapshot.lanes[variant.name], reason


def _key(employee_id: str | float | None) -> str | None:
    """What decides about a person: the same whether the id was written "7", 7 or 7.0."""
    return employee_id if employee_id is None or isinstance(employee_id, str) else str(int(employee_id))


def score_lane(
    lane: Lane, records: Sequence[Any], rows: Sequence[int], reasons: list[Reason], shadow_of: Sequence[str] = ()
) -> Scores:
    """Score some records of a request by one variant, as one matrix."""
    if len(rows) < len(records):
        records = [records[row] for row in rows]
    matrix = _matrix(list(map(lane.select, records)))
    try:
        probabilities = lane.bundle.scorer.score(matrix).tolist()
    except Exception as error:
        raise VariantFailed(lane.variant.name) from error
    return Scores(
        lane,
        rows,
        [record.employee_id for record in records],
        new_prediction_ids(len(rows)),
        reasons,
        probabilities,
        matrix,
        shadow_of,
    )


def score_one(lane: Lane, reason: Reason, record: Any) -> Scores:
    """Score the only record of a request."""
    values = feature_values(lane, record)
    try:
        probability = lane.bundle.scorer.score_one(values)
    except Exception as error:
        raise VariantFailed(lane.variant.name) from error
    return Scores(lane, (0,), [record.employee_id], [new_prediction_id()], [reason], [probability], values)


def feature_values(lane: Lane, record: Any) -> tuple[float, ...]:
    """A record's values in the order of the version's features, NaN where missing."""
    values: Any = lane.select(record)
    if None in values:
        return tuple(_NAN if value is None else value for value in values)
    return values  # type: ignore[no-any-return]


def _matrix(rows: list[tuple[Any, ...]]) -> NDArray[np.float64]:
    """Feature values as float64, shape (n, n_features): None becomes NaN, a boolean 0 or 1."""
    width = len(rows[0])
    pack = _packer(width)
    try:
        packed = bytearray().join([pack(*row) for row in rows])
    except struct.error:  # None, which NumPy reads as NaN and takes three times as long for
        return np.array(rows, dtype=np.float64)
    return np.frombuffer(packed).reshape(-1, width)


@lru_cache(maxsize=64)
def _packer(width: int) -> Any:
    return struct.Struct(f"{width}d").pack
