"""Request bodies into feature rows: fast when a body is valid, thorough when it is not.

A valid body is decoded by msgspec straight into structs generated from the feature schema, which checks types, ranges
and names on the way. msgspec stops at its first complaint, so a body that it refuses is decoded again without types and
walked field by field: the caller learns every bad field of every record at once, by JSON pointer.

What a field accepts: a finite JSON number inside the schema's plausible range; a whole number for kinds ``integer`` and
``category``; 0, 1, false or true for ``binary``; null or absence for a feature that is not required. Text is never
read as a number. An unknown field is an error, because a misspelt one would otherwise be scored as missing; a category
code that training did not see is not an error, the model has a rule for it.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Optional, Union

import msgspec

from attrition.data.schema import EMPLOYEE_ID, Feature, FeatureSchema
from attrition.serving.protocols.problems import FieldError, Problem, invalid, malformed, pointer, too_large

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RECORDS = "records"
"""Key of the array in a body with many records."""

MAX_ID_LENGTH = 128
MAX_ID_NUMBER = 2**53
_MAX_SHOWN = 64
_MAX_DIGITS = 400
_MAX_HINTS = 20


class Batch(NamedTuple):
    """The records of one request."""

    records: list[Any]
    """One attribute per feature (float, bool or None) and ``employee_id`` (str, int, float or None)."""
    single: bool
    """The body was one record, not an array of them; the response has the same shape."""


class RecordCodec:
    """Decoder of request bodies for one feature schema.

    Parameters
    ----------
    schema
        Features that a record may have.
    max_records
        Largest number of records in one body.
    """

    def __init__(self, schema: FeatureSchema, *, max_records: int) -> None:
        self.schema = schema
        self.max_records = max_records
        fields = [(EMPLOYEE_ID, Optional[_EmployeeId], None), *map(_field, schema.features)]  # noqa: UP045 - a runtime value
        # required fields first: msgspec orders positional defaults like a function signature
        fields.sort(key=len)
        record = msgspec.defstruct("Record", fields, forbid_unknown_fields=True, kw_only=True, gc=False)
        envelope = msgspec.defstruct("Records", [(RECORDS, list[record])], forbid_unknown_fields=True)  # type: ignore[valid-type]
        self._features = selector(schema.names)
        self._first = attrgetter(schema.names[0])
        self._blank = (None,) * len(schema.names)
        self._decode_one: Callable[[bytes], Any] = msgspec.json.Decoder(record).decode
        self._decode_many: Callable[[bytes], Any] = msgspec.json.Decoder(envelope).decode

    def decode(self, body: bytes) -> Batch | Problem:
        """The records of a body, or the problem that names everything wrong with it."""
        # a mention decides which form is tried first; an id may be called "records" too
        for form in (self._many, self._one) if b'"records"' in body else (self._one, self._many):
            try:
                batch = form(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if batch is not None:
                return batch
        return self._explain(body)

    def _one(self, body: bytes) -> Batch | None:
        record = self._decode_one(body)
        # a record that says nothing about anybody: its score would be that of no one
        is_blank = self._first(record) is None and self._features(record) == self._blank
        return None if is_blank else Batch([record], single=True)

    def _many(self, body: bytes) -> Batch | None:
        records = self._decode_many(body).records
        if not 0 < len(records) <= self.max_records:
            return None
        if None in map(self._first, records) and self._blank in map(self._features, records):
            return None
        return Batch(records, single=False)

    def _explain(self, body: bytes) -> Problem:
        """Everything that is wrong with a body that `decode` refused."""
        document = _parse(body)
        if isinstance(document, Problem):
            return document
        if not isinstance(document, dict):
            detail = f"the body is {_kind(document)}; a record or an object with the array {RECORDS} is expected"
            return invalid((FieldError("", detail),))
        if RECORDS not in document:
            return self._report(_record_errors(self.schema, document, (), iter(range(_MAX_HINTS))))
        records = document[RECORDS]
        if not isinstance(records, list):
            return invalid((FieldError(pointer(RECORDS), f"is {_kind(records)}; an array of records is expected"),))
        if len(records) > self.max_records:
            return too_large(f"{len(records)} records; at most {self.max_records} fit in one request, send several")
        errors = [
            FieldError(pointer(_shown(key)), f"unknown field; beside {RECORDS} nothing is allowed here")
            for key in document
            if key != RECORDS
        ]
        if not records:
            errors.append(FieldError(pointer(RECORDS), f"is empty; 1 to {self.max_records} records are expected"))
        hints = iter(range(_MAX_HINTS))
        for index, record in enumerate(records):
            errors.extend(_record_errors(self.schema, record, (RECORDS, index), hints))
        return self._report(errors)

    @staticmethod
    def _report(errors: Iterator[FieldError] | Sequence[FieldError]) -> Problem:
        found = tuple(errors)
        # the walk above and the generated structs state the same rules twice; should they ever differ, still refuse
        return invalid(found or (FieldError("", "the record does not fit the schema; see /openapi.json"),))


def _parse(body: bytes) -> Any | Problem:
    """The document in a body, read leniently: NaN and Infinity become markers that are reported where they stand."""
    try:
        return json.loads(body.decode(), parse_int=_parse_int, parse_constant=_NotANumber)
    except RecursionError:
        return malformed("the body is nested too deeply; a record is a flat object")
    except UnicodeDecodeError as error:
        return malformed(f"the body is not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        return malformed(str(error) if body.strip() else "the body is empty")


def selector(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Function that takes the named features from a decoded record, in order."""
    if len(names) == 1:
        get = attrgetter(names[0])
        return lambda record: (get(record),)
    return attrgetter(*names)


