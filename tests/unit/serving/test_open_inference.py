"""The Open Inference Protocol: every form of a request, every way to get one wrong."""

from __future__ import annotations

import asyncio
import json
import struct

import httpx
import numpy as np
import pytest

from attrition import __version__
from attrition.serving.exchange import Exchange
from attrition.serving.protocols import open_inference
from attrition.serving.protocols.messages import Call
from attrition.serving.protocols.open_inference import answer
from attrition.serving.traffic import Pin, Traffic
from attrition.settings import MODEL_NAME


def predict(snapshot, body):
    """The native path, without a request around it."""
    return Exchange(snapshot, "/", (), b"").predict(snapshot, body)


MODEL = f"/v2/models/{MODEL_NAME}"
NAMES = ("age", "projects", "promoted", "department")
ROWS = [[40.5, 2, 1, 7], [20.25, 0, 0, 9], [90.0, 50, 1, 1]]


@pytest.fixture
def snapshot(endpoint):
    return endpoint.gateway.snapshot


@pytest.fixture
def ask(snapshot):
    """Function that sends a document, with binary data behind it, to the model."""

    def send(document, binary=None, *, path=f"{MODEL}/infer", **headers):
        text = document if isinstance(document, bytes) else json.dumps(document).encode()
        sent = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        if binary is not None:
            sent.setdefault(b"inference-header-content-length", str(len(text)).encode())
        reply = answer(Call("POST", path, sent, text + (binary or b"")), snapshot, predict)
        return reply.status, json.loads(reply.body) if reply.content_type == b"application/json" else reply

    return send


def get(snapshot, path, method="GET"):
    reply = answer(Call(method, path, {}), snapshot, predict)
    return reply.status, json.loads(reply.body)


def tensor(name, data, *, datatype="FP64", shape=None, **more):
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data, **more}


def by_feature(rows=ROWS, names=NAMES):
    return [tensor(name, [row[at] for row in rows]) for at, name in enumerate(names)]


def matrix(rows=ROWS, **more):
    data = [value for row in rows for value in row]
    return tensor("input-0", data, shape=[len(rows), len(rows[0])], **more)


def outputs(document):
    return {output["name"]: output["data"] for output in document["outputs"]}


def expected(snapshot, rows=ROWS):
    records = [dict(zip(NAMES, row, strict=True)) for row in rows]
    body = json.dumps(records[0] if len(records) == 1 else {"records": records}).encode()
    answered = json.loads(predict(snapshot, body)[0])
    return [prediction["probability"] for prediction in answered.get("predictions", [answered])]


def test_the_server_describes_itself(snapshot):
    """Name, version, and the one extension."""
    assert get(snapshot, "/v2") == (
        200,
        {"name": "attrition", "version": __version__, "extensions": ["binary_tensor_data"]},
    )


def test_health(snapshot):
    """Alive always; ready, as server and as model, once a version is loaded."""
    assert get(None, "/v2/health/live") == (200, {"live": True})
    assert get(None, "/v2/health/ready") == (503, {"live": True, "ready": False})
    assert get(None, f"{MODEL}/ready")[0] == 503
    assert get(snapshot, "/v2/health/ready") == (200, {"live": True, "ready": True})
    for path in (f"{MODEL}/ready", f"{MODEL}/versions/1.0.0/ready"):
        assert get(snapshot, path) == (200, {"name": MODEL_NAME, "ready": True})


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1.0.0"])
def test_metadata_names_every_tensor(snapshot, path):
    """A client can build a request from it: the features in schema order, and the person."""
    status, document = get(snapshot, path)
    assert (status, document["name"], document["versions"]) == (200, MODEL_NAME, ["1.0.0"])
    assert [tensor["name"] for tensor in document["inputs"]] == [*NAMES, "employee_id"]
    assert document["inputs"][0] == {"name": "age", "datatype": "FP64", "shape": [-1]}
    assert document["outputs"][:2] == [
        {"name": "probability", "datatype": "FP64", "shape": [-1]},
        {"name": "decision", "datatype": "BOOL", "shape": [-1]},
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/nothing", 404),
        ("/v2/", 404),
        ("/v2/health", 404),
        ("/v2/models", 404),
        ("/v2/models/other", 404),
        ("/v2/models/other/ready", 404),
        (f"{MODEL}/versions/9.9.9", 404),
        (f"{MODEL}/versions", 404),
        (f"{MODEL}/explain", 404),
        ("/v2/repository/index", 404),
        (f"{MODEL}/infer", 405),
    ],
)
def test_paths_that_are_none(snapshot, path, status):
    """Errors have the protocol's own shape."""
    found, document = get(snapshot, path)
    assert found == status
    assert list(document) == ["error"]


