"""The OpenAPI document of the scoring interface, generated from the features that are served right now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from attrition.data.schema import EMPLOYEE_ID
from attrition.serving import openapi_protocols
from attrition.serving.protocols.native import Prediction, Predictions
from attrition.serving.records import MAX_ID_LENGTH, MAX_ID_NUMBER, RECORDS

if TYPE_CHECKING:
    from attrition.data.schema import Feature, FeatureSchema
    from attrition.serving.gateway import Limits

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_COMPONENT = "#/components/schemas/{name}"


def feature_schema(feature: Feature) -> dict[str, Any]:
    """JSON Schema of one feature's value."""
    low, high = feature.bounds
    document: dict[str, Any] = {
        "type": "number" if feature.kind in {"continuous", "binary"} else "integer",
        "title": feature.name,
        "description": f"{feature.description} {_unit(feature)}".strip(),
    }
    if low != float("-inf"):
        document["minimum"] = low
    if high != float("inf"):
        document["maximum"] = high
    if feature.kind == "binary":
        document = {"title": feature.name, "description": document["description"], "enum": [0, 1, False, True]}
    elif not feature.required:
        document["type"] = [document["type"], "null"]
    if feature.kind == "binary" and not feature.required:
        document["enum"].append(None)
    return document


def document(base: dict[str, Any], schema: FeatureSchema, limits: Limits) -> dict[str, Any]:
    """The whole document: `base` (the routes that FastAPI describes) and the scoring path.

    Parameters
    ----------
    base
        OpenAPI 3.1 document without the scoring path.
    schema
        Features that a request may have.
    limits
        Size limits, for the descriptions.
    """
    record = record_schema(schema)
    _, schemas = msgspec.json.schema_components([Prediction, Predictions], ref_template=_COMPONENT)
    problem = {"$ref": _COMPONENT.format(name="Problem")}
    answers = [{"$ref": _COMPONENT.format(name=name)} for name in ("Prediction", "Predictions")]
    responses: dict[str, Any] = {
        "200": {
            "description": "Every record is scored, in the order of the request.",
            "headers": {
                "x-model-version": {"description": "Versions that answered.", "schema": {"type": "string"}},
                "x-variant": {"description": "Names of their variants.", "schema": {"type": "string"}},
                "x-assignment-reason": {"description": "Why these answered.", "schema": {"type": "string"}},
                "x-request-id": {"description": "As sent, or made.", "schema": {"type": "string"}},
            },
            "content": {_JSON: {"schema": {"oneOf": answers}}},
        }
    }
    too_large = f"More than {limits.max_records} records or {limits.max_body_bytes} bytes."
    for status, description in {
        "400": "The body is not JSON.",
        "413": too_large,
        "415": "The content type is not application/json, or the content encoding is not gzip.",
        "422": "Fields do not fit the schema; every one is named, nothing is scored.",
        "503": "Too busy, or no version is loaded yet; try again after the seconds in Retry-After.",
    }.items():
        responses[status] = {"description": description, "content": {_PROBLEM: {"schema": problem}}}
    operation = {
        "summary": "Probability that employees leave",
        "description": "One record, or an object with many. A score supports a conversation with a person; "
        "it must not decide about one automatically.",
        "operationId": "predict",
        "tags": ["scoring"],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": _body_schema(limits), "examples": _examples(schema)}},
        },
        "responses": responses,
    }
    components = base.get("components", {})
    return {
        **base,
        "paths": {
            "/v1/predict": {"post": operation},
            **openapi_protocols.paths(schema, example(schema), too_large),
            **base.get("paths", {}),
        },
        "components": {
            **components,
            "schemas": {
                **components.get("schemas", {}),
                **schemas,
                **openapi_protocols.schemas(),
                "Record": record,
                "Problem": _PROBLEM_SCHEMA,
            },
        },
    }


def record_schema(schema: FeatureSchema) -> dict[str, Any]:
    """JSON Schema of one record."""
    identity = {
        "description": "Keeps a person with the same variant; it is no feature.",
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_ID_LENGTH},
            {"type": "integer", "minimum": 0, "maximum": MAX_ID_NUMBER},
            {"type": "null"},
        ],
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [feature.name for feature in schema.features if feature.required],
        "properties": {EMPLOYEE_ID: identity, **{feature.name: feature_schema(feature) for feature in schema.features}},
    }


_PERSON = {
    ("tenure", "months"): 62,
    ("age", "years"): 36,
    ("satisfaction_score", "points, 1 to 5"): 3.4,
    ("performance_rating", "points, 1 to 5"): 4,
    ("work_hours", "hours per week"): 41.5,
    ("projects_count", "projects"): 4,
    ("salary", "per year, in the extract's currency"): 54_000,
    ("department_code", ""): 3,
}
"""One invented person, by feature and unit: values that go together, as those of a real one would."""


def example(schema: FeatureSchema) -> dict[str, Any]:
    """An invented record that the schema accepts."""
    return {EMPLOYEE_ID: "E-0001", **{feature.name: _example_value(feature) for feature in schema.features}}


def _example_value(feature: Feature) -> float | int:
    low, high = feature.bounds
    typical = _PERSON.get((feature.name, feature.unit))
    if feature.kind == "binary":
        return 0
    if feature.kind == "category" and feature.categories:
        return typical if typical is not None and typical in feature.categories else min(feature.categories)
    if typical is not None and low <= typical <= high:
        return typical
    if feature.kind == "category":
        return 1
    low = 0.0 if low == float("-inf") else low
    # a quarter into the range is an ordinary value for most HR measures
    value = low + (high - low) / 4 if high != float("inf") else max(low, 1.0) * 48_000
    return round(value) if feature.kind == "integer" or value > 10 else round(value, 1)


def _examples(schema: FeatureSchema) -> dict[str, Any]:
    one = example(schema)
    return {
        "one": {"summary": "One record", "value": one},
        "many": {"summary": "Several records", "value": {RECORDS: [one, {**one, EMPLOYEE_ID: "E-0002"}]}},
    }


def _body_schema(limits: Limits) -> dict[str, Any]:
    record = {"$ref": _COMPONENT.format(name="Record")}
    many = {
        "type": "object",
        "additionalProperties": False,
        "required": [RECORDS],
        "properties": {RECORDS: {"type": "array", "items": record, "minItems": 1, "maxItems": limits.max_records}},
    }
    return {"anyOf": [record, many]}


def _unit(feature: Feature) -> str:
    return f"Unit: {feature.unit}." if feature.unit else ""


_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "RFC 9457 problem document.",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "n_errors": {"type": "integer", "description": "Bad fields found; at most 100 are listed."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901 pointer into the request body."},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