def request_schema(schemas: Sequence[FeatureSchema]) -> FeatureSchema:
    """Schema of a request that may be answered by any of several versions.

    What a caller may send must not depend on which variant a record is drawn to. So the request has the features of
    all versions; a feature is required when any version requires it, and its range is the widest of theirs.
    """
    merged: dict[str, Feature] = {}
    for feature in (feature for schema in schemas for feature in schema.features):
        known = merged.get(feature.name)
        merged[feature.name] = feature if known is None else _widest(known, feature)
    return schemas[0].model_copy(update={"features": tuple(merged.values())})


def _widest(one: Feature, other: Feature) -> Feature:
    (low, high), (other_low, other_high) = one.bounds, other.bounds
    low, high = min(low, other_low), max(high, other_high)
    same = one.kind == other.kind
    return one.model_copy(
        update={
            "kind": one.kind if same else "continuous",
            "minimum": None if low == float("-inf") else low,
            "maximum": None if high == float("inf") else high,
            "categories": one.categories if one.categories == other.categories and same else None,
            "required": one.required or other.required,
        }
    )


_EmployeeId = Union[  # noqa: UP007 - a runtime value
    Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)],
    Annotated[int, msgspec.Meta(ge=0, le=MAX_ID_NUMBER)],
    # 7.0 is an integer to JSON Schema, and what pandas makes of ids when one is missing
    Annotated[float, msgspec.Meta(ge=0, le=MAX_ID_NUMBER, multiple_of=1)],
]
_LARGEST = sys.float_info.max
_WHOLE = ("integer", "category", "binary")


def _field(feature: Feature) -> tuple[str, Any] | tuple[str, Any, Any]:
    """Struct field of a feature."""
    low, high = feature.bounds
    kind: Any = Annotated[
        float,
        msgspec.Meta(
            ge=None if low == float("-inf") else low,
            le=None if high == float("inf") else high,
            multiple_of=1.0 if feature.kind in _WHOLE else None,
        ),
    ]
    if feature.kind == "binary":
        kind = Union[kind, bool]  # noqa: UP007 - a runtime value
    return (feature.name, kind) if feature.required else (feature.name, Optional[kind], None)  # noqa: UP045


def _record_errors(
    schema: FeatureSchema, record: Any, where: tuple[str | int, ...], hints: Iterator[int]
) -> Iterator[FieldError]:
    """Every bad field of one record; `hints` limits the suggestions, whose search is slow, per request."""
    if not isinstance(record, dict):
        yield FieldError(pointer(*where), f"is {_kind(record)}; a record is an object")
        return
    known = (EMPLOYEE_ID, *schema.names)
    for key in record:
        if key not in known:
            close = get_close_matches(key[:_MAX_SHOWN], known, n=1) if next(hints, None) is not None else []
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            yield FieldError(pointer(*where, _shown(key)), f"unknown field; {hint}")
    identity = _identity_error(record.get(EMPLOYEE_ID))
    if identity:
        yield FieldError(pointer(*where, EMPLOYEE_ID), identity)
    for feature in schema.features:
        detail = _value_error(feature, record.get(feature.name))
        if detail:
            yield FieldError(pointer(*where, feature.name), detail)
    if all(record.get(name) is None for name in schema.names):
        yield FieldError(pointer(*where), f"has no value of any feature; known: {', '.join(schema.names)}")


def _identity_error(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        fits = 0 < len(value) <= MAX_ID_LENGTH
        return "" if fits else f"is {len(value)} characters long; 1 to {MAX_ID_LENGTH} are allowed"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= MAX_ID_NUMBER and value % 1 == 0:
        return ""
    return f"is {_kind(value)}; text or a whole number from 0 to {MAX_ID_NUMBER} is expected"


def _value_error(feature: Feature, value: Any) -> str:
    """What is wrong with a value, without the value; empty when nothing is."""
    if value is None:
        return "is required" if feature.required else ""
    if isinstance(value, bool) and feature.kind == "binary":
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"is {_kind(value)}; {_expected(feature)} is expected"
    low, high = feature.bounds
    if not low <= value <= high or abs(value) > _LARGEST:
        return f"is out of the plausible range; {_expected(feature)} is expected"
    if feature.kind in _WHOLE and value % 1:
        return f"is not a whole number; {_expected(feature)} is expected"
    return ""


def _expected(feature: Feature) -> str:
    """What a feature accepts, in words."""
    if feature.kind == "binary":
        return "0, 1, false or true"
    low, high = feature.bounds
    noun = "a whole number" if feature.kind in _WHOLE else "a number"
    if low == float("-inf") and high == float("inf"):
        span = ""
    elif high == float("inf"):
        span = f" of at least {low:g}"
    elif low == float("-inf"):
        span = f" of at most {high:g}"
    else:
        span = f" from {low:g} to {high:g}"
    return f"{noun}{span}{f' ({feature.unit})' if feature.unit else ''}"


def _kind(value: Any) -> str:
    """JSON type of a value, with its article."""
    if isinstance(value, _NotANumber):
        return f"{value.literal}, which is not JSON (write null for a missing value)"
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "text", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def _shown(key: str) -> str:
    """A caller's field name, short enough for a message."""
    # half a surrogate pair can be written in JSON but not sent back as UTF-8
    printable = key.encode("utf-8", "replace").decode()
    return printable if len(printable) <= _MAX_SHOWN else printable[:_MAX_SHOWN] + "..."


@dataclass(frozen=True, slots=True)
class _NotANumber:
    """What stands for the literals NaN and Infinity, which Python's parser knows and JSON does not."""

    literal: str


def _parse_int(digits: str) -> float:
    # Python refuses to convert thousands of digits; as a float they are infinite, which is reported like 1e999
    return int(digits) if len(digits) < _MAX_DIGITS else float(digits)