def test_only_its_own_paths():
    """A path that merely begins alike is another's."""
    assert [open_inference.owns(path) for path in ("/v2", "/v2/x", "/v22", "/v1/predict")] == [True, True, False, False]


@pytest.mark.parametrize(
    "inputs",
    [
        by_feature(),
        list(reversed(by_feature())),
        [tensor(t["name"], [[v] for v in t["data"]], shape=[3, 1]) for t in by_feature()],
        [tensor(t["name"], t["data"], shape=[3, 1]) for t in by_feature()],
        [tensor(t["name"], t["data"], datatype="INT64" if t["name"] != "age" else "FP64") for t in by_feature()],
        [matrix()],
        [tensor("x", ROWS, shape=[3, 4])],
        [matrix(), tensor("employee_id", ["a", "b", None], datatype="BYTES")],
    ],
    ids=["named", "any order", "nested", "flat of [n, 1]", "integers", "matrix", "nested matrix", "with ids"],
)
def test_every_form_equals_the_native_answer(snapshot, ask, inputs):
    """The same records, bit for bit."""
    status, document = ask({"inputs": inputs})
    assert status == 200
    assert outputs(document)["probability"] == expected(snapshot)


def test_one_record_equals_the_native_answer(snapshot, ask):
    """A single record takes the path of a single native record."""
    assert outputs(ask({"inputs": by_feature(ROWS[:1])})[1])["probability"] == expected(snapshot, ROWS[:1])


def test_the_answer(ask):
    """Id, version, variant, and one value of every output for each record."""
    status, document = ask({"id": "abc", "inputs": [matrix()]})
    assert status == 200
    assert (document["model_name"], document["model_version"], document["id"]) == (MODEL_NAME, "1.0.0", "abc")
    assert document["parameters"] == {"model_version": "1.0.0", "variant": "blue", "reason": "sole"}
    found = outputs(document)
    assert list(found) == list(open_inference.OUTPUTS)
    assert found["decision"] == [probability >= 0.5 for probability in found["probability"]]
    assert len(set(found["prediction_id"])) == 3
    assert document["outputs"][0]["shape"] == [3]


def test_only_the_requested_outputs(ask):
    """In the order of the request."""
    document = ask({"inputs": [matrix()], "outputs": [{"name": "decision"}, {"name": "probability"}]})[1]
    assert list(outputs(document)) == ["decision", "probability"]
    assert "id" not in document


def test_null_and_absence_are_missing(snapshot, ask):
    """A feature that is not required may be null in a record, or have no tensor at all."""
    one = ask({"inputs": [tensor("age", [40, 50]), tensor("projects", [None, 2])]})[1]
    two = predict(snapshot, b'{"records": [{"age": 40}, {"age": 50, "projects": 2}]}')[0]
    assert outputs(one)["probability"] == [p["probability"] for p in json.loads(two)["predictions"]]


def test_booleans(ask):
    """A binary feature may be a BOOL tensor."""
    inputs = [tensor("age", [40, 40]), tensor("promoted", [True, False], datatype="BOOL")]
    number = [tensor("age", [40, 40]), tensor("promoted", [1, 0])]
    assert outputs(ask({"inputs": inputs})[1])["probability"] == outputs(ask({"inputs": number})[1])["probability"]


