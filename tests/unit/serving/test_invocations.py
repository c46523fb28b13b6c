"""MLflow's scoring protocol: every format, every way to get one wrong."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from attrition import __version__
from attrition.serving.exchange import Exchange
from attrition.serving.protocols import invocations
from attrition.serving.protocols.invocations import answer
from attrition.serving.protocols.messages import Call


def predict(snapshot, body):
    """The native path, without a request around it."""
    return Exchange(snapshot, "/", (), b"").predict(snapshot, body)


NAMES = ["age", "projects", "promoted", "department"]
ROWS = [[40.5, 2, 1, 7], [20.25, None, 0, 9], [90.0, 50, None, None]]
RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
COLUMNS = {name: [row[at] for row in ROWS] for at, name in enumerate(NAMES)}
FRAME = pd.DataFrame(ROWS, columns=NAMES)


@pytest.fixture
def snapshot(endpoint):
    return endpoint.gateway.snapshot


@pytest.fixture
def ask(snapshot):
    """Function that sends a document or bytes."""

    def send(body, content_type=b"application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {b"content-type": content_type} if content_type else {}
        reply = answer(Call("POST", "/invocations", headers, body), snapshot, predict)
        return reply.status, json.loads(reply.body)

    return send


def pointers(document):
    found = {}
    for error in document["errors"]:
        found[error["pointer"]] = f"{found.get(error['pointer'], '')}{error['detail']}\n"
    return found


def probabilities(document):
    return [prediction["probability"] for prediction in document["predictions"]]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": NAMES, "data": ROWS}},
        {"dataframe_split": {"columns": NAMES, "data": ROWS, "index": [5, 6, 7]}},
        {"dataframe_split": {"data": ROWS}},
        {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1] for row in ROWS]}},
        {"dataframe_records": RECORDS},
        {"instances": RECORDS},
        {"instances": ROWS},
        {"inputs": ROWS},
        {"inputs": RECORDS},
        {"inputs": COLUMNS},
        {"inputs": COLUMNS, "params": {}},
    ],
)
def test_every_format_equals_the_native_answer(snapshot, ask, body):
    """The same records, bit for bit."""
    told = json.loads(predict(snapshot, json.dumps({"records": RECORDS}).encode())[0])
    status, document = ask(body)
    assert status == 200
    assert list(document) == ["predictions"]
    assert probabilities(document) == probabilities(told)


@pytest.mark.parametrize("content_type", [b"text/csv", b"text/csv; charset=utf-8", b"Text/CSV"])
@pytest.mark.parametrize(
    "change", [lambda text: text, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text]
)
def test_csv_equals_the_native_answer(snapshot, ask, content_type, change):
    """As pandas writes it: empty cells are missing, a byte order mark and other line ends do not matter."""
    told = json.loads(predict(snapshot, json.dumps({"records": RECORDS}).encode())[0])
    status, document = ask(change(FRAME.to_csv(index=False)).encode(), content_type)
    assert status == 200
    assert probabilities(document) == probabilities(told)


def test_a_column_of_booleans(ask):
    """What pandas writes for a boolean column."""
    text = pd.DataFrame({"age": [40, 40], "promoted": [True, False]}).to_csv(index=False).encode()
    plain = ask({"inputs": {"age": [40, 40], "promoted": [1, 0]}})[1]
    assert probabilities(ask(text, b"text/csv")[1]) == probabilities(plain)


def test_one_record(ask, snapshot):
    """A list of one, equal to a single native record."""
    document = ask({"dataframe_records": RECORDS[:1]})[1]
    told = json.loads(predict(snapshot, json.dumps(RECORDS[0]).encode())[0])
    assert probabilities(document) == [told["probability"]]
    assert set(document["predictions"][0]) == set(told)


@pytest.mark.parametrize(
    ("column", "same"),
    [("7\n8\nx-1\n", ["7", "8", "x-1"]), ("7.0\n8.0\n\n", ["7", "8"]), ("007\n", ["007"])],
)
def test_a_person_in_csv_is_the_person_of_the_native_protocol(endpoint, store, schema, column, same):
    """An id stays text; what pandas makes of whole numbers when one is missing is undone."""
    blue = store.add("2.0.0", schema).model_copy(update={"weight": 0.5})
    green = store.add("2.1.0", schema).model_copy(update={"name": "green", "weight": 0.5})
    endpoint.configure(blue, green, generation=1)
    served = endpoint.gateway.snapshot
    body = json.dumps({"records": [{"age": 40, "employee_id": person} for person in same]}).encode()
    told = json.loads(predict(served, body)[0])["predictions"]
    lines = "".join(f"40,{line}\n" for line in column.split("\n") if line)
    call = Call("POST", "/invocations", {b"content-type": b"text/csv"}, f"age,employee_id\n{lines}".encode())
    reply = answer(call, served, predict)
    found = json.loads(reply.body)["predictions"]
    assert [p["variant"] for p in found] == [p["variant"] for p in told]
    assert {p["reason"] for p in found} == {"sticky"}


def test_health_and_version(snapshot):
    """/ping and /health are readiness; /version is the version of this package."""
    for path in ("/ping", "/health"):
        for method in ("GET", "POST"):
            assert answer(Call(method, path, {}), snapshot, predict).status == 200
            assert answer(Call(method, path, {}), None, predict).status == 503
    reply = answer(Call("GET", "/version", {}), None, predict)
    assert (reply.status, reply.body.decode()) == (200, __version__)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/invocations", b"POST"), ("PUT", "/ping", b"GET, POST"), ("POST", "/version", b"GET")],
)
def test_methods(snapshot, method, path, allow):
    """405 with Allow."""
    reply = answer(Call(method, path, {}), snapshot, predict)
    assert (reply.status, dict(reply.headers)[b"allow"]) == (405, allow)


def test_only_its_own_paths():
    """The native paths are the gateway's."""
    assert [invocations.owns(path) for path in ("/invocations", "/ping", "/v1/predict", "/invocations/x")] == [
        True,
        True,
        False,
        False,
    ]


