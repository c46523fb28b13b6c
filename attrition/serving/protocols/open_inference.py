"""The Open Inference Protocol, version 2, over HTTP: ``/v2`` and below.

One model, `MODEL_NAME`, whose versions are the served ones. Without a version in the path the traffic split decides, as
for ``/v1/predict``; with one, that version answers. A request has one tensor per feature, of shape [n] or [n, 1], or a
single tensor [n, k] with the features in schema order under any other name; beside them ``employee_id`` keeps a person
with the same variant. JSON null, and NaN in binary data, is a missing value. Outputs are the fields of a native
prediction, one value per record. Errors are ``{"error": text}``.

References
----------
Open Inference Protocol, HTTP/REST, and its binary tensor data extension.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from attrition import __version__
from attrition.data.schema import EMPLOYEE_ID
from attrition.serving.protocols import problems, tensors, translation
from attrition.serving.protocols.inference_requests import OUTPUTS, read_request
from attrition.serving.protocols.messages import Reply
from attrition.serving.protocols.problems import Problem
from attrition.serving.protocols.tensors import HEADER_LENGTH
from attrition.serving.traffic import Reason
from attrition.settings import MODEL_NAME

if TYPE_CHECKING:
    from attrition.serving.protocols.inference_requests import InferenceRequest
    from attrition.serving.protocols.messages import Call
    from attrition.serving.protocols.translation import Answers, Predict
    from attrition.serving.snapshot import Lane, Snapshot

ROOT = "/v2"
EXTENSIONS = ("binary_tensor_data",)

BINARY = b"application/octet-stream"

_MAX_SHOWN_ERRORS = 10


def owns(path: str) -> bool:
    """Whether a path belongs to this protocol."""
    return path == ROOT or path.startswith(ROOT + "/")


def refusal(problem: Problem) -> Reply:
    """An error in the form of this protocol; what the native interface answers with 422 is 400 here."""
    text = problem.detail or problem.title
    if problem.errors:
        listed = [f"{error.pointer or 'the body'} {error.detail}" for error in problem.errors[:_MAX_SHOWN_ERRORS]]
        left = len(problem.errors) - len(listed)
        text = f"{text}: {'; '.join(listed)}{f'; and {left} more' if left else ''}"
    status = 400 if problem.status == 422 else problem.status
    return Reply(status, msgspec.json.encode({"error": text}), headers=problem.headers)


def answer(call: Call, snapshot: Snapshot | None, predict: Predict) -> Reply:
    """The response to any request below ``/v2``."""
    target = _target(call.path)
    if target is None or call.method != target.verb:
        lost = _unknown("the paths of this service are listed at /docs")
        return refusal(problems.method_not_allowed(target.verb) if target else lost)
    if target.model is None:
        return _of_the_server(target.action, ready=snapshot is not None)
    if snapshot is None:
        return refusal(problems.not_ready("no version is loaded yet; ask again when /v2/health/ready answers 200"))
    lane = _lane(snapshot, target.model, target.version)
    if isinstance(lane, Problem):
        return refusal(lane)
    if target.action == "infer":
        return _infer(call, snapshot, lane, predict)
    return _reply({"name": MODEL_NAME, "ready": True} if target.action == "ready" else _metadata(snapshot, lane))


@dataclass(frozen=True, slots=True)
class _Target:
    action: str
    model: str | None = None
    version: str | None = None

    @property
    def verb(self) -> str:
        return "POST" if self.action == "infer" else "GET"


def _target(path: str) -> _Target | None:
    """What a path asks for; None when it is no path of the protocol."""
    match path.removeprefix(ROOT).split("/")[1:]:
        case []:
            return _Target("metadata")
        case ["health", ("live" | "ready") as health]:
            return _Target(health)
        case ["models", model, "versions", version, *rest] if tuple(rest) in _ACTIONS:
            return _Target(_ACTIONS[tuple(rest)], model, version)
        case ["models", model, *rest] if tuple(rest) in _ACTIONS:
            return _Target(_ACTIONS[tuple(rest)], model)
    return None


_ACTIONS = {(): "metadata", ("ready",): "ready", ("infer",): "infer"}


def _of_the_server(action: str, *, ready: bool) -> Reply:
    """Health and metadata of the server."""
    if action == "live":
        return _reply({"live": True})
    if action == "ready":
        return _reply({"live": True, "ready": ready}, 200 if ready else 503)
    return _reply({"name": "attrition", "version": __version__, "extensions": EXTENSIONS})


def _lane(snapshot: Snapshot, model: str, version: str | None) -> Lane | Problem | None:
    """The lane that a path names; None when it names no version."""
    if model != MODEL_NAME:
        return _unknown(f"unknown model; this service has {MODEL_NAME}")
    if version is None:
        return None
    for lane in _answering(snapshot):
        if lane.variant.version == version:
            return lane
    return _unknown(f"unknown version; served are {', '.join(_versions(snapshot))}")


def _answering(snapshot: Snapshot) -> list[Lane]:
    """Lanes that may answer; a shadow never does."""
    return [lane for lane in snapshot.lanes.values() if lane not in snapshot.shadows]


def _versions(snapshot: Snapshot) -> list[str]:
    return list(dict.fromkeys(lane.variant.version for lane in _answering(snapshot)))


def _metadata(snapshot: Snapshot, lane: Lane | None) -> dict[str, Any]:
    """Model metadata; every feature is announced as FP64, the datatype that can be missing."""
    names = (lane.bundle.schema if lane else snapshot.schema).names
    return {
        "name": MODEL_NAME,
        "versions": _versions(snapshot),
        "platform": "attrition",
        "inputs": [
            *({"name": name, "datatype": "FP64", "shape": [-1]} for name in names),
            {"name": EMPLOYEE_ID, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in OUTPUTS.items()],
    }


def _infer(call: Call, snapshot: Snapshot, lane: Lane | None, predict: Predict) -> Reply:
    if not call.is_json and call.media_type.encode() != BINARY:
        return refusal(problems.unsupported("send application/json, or application/octet-stream with binary tensors"))
    parts = _split(call)
    if isinstance(parts, Problem):
        return refusal(parts)
    text, binary = parts
    document = translation.parse(text)
    if isinstance(document, Problem):
        return refusal(document)
    schema = lane.bundle.schema if lane else snapshot.schema
    request = read_request(document, binary, schema, max_records=snapshot.codec.max_records)
    if isinstance(request, Problem):
        return refusal(request)
    chosen = _only(snapshot, lane) if lane else snapshot
    answers = translation.answer(request.rows, chosen, predict)
    return refusal(answers) if isinstance(answers, Problem) else _response(request, answers)


def _only(snapshot: Snapshot, lane: Lane) -> Snapshot:
    """The snapshot in which a version that the caller named takes the place of the split and of every pin."""
    split = replace(snapshot.split, pins={})
    return replace(snapshot, sole=lane, sole_reason=Reason.REQUESTED, split=split)


def _split(call: Call) -> tuple[bytes, bytes] | Problem:
    """JSON object and binary data of a body."""
    announced = call.headers.get(HEADER_LENGTH.lower().encode())
    if announced is None:
        return call.body, b""
    if not announced.isdigit() or len(announced) > 18 or int(announced) > len(call.body):
        return problems.malformed(f"{HEADER_LENGTH} is the length of the JSON object, at most that of the body")
    length = int(announced)
    return call.body[:length], call.body[length:]


def _response(request: InferenceRequest, answers: Answers) -> Reply:
    predictions: list[dict[str, Any]] = msgspec.json.decode(answers.predictions)
    outputs: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for name, as_binary in request.outputs.items():
        values = [prediction[name] for prediction in predictions]
        tensor: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": [len(values)]}
        if as_binary:
            data = tensors.encode_binary(OUTPUTS[name], values)
            tensor["parameters"] = {tensors.BINARY_SIZE: len(data)}
            binary.append(data)
        else:
            tensor["data"] = values
        outputs.append(tensor)
    served = {
        key: ", ".join(sorted({prediction[key] for prediction in predictions}))
        for key in ("model_version", "variant", "reason")
    }
    document = {
        "model_name": MODEL_NAME,
        # of several versions each record has its own in the output of that name
        **({"model_version": answers.versions} if "," not in answers.versions else {}),
        **({"id": request.id} if request.id is not None else {}),
        "parameters": served,
        "outputs": outputs,
    }
    headers = ((b"x-model-version", answers.versions.encode()),)
    content = msgspec.json.encode(document)
    if not binary:
        return Reply(200, content, headers=headers)
    length = (HEADER_LENGTH.lower().encode(), str(len(content)).encode())
    return Reply(200, content + b"".join(binary), BINARY, (*headers, length))


def _unknown(detail: str) -> Problem:
    return Problem(404, "not-found", "Nothing is here", detail)


def _reply(document: dict[str, Any], status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(document))
