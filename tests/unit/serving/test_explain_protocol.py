"""``POST /v1/explain``: what a request may say."""

from __future__ import annotations

import json
import uuid

import pytest

from attrition.serving.identifiers import new_prediction_id
from attrition.serving.protocols.explain import ExplainRequest, parse, within_record
from attrition.serving.protocols.problems import FieldError, Problem, invalid

ID = "018e2f5c-7a10-7cc3-98c4-dc0c0c07398f"


def asked(document):
    return parse(document if isinstance(document, bytes) else json.dumps(document).encode())


def test_a_prediction_or_a_record():
    """One of the two; a version only with a record."""
    assert asked({"prediction_id": ID.upper()}) == ExplainRequest(prediction_id=ID)
    assert asked({"prediction_id": new_prediction_id(), "record": None}).record == b""
    assert asked({"record": {"age": 40}}) == ExplainRequest(record=b'{"age": 40}')
    assert asked({"record": {"age": 40}, "version": "1.0.0"}).version == "1.0.0"


def test_the_audit_log_sees_no_values():
    """The subject names a prediction, or says that it was a record."""
    assert asked({"prediction_id": ID}).subject == f"prediction {ID}"
    assert asked({"record": {"age": 40}}).subject == "record"


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ({}, {""}),
        ({"prediction_id": ID, "record": {"age": 40}}, {""}),
        ({"prediction_id": ID, "version": "1.0.0"}, {"/version"}),
        ({"prediction_id": None}, {"/prediction_id"}),
        ({"prediction_id": 7}, {"/prediction_id"}),
        ({"prediction_id": "a name"}, {"/prediction_id"}),
        ({"prediction_id": str(uuid.UUID(int=4, version=4))}, {"/prediction_id"}),
        ({"prediction_id": "ffffffff-ffff-7cc3-98c4-dc0c0c07398f"}, {"/prediction_id"}),
        ({"prediction_id": ID.replace("-", "")}, {"/prediction_id"}),
        ({"record": None}, {""}),
        ({"record": {}, "version": ""}, {"/version"}),
        ({"record": {}, "version": "1" * 65}, {"/version"}),
        ({"record": {}, "version": 1}, {"/version"}),
        ({"id": 1, "model/version": 2}, {"", "/id", "/model~1version"}),
        ([], {""}),
        ("text", {""}),
    ],
)
def test_every_fault_is_named(document, pointers):
    """By pointer, all at once, without the values."""
    problem = asked(document)
    assert isinstance(problem, Problem)
    assert (problem.status, {error.pointer for error in problem.errors}) == (422, pointers)
    assert b"a name" not in problem.body


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"nan", b'{"record": {"age": NaN}}', b"[" * 100_000])
def test_what_is_not_json(body):
    """400, as everywhere."""
    assert asked(body).status == 400


def test_faults_of_a_record_point_into_the_body():
    """The record's own decoder does not know where it lies."""
    problem = within_record(invalid((FieldError("/age", "is required"), FieldError("", "has no value"))))
    assert [error.pointer for error in problem.errors] == ["/record/age", "/record"]
    assert problem.detail == "2 fields are not valid; nothing was explained"