def test_not_ready():
    """503 while nothing is served."""
    assert answer(Call("POST", "/invocations", {}, b"{}"), None, predict).status == 503


SPLIT = {"columns": ["age", "projects"], "data": [[40, 1], [50, 2]]}


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (
            [],
            "",
            "is an array; an object with one of dataframe_split, dataframe_records, instances, inputs is expected",
        ),
        ({}, "", "has 0 of dataframe_split"),
        ({"columns": ["age"], "data": [[40]]}, "", "has an unknown key"),
        ({"inputs": [[40]], "instances": [[40]]}, "", "has 2 of dataframe_split"),
        ({"inputs": {"age": [40]}, "params": {"temperature": 1}}, "/params", "this model has no parameters"),
        ({"dataframe_split": []}, "/dataframe_split", "is an array; an object with columns and data is expected"),
        ({"dataframe_split": {**SPLIT, "dtype": 1}}, "/dataframe_split", "unknown key; known: columns, data, index"),
        ({"dataframe_split": {**SPLIT, "columns": "age"}}, "/dataframe_split/columns", "is text; an array of names"),
        (
            {"dataframe_split": {**SPLIT, "columns": ["age", 3]}},
            "/dataframe_split/columns/1",
            "name of a column is text",
        ),
        ({"dataframe_split": {**SPLIT, "columns": ["age", ""]}}, "/dataframe_split/columns/1", "has no name"),
        (
            {"dataframe_split": {**SPLIT, "columns": ["age", "project"]}},
            "/dataframe_split/columns/1",
            "unknown column; did you mean projects?",
        ),
        ({"dataframe_split": {**SPLIT, "columns": ["age", "age"]}}, "/dataframe_split/columns/1", "given before"),
        (
            {"dataframe_split": {"columns": ["projects"], "data": [[1]]}},
            "/dataframe_split/columns",
            "the column age is required",
        ),
        ({"dataframe_split": {"columns": ["age"]}}, "/dataframe_split/data", "an array of rows, at least one"),
        ({"dataframe_split": {"columns": ["age"], "data": []}}, "/dataframe_split/data", "at least one"),
        (
            {"dataframe_split": {"columns": ["age"], "data": [40]}},
            "/dataframe_split/data/0",
            "is a number; a row has 1",
        ),
        (
            {"dataframe_split": {**SPLIT, "data": [[40, 1], [50]]}},
            "/dataframe_split/data/1",
            "has 1 values; a row has 2",
        ),
        ({"dataframe_split": {**SPLIT, "data": [[40, 1], ["x", 2]]}}, "/dataframe_split/data/1/0", "is text; a number"),
        ({"dataframe_records": {}}, "/dataframe_records", "is empty; an array of records is expected"),
        ({"dataframe_records": []}, "/dataframe_records", "is empty; an array of records is expected"),
        ({"dataframe_records": [3]}, "/dataframe_records/0", "is a number; a record is an object"),
        ({"dataframe_records": [{"age": 40}, {"age": 4}]}, "/dataframe_records/1/age", "out of the plausible range"),
        ({"dataframe_records": [{"records": [{"age": 40}]}]}, "/dataframe_records/0/records", "unknown field"),
        ({"dataframe_records": [{"age": 40, "a/b~": 1}]}, "/dataframe_records/0/a~1b~0", "unknown field"),
        ({"instances": [[40, 1, 1]]}, "/instances/0", "has 3 values; a row has 4"),
        ({"instances": [[40, 1, 1, 1], {"age": 40}]}, "/instances/0", "is an array; a record is an object"),
        ({"instances": {"age": [40]}}, "/instances", "is an object; an array of records is expected"),
        ({"inputs": 3}, "/inputs", "is a number"),
        ({"inputs": {"age": 40}}, "/inputs/age", "is a number; an array of values is expected"),
        ({"inputs": {"age": []}}, "/inputs/age", "is empty; an array of values is expected"),
        ({"inputs": {"age": [40], "projects": [1, 2]}}, "/inputs/projects", "has 2 values; the first column has 1"),
        ({"inputs": {"age": [40], "height": [1]}}, "/inputs/height", "unknown column"),
        ({"inputs": {"age": [40, 101]}}, "/inputs/age/1", "out of the plausible range"),
        ({"inputs": [[40, 1, 1, 1.5]]}, "/inputs/0/3", "is not a whole number"),
        (b'{"inputs": {"age": [NaN, 40]}}', "/inputs/age/0", "is required"),
        (b'{"inputs": {"age": [Infinity, 40]}}', "/inputs/age/0", "is Infinity, which is not JSON (write null"),
        (b'{"inputs": {"age": [40, -Infinity]}}', "/inputs/age/1", "is -Infinity, which is not JSON"),
        (b'{"dataframe_split": {"columns": [NaN], "data": [[1]]}}', "/dataframe_split/columns/0", "text"),
        (b'{"inputs": {"age": [40, 1e999]}}', "/inputs/age/1", "out of the plausible range"),
        (b'{"inputs": {"age": [40, ' + b"9" * 5_000 + b"]}}", "/inputs/age/1", "out of the plausible range"),
        (b'{"inputs": {"age": [40], "\\ud800": [1]}}', "/inputs/?", "unknown column"),
        (b'{"inputs": {"age": [40], "employee_id": ["\\ud800"]}}', "/inputs", "does not fit the schema"),
    ],
)
def test_each_fault_is_named(ask, body, pointer, detail):
    """422 with the place in the body as it was sent."""
    status, document = ask(body)
    assert status == 422
    assert detail in pointers(document)[pointer]


