"""The native scoring protocol: ``POST /v1/predict`` with one record, or an object with many.

A record is a flat object of features and, optionally, ``employee_id``. The answer to one record is one prediction; the
answer to ``{"records": [...]}`` is ``{"predictions": [...]}`` in the same order. Either all records are scored or none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.serving.scoring import Scores

_encode = msgspec.json.Encoder().encode


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The answer to one record; the descriptions are part of the OpenAPI document."""

    prediction_id: Annotated[str, Meta(description="UUID version 7; outcomes and audits refer to it.")]
    probability: Annotated[float, Meta(description="Of leaving within the version's horizon.", ge=0, le=1)]
    decision: Annotated[bool, Meta(description="True when the probability reaches the threshold: expected to leave.")]
    threshold: Annotated[float, Meta(description="Decision threshold of the version.", ge=0, le=1)]
    model_version: Annotated[str, Meta(description="Semantic version that answered.")]
    variant: Annotated[str, Meta(description="Name under which that version is deployed.")]
    reason: Annotated[str, Meta(description="Why this variant answered: sole, sticky, random, pin or requested.")]


class Predictions(msgspec.Struct, frozen=True, gc=False):
    """The answer to many records."""

    predictions: list[Prediction]


def encode(scores: Sequence[Scores], *, single: bool) -> bytes:
    """The JSON answer.

    Parameters
    ----------
    scores
        Of all records of the request.
    single
        The body was one record, not an array of them; the answer has the same shape.
    """
    if single:
        return _encode(_predictions(scores[0])[0])
    if len(scores) == 1:
        return _encode(Predictions(_predictions(scores[0])))
    ordered: list[Any] = [None] * sum(len(group.rows) for group in scores)
    for group in scores:
        for row, prediction in zip(group.rows, _predictions(group), strict=True):
            ordered[row] = prediction
    return _encode(Predictions(ordered))


def _predictions(group: Scores) -> list[Prediction]:
    threshold, version, variant = group.threshold, group.version, group.variant
    return [
        Prediction(prediction_id, probability, probability >= threshold, threshold, version, variant, reason)
        for prediction_id, probability, reason in zip(
            group.prediction_ids, group.probabilities, group.reasons, strict=True
        )
    ]
