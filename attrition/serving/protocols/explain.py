"""``POST /v1/explain``: why a version estimates what it does, for a logged prediction or for a given record.

The body is ``{"prediction_id": ...}``, and the version that answered explains its answer; or ``{"record": {...}}``,
optionally with the ``"version"`` that shall explain it (otherwise the one with the largest share of the traffic does).
A record has the fields of a scoring request. The answer has the base value, the contribution of every feature, the
five largest in plain words, and how they add up to the probability that was served.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass

import msgspec

from attrition.serving.identifiers import made_at
from attrition.serving.protocols.problems import FieldError, Problem, malformed, pointer

PATH = "/v1/explain"

PREDICTION_ID, RECORD, VERSION = "prediction_id", "record", "version"
FIELDS = (PREDICTION_ID, RECORD, VERSION)

_MAX_SHOWN = 64
_version = re.compile(r"[0-9A-Za-z.+-]{1,64}", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What shall be explained: a prediction, or a record.

    Attributes
    ----------
    prediction_id : str
        In lower case; empty for a record.
    record : bytes
        JSON of the record; empty for a prediction.
    version : str
        That shall explain the record; empty when the caller does not mind.
    """

    prediction_id: str = ""
    record: bytes = b""
    version: str = ""

    @property
    def subject(self) -> str:
        """What the audit log calls it: never a value of the record."""
        return f"prediction {self.prediction_id}" if self.prediction_id else "record"


def parse(body: bytes) -> ExplainRequest | Problem:
    """The request in a body, or the problem that names everything wrong with it; the record itself is not looked at."""
    try:
        document = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return malformed(str(error) if body.strip() else "the body is empty")
        return _invalid([FieldError("", f"is no object; one with {PREDICTION_ID} or {RECORD} is expected")])
    errors = [
        FieldError(pointer(key[:_MAX_SHOWN]), f"unknown field; known: {', '.join(FIELDS)}")
        for key in document
        if key not in FIELDS
    ]
    given = {name: _text(document[name]) for name in (PREDICTION_ID, VERSION) if name in document}
    has_record = RECORD in document and bytes(document[RECORD]) != b"null"
    prediction_id = given.get(PREDICTION_ID)
    if (PREDICTION_ID in given) == has_record:
        found = "both are given" if has_record else "neither is given"
        errors.append(FieldError("", f"{found}; either {PREDICTION_ID} or {RECORD} is expected"))
    if PREDICTION_ID in given and not is_prediction_id(prediction_id):
        errors.append(FieldError(pointer(PREDICTION_ID), "is no UUID of version 7, as scoring answers have it"))
    if VERSION in given and not _version(given[VERSION] or ""):
        errors.append(FieldError(pointer(VERSION), "is no version; text such as 1.0.0 is expected"))
    if VERSION in given and PREDICTION_ID in given:
        errors.append(FieldError(pointer(VERSION), "belongs to a record; a prediction is explained by its own version"))
    if errors:
        return _invalid(errors)
    if prediction_id:
        return ExplainRequest(prediction_id=prediction_id.lower())
    return ExplainRequest(record=bytes(document[RECORD]), version=given.get(VERSION) or "")


def is_prediction_id(text: str | None) -> bool:
    """Whether a text has the form of a prediction's identifier."""
    try:
        return text is not None and len(text) == 36 and uuid.UUID(text).version == 7 and bool(made_at(text))
    except (ValueError, OverflowError):  # its time may lie beyond the calendar
        return False


def within_record(problem: Problem) -> Problem:
    """A problem of the record alone as one of the whole body."""
    errors = tuple(FieldError(f"/{RECORD}{error.pointer}", error.detail) for error in problem.errors)
    n = len(errors)
    detail = f"{n} field{' is' if n == 1 else 's are'} not valid; nothing was explained" if n else problem.detail
    return Problem(problem.status, problem.kind, problem.title, detail, errors, problem.headers)


def several_records() -> Problem:
    """The record is an array of them."""
    return _invalid([FieldError(pointer(RECORD), "holds several records; one at a time is explained")])


def unknown_prediction() -> Problem:
    """No such prediction was logged."""
    detail = "no prediction with this id is recorded; it may be past its retention, erased, or of another endpoint"
    return Problem(404, "unknown-prediction", "The prediction is not known", detail)


def not_recorded_yet(seconds: int) -> Problem:
    """The prediction is so young that it may be on its way to the table."""
    headers = ((b"retry-after", str(seconds).encode()),)
    detail = f"if it was answered, it will be found soon: ask again in {seconds} seconds"
    return Problem(409, "not-recorded-yet", "The prediction is not recorded yet", detail, headers=headers)


def not_logged() -> Problem:
    """The endpoint keeps no predictions."""
    detail = f"this endpoint records no predictions; send the {RECORD} itself"
    return Problem(409, "not-logged", "Predictions are not recorded", detail)


def log_unreadable(seconds: int) -> Problem:
    """The table of predictions does not answer."""
    headers = ((b"retry-after", str(seconds).encode()),)
    detail = f"the record of predictions cannot be read; ask again in {seconds} seconds, or send the {RECORD} itself"
    return Problem(503, "log-unreadable", "The prediction cannot be looked up at the moment", detail, headers=headers)


def features_removed() -> Problem:
    """Retention has removed what was scored."""
    detail = "the features of this prediction were removed by retention; only its probability is kept"
    return Problem(410, "features-removed", "The prediction can no longer be explained", detail)


def version_not_served(version: str, served: list[str]) -> Problem:
    """The version is not among the variants."""
    detail = f"version {version} is not served here ({', '.join(served)} are); `attrition explain` reads the registry"
    return Problem(409, "version-not-served", "The version is not served", detail)


def not_explainable(version: str) -> Problem:
    """The version was registered before explanations were stored with it."""
    detail = f"version {version} was registered without the data that explanations need; train and register it again"
    return Problem(409, "not-explainable", "The version cannot be explained", detail)


def does_not_add_up() -> Problem:
    """The check failed; a wrong explanation is worse than none."""
    detail = "the contributions do not add up to the probability that was served; nothing is explained"
    return Problem(500, "does-not-add-up", "The explanation is not exact", detail)


def not_audited() -> Problem:
    """What cannot be recorded is not done."""
    headers = ((b"retry-after", b"10"),)
    detail = "explanations are recorded, and the audit log does not answer; nothing was explained"
    return Problem(503, "audit-unavailable", "The explanation cannot be recorded", detail, headers=headers)


def busy(seconds: int) -> Problem:
    """No replica of the explainer answers: it starts, or has too much to do."""
    headers = ((b"retry-after", str(seconds).encode()),)
    detail = f"the explainer is starting or busy; ask again in {seconds} seconds"
    return Problem(503, "explainer-busy", "Explanations are not available at the moment", detail, headers=headers)


def _text(raw: msgspec.Raw) -> str | None:
    """The text that a value is; None when it is none."""
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _invalid(errors: list[FieldError]) -> Problem:
    n = len(errors)
    detail = f"{n} field{' is' if n == 1 else 's are'} not valid; nothing was explained"
    return Problem(422, "invalid-request", "The request is not as it should be", detail, tuple(errors))
