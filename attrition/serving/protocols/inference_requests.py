"""The inference request of the Open Inference Protocol: from its JSON object and binary data to records.

Two forms: one tensor per feature, of shape [n] or [n, 1]; or a single tensor of shape [n, k] that has no feature's
name and holds the k features in schema order. Beside either, a tensor ``employee_id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.data.schema import EMPLOYEE_ID
from attrition.serving.protocols.problems import FieldError, Problem, pointer
from attrition.serving.protocols.tensors import INPUTS, MAX_SIZE, Tensor, TensorReader
from attrition.serving.protocols.translation import Rows, column_errors, kind, too_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.data.schema import FeatureSchema

OUTPUTS = {
    "probability": "FP64",
    "decision": "BOOL",
    "threshold": "FP64",
    "prediction_id": "BYTES",
    "model_version": "BYTES",
    "variant": "BYTES",
    "reason": "BYTES",
}
"""Output tensors and their datatypes: fields of :class:`~attrition.serving.protocols.native.Prediction`."""

_MAX_TENSORS = 1_000
_KEYS = ("id", "parameters", INPUTS, "outputs", "model_name", "model_version")
_OUTPUT_KEYS = ("name", "parameters")


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What a caller asks for.

    Attributes
    ----------
    id : str or None
        Sent back with the answer.
    rows : Rows
        The records; its errors have everything that is wrong with the request around their values.
    outputs : dict of str to bool
        Wanted output tensors in the order of the request, each True when it is wanted as binary data.
    """

    id: str | None
    rows: Rows
    outputs: dict[str, bool]


def read_request(
    document: Any, binary: bytes, schema: FeatureSchema, *, max_records: int
) -> InferenceRequest | Problem:
    """The request in a parsed JSON object.

    Parameters
    ----------
    binary
        What follows the object in the body.
    schema
        Features in the order of a single tensor.
    max_records
        Largest number of records in one request; more are a problem at once.
    """
    if not isinstance(document, dict):
        fault = FieldError("", f"is {kind(document)}; an object with {INPUTS} is expected")
        return InferenceRequest(None, Rows([], _nowhere, (fault,)), {})
    errors = []
    if any(key not in _KEYS for key in document):
        errors.append(FieldError("", f"has an unknown key; known: {', '.join(_KEYS)}"))
    identifier = document.get("id")
    if identifier is not None and not _is_text(identifier):
        errors.append(FieldError(pointer("id"), "is text"))
    outputs = _read_outputs(document, errors)
    inputs = document.get(INPUTS)
    most = max(_MAX_TENSORS, len(schema.names) + 1)
    if isinstance(inputs, list) and 0 < len(inputs) <= most:
        excess = too_many(_n_announced(inputs), max_records)
        if excess:
            return excess
        rows = _read_rows(inputs, binary, schema, errors)
    else:
        detail = "is required" if inputs is None else f"is an array of tensors, from 1 to {most}"
        rows = Rows([], _nowhere, (*errors, FieldError(pointer(INPUTS), detail)))
    return InferenceRequest(identifier, rows, outputs)


def _n_announced(inputs: Sequence[Any]) -> int:
    """Largest number of records that a tensor's shape announces; 0 when none announces any."""
    shapes = [tensor.get("shape") for tensor in inputs if isinstance(tensor, dict)]
    sizes = [shape[0] for shape in shapes if isinstance(shape, list) and shape]
    return max((size for size in sizes if isinstance(size, int) and size <= MAX_SIZE), default=0)


def _read_outputs(document: dict[str, Any], errors: list[FieldError]) -> dict[str, bool]:
    """Wanted outputs; appends what is wrong with them to `errors`."""
    parameters = document.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        errors.append(FieldError(pointer("parameters"), f"is {kind(parameters)}; an object is expected"))
        parameters = None
    default: Any = (parameters or {}).get("binary_data_output", False)
    if not isinstance(default, bool):
        errors.append(FieldError(pointer("parameters", "binary_data_output"), "is true or false"))
    wanted = document.get("outputs")
    if wanted is None or wanted == []:
        return dict.fromkeys(OUTPUTS, default)
    if not isinstance(wanted, list):
        errors.append(FieldError(pointer("outputs"), f"is {kind(wanted)}; an array is expected"))
        return {}
    if len(wanted) > len(OUTPUTS):
        errors.append(FieldError(pointer("outputs"), f"asks for {len(wanted)}; there are {len(OUTPUTS)}"))
        return {}
    outputs: dict[str, bool] = {}
    for index, output in enumerate(wanted):
        fault = _output_fault(output, outputs)
        if fault:
            errors.append(FieldError(pointer("outputs", index), fault))
        else:
            outputs[output["name"]] = (output.get("parameters") or {}).get("binary_data", default)
    return outputs