def test_a_short_float_is_rounded_to_its_datatype(ask):
    """FP32 in JSON and FP32 in bytes are the same number."""
    text = ask({"inputs": [tensor("age", [40.1, None], datatype="FP32")], "outputs": [{"name": "probability"}]})[1]
    raw = np.array([40.1, 40.1], dtype="<f4").tobytes()
    head = {"name": "age", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    # age is required: the null is refused, the same number without it is not
    assert "required" in text["error"]
    text = ask({"inputs": [tensor("age", [40.1, 40.1], datatype="FP32")]})[1]
    assert outputs(text)["probability"] == outputs(ask({"inputs": [head]}, raw)[1])["probability"]
    assert outputs(text)["probability"] != outputs(ask({"inputs": [tensor("age", [40.1, 40.1])]})[1])["probability"]


def test_a_person_keeps_the_variant(endpoint, store, schema, ask):
    """employee_id as BYTES or as a number: the same person as in the native protocol."""
    blue = store.add("2.0.0", schema).model_copy(update={"weight": 0.5})
    green = store.add("2.1.0", schema).model_copy(update={"name": "green", "weight": 0.5})
    endpoint.configure(blue, green, generation=1)
    people = [str(number) for number in range(5)]
    body = json.dumps({"records": [{"age": 40, "employee_id": person} for person in people]})
    told = [p["variant"] for p in json.loads(predict(endpoint.gateway.snapshot, body.encode())[0])["predictions"]]
    assert set(told) == {"blue", "green"}
    for person in (
        tensor("employee_id", people, datatype="BYTES"),
        tensor("employee_id", [int(p) for p in people], datatype="INT32"),
    ):
        reply = answer(
            Call("POST", f"{MODEL}/infer", {}, json.dumps({"inputs": [tensor("age", [40] * 5), person]}).encode()),
            endpoint.gateway.snapshot,
            predict,
        )
        document = json.loads(reply.body)
        assert outputs(document)["variant"] == told
        assert document["parameters"]["variant"] == "blue, green"
        assert "model_version" not in document
        assert dict(reply.headers)[b"x-model-version"] == b"2.0.0, 2.1.0"


def test_a_version_in_the_path_answers(endpoint, store, schema):
    """Even one without traffic, so that it can be tried before it gets any."""
    blue = store.add("2.0.0", schema)
    idle = store.add("2.1.0", schema, offset=0.25).model_copy(update={"name": "green", "weight": 0.0})
    endpoint.configure(blue, idle, generation=1)
    body = json.dumps({"inputs": [matrix()]}).encode()
    for version in ("2.0.0", "2.1.0"):
        call = Call("POST", f"{MODEL}/versions/{version}/infer", {}, body)
        document = json.loads(answer(call, endpoint.gateway.snapshot, predict).body)
        assert (document["model_version"], set(outputs(document)["model_version"])) == (version, {version})


@pytest.fixture
def split(endpoint, store, schema):
    """Blue and green share the traffic, amber shadows, teal is pinned and violet idle."""
    shares = {"blue": ("2.0.0", 0.5), "green": ("2.1.0", 0.5), "amber": ("2.2.0", 0.0), "teal": ("2.3.0", 0.0)}
    variants = [
        store.add(version, schema, offset=0.1 * at).model_copy(update={"name": name, "weight": weight})
        for at, (name, (version, weight)) in enumerate([*shares.items(), ("violet", ("2.4.0", 0.0))])
    ]
    traffic = Traffic(
        variants=tuple(variants), pins=(Pin(header="x-user-group", value="pilot", variant="teal"),), shadows=("amber",)
    )
    asyncio.run(endpoint.gateway.reconfigure(traffic.model_dump(mode="json")))
    return endpoint


def infer(endpoint, version=None, **headers):
    path = f"{MODEL}/versions/{version}/infer" if version else f"{MODEL}/infer"
    person = tensor("employee_id", [f"E-{at}" for at in range(5)], datatype="BYTES")
    body = {"inputs": [tensor("age", [40.0] * 5), person]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return endpoint.request("POST", path, json=body, headers=named)


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0", "2.3.0", "2.4.0"])
def test_a_version_in_the_path_beats_split_and_pins(split, version):
    """For every record, whoever it is about and whatever a header is pinned to; the reason says so."""
    for headers in ({}, {"x_user_group": "pilot"}):
        response = infer(split, version, **headers)
        found = outputs(response.json())
        assert set(found["model_version"]) == {version}
        assert set(found["reason"]) == {"requested"}
        assert response.json()["parameters"]["reason"] == "requested"
        assert response.headers["x-model-version"] == version
        assert response.headers["x-assignment-reason"] == "requested"


def test_without_a_version_split_and_pins_decide(split):
    """As in the native protocol."""
    assert set(outputs(infer(split).json())["reason"]) == {"sticky"}
    assert set(outputs(infer(split, x_user_group="pilot").json())["variant"]) == {"teal"}
    assert set(outputs(infer(split, x_user_group="pilot").json())["reason"]) == {"pin"}


def test_a_shadow_has_no_path(split):
    """It never answers: not ready, no metadata, not among the versions; the message names those that are."""
    for path, method in (("", "GET"), ("/ready", "GET"), ("/infer", "POST")):
        response = split.request(method, f"{MODEL}/versions/2.2.0{path}", **({"json": {}} if method == "POST" else {}))
        assert response.status_code == 404
        assert response.json()["error"] == "unknown version; served are 2.0.0, 2.1.0, 2.3.0, 2.4.0"
    assert split.request("GET", MODEL).json()["versions"] == ["2.0.0", "2.1.0", "2.3.0", "2.4.0"]


def test_shadows_copy_what_a_requested_version_answers(split):
    """They compare themselves with whoever answered."""

    async def ask():
        transport = httpx.ASGITransport(split.gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            body = {"inputs": [tensor("age", [40.0, 50.0])]}
            response = await client.post(f"{MODEL}/versions/2.4.0/infer", json=body)
            await split.gateway.shadow.drained()
            return response

    logged = []
    split.gateway.shadow._log = lambda scores, _latency: logged.extend(scores)
    answered = set(outputs(asyncio.run(ask()).json())["prediction_id"])
    assert {scores.version for scores in logged} == {"2.2.0"}
    assert {identifier for scores in logged for identifier in scores.shadow_of} == answered


def binary_request(rows=ROWS):
    age = np.array([row[0] for row in rows], dtype="<f8").tobytes()
    flags = bytes(row[2] for row in rows)
    ids = b"".join(struct.pack("<I", 1) + b"%d" % at for at in range(len(rows)))
    heads = [
        {"name": "age", "datatype": "FP64", "shape": [len(rows)], "parameters": {"binary_data_size": len(age)}},
        tensor("projects", [row[1] for row in rows]),
        {"name": "promoted", "datatype": "BOOL", "shape": [len(rows)], "parameters": {"binary_data_size": len(flags)}},
        {
            "name": "employee_id",
            "datatype": "BYTES",
            "shape": [len(rows)],
            "parameters": {"binary_data_size": len(ids)},
        },
        tensor("department", [row[3] for row in rows]),
    ]
    return heads, age + flags + ids


def test_binary_inputs(snapshot, ask):
    """Bytes and JSON may be mixed; the bytes stand in the order of the tensors."""
    heads, binary = binary_request()
    status, document = ask({"inputs": heads}, binary, content_type=b"application/octet-stream")
    assert status == 200
    assert outputs(document)["probability"] == expected(snapshot)


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("FP16", "<f2"), ("FP32", "<f4"), ("INT8", "i1"), ("UINT16", "<u2"), ("INT64", "<i8")]
)
def test_binary_datatypes(ask, datatype, dtype):
    """Little endian, in the size of the datatype."""
    raw = np.array([40, 20], dtype=dtype).tobytes()
    head = {"name": "age", "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": len(raw)}}
    plain = ask({"inputs": [tensor("age", [40, 20])]})[1]
    assert outputs(ask({"inputs": [head]}, raw)[1])["probability"] == outputs(plain)["probability"]


