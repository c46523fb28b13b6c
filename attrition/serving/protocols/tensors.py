"""Tensors of the Open Inference Protocol: from JSON or from bytes into columns of values, and back.

References
----------
Open Inference Protocol, HTTP/REST; binary tensor data extension: little endian, row major, a BOOL is one byte, an
element of BYTES is its length (uint32) and its bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attrition.serving.protocols.problems import FieldError, pointer
from attrition.serving.protocols.translation import BEYOND_FLOAT, kind

INPUTS = "inputs"

HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON object when binary data follow it."""

_DTYPES = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    "BOOL": "u1",
}
DATATYPES = (*_DTYPES, "BYTES")
"""Datatypes that an input tensor may have."""

MAX_SIZE = 2**31
"""Largest dimension of a shape; far beyond what a request may hold."""

BINARY_SIZE = "binary_data_size"
_KEYS = ("name", "shape", "datatype", "parameters", "data")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input tensor.

    Attributes
    ----------
    index : int
        Position among the inputs.
    name : str
    shape : tuple of int
        (n,) or (n, k).
    values : list
        Row by row: float, int, bool, text or None (missing). A value of another kind is one that the record decoder
        complains about.
    nested : bool
        The JSON data are arrays of rows, not one flat array.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    values: list[Any]
    nested: bool = False

    def columns(self) -> list[list[Any]]:
        """Values by column, each of n values."""
        width = self.width
        return [self.values[column::width] for column in range(width)]

    @property
    def width(self) -> int:
        """Number of columns; 1 for a tensor of rank 1."""
        return self.shape[1] if len(self.shape) == 2 else 1

    def place(self, row: int, column: int = 0) -> str:
        """JSON pointer of a value; for binary data that of the same value, had it been written in JSON."""
        if self.nested:
            return pointer(INPUTS, self.index, "data", row, column)
        return pointer(INPUTS, self.index, "data", row * self.width + column)


