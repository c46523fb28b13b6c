"""Foreign protocols: no body raises or gives a 5xx, and what is answered is what the native protocol answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.data.schema import Feature, FeatureSchema
from attrition.serving.exchange import Exchange
from attrition.serving.protocols import invocations, open_inference
from attrition.serving.protocols.messages import Call
from attrition.serving.snapshot import load_snapshot
from attrition.serving.traffic import Traffic
from attrition.settings import MODEL_NAME


def predict(snapshot, body):
    """The native path, without a request around it."""
    return Exchange(snapshot, "/", (), b"").predict(snapshot, body)


SCHEMA = FeatureSchema(
    features=(
        Feature(name="age", kind="continuous", minimum=14, maximum=100, required=True),
        Feature(name="projects", kind="integer", minimum=0, maximum=50),
        Feature(name="promoted", kind="binary"),
        Feature(name="department", kind="category"),
        Feature(name="pay", kind="continuous"),
    )
)
NAMES = SCHEMA.names
INFER = f"/v2/models/{MODEL_NAME}/infer"


class Version:
    """A version whose probability depends on every value."""

    version = "1.0.0"
    schema = SCHEMA
    threshold = 0.5
    feature_names = NAMES

    @property
    def scorer(self):
        return self

    def score_one(self, values):
        return float(self.score(np.array([values]))[0])

    def score(self, matrix):
        with np.errstate(over="ignore"):
            squashed = np.arctan(np.nan_to_num(matrix, nan=-3.0) * np.arange(1, matrix.shape[1] + 1))
        return (squashed.sum(axis=1) / np.pi + 2.5) / 5


SNAPSHOT = load_snapshot(Traffic.single("1.0.0", "b", "0" * 64), lambda *_: Version(), max_records=4)

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 120), st.integers(), st.floats(), st.floats(0, 60), st.text(max_size=5)
)
junk = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
names = st.one_of(st.sampled_from(["employee_id", *NAMES]), st.text(max_size=8), junk)
lists = st.lists(scalars, max_size=5)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "datatype": st.sampled_from(["FP64", "FP32", "FP16", "INT8", "INT64", "UINT64", "BOOL", "BYTES", "FP8"]) | junk,
        "shape": st.lists(st.integers(-1, 5), max_size=3) | junk,
        "data": lists | st.lists(lists, max_size=4) | junk,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), st.integers(-1, 40) | junk) | junk,
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, max_size=4) | junk},
    optional={
        "id": st.text(max_size=4) | junk,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_output", "x"]), junk) | junk,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from(list(open_inference.OUTPUTS)) | junk}))
        | junk,
        "other": junk,
    },
)
records = st.dictionaries(names.filter(lambda name: isinstance(name, str)), scalars, max_size=6)
formats = st.one_of(
    st.fixed_dictionaries(
        {
            "dataframe_split": st.fixed_dictionaries(
                {"data": st.lists(lists, max_size=4)}, optional={"columns": st.lists(names)}
            )
        }
    ),
    st.fixed_dictionaries({"dataframe_records": st.lists(records | junk, max_size=5)}),
    st.fixed_dictionaries({"instances": st.lists(records | lists | junk, max_size=5)}),
    st.fixed_dictionaries({"inputs": st.dictionaries(st.text(max_size=4) | st.sampled_from(NAMES), lists | junk)}),
    st.dictionaries(st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs", "params"]), junk),
    junk,
)
tables = st.lists(st.lists(scalars.map(str) | st.sampled_from(NAMES), max_size=4).map(",".join), max_size=4).map(
    "\n".join
)


def as_json(documents):
    return documents.map(json.dumps).map(str.encode)


def check(reply):
    """A success, or an error that says something."""
    assert reply.status in {200, 400, 413, 415, 422}
    if reply.content_type != b"application/octet-stream":
        document = json.loads(reply.body)
        assert reply.status == 200 or document.get("error") or document.get("detail")


@settings(max_examples=120, deadline=None)
@given(text=as_json(requests) | st.binary(max_size=60), binary=st.binary(max_size=48), announced=st.booleans())
def test_any_inference_request_is_answered(text, binary, announced):
    """No JSON, no bytes behind it and no length of it raises."""
    headers = {b"inference-header-content-length": str(len(text)).encode()} if announced else {}
    check(open_inference.answer(Call("POST", INFER, headers, text + binary * announced), SNAPSHOT, predict))


@settings(max_examples=120, deadline=None)
@given(
    sent=st.tuples(as_json(formats), st.just(b"application/json"))
    | st.tuples(st.binary(max_size=60) | tables.map(str.encode), st.just(b"text/csv"))
    | st.tuples(st.binary(max_size=60), st.binary(max_size=20))
)
def test_any_invocation_is_answered(sent):
    """No table in any format raises."""
    body, content_type = sent
    headers = {b"content-type": content_type}
    check(invocations.answer(Call("POST", "/invocations", headers, body), SNAPSHOT, predict))


@settings(max_examples=50, deadline=None)
@given(
    path=st.lists(st.sampled_from(["v2", "models", MODEL_NAME, "versions", "1.0.0", "infer", "ready", "", "x"])).map(
        "/".join
    )
)
def test_any_path_is_answered(path):
    """Every path below /v2 has an answer in the protocol's own shape."""
    reply = open_inference.answer(Call("GET", f"/v2/{path}", {}), SNAPSHOT, predict)
    assert reply.status in {200, 404, 405}
    assert json.loads(reply.body)