def test_nan_in_binary_data_is_missing(ask):
    """Binary data have no null."""
    raw = np.array([np.nan, 3]).tobytes()
    head = {"name": "projects", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}
    plain = ask({"inputs": [tensor("age", [40, 20]), tensor("projects", [None, 3])]})[1]
    found = ask({"inputs": [tensor("age", [40, 20]), head]}, raw)[1]
    assert outputs(found)["probability"] == outputs(plain)["probability"]


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": name, "parameters": {"binary_data": True}} for name in open_inference.OUTPUTS]},
    ],
)
def test_binary_outputs(ask, snapshot, options):
    """All outputs, or those that ask for it, follow the JSON object."""
    status, reply = ask({"inputs": [matrix()], **options})
    assert (status, reply.content_type) == (200, b"application/octet-stream")
    length = int(dict(reply.headers)[b"inference-header-content-length"])
    document, rest = json.loads(reply.body[:length]), reply.body[length:]
    sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
    assert sum(sizes) == len(rest)
    assert np.frombuffer(rest[: sizes[0]]).tolist() == expected(snapshot)
    assert all("data" not in output for output in document["outputs"])


def test_an_output_may_differ_from_the_default(ask):
    """`binary_data` of an output overrides `binary_data_output` of the request."""
    wanted = [{"name": "probability"}, {"name": "decision", "parameters": {"binary_data": False}}]
    request = {"inputs": [matrix()], "parameters": {"binary_data_output": True}, "outputs": wanted}
    reply = ask(request)[1]
    document = json.loads(reply.body[: int(dict(reply.headers)[b"inference-header-content-length"])])
    assert ["data" in output for output in document["outputs"]] == [False, True]


