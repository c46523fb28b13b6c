"""The OpenAPI description of ``POST /v1/explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.serving.protocols.explain import PREDICTION_ID, RECORD, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

_JSON, _PROBLEM = "application/json", "application/problem+json"
_EXAMPLE_ID = "018e2f5c-7a10-7cc3-98c4-dc0c0c07398f"

_STATUSES = {
    "400": "The body is not JSON.",
    "404": "No prediction with this id is recorded.",
    "409": "Not recorded yet (with Retry-After), or by a version that is not served or cannot be explained.",
    "410": "Retention has removed the features of the prediction.",
    "413": "The body is too large.",
    "415": "Another content type than JSON.",
    "422": "The request or its record is not valid; every bad field is named.",
    "500": "The contributions do not add up to the served probability, so there is no answer.",
    "503": "The explainer is starting or busy, or a store does not answer; ask again as Retry-After says.",
}


def path_item(record: Mapping[str, Any]) -> dict[str, Any]:
    """The path, with an example for each form of a request.

    Parameters
    ----------
    record
        An example of a record that the served versions accept.
    """
    body = {
        "oneOf": [
            {
                "type": "object",
                "additionalProperties": False,
                "required": [PREDICTION_ID],
                "properties": {PREDICTION_ID: {"type": "string", "format": "uuid", "description": "Of an answer."}},
            },
            {
                "type": "object",
                "additionalProperties": False,
                "required": [RECORD],
                "properties": {
                    RECORD: {"$ref": "#/components/schemas/Record"},
                    VERSION: {
                        "type": "string",
                        "pattern": "^[0-9A-Za-z.+-]{1,64}$",
                        "description": "A served version; the one with the largest share of the traffic when left out.",
                    },
                },
            },
        ]
    }
    examples = {
        "prediction": {"summary": "A logged prediction", "value": {PREDICTION_ID: _EXAMPLE_ID}},
        "record": {"summary": "A record", "value": {RECORD: dict(record)}},
    }
    problem = {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "post": {
            "summary": "Why a version estimates what it does",
            "description": "How far each feature moves the estimate away from the average of the training rows. "
            "That is no statement about why a person would leave, and no ground for a decision about one.",
            "operationId": "explain",
            "tags": ["explanations"],
            "requestBody": {"required": True, "content": {_JSON: {"schema": body, "examples": examples}}},
            "responses": {
                "200": {"description": "The explanation.", "content": {_JSON: {"schema": _answer()}}},
                **{code: {"description": text, "content": problem} for code, text in _STATUSES.items()},
            },
        }
    }


def _answer() -> dict[str, Any]:
    number, text = {"type": "number"}, {"type": "string"}
    contribution = {
        "type": "object",
        "required": ["feature", "value", "contribution", "direction", "words"],
        "properties": {
            "feature": text,
            "value": {"type": ["number", "null"], "description": "Null when missing."},
            "contribution": {"type": "number", "description": "In the unit of the base value."},
            "direction": {"enum": ["raises", "lowers", "none"]},
            "words": text,
        },
    }
    properties: dict[str, Any] = {
        "prediction_id": {"type": ["string", "null"]},
        "model_version": text,
        "probability": {"type": "number", "description": "As served.", "minimum": 0, "maximum": 1},
        "decision": {"type": "boolean"},
        "threshold": number,
        "space": {"enum": ["log_odds", "probability"], "description": "Unit of base value and contributions."},
        "base_value": {"type": "number", "description": "Average over the training rows."},
        "base_probability": {"type": "number", "description": "What the mapping makes of the base value."},
        "contributions": {"type": "array", "items": contribution, "description": "The largest first."},
        "top": {"type": "array", "items": text, "description": "The five largest in plain words."},
        "raw_score": {"type": "number", "description": "Base value plus all contributions."},
        "mapping": {
            "type": "object",
            "description": "From raw score to probability: identity, logistic 1 / (1 + exp(-(slope * raw + "
            "intercept))), or isotonic (interpolated between points).",
            "required": ["kind"],
            "properties": {"kind": {"enum": ["identity", "logistic", "isotonic"]}},
        },
        "difference": {"type": "number", "description": "Of the mapped raw score from the probability served."},
    }
    return {"type": "object", "required": list(properties), "properties": properties}