class TensorReader:
    """Reader of the inputs of one request; collects what is wrong with them.

    Parameters
    ----------
    binary
        What follows the JSON object in the body.
    """

    def __init__(self, binary: bytes) -> None:
        self.errors: list[FieldError] = []
        self._binary = binary
        self._offset = 0

    def read(self, inputs: Sequence[Any]) -> list[Tensor | None]:
        """The tensors; None where one is broken, and why in :attr:`errors`."""
        tensors = [self._tensor(index, document) for index, document in enumerate(inputs)]
        left = len(self._binary) - self._offset
        if left > 0 and not self.errors:
            self._fault(f"{left} bytes follow the last binary tensor", INPUTS)
        return tensors

    def _tensor(self, index: int, document: Any) -> Tensor | None:
        before = len(self.errors)
        if not isinstance(document, dict):
            self._fault(f"is {kind(document)}; a tensor is an object", INPUTS, index)
            return None
        for key in document:
            if key not in _KEYS:
                self._fault(f"unknown key in a tensor; known: {', '.join(_KEYS)}", INPUTS, index)
        name, datatype = document.get("name"), document.get("datatype")
        if not isinstance(name, str):
            self._fault(f"is {kind(name)}; the name of a tensor is text", INPUTS, index, "name")
        if datatype not in DATATYPES:
            self._fault(f"is no datatype that is read here: {', '.join(DATATYPES)}", INPUTS, index, "datatype")
        shape = self._shape(index, document.get("shape"))
        raw = self._raw(index, document)
        if len(self.errors) > before or shape is None or not isinstance(name, str) or not isinstance(datatype, str):
            return None
        if raw is not None:
            values = self._from_bytes(index, datatype, math.prod(shape), raw)
            return None if values is None else Tensor(index, name, shape, values)
        return self._from_json(index, name, datatype, shape, document.get("data"))

    def _shape(self, index: int, shape: Any) -> tuple[int, ...] | None:
        fits = (
            isinstance(shape, list)
            and len(shape) in {1, 2}
            and all(isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= MAX_SIZE for size in shape)
        )
        if fits:
            return tuple(shape)
        self._fault("the shape is [n] or [n, k], whole numbers of at least 1", INPUTS, index, "shape")
        return None

    def _raw(self, index: int, document: dict[str, Any]) -> bytes | None:
        """The tensor's part of the binary data; None when its data are in the JSON object."""
        where = (INPUTS, index, "parameters")
        parameters = document.get("parameters")
        if parameters is None:
            return None
        if not isinstance(parameters, dict):
            self._fault(f"is {kind(parameters)}; an object is expected", *where)
            return None
        if any(key.startswith("shared_memory") for key in parameters):
            self._fault("shared memory is not supported; send the data in the request", *where)
        size = parameters.get(BINARY_SIZE)
        if size is None:
            return None
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            self._fault("is a whole number of bytes", *where, BINARY_SIZE)
        elif "data" in document:
            self._fault("a tensor has either data or binary data", *where, BINARY_SIZE)
        elif size > len(self._binary) - self._offset:
            left = len(self._binary) - self._offset
            self._fault(
                f"{left} bytes are left after the JSON object; see the header {HEADER_LENGTH}", *where, BINARY_SIZE
            )
        else:
            self._offset += size
            return self._binary[self._offset - size : self._offset]
        return None

    def _from_bytes(self, index: int, datatype: str, n: int, raw: bytes) -> list[Any] | None:
        if datatype == "BYTES":
            return self._texts(index, n, raw)
        dtype = np.dtype(_DTYPES[datatype])
        if len(raw) != n * dtype.itemsize:
            expected = f"{n} values of {datatype} take {n * dtype.itemsize}"
            self._fault(f"is not the size of the tensor: {expected}", INPUTS, index, "parameters", BINARY_SIZE)
            return None
        array = np.frombuffer(raw, dtype=dtype)
        if datatype == "BOOL":
            for at in np.flatnonzero(array > 1).tolist():
                self._fault("a BOOL is a byte of 0 or 1", INPUTS, index, "data", at)
            array = array.astype(bool)
        values: list[Any] = _floats(array) if dtype.kind == "f" else array.tolist()
        return values

    def _texts(self, index: int, n: int, raw: bytes) -> list[Any] | None:
        texts: list[str] = []
        at = 0
        try:
            while at < len(raw):
                (length,) = _LENGTH.unpack_from(raw, at)
                at += _LENGTH.size + length
                texts.append(raw[at - length : at].decode())
        except (struct.error, UnicodeDecodeError):
            self._fault("an element is a length (uint32) and as many bytes of UTF-8", INPUTS, index, "data", len(texts))
            return None
        if at != len(raw) or len(texts) != n:
            self._fault(f"holds {len(texts)} elements, its shape {n}", INPUTS, index, "data")
            return None
        return texts

    def _from_json(self, index: int, name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Tensor | None:
        if not isinstance(data, list):
            self._fault(f"is {kind(data)}; an array of values is expected", INPUTS, index, "data")
            return None
        nested = len(shape) == 2 and bool(data) and isinstance(data[0], list)
        values = data
        if nested:
            for row, inner in enumerate(data):
                if not isinstance(inner, list) or len(inner) != shape[1]:
                    self._fault(f"is no row of {shape[1]} values", INPUTS, index, "data", row)
                    return None
            values = [value for inner in data for value in inner]
        if len(values) != math.prod(shape):
            self._fault(f"holds {len(values)} values, its shape {math.prod(shape)}", INPUTS, index, "data")
            return None
        tensor = Tensor(index, name, shape, values, nested)
        before = len(self.errors)
        converted = _CHECKS.get(datatype, _whole)(datatype, values, lambda at, why: self._at(tensor, at, why))
        return None if len(self.errors) > before else Tensor(index, name, shape, converted, nested)

    def _at(self, tensor: Tensor, at: int, detail: str) -> None:
        self.errors.append(FieldError(tensor.place(*divmod(at, tensor.width)), detail))

    def _fault(self, detail: str, *where: str | int) -> None:
        self.errors.append(FieldError(pointer(*where), detail))


_Complain = Callable[[int, str], None]


def _floating(datatype: str, values: list[Any], complain: _Complain) -> list[Any]:
    """JSON values of a floating datatype, rounded to it."""
    kinds = set(map(type, values))
    if bool in kinds:
        for at in (at for at, value in enumerate(values) if isinstance(value, bool)):
            complain(at, f"is a boolean; {datatype} is a number or null")
    if datatype == "FP64" or not kinds <= {int, float, type(None)}:
        return values
    # an integer may be beyond every float
    held = [None if v is None else float(v) if abs(v) < 1e300 else math.inf for v in values]
    with np.errstate(over="ignore"):
        return _floats(np.array(held, dtype=np.float64).astype(_DTYPES[datatype]))


def _floats(array: np.ndarray[Any, np.dtype[Any]]) -> list[Any]:
    """Values of a floating array as float64: NaN is missing, and infinity is out of every range."""
    values: list[Any] = array.astype(np.float64).tolist()
    if np.isfinite(array).all():
        return values
    return [value if math.isfinite(value) else None if math.isnan(value) else BEYOND_FLOAT for value in values]


def _whole(datatype: str, values: list[Any], complain: _Complain) -> list[Any]:
    """JSON values of an integer datatype."""
    limits = np.iinfo(_DTYPES[datatype])
    low, high = int(limits.min), int(limits.max)
    for at, value in enumerate(values):
        if isinstance(value, bool):
            complain(at, f"is a boolean; {datatype} is a whole number or null")
        elif isinstance(value, int | float) and (value % 1 or not low <= value <= high):
            complain(at, f"is no {datatype}: a whole number from {low} to {high}")
    return values


def _boolean(datatype: str, values: list[Any], complain: _Complain) -> list[Any]:
    for at, value in enumerate(values):
        if value is not None and not isinstance(value, bool):
            complain(at, f"is {kind(value)}; {datatype} is true, false or null")
    return values


def _text(datatype: str, values: list[Any], complain: _Complain) -> list[Any]:
    for at, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            complain(at, f"is {kind(value)}; {datatype} is text or null")
    return values


_CHECKS = {"FP16": _floating, "FP32": _floating, "FP64": _floating, "BOOL": _boolean, "BYTES": _text}


def encode_binary(datatype: str, values: Sequence[Any]) -> bytes:
    """Values of an output tensor as binary data."""
    if datatype == "BYTES":
        encoded = [value.encode() for value in values]
        return b"".join(_LENGTH.pack(len(value)) + value for value in encoded)
    return np.array(values, dtype=_DTYPES[datatype]).tobytes()
