"""MLflow's scoring protocol: ``/invocations``, ``/ping``, ``/health`` and ``/version``.

A body is JSON with exactly one of ``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs``, or CSV with
a header line. A row without names holds the features in schema order. A missing value is null, the word NaN that
MLflow's client writes into its JSON, or an empty cell of CSV, where NaN and NA are text. ``employee_id`` is an
ordinary column. The answer is ``{"predictions": [...]}`` with the native predictions, which MLflow's client reads into
a data frame. Errors are problem documents, as in the native interface.

References
----------
MLflow documentation, "Deploy MLflow Model as a Local Inference Server": accepted formats.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attrition import __version__
from attrition.serving.protocols import frames, problems, translation
from attrition.serving.protocols.messages import Reply
from attrition.serving.protocols.problems import FieldError, Problem, pointer
from attrition.serving.protocols.translation import Rows, kind

if TYPE_CHECKING:
    from attrition.serving.protocols.messages import Call
    from attrition.serving.protocols.translation import Predict
    from attrition.serving.records import RecordCodec
    from attrition.serving.snapshot import Snapshot

INVOCATIONS = "/invocations"
PINGS = ("/ping", "/health")
VERSION = "/version"

CSV = "text/csv"
_TEXT = b"text/plain; charset=utf-8"


def owns(path: str) -> bool:
    """Whether a path belongs to this protocol."""
    return path in {INVOCATIONS, VERSION, *PINGS}


def refusal(problem: Problem) -> Reply:
    """An error in the form of this protocol."""
    return Reply(problem.status, problem.body, problems.CONTENT_TYPE, problem.headers)


def answer(call: Call, snapshot: Snapshot | None, predict: Predict) -> Reply:
    """The response to any request of this protocol."""
    allowed = {INVOCATIONS: ("POST",), VERSION: ("GET",)}.get(call.path, ("GET", "POST"))
    if call.method not in allowed:
        return refusal(problems.method_not_allowed(", ".join(allowed)))
    if call.path == VERSION:
        return Reply(200, __version__.encode(), _TEXT)
    if snapshot is None:
        return refusal(problems.not_ready("ask again when /ping answers 200"))
    if call.path in PINGS:
        return Reply(200, b"\n", _TEXT)
    rows = _rows(call, snapshot.codec)
    answers = rows if isinstance(rows, Problem) else translation.answer(rows, snapshot, predict)
    if isinstance(answers, Problem):
        return refusal(answers)
    headers = ((b"x-model-version", answers.versions.encode()),)
    return Reply(200, b'{"predictions":' + answers.predictions + b"}", headers=headers)


def _rows(call: Call, codec: RecordCodec) -> Rows | Problem:
    if call.charset not in {"utf-8", "utf8", "us-ascii"}:
        return _unsupported("send UTF-8")
    if call.media_type == CSV:
        return frames.from_csv(call.body, codec)
    if not call.is_json:
        return _unsupported(f"send application/json or {CSV}")
    document = translation.parse(call.body, nan_is_missing=True)
    return document if isinstance(document, Problem) else _from_document(document, codec)


def _from_document(document: Any, codec: RecordCodec) -> Rows | Problem:
    """Records of a JSON body in any of the four formats."""
    formats = ", ".join(_FORMATS)
    if not isinstance(document, dict):
        return frames.broken(FieldError("", f"is {kind(document)}; an object with one of {formats} is expected"))
    given = [key for key in _FORMATS if key in document]
    errors = []
    if any(key not in _FORMATS and key != "params" for key in document):
        errors.append(FieldError("", f"has an unknown key; known: {formats}"))
    if document.get("params"):
        errors.append(FieldError(pointer("params"), "is not empty; this model has no parameters"))
    if len(given) != 1:
        errors.append(FieldError("", f"has {len(given)} of {formats}; exactly one is expected"))
        return frames.broken(*errors)
    rows = _FORMATS[given[0]](document[given[0]], codec, given[0])
    return rows if isinstance(rows, Problem) else replace(rows, errors=(*errors, *rows.errors))


_FORMATS = {
    "dataframe_split": frames.from_split,
    "dataframe_records": frames.from_records,
    "instances": frames.from_rows,
    "inputs": frames.from_inputs,
}


def _unsupported(detail: str) -> Problem:
    headers = ((b"accept", b"application/json, text/csv"), (b"accept-encoding", b"identity"))
    return replace(problems.unsupported(detail), headers=headers)