AGE = tensor("age", [40, 20, 30])


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ([], "the body is an array; an object with inputs is expected"),
        ({}, "/inputs is required"),
        ({"inputs": []}, "/inputs is an array of tensors, from 1 to 1000"),
        ({"inputs": {}}, "/inputs is an array"),
        ({"inputs": [3]}, "/inputs/0 is a number; a tensor is an object"),
        ({"inputs": [AGE], "output": []}, "has an unknown key; known: id, parameters, inputs"),
        ({"inputs": [AGE], "id": 3}, "/id is text"),
        ({"inputs": [AGE], "parameters": []}, "/parameters is an array"),
        ({"inputs": [AGE], "parameters": {"binary_data_output": 1}}, "/parameters/binary_data_output is true or false"),
        ({"inputs": [AGE], "outputs": {}}, "/outputs is an object"),
        ({"inputs": [AGE], "outputs": [3]}, "/outputs/0 is a number"),
        ({"inputs": [AGE], "outputs": [{"name": "score"}]}, "/outputs/0 is no output of this model; its outputs: prob"),
        ({"inputs": [AGE], "outputs": [{"name": "decision"}] * 2}, "/outputs/1 was requested before"),
        ({"inputs": [AGE], "outputs": [{"name": "decision", "data": []}]}, "/outputs/0 has an unknown key"),
        (
            {"inputs": [AGE], "outputs": [{"name": "decision", "parameters": {"classification": 2}}]},
            "classification or shared memory, which are not supported",
        ),
        (
            {"inputs": [AGE], "outputs": [{"name": "decision", "parameters": {"binary_data": "yes"}}]},
            "/outputs/0 has a binary_data that is no boolean",
        ),
        ({"inputs": [{**AGE, "name": 3}]}, "/inputs/0/name is a number; the name of a tensor is text"),
        ({"inputs": [{**AGE, "dtype": "FP64"}]}, "/inputs/0 unknown key in a tensor"),
        ({"inputs": [{**AGE, "datatype": "float"}]}, "/inputs/0/datatype is no datatype that is read here: INT8"),
        ({"inputs": [{**AGE, "datatype": "BF16"}]}, "/inputs/0/datatype is no datatype"),
        ({"inputs": [{**AGE, "datatype": []}]}, "/inputs/0/datatype is no datatype"),
        ({"inputs": [{**AGE, "shape": None}]}, "/inputs/0/shape the shape is [n] or [n, k]"),
        ({"inputs": [{**AGE, "shape": [3, 1, 1]}]}, "/inputs/0/shape"),
        ({"inputs": [{**AGE, "shape": [-1]}]}, "/inputs/0/shape"),
        ({"inputs": [{**AGE, "shape": [0]}]}, "/inputs/0/shape"),
        ({"inputs": [{**AGE, "shape": [3.0]}]}, "/inputs/0/shape"),
        ({"inputs": [{**AGE, "shape": [True]}]}, "/inputs/0/shape"),
        ({"inputs": [{**AGE, "shape": [4]}]}, "/inputs/0/data holds 3 values, its shape 4"),
        ({"inputs": [{**AGE, "shape": [1, 3]}]}, "/inputs/0/shape a feature's tensor is [n] or [n, 1]"),
        ({"inputs": [{**AGE, "shape": [10**30]}]}, "/inputs/0/shape the shape is [n] or [n, k]"),
        ({"inputs": [{**AGE, "shape": [3, 10**4000]}]}, "/inputs/0/shape the shape is [n] or [n, k]"),
        ({"inputs": [AGE] * 1_001}, "/inputs is an array of tensors, from 1 to 1000"),
        ({"inputs": [AGE], "outputs": [{"name": "decision"}] * 8}, "/outputs asks for 8; there are 7"),
        ({"inputs": [{**AGE, "data": 40}]}, "/inputs/0/data is a number; an array of values is expected"),
        ({"inputs": [{k: v for k, v in AGE.items() if k != "data"}]}, "/inputs/0/data is null"),
        ({"inputs": [{**AGE, "data": [[40], [20], [30]]}]}, "/inputs/0/data/0 is an array"),
        ({"inputs": [{**AGE, "shape": [3, 1], "data": [[40], [20, 1], [30]]}]}, "/inputs/0/data/1 is no row of 1"),
        ({"inputs": [{**AGE, "parameters": {"shared_memory_region": "x"}}]}, "shared memory is not supported"),
        ({"inputs": [{**AGE, "parameters": 3}]}, "/inputs/0/parameters is a number"),
        ({"inputs": [{**AGE, "parameters": {"binary_data_size": 24}}]}, "either data or binary data"),
        ({"inputs": [AGE, tensor("projects", [1])]}, "/inputs/1/shape has 1 records; the first tensor has 3"),
        ({"inputs": [AGE, AGE]}, "/inputs/1/name a tensor of this name was given before"),
        ({"inputs": [AGE, tensor("agee", [1, 2, 3])]}, "/inputs/1/name unknown tensor; did you mean age?"),
        ({"inputs": [tensor("projects", [1])]}, "/inputs the tensor age is required"),
        ({"inputs": [tensor("age", ["x", 20])]}, "/inputs/0/data/0 is text; a number from 14 to 100 (years) is"),
        ({"inputs": [tensor("age", [40, 101])]}, "/inputs/0/data/1 is out of the plausible range"),
        ({"inputs": [tensor("age", [40, None])]}, "/inputs/0/data/1 is required"),
        ({"inputs": [tensor("age", [40, True])]}, "/inputs/0/data/1 is a boolean; FP64 is a number or null"),
        ({"inputs": [tensor("age", [[40], [101]], shape=[2, 1])]}, "/inputs/0/data/1/0 is out of the plausible range"),
        ({"inputs": [tensor("age", [40.5], datatype="INT64")]}, "/inputs/0/data/0 is no INT64: a whole number from -"),
        ({"inputs": [tensor("age", [300], datatype="INT8")]}, "/inputs/0/data/0 is no INT8: a whole number from -128"),
        ({"inputs": [tensor("age", [True], datatype="INT8")]}, "/inputs/0/data/0 is a boolean; INT8"),
        (
            {"inputs": [tensor("age", [40], datatype="BOOL")]},
            "/inputs/0/data/0 is a number; BOOL is true, false or null",
        ),
        ({"inputs": [tensor("age", [40], datatype="BYTES")]}, "/inputs/0/data/0 is a number; BYTES is text or null"),
        ({"inputs": [tensor("age", ["40"], datatype="BYTES")]}, "/inputs/0/data/0 is text; a number from 14"),
        ({"inputs": [tensor("age", [1e300], datatype="FP32")]}, "/inputs/0/data/0 is out of the plausible range"),
        ({"inputs": [tensor("age", [True], datatype="BOOL")]}, "/inputs/0/data/0 is a boolean; a number from 14"),
        (
            {"inputs": [matrix([[40.0, 1, 1, 1, 1]])]},
            "/inputs/0/shape has 5 columns; the features are 4: age, projects",
        ),
        ({"inputs": [matrix([[40, 2, 1, 7], [4, 2, 1, 7]])]}, "/inputs/0/data/4 is out of the plausible range"),
        ({"inputs": [tensor("x", [[40, 2.5, 1, 7]], shape=[1, 4])]}, "/inputs/0/data/0/1 is not a whole number"),
        (
            {"inputs": [AGE, tensor("employee_id", ["", "b", "x" * 129], datatype="BYTES")]},
            "/inputs/1/data/2 is 129 characters long",
        ),
        (b'{"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "data": [NaN]}]}', "/inputs/0/data/0 is NaN"),
        (
            b'{"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "data": [1e999]}]}',
            "/inputs/0/data/0 is out",
        ),
        (
            b'{"inputs": [{"name": "age", "datatype": "FP32", "shape": [1], "data": [1e999]}]}',
            "/inputs/0/data/0 is out",
        ),
        (b'{"inputs": [{"name": "age", "datatype": "INT8", "shape": [1], "data": [NaN]}]}', "/inputs/0/data/0 is NaN"),
        (b'{"inputs": [{"name": "\\ud800", "datatype": "INT8", "shape": [1], "data": [1]}]}', "/inputs/0/name unknown"),
        (b'{"id": "\\ud800", "inputs": []}', "/id is text"),
        (b"", "the body is empty"),
        (b"{", "line 1"),
        (b"\xff", "not UTF-8"),
        (b"[" * 5_000, "nested too deeply"),
    ],
)
def test_each_fault_is_named(ask, document, fault):
    """Where, what, and what is allowed; 400, in the protocol's own shape."""
    status, answered = ask(document)
    assert status == 400
    assert fault in answered["error"]