valid = st.fixed_dictionaries(
    {
        "age": st.floats(14, 100),
        "projects": st.none() | st.integers(0, 50),
        "promoted": st.none() | st.integers(0, 1),
        "department": st.none() | st.integers(-(2**40), 2**40),
        "pay": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    }
)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(valid, min_size=1, max_size=4), form=st.sampled_from(["named", "matrix", "binary", "binary matrix"])
)
def test_tensors_answer_like_native_records(rows, form):
    """Bit for bit, in every form of a request."""
    body = rows[0] if len(rows) == 1 else {"records": rows}
    told = json.loads(predict(SNAPSHOT, json.dumps(body).encode())[0])
    columns = {name: [row[name] for row in rows] for name in NAMES}
    flat = [row[name] for row in rows for name in NAMES]
    if "matrix" in form:
        tensors = [("input", [len(rows), len(NAMES)], flat)]
    else:
        tensors = [(name, [len(rows)], columns[name]) for name in NAMES]
    inputs, binary = [], b""
    for name, shape, values in tensors:
        head = {"name": name, "datatype": "FP64", "shape": shape}
        if "binary" in form:
            data = np.array(values, dtype=np.float64).tobytes()
            inputs.append({**head, "parameters": {"binary_data_size": len(data)}})
            binary += data
        else:
            inputs.append({**head, "data": values})
    text = json.dumps({"inputs": inputs}).encode()
    headers = {b"inference-header-content-length": str(len(text)).encode()}
    reply = open_inference.answer(Call("POST", INFER, headers, text + binary), SNAPSHOT, predict)
    outputs = {output["name"]: output["data"] for output in json.loads(reply.body)["outputs"]}
    expected = told.get("predictions", [told])
    assert outputs["probability"] == [prediction["probability"] for prediction in expected]
    assert outputs["decision"] == [prediction["decision"] for prediction in expected]


def cell(value):
    return "" if value is None else repr(value)


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "instances", "inputs", "csv"])
@settings(max_examples=30, deadline=None)
@given(rows=st.lists(valid, min_size=1, max_size=4))
def test_tables_answer_like_native_records(form, rows):
    """Bit for bit, in every format."""
    body = rows[0] if len(rows) == 1 else {"records": rows}
    told = json.loads(predict(SNAPSHOT, json.dumps(body).encode())[0])
    values = [[row[name] for name in NAMES] for row in rows]
    sent = {
        "dataframe_split": lambda: {"columns": list(NAMES), "data": values},
        "dataframe_records": lambda: rows,
        "instances": lambda: values,
        "inputs": lambda: {name: [row[name] for row in rows] for name in NAMES},
    }
    kind, content = b"application/json", b""
    if form == "csv":
        kind = b"text/csv"
        content = "\n".join([",".join(NAMES), *(",".join(map(cell, row)) for row in values)]).encode()
    else:
        content = json.dumps({form: sent[form]()}).encode()
    reply = invocations.answer(Call("POST", "/invocations", {b"content-type": kind}, content), SNAPSHOT, predict)
    expected = told.get("predictions", [told])
    assert [p["probability"] for p in json.loads(reply.body)["predictions"]] == [p["probability"] for p in expected]