@pytest.mark.parametrize(
    "body",
    [
        b'{"dataframe_split": {"columns": ["age", "projects"], "data": [[40, 1], [50, %s]], "index": [0, 1]}}',
        b'{"dataframe_records": [{"age": 40, "projects": 1}, {"age": 50, "projects": %s}]}',
        b'{"instances": [{"age": 40, "projects": 1}, {"age": 50, "projects": %s}]}',
        b'{"inputs": {"age": [40, 50], "projects": [1, %s]}}',
    ],
)
def test_nan_is_missing_as_mlflow_writes_it(ask, body):
    """Like null in every format, though it is not JSON."""
    status, document = ask(body % b"NaN")
    assert status == 200
    _, told = ask(body % b"null")
    assert [p["probability"] for p in document["predictions"]] == [p["probability"] for p in told["predictions"]]


@pytest.mark.parametrize(
    ("text", "pointer", "detail"),
    [
        (",age\n0,40\n", "/header/0", "has no name; a table is sent without its index"),
        ("age,height\n40,1\n", "/header/1", "unknown column"),
        ("age,age\n40,1\n", "/header/1", "given before"),
        ("projects\n1\n", "/header", "the column age is required"),
        ("age\n", "/rows", "at least one line"),
        ("age,projects\n40,1\n40\n", "/rows/1", "has 1 values; a row has 2"),
        ("age,projects\n40,1\n40,1,2\n", "/rows/1", "has 3 values; a row has 2"),
        ("age\n40\nforty\n", "/rows/1/age", "is text; a number from 14"),
        ("age\n40\nNaN\n", "/rows/1/age", "is text"),
        ("age\ninf\n", "/rows/0/age", "is text"),
        ("age\n1_0\n", "/rows/0/age", "is text"),
        ("age\n1e999\n", "/rows/0/age", "out of the plausible range"),
        ("age\n-1e999\n", "/rows/0/age", "out of the plausible range"),
        ("age,projects\n,1\n", "/rows/0/age", "is required"),
        ("age,projects\n40,1.5\n", "/rows/0/projects", "is not a whole number"),
        ("age,employee_id\n40," + "x" * 129 + "\n", "/rows/0/employee_id", "129 characters"),
    ],
)
def test_each_fault_of_csv_is_named(ask, text, pointer, detail):
    """By the line below the header, counted from 0, and the column's name."""
    status, document = ask(text.encode(), b"text/csv")
    assert status == 422
    assert detail in pointers(document)[pointer]