@pytest.mark.parametrize(
    ("head", "binary", "fault"),
    [
        ({"datatype": "FP64", "size": 8}, bytes(8), "binary_data_size is not the size of the tensor: 2 values of FP64"),
        ({"datatype": "FP64", "size": 16}, bytes(8), "binary_data_size 8 bytes are left after the JSON object"),
        ({"datatype": "FP64", "size": "16"}, bytes(16), "binary_data_size is a whole number of bytes"),
        ({"datatype": "FP64", "size": -1}, bytes(16), "binary_data_size is a whole number of bytes"),
        ({"datatype": "FP64", "size": 16}, bytes(17), "/inputs 1 bytes follow the last binary tensor"),
        ({"datatype": "FP64", "size": 16}, np.array([40, np.inf]).tobytes(), "/inputs/0/data/1 is out of the plaus"),
        ({"datatype": "FP64", "size": 16}, np.array([40, np.nan]).tobytes(), "/inputs/0/data/1 is required"),
        ({"datatype": "BOOL", "size": 2}, b"\x01\x02", "/inputs/0/data/1 a BOOL is a byte of 0 or 1"),
        ({"datatype": "BYTES", "size": 3}, b"\x01\x00\x00", "an element is a length (uint32)"),
        ({"datatype": "BYTES", "size": 5}, b"\x01\x00\x00\x00\xff", "an element is a length (uint32)"),
        ({"datatype": "BYTES", "size": 5}, b"\x09\x00\x00\x00a", "/inputs/0/data holds 1 elements, its shape 2"),
    ],
)
def test_each_fault_of_binary_data_is_named(ask, head, binary, fault):
    """The pointer of a value is that of the same value in JSON."""
    sent = {"name": "age", "datatype": head["datatype"], "shape": [2], "parameters": {"binary_data_size": head["size"]}}
    status, answered = ask({"inputs": [sent]}, binary)
    assert status == 400
    assert fault in answered["error"]