def _output_fault(output: Any, before: dict[str, bool]) -> str:
    """What is wrong with one requested output; empty when nothing is."""
    if not isinstance(output, dict):
        return f"is {kind(output)}; an object with a name is expected"
    name = output.get("name")
    if any(key not in _OUTPUT_KEYS for key in output):
        return f"has an unknown key; known: {', '.join(_OUTPUT_KEYS)}"
    if not isinstance(name, str) or name not in OUTPUTS:
        return f"is no output of this model; its outputs: {', '.join(OUTPUTS)}"
    return "was requested before" if name in before else _parameters_fault(output.get("parameters"))


def _parameters_fault(parameters: Any) -> str:
    """What is wrong with the parameters of a requested output."""
    if parameters is None:
        return ""
    if not isinstance(parameters, dict):
        return f"has parameters that are {kind(parameters)}; an object is expected"
    if "classification" in parameters or any(key.startswith("shared_memory") for key in parameters):
        return "asks for classification or shared memory, which are not supported"
    return "" if isinstance(parameters.get("binary_data", False), bool) else "has a binary_data that is no boolean"


def _read_rows(inputs: Sequence[Any], binary: bytes, schema: FeatureSchema, errors: list[FieldError]) -> Rows:
    """Records from the input tensors."""
    reader = TensorReader(binary)
    read = [tensor for tensor in reader.read(inputs) if tensor is not None]
    matrix = _matrix_index(inputs, schema)
    if matrix is None:
        named = [(index, tensor["name"]) for index, tensor in enumerate(inputs) if _is_named(tensor)]
        names = [name for _, name in named]
        errors += column_errors(
            schema, names, lambda at: pointer(INPUTS, named[at][0], "name"), pointer(INPUTS), "tensor"
        )
    columns: dict[str, list[Any]] = {}
    spots: dict[str, tuple[Tensor, int]] = {}
    for tensor in read:
        fields: tuple[str, ...] = schema.names if tensor.index == matrix else (tensor.name,)
        fault = _shape_fault(tensor, fields, read[0].shape[0], schema)
        if fault:
            errors.append(FieldError(pointer(INPUTS, tensor.index, "shape"), fault))
            continue
        for column, (name, values) in enumerate(zip(fields, tensor.columns(), strict=True)):
            if name in {EMPLOYEE_ID, *schema.names} and name not in columns:
                columns[name], spots[name] = values, (tensor, column)

    def place(row: int, field: str | None) -> str | None:
        if field is None:
            return pointer(INPUTS)
        tensor, column = spots.get(field, (None, 0))
        return tensor.place(row, column) if tensor else None

    records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return Rows(records, place, (*errors, *reader.errors))


def _matrix_index(inputs: Sequence[Any], schema: FeatureSchema) -> int | None:
    """Position of the single tensor that holds all features; None when the request has one tensor per feature."""
    others = [index for index, tensor in enumerate(inputs) if not _is_named(tensor) or tensor["name"] != EMPLOYEE_ID]
    if len(others) != 1 or not _is_named(inputs[others[0]]):
        return None
    tensor = inputs[others[0]]
    shape = tensor.get("shape")
    is_matrix = isinstance(shape, list) and len(shape) == 2 and tensor["name"] not in schema.names
    return others[0] if is_matrix else None


def _shape_fault(tensor: Tensor, fields: Sequence[str], n: int, schema: FeatureSchema) -> str:
    """Why a tensor's shape does not fit the request; empty when it does."""
    if tensor.width != len(fields):
        if len(fields) == 1:
            return f"a feature's tensor is [n] or [n, 1]; a tensor of another name may be [n, {len(schema.names)}]"
        return f"has {tensor.width} columns; the features are {len(fields)}: {', '.join(fields)}"
    return f"has {tensor.shape[0]} records; the first tensor has {n}" if tensor.shape[0] != n else ""


def _is_named(tensor: Any) -> bool:
    return isinstance(tensor, dict) and isinstance(tensor.get("name"), str)


def _nowhere(_row: int, _field: str | None) -> str | None:
    return None


def _is_text(value: Any) -> bool:
    """Text that can be sent back: half a surrogate pair cannot."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)