@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        (b"", b"application/json", "the body is empty"),
        (b"{", b"application/json", "line 1"),
        (b"\xff", b"application/json", "not UTF-8"),
        (b'{"inputs":' + b"[" * 5_000, b"application/json", "nested too deeply"),
        (b"", b"text/csv", "the body is empty"),
        (b"\n\n", b"text/csv", "the body is empty"),
        (b"\xff", b"text/csv", "not UTF-8"),
        (b'age\n"40', b"text/csv", "the body is not CSV"),
    ],
)
def test_bodies_that_are_no_table(ask, body, content_type, detail):
    """400."""
    status, document = ask(body, content_type)
    assert status == 400
    assert detail in document["detail"]


def test_all_faults_at_once(ask):
    """Columns, rows and values together; no value is echoed."""
    table = {"columns": ["age", "projekts"], "data": [[4711.5, 1], [40], ["secret", 2]]}
    status, document = ask({"dataframe_split": table, "params": {"x": 1}})
    assert status == 422
    assert set(pointers(document)) == {
        "/params",
        "/dataframe_split/columns/1",
        "/dataframe_split/data/1",
        "/dataframe_split/data/0/0",
        "/dataframe_split/data/2/0",
    }
    assert document["n_errors"] == 5
    assert "4711" not in json.dumps(document)
    assert "secret" not in json.dumps(document)


@pytest.mark.parametrize(
    "content_type",
    [b"text/plain", b"application/vnd.apache.parquet", b"text/csv; charset=latin-1", b"text/csv;charset=x"],
)
def test_other_content_types(ask, content_type):
    """415 says what is read."""
    status, document = ask(b"age\n40\n", content_type)
    assert status == 415
    assert document["detail"].startswith("send")


def test_no_content_type_is_json(ask):
    """A missing header counts as JSON."""
    assert ask({"dataframe_records": RECORDS}, None)[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[40, 1, 1, 1]] * 6},
        {"instances": [{"age": 40}] * 6},
        {"dataframe_records": [{"age": 40}] * 6},
        {"dataframe_split": {"columns": ["age"], "data": [[40]] * 6}},
        {"inputs": {"age": [40] * 6}},
        b"age\n" + b"40\n" * 6,
    ],
)
def test_too_many_records(ask, body):
    """413, as in the native protocol."""
    status, document = ask(body, b"text/csv" if isinstance(body, bytes) else b"application/json")
    assert status == 413
    assert "6 records; at most 5" in document["detail"]


def test_too_many_columns(ask):
    """Thousands of unknown names are counted, not listed."""
    status, document = ask({"dataframe_split": {"columns": ["x"] * 1_001, "data": [[1]]}})
    assert status == 422
    assert "holds 1001 columns; known: employee_id, age" in pointers(document)["/dataframe_split/columns"]


def test_numbers_survive_csv_exactly(ask):
    """The shortest decimal form of a float64 is that float64."""
    ages = np.random.default_rng(1).uniform(14, 100, 5)
    text = pd.DataFrame({"age": ages}).to_csv(index=False).encode()
    assert probabilities(ask(text, b"text/csv")[1]) == probabilities(ask({"inputs": {"age": ages.tolist()}})[1])