@pytest.mark.parametrize("length", [b"", b"-1", b"x", b"1e3", b"999999", b"9" * 5_000])
def test_the_length_of_the_json_object(ask, length):
    """A header that is no length of a part of the body."""
    status, answered = ask({"inputs": [AGE]}, b"", inference_header_content_length=length)
    assert status == 400
    assert "Inference-Header-Content-Length is the length" in answered["error"]


def test_all_faults_at_once(ask):
    """Faults of the request, of tensors and of values together; nothing is echoed."""
    inputs = [tensor("age", [4711.5, 40]), tensor("projekts", [1, 2]), tensor("promoted", [1, 2, 3])]
    status, answered = ask({"inputs": inputs, "id": 7, "outputs": [{"name": "x"}]})
    assert status == 400
    for fault in ("/id", "/outputs/0", "/inputs/1/name", "/inputs/2/shape", "/inputs/0/data/0"):
        assert fault in answered["error"]
    assert "5 fields are not valid; nothing was scored" in answered["error"]
    assert "4711" not in answered["error"]
    assert "projekts" not in answered["error"]


def test_a_long_list_of_faults_is_cut(ask, endpoint):
    """Ten are listed, the rest are counted."""
    names = [tensor(f"x{at}", [1]) for at in range(14)]
    answered = ask({"inputs": [tensor("age", [40]), *names]})[1]
    assert answered["error"].endswith("; and 4 more")


def test_too_many_records(ask):
    """413, as in the native protocol."""
    status, answered = ask({"inputs": [tensor("age", [40] * 6)]})
    assert status == 413
    assert "6 records; at most 5" in answered["error"]


def test_other_content_types(ask):
    """415; absence counts as JSON, because the usual client sends none."""
    assert ask({"inputs": [AGE]}, content_type=b"text/plain")[0] == 415
    for kind in (b"application/json", b"application/json; charset=utf-8", b"application/vnd.x+json"):
        assert ask({"inputs": [AGE]}, content_type=kind)[0] == 200
