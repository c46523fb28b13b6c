"""Requests of other protocols as records of the native one: what every foreign protocol shares.

A foreign body is translated into a native body and answered by the native path. So a record gets the same probability,
the same strictness, the same traffic split and the same entry in the prediction log whatever protocol carried it: equal
by construction. The price is one more pass through a JSON encoder and decoder, half a millisecond for 1,000 records of
nine features. A complaint about a record is moved to where the caller wrote the value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import msgspec

from attrition.data.schema import EMPLOYEE_ID
from attrition.serving.protocols.problems import FieldError, Problem, invalid, malformed, too_large
from attrition.serving.records import RECORDS
from attrition.serving.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attrition.data.schema import FeatureSchema

Predict = Callable[[Snapshot, bytes], tuple[bytes, str] | Problem]
"""The native path: from a snapshot and a body to the answer and its versions; see ``Exchange.predict``."""

Place = Callable[[int, str | None], str | None]
"""From a record's number and a field to the JSON pointer of that value in the foreign body.

The field is None for the record as a whole; the answer is None for a value that was not sent or was complained about
before.
"""

BEYOND_FLOAT = 10**400
"""Stands for a number that no float64 holds; the native decoder reports it as out of range."""

_MAX_COLUMNS = 1_000
_MAX_SHOWN = 64
_MAX_DIGITS = 400
_MAX_HINTS = 20


@dataclass(frozen=True, slots=True)
class Rows:
    """The records of a foreign body.

    Attributes
    ----------
    records : sequence
        Native records: objects of features and ``employee_id``. Anything else is reported by the native decoder.
    place : callable
        Where the value of a record stands in the foreign body.
    errors : tuple of FieldError
        What is wrong with the foreign body around its values.
    """

    records: Sequence[Any]
    place: Place
    errors: tuple[FieldError, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """The native answer to :class:`Rows`.

    Attributes
    ----------
    predictions : bytes
        JSON array of :class:`~attrition.serving.protocols.native.Prediction`, in the order of the records.
    versions : str
        Versions that answered, comma-separated.
    """

    predictions: bytes
    versions: str


def parse(body: bytes | memoryview, *, nan_is_missing: bool = False) -> Any | Problem:
    """The JSON document in a body.

    What Python's own parser knows and JSON does not (NaN, Infinity, numbers beyond a float64) becomes a marker that
    :func:`answer` reports where it stands.

    Parameters
    ----------
    nan_is_missing
        The word NaN is read as null, because the protocol's own clients write it for a missing value.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    text = bytes(body)
    try:
        constant = _missing_or_literal if nan_is_missing else Literal
        return json.loads(text.decode(), parse_int=_parse_int, parse_float=_parse_float, parse_constant=constant)
    except RecursionError:
        return malformed("the body is nested too deeply")
    except UnicodeDecodeError as error:
        return malformed(f"the body is not UTF-8 (byte {error.start})")
    except json.JSONDecodeError as error:
        return malformed(str(error) if text.strip() else "the body is empty")


def answer(rows: Rows, snapshot: Snapshot, predict: Predict) -> Answers | Problem:
    """Predictions for all records, or everything that is wrong with the body; nothing is scored then."""
    single = len(rows.records) == 1 and isinstance(rows.records[0], dict) and RECORDS not in rows.records[0]
    try:
        body = _encode(rows.records[0] if single else {RECORDS: rows.records})
    except RecursionError:
        return malformed("the body is nested too deeply")
    if rows.errors:
        # the values are looked at as well, so that the caller learns everything at once
        checked = snapshot.codec.decode(body) if rows.records else None
        found = _moved(checked, rows.place, single=single) if isinstance(checked, Problem) else ()
        return invalid((*rows.errors, *found))
    answered = predict(snapshot, body)
    if isinstance(answered, Problem):
        found = _moved(answered, rows.place, single=single)
        return invalid(found) if found else answered
    content, versions = answered
    return Answers(b"[" + content + b"]" if single else _predictions(content), versions)


def too_many(n: int, max_records: int) -> Problem | None:
    """The problem of a body with more records than one request may hold, so that they need not be looked at."""
    if n <= max_records:
        return None
    return too_large(f"{n} records; at most {max_records} fit in one request, send several")


def column_errors(
    schema: FeatureSchema, names: Sequence[Any], place: Callable[[int], str], absent: str, noun: str = "column"
) -> list[FieldError]:
    """What is wrong with the names of columns.

    Parameters
    ----------
    names
        As sent; column i stands at ``place(i)``.
    absent
        Pointer for a required feature that has no column.
    noun
        What the protocol calls a column.
    """
    known = (EMPLOYEE_ID, *schema.names)
    if len(names) > max(_MAX_COLUMNS, len(known)):
        return [FieldError(absent, f"holds {len(names)} {noun}s; known: {', '.join(known)}")]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for index, name in enumerate(names):
        detail = ""
        if not isinstance(name, str):
            detail = f"the name of a {noun} is text"
        elif not name:
            detail = f"a {noun} has no name; a table is sent without its index"
        elif name in seen:
            detail = f"a {noun} of this name was given before"
        elif name not in known:
            close = get_close_matches(name[:_MAX_SHOWN], known, n=1) if len(errors) < _MAX_HINTS else []
            detail = f"unknown {noun}; {f'did you mean {close[0]}?' if close else 'known: ' + ', '.join(known)}"
        else:
            seen.add(name)
        if detail:
            errors.append(FieldError(place(index), detail))
    missing = [feature.name for feature in schema.features if feature.required and feature.name not in seen]
    errors.extend(FieldError(absent, f"the {noun} {name} is required") for name in missing)
    return errors


def shown(name: str) -> str:
    """A caller's name for something, short and printable."""
    # half a surrogate pair can be written in JSON but not sent back as UTF-8
    printable = name.encode("utf-8", "replace").decode()
    return printable if len(printable) <= _MAX_SHOWN else printable[:_MAX_SHOWN] + "..."


def kind(value: Any) -> str:
    """JSON type of a value, with its article."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "text", list: "an array", dict: "an object", Literal: "no JSON value"}
    return kinds.get(type(value), "a number")


class Literal:
    """The words NaN, Infinity and -Infinity in a body, which are not JSON."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word


def _missing_or_literal(word: str) -> Literal | None:
    return None if word == "NaN" else Literal(word)


def _moved(problem: Problem, place: Place, *, single: bool) -> tuple[FieldError, ...]:
    """The complaints about native records, at the places of the foreign body."""
    moved: dict[tuple[str, str], FieldError] = {}
    for error in problem.errors:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in error.pointer.split("/")[1:]]
        row, field = (0, parts) if single or len(parts) < 2 else (int(parts[1]), parts[2:])
        where = place(row, field[0] if field else None)
        if where is not None:
            moved[where, error.detail] = FieldError(where, error.detail)
    return tuple(moved.values())


def _encode(document: Any) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (TypeError, UnicodeEncodeError):
        # markers and half surrogate pairs, for the native decoder to complain about
        return json.dumps(document, default=lambda literal: float(literal.word)).encode()


def _predictions(content: bytes) -> bytes:
    """The array in a native answer to many records."""
    return bytes(msgspec.json.decode(content, type=_Predictions).predictions)


class _Predictions(msgspec.Struct):
    predictions: msgspec.Raw


def _parse_int(digits: str) -> int:
    # Python refuses to convert thousands of digits
    return int(digits) if len(digits) < _MAX_DIGITS else BEYOND_FLOAT


def _parse_float(digits: str) -> float | int:
    number = float(digits)
    return number if math.isfinite(number) else BEYOND_FLOAT
