"""The native scoring protocol: ``POST /v1/predict`` with one record, or an object with many.

A record is a flat object of features and, optionally, ``employee_id``. The answer to one record is one prediction; the
answer to ``{"records": [...]}`` is ``{"predictions": [...]}`` in the same order. Either all records are scored or none.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from attrition.serving.identifiers import new_prediction_id
from attrition.serving.protocols.problems import Problem
from attrition.serving.traffic import N_BUCKETS, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.serving.snapshot import Lane, Snapshot

_NAN = float("nan")
_draw = random.Random().randrange  # noqa: S311 - traffic assignment, not a secret
_encode = msgspec.json.Encoder().encode


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The answer to one record; the descriptions are part of the OpenAPI document."""

    prediction_id: Annotated[str, Meta(description="UUID version 7; outcomes and audits refer to it.")]
    probability: Annotated[float, Meta(description="Of leaving within the version's horizon.", ge=0, le=1)]
    decision: Annotated[bool, Meta(description="True when the probability reaches the threshold: expected to leave.")]
    threshold: Annotated[float, Meta(description="Decision threshold of the version.", ge=0, le=1)]
    model_version: Annotated[str, Meta(description="Semantic version that answered.")]
    variant: Annotated[str, Meta(description="Name under which that version is deployed.")]
    reason: Annotated[str, Meta(description="Why this variant answered: sole, sticky or random.")]


class Predictions(msgspec.Struct, frozen=True, gc=False):
    """The answer to many records."""

    predictions: list[Prediction]


def predict(snapshot: Snapshot, body: bytes) -> tuple[bytes, str] | Problem:
    """Score a request body.

    Returns
    -------
    tuple of (bytes, str), or Problem
        The JSON answer and the versions that gave it, comma-separated; or why nothing was scored.
    """
    batch = snapshot.codec.decode(body)
    if isinstance(batch, Problem):
        return batch
    if batch.single:
        answer = _one(snapshot, batch.records[0])
        return _encode(answer), answer.model_version
    answers = _many(snapshot, batch.records)
    versions = {answer.model_version for answer in answers}
    return _encode(Predictions(answers)), ", ".join(sorted(versions))


def _one(snapshot: Snapshot, record: Any) -> Prediction:
    lane, reason = assign(snapshot, record)
    values = lane.select(record)
    if None in values:
        values = tuple(_NAN if value is None else value for value in values)
    return _prediction(lane, reason, lane.bundle.scorer.score_one(values))  # type: ignore[arg-type]


def _many(snapshot: Snapshot, records: Sequence[Any]) -> list[Prediction]:
    """Predictions in the order of the records; each variant scores its share as one matrix."""
    drawn = [assign(snapshot, record) for record in records]
    rows: dict[str, list[int]] = {}
    for row, (lane, _) in enumerate(drawn):
        rows.setdefault(lane.variant.name, []).append(row)
    answers: list[Prediction | None] = [None] * len(records)
    for name, members in rows.items():
        lane = snapshot.lanes[name]
        # None becomes NaN and a boolean 0 or 1 by the conversion to float64
        matrix = np.array([lane.select(records[row]) for row in members], dtype=np.float64)
        for row, probability in zip(members, lane.bundle.scorer.score(matrix).tolist(), strict=True):
            answers[row] = _prediction(lane, drawn[row][1], probability)
    return [answer for answer in answers if answer is not None]


def assign(snapshot: Snapshot, record: Any) -> tuple[Lane, Reason]:
    """Lane that answers a record, and why."""
    if snapshot.sole is not None:
        return snapshot.sole, Reason.SOLE
    employee_id = record.employee_id
    # the person is the same whether the id was written "7", 7 or 7.0
    key = employee_id if employee_id is None or isinstance(employee_id, str) else str(int(employee_id))
    variant, reason = snapshot.split.assign(key, draw=_draw(N_BUCKETS))
    return snapshot.lanes[variant.name], reason


def _prediction(lane: Lane, reason: Reason, probability: float) -> Prediction:
    threshold = lane.bundle.threshold
    return Prediction(
        new_prediction_id(),
        probability,
        probability >= threshold,
        threshold,
        lane.variant.version,
        lane.variant.name,
        reason,
    )
