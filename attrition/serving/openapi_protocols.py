"""OpenAPI paths of the protocols beside the native one, with an example for every form of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.data.schema import EMPLOYEE_ID
from attrition.serving.protocols.inference_requests import OUTPUTS
from attrition.serving.protocols.tensors import BINARY_SIZE, DATATYPES, HEADER_LENGTH
from attrition.settings import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.data.schema import FeatureSchema

_JSON = "application/json"
_PROBLEM = "application/problem+json"
_MODEL = f"/v2/models/{MODEL_NAME}"


def paths(schema: FeatureSchema, record: Mapping[str, Any], too_large: str) -> dict[str, Any]:
    """Path items of the Open Inference Protocol and of MLflow's scoring protocol.

    Parameters
    ----------
    schema
        Features that a request may have.
    record
        An example of a native record; the examples here hold the same values.
    too_large
        Description of the status 413.
    """
    return {**_open_inference(schema, record, too_large), **_invocations(schema, record, too_large)}


def schemas() -> dict[str, Any]:
    """Components that the paths refer to."""
    parameters = {"type": "object", "description": "Parameters that are not known here are ignored."}
    tensor = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"type": "string", "description": "A feature, or employee_id; any other for a matrix."},
            "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1}},
            "datatype": {"enum": list(DATATYPES)},
            "parameters": parameters,
            "data": {"type": "array", "description": "Flat or nested; null is a missing value.", "items": {}},
        },
    }
    wanted = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": {"name": {"enum": list(OUTPUTS)}, "parameters": parameters},
    }
    request = {
        "type": "object",
        "additionalProperties": False,
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "Sent back with the answer."},
            "parameters": parameters,
            "inputs": {"type": "array", "minItems": 1, "items": tensor},
            "outputs": {"type": "array", "description": "All when absent.", "items": wanted},
            "model_name": {"description": "Ignored; the path names the model."},
            "model_version": {"description": "Ignored; the path names the version."},
        },
    }
    output = {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"enum": list(OUTPUTS)},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "parameters": {"type": "object"},
            "data": {"type": "array", "items": {"type": ["number", "boolean", "string"]}},
        },
    }
    response = {
        "type": "object",
        "required": ["model_name", "outputs", "parameters"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string", "description": "Absent when several versions answered."},
            "id": {"type": "string"},
            "parameters": {
                "type": "object",
                "description": "Versions, variants and reasons of all records; the outputs have them one by one.",
                "properties": {name: {"type": "string"} for name in ("model_version", "variant", "reason")},
            },
            "outputs": {"type": "array", "items": output},
        },
    }
    error = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    return {"InferenceRequest": request, "InferenceResponse": response, "InferenceError": error}


def _open_inference(schema: FeatureSchema, record: Mapping[str, Any], too_large: str) -> dict[str, Any]:
    model = {"404": _error("The model or version is not served."), "503": _error("No version is loaded yet.")}
    infer = _infer(schema, record, {**model, "413": _error(too_large)})
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    found: dict[str, Any] = {}
    for path, operation, summary, responses in (
        ("/v2", "serverMetadata", "Name, version and extensions of the server", {}),
        ("/v2/health/live", "serverLive", "Whether the process answers", {}),
        ("/v2/health/ready", "serverReady", "Whether a verified version is loaded", {"503": _described("It is not.")}),
        (f"{_MODEL}/ready", "modelReady", "Whether the model is served", model),
        (_MODEL, "modelMetadata", "Input and output tensors", model),
    ):
        found[path] = {"get": _get(operation, summary, responses)}
    found[f"{_MODEL}/infer"] = {"post": {**infer, "operationId": "modelInfer"}}
    for suffix, method in (("/ready", "get"), ("", "get"), ("/infer", "post")):
        whole = found[f"{_MODEL}{suffix}"][method]
        item = {
            **whole,
            "operationId": f"{whole['operationId']}OfVersion",
            "summary": f"{whole['summary']}: one version",
        }
        item["parameters"] = [version, *whole.get("parameters", ())]
        found[f"{_MODEL}/versions/{{version}}{suffix}"] = {method: item}
    return found


def _get(operation: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": operation,
        "tags": ["open inference protocol"],
        "responses": {"200": _described("As asked."), **responses},
    }


def _infer(schema: FeatureSchema, record: Mapping[str, Any], responses: dict[str, Any]) -> dict[str, Any]:
    answer = {"schema": {"$ref": "#/components/schemas/InferenceResponse"}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {
        _JSON: {"schema": {"$ref": "#/components/schemas/InferenceRequest"}, "examples": _requests(schema, record)},
        "application/octet-stream": {
            "schema": {
                "type": "string",
                "format": "binary",
                "description": f"The JSON object, then the data of each tensor that has `{BINARY_SIZE}`.",
            }
        },
    }
    length = {
        "name": HEADER_LENGTH,
        "in": "header",
        "required": False,
        "description": "Length of the JSON object in bytes, when binary data follow it.",
        "schema": {"type": "integer", "minimum": 1},
    }
    return {
        "summary": "Scores of tensors",
        "description": "One tensor per feature, of shape [n] or [n, 1], or a single tensor [n, k] with the features "
        f"in this order: {', '.join(schema.names)}. A tensor {EMPLOYEE_ID} keeps a person with the same variant.",
        "tags": ["open inference protocol"],
        "parameters": [length],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "One value of every output for each record.",
                "headers": {HEADER_LENGTH: {"description": "With binary outputs.", "schema": {"type": "integer"}}},
                "content": {_JSON: answer, "application/octet-stream": binary},
            },
            "400": _error("The request is not valid; nothing is scored."),
            "415": _error("The content type is not read here."),
            **responses,
        },
    }


def _requests(schema: FeatureSchema, record: Mapping[str, Any]) -> dict[str, Any]:
    tensors = [{"name": name, "datatype": "FP64", "shape": [1], "data": [record[name]]} for name in schema.names]
    person = {"name": EMPLOYEE_ID, "datatype": "BYTES", "shape": [1], "data": [record[EMPLOYEE_ID]]}
    row = [record[name] for name in schema.names]
    matrix = {"name": "input", "datatype": "FP64", "shape": [2, len(row)], "data": [row, row]}
    wanted = [{"name": "probability"}, {"name": "decision"}]
    return {
        "one": {"summary": "A tensor per feature", "value": {"id": "42", "inputs": [*tensors, person]}},
        "matrix": {"summary": "A single tensor", "value": {"inputs": [matrix], "outputs": wanted}},
    }


def _invocations(schema: FeatureSchema, record: Mapping[str, Any], too_large: str) -> dict[str, Any]:
    unready = _problem("No version is loaded yet.")
    row = list(record.values())
    features = [record[name] for name in schema.names]
    header = ",".join(record)
    examples: dict[str, tuple[str, Any]] = {
        "one": ("dataframe_split", {"columns": list(record), "data": [row]}),
        "records": ("dataframe_records", [dict(record)]),
        "instances": ("instances", [features]),
        "inputs": ("inputs", {name: [value] for name, value in record.items()}),
    }
    content = {
        _JSON: {
            "schema": {"oneOf": [_one_key(key) for key, _ in examples.values()]},
            "examples": {name: {"summary": key, "value": {key: value}} for name, (key, value) in examples.items()},
        },
        "text/csv": {
            "schema": {"type": "string"},
            "examples": {"csv": {"summary": "CSV", "value": f"{header}\n{','.join(map(str, row))}\n"}},
        },
    }
    operation = {
        "summary": "Scores of a table, as MLflow's clients send it",
        "description": "Rows without names hold the features in schema order. Null, the word NaN in JSON, or an empty "
        "cell of CSV is missing.",
        "operationId": "invocations",
        "tags": ["MLflow scoring protocol"],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "Every row is scored, in the order of the request.",
                "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Predictions"}}},
            },
            "400": _problem("The body is not JSON or CSV."),
            "413": _problem(too_large),
            "415": _problem("The content type is neither application/json nor text/csv."),
            "422": _problem("The table does not fit the schema; every fault is named, nothing is scored."),
            "503": unready,
        },
    }
    found: dict[str, Any] = {"/invocations": {"post": operation}}
    for path, summary, responses in (
        ("/ping", "Whether a verified version is loaded", {"503": unready}),
        ("/health", "Whether a verified version is loaded", {"503": unready}),
        ("/version", "Version of this service", {}),
    ):
        found[path] = {
            "get": {
                "summary": summary,
                "operationId": path.strip("/"),
                "tags": ["MLflow scoring protocol"],
                "responses": {"200": {"description": "As asked.", "content": {"text/plain": {}}}, **responses},
            }
        }
    return found


def _one_key(key: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key],
        "properties": {key: {"type": ["object", "array"]}, "params": {"type": ["object", "null"], "maxProperties": 0}},
    }


def _described(description: str) -> dict[str, Any]:
    return {"description": description, "content": {_JSON: {"schema": {"type": "object"}}}}


def _error(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/InferenceError"}
    return {"description": description, "content": {_JSON: {"schema": schema}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
