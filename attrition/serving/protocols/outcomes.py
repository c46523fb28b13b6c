"""``POST /v1/outcomes``: who left and when, recorded beside the predictions.

The body is ``{"outcomes": [{"employee_id": ..., "left_on": ..., "observed_at": ...}]}``. The id is what the scoring
requests carry, the HR system's number or a pseudonym; ``left_on`` is a date, or null for a person who is still
employed; ``observed_at``, a time with a zone, may be left out and is then the time of recording. Either all outcomes
are accepted or none. Accepted means written to the replica's spool, with the promise of the prediction log; they are in
the table some seconds later. Sending the same outcomes again changes nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from attrition.data.schema import EMPLOYEE_ID
from attrition.serving.log_entries import Outcome
from attrition.serving.protocols.problems import FieldError, Problem, malformed, pointer, too_large

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH = "/v1/outcomes"

OUTCOMES = "outcomes"
"""Key of the array in a body."""

LEFT_ON, OBSERVED_AT = "left_on", "observed_at"
FIELDS = (EMPLOYEE_ID, LEFT_ON, OBSERVED_AT)

MAX_OUTCOMES = 1_000
"""Outcomes in one request; more are sent in several, or imported as a file."""

SOURCE = "api"
"""Source of the recorded statements."""

_MAX_ID_LENGTH = 128
_MAX_ID_NUMBER = 2**53
_MAX_CLOCK_SKEW_US = 60_000_000
_MAX_SHOWN = 64
_date = re.compile(r"\d{4}-\d{2}-\d{2}").fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OutcomeLog(Protocol):
    """Where accepted outcomes go; :class:`attrition.serving.prediction_log.PredictionLog` is one."""

    def pseudonym(self, employee_id: str | float | None, /) -> str | None:
        """What stands in for an id."""

    def append_outcomes(self, outcomes: list[Outcome], source: str) -> bool:
        """Write them; False when there is no room."""


def receive(log: OutcomeLog, body: bytes, *, now_us: int) -> bytes | Problem:
    """Accept the outcomes in a request body.

    Parameters
    ----------
    log
        Where they are written.
    body
        Of the request.
    now_us
        Unix time, microseconds; nothing can have been observed later, but for a minute of clock skew.

    Returns
    -------
    bytes, or Problem
        The JSON answer for status 202, or the problem that names everything wrong with the body.
    """
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        return malformed(str(error) if body.strip() else "the body is empty")
    except (UnicodeDecodeError, RecursionError):
        return malformed("the body is not UTF-8, or nested too deeply")
    items = document.get(OUTCOMES) if isinstance(document, dict) else None
    if isinstance(items, list) and len(items) > MAX_OUTCOMES:
        return too_large(f"{len(items)} outcomes; at most {MAX_OUTCOMES} fit in one request, send several")
    errors = tuple(_errors(document, now_us))
    if errors:
        n = len(errors)
        detail = f"{n} field{' is' if n == 1 else 's are'} not valid; nothing was recorded"
        return Problem(422, "invalid-outcomes", "Outcomes are not as they should be", detail, errors)
    assert isinstance(items, list)
    if not log.append_outcomes([_outcome(log, item) for item in items], SOURCE):
        headers = ((b"retry-after", b"10"),)
        detail = "the spool is full or its disk refuses; nothing was recorded, send it again later"
        return Problem(503, "log-full", "Outcomes cannot be stored at the moment", detail, headers=headers)
    return msgspec.json.encode({"accepted": len(items)})


def not_audited() -> Problem:
    """What cannot be recorded is not done."""
    headers = ((b"retry-after", b"10"),)
    detail = "imports of outcomes are recorded, and the audit log does not answer; nothing was accepted"
    return Problem(503, "audit-unavailable", "The outcomes cannot be recorded", detail, headers=headers)


def _outcome(log: OutcomeLog, item: dict[str, Any]) -> Outcome:
    observed_at = item.get(OBSERVED_AT)
    pseudonym = log.pseudonym(item[EMPLOYEE_ID])
    assert pseudonym is not None
    return Outcome(pseudonym, item[LEFT_ON], None if observed_at is None else _microseconds(observed_at))


def _errors(document: Any, now_us: int) -> Iterator[FieldError]:
    """Everything that is wrong with a document, field by field."""
    if not isinstance(document, dict):
        yield FieldError("", f"the body is {_kind(document)}; an object with the array {OUTCOMES} is expected")
        return
    for key in document:
        if key != OUTCOMES:
            yield FieldError(pointer(_shown(key)), f"unknown field; only {OUTCOMES} is allowed here")
    items = document.get(OUTCOMES)
    if OUTCOMES not in document:
        yield FieldError(pointer(OUTCOMES), "is required")
    elif not isinstance(items, list):
        yield FieldError(pointer(OUTCOMES), f"is {_kind(items)}; an array of outcomes is expected")
    elif not items:
        yield FieldError(pointer(OUTCOMES), f"is empty; 1 to {MAX_OUTCOMES} outcomes are expected")
    else:
        for index, item in enumerate(items):
            yield from _item_errors(item, (OUTCOMES, index), now_us)


def _item_errors(item: Any, where: tuple[str | int, ...], now_us: int) -> Iterator[FieldError]:
    if not isinstance(item, dict):
        yield FieldError(pointer(*where), f"is {_kind(item)}; an outcome is an object")
        return
    for key in item:
        if key not in FIELDS:
            yield FieldError(pointer(*where, _shown(key)), f"unknown field; known: {', '.join(FIELDS)}")
    checks = {EMPLOYEE_ID: _id_error(item), LEFT_ON: _left_on_error(item), OBSERVED_AT: _time_error(item, now_us)}
    for name, detail in checks.items():
        if detail:
            yield FieldError(pointer(*where, name), detail)


def _id_error(item: dict[str, Any]) -> str:
    value = item.get(EMPLOYEE_ID)
    if value is None:
        return "is required"
    if isinstance(value, str):
        fits = value.strip() and len(value) <= _MAX_ID_LENGTH
        return "" if fits else f"is {len(value)} characters long; 1 to {_MAX_ID_LENGTH} are allowed, not all blank"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= _MAX_ID_NUMBER and value % 1 == 0:
        return ""
    return f"is {_kind(value)}; text or a whole number from 0 to {_MAX_ID_NUMBER} is expected"


def _left_on_error(item: dict[str, Any]) -> str:
    if LEFT_ON not in item:
        return "is required; null says that the person is still employed"
    value = item[LEFT_ON]
    if value is None:
        return ""
    try:
        is_date = isinstance(value, str) and _date(value) is not None and date.fromisoformat(value)
    except ValueError:
        is_date = False
    return "" if is_date else "is no date; YYYY-MM-DD or null is expected"


def _time_error(item: dict[str, Any], now_us: int) -> str:
    value = item.get(OBSERVED_AT)
    if value is None:
        return ""
    try:
        moment = _microseconds(value)
    except (TypeError, ValueError, OverflowError):
        return "is no time with a zone; YYYY-MM-DDThh:mm:ssZ is expected"
    return "lies in the future; give when it was observed" if moment > now_us + _MAX_CLOCK_SKEW_US else ""


def _microseconds(text: str) -> int:
    """Unix time of an ISO 8601 time with a zone; raises ValueError, TypeError or OverflowError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    passed = moment - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds


def _kind(value: Any) -> str:
    """JSON type of a value, with its article."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "text", list: "an array", dict: "an object"}
    return kinds.get(type(value), "a number")


def _shown(key: str) -> str:
    """A caller's field name, short enough for a message."""
    return key if len(key) <= _MAX_SHOWN else key[:_MAX_SHOWN] + "..."


def path_item() -> dict[str, Any]:
    """The OpenAPI description of this path."""
    outcome = {
        "type": "object",
        "required": [EMPLOYEE_ID, LEFT_ON],
        "additionalProperties": False,
        "properties": {
            EMPLOYEE_ID: {
                "description": "As in scoring requests; stored as a pseudonym.",
                "anyOf": [
                    {"type": "string", "minLength": 1, "maxLength": _MAX_ID_LENGTH, "pattern": r"\S"},
                    {"type": "integer", "minimum": 0, "maximum": _MAX_ID_NUMBER},
                ],
            },
            LEFT_ON: {
                "description": "Last day of employment; null: still employed when observed.",
                "anyOf": [{"type": "string", "format": "date"}, {"type": "null"}],
            },
            OBSERVED_AT: {
                "description": "When this was known, not in the future; the time of recording when left out.",
                "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
            },
        },
    }
    body = {
        "type": "object",
        "required": [OUTCOMES],
        "additionalProperties": False,
        "properties": {OUTCOMES: {"type": "array", "minItems": 1, "maxItems": MAX_OUTCOMES, "items": outcome}},
    }
    accepted = {"type": "object", "required": ["accepted"], "properties": {"accepted": {"type": "integer"}}}
    example = {OUTCOMES: [{EMPLOYEE_ID: "E004217", LEFT_ON: "2024-03-31"}, {EMPLOYEE_ID: 4218, LEFT_ON: None}]}
    problem = {"application/problem+json": {"schema": {"type": "object"}}}
    statuses = {
        400: "The body is not JSON.",
        413: "Too many outcomes.",
        415: "Another content type than JSON.",
        422: "Outcomes are not valid; every bad field is named.",
        503: "There is no room to store them.",
    }
    return {
        "post": {
            "summary": "Record who left",
            "requestBody": {"required": True, "content": {"application/json": {"schema": body, "example": example}}},
            "responses": {
                "202": {"description": "All were accepted.", "content": {"application/json": {"schema": accepted}}},
                **{str(code): {"description": text, "content": problem} for code, text in statuses.items()},
            },
        }
    }
