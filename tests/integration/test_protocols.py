"""Clients that others have written, against the gateway on a real socket."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import numpy as np
import pandas as pd
import pytest
import requests
import uvicorn

from attrition import __version__
from attrition.registry.bundle import load_bundle
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.traffic import Traffic, Variant
from attrition.settings import MODEL_NAME

AGES = np.array([40.5, 20.25, 90.0])
DEPARTMENTS = np.array([7, 9, 1])
FRAME = pd.DataFrame({"age": AGES, "department_code": DEPARTMENTS, "employee_id": ["E-1", "E-2", "E-3"]})


@pytest.fixture(scope="module")
def bundles(make_bundle):
    return [make_bundle("1.0.0", 1.0), make_bundle("1.1.0", 0.2)]


@pytest.fixture(scope="module")
def address(bundles):
    """Host and port of the gateway, which serves version 1.0.0 and keeps 1.1.0 idle."""
    gateway = Gateway(Limits(max_records=2_000), load_bundle)
    variants = tuple(
        Variant(name=name, version=b.version, bundle=b.uri, manifest_sha256=b.manifest_sha256, weight=weight)
        for name, b, weight in zip(("blue", "green"), bundles, (1.0, 0.0), strict=True)
    )
    asyncio.run(gateway.reconfigure(Traffic(variants=variants).model_dump(mode="json")))
    config = uvicorn.Config(gateway, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield "127.0.0.1", server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def url(address):
    return f"http://{address[0]}:{address[1]}"


@pytest.fixture(scope="module")
def told(url):
    """Probabilities of the native protocol for `FRAME`."""
    answer = httpx.post(f"{url}/v1/predict", json={"records": FRAME.to_dict(orient="records")})
    return [prediction["probability"] for prediction in answer.json()["predictions"]]


@pytest.fixture(scope="module")
def triton(address):
    http = pytest.importorskip("tritonclient.http", reason="pip install tritonclient[http]")
    client = http.InferenceServerClient(f"{address[0]}:{address[1]}")
    yield client
    client.close()


def tensor(name, array, *, binary=True, datatype=None):
    from tritonclient.http import InferInput
    from tritonclient.utils import np_to_triton_dtype

    found = InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    return found.set_data_from_numpy(array, binary_data=binary)


def frame_tensors(**options):
    return [
        tensor("age", AGES, **options),
        tensor("department_code", DEPARTMENTS, **options),
        tensor("employee_id", FRAME["employee_id"].to_numpy(dtype=object), **options),
    ]


def test_triton_finds_the_model(triton):
    """Health, readiness and metadata through the usual client."""
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL_NAME)
    assert triton.is_model_ready(MODEL_NAME, "1.1.0")
    assert not triton.is_model_ready(MODEL_NAME, "9.9.9")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = triton.get_model_metadata(MODEL_NAME)
    assert metadata["versions"] == ["1.0.0", "1.1.0"]
    assert "age" in [entry["name"] for entry in metadata["inputs"]]


@pytest.mark.parametrize("binary", [True, False])
def test_triton_infers(triton, told, binary):
    """With binary data, the client's default, and with JSON: the native probabilities, bit for bit."""
    result = triton.infer(MODEL_NAME, frame_tensors(binary=binary), request_id="r-1")
    assert result.as_numpy("probability").tolist() == told
    assert result.as_numpy("decision").tolist() == [probability >= 0.5 for probability in told]
    assert result.as_numpy("model_version").tolist() == [b"1.0.0"] * 3
    assert len(set(result.as_numpy("prediction_id").tolist())) == 3
    assert result.get_response()["id"] == "r-1"
    assert result.get_response()["parameters"]["variant"] == "blue"


def test_triton_asks_for_one_output(triton, told):
    """In JSON, from binary inputs."""
    from tritonclient.http import InferRequestedOutput

    wanted = [InferRequestedOutput("probability", binary_data=False)]
    result = triton.infer(MODEL_NAME, frame_tensors(), outputs=wanted)
    assert result.as_numpy("probability").tolist() == told
    assert result.as_numpy("decision") is None


def test_triton_sends_a_matrix_to_a_version(triton, bundles):
    """A thousand rows of FP64 in schema order with missing values, to the idle version."""
    bundle = load_bundle(bundles[1].uri, bundles[1].manifest_sha256)
    matrix = np.full((1_000, len(bundle.schema.names)), np.nan)
    matrix[:, bundle.schema.names.index("age")] = np.linspace(14, 100, 1_000)
    result = triton.infer(MODEL_NAME, [tensor("features", matrix)], model_version="1.1.0")
    assert result.as_numpy("probability").tolist() == bundle.scorer.score(matrix).tolist()
    assert result.get_response()["model_version"] == "1.1.0"


def test_triton_shows_our_errors(triton):
    """The client's exception has our words."""
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match=r"/inputs/0/data/1 is out of the plausible range"):
        triton.infer(MODEL_NAME, [tensor("age", np.array([40.0, 140.0]))])
    with pytest.raises(InferenceServerException, match="unknown model"):
        triton.infer("other", frame_tensors())
    with pytest.raises(InferenceServerException, match="at most 2000"):
        triton.infer(MODEL_NAME, [tensor("age", np.full(2_001, 40.0))])


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")  # MLflow about its own classes, on import
def test_mlflow_scores_a_frame(address, told):
    """MLflow's own client: health, version, and a data frame of predictions."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient(*address)
    client.ping()
    assert client.get_version() == __version__
    predictions = client.invoke(FRAME).get_predictions()
    assert predictions["probability"].tolist() == told
    assert predictions["model_version"].tolist() == ["1.0.0"] * 3


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_mlflow_sends_missing_values(address, url):
    """As the word NaN, which is not JSON: read as missing here, and nowhere else."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    gaps = FRAME.assign(department_code=[7, None, 1], tenure=[np.nan, 12.0, np.nan])
    predictions = ScoringServerClient(*address).invoke(gaps).get_predictions()
    records = [{name: value for name, value in row.items() if value == value} for row in gaps.to_dict("records")]  # noqa: PLR0124
    told = httpx.post(f"{url}/v1/predict", json={"records": records}).json()["predictions"]
    assert predictions["probability"].tolist() == [prediction["probability"] for prediction in told]
    nan = b'{"age": 40, "tenure": NaN}'
    assert httpx.post(f"{url}/v1/predict", content=nan, headers={"content-type": "application/json"}).is_client_error
    tensors = b'{"inputs": [{"name": "age", "datatype": "FP64", "shape": [1], "data": [NaN]}]}'
    assert httpx.post(f"{url}/v2/models/{MODEL_NAME}/infer", content=tensors).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": FRAME.to_dict(orient="split")},
        {"dataframe_records": FRAME.to_dict(orient="records")},
        {"instances": FRAME.to_dict(orient="records")},
        {"inputs": FRAME.to_dict(orient="list")},
    ],
)
def test_every_mlflow_format(url, told, body):
    """As the documentation of MLflow shows them, with a plain HTTP client."""
    answer = requests.post(f"{url}/invocations", json=body, timeout=10)
    assert answer.status_code == 200
    assert [prediction["probability"] for prediction in answer.json()["predictions"]] == told
    assert answer.headers["x-model-version"] == "1.0.0"


def test_csv(url, told):
    """What pandas writes."""
    headers = {"content-type": "text/csv"}
    answer = requests.post(f"{url}/invocations", data=FRAME.to_csv(index=False), headers=headers, timeout=10)
    assert [prediction["probability"] for prediction in answer.json()["predictions"]] == told


def test_a_body_beyond_the_limit(url):
    """413 in the shape of each protocol."""
    body = b" " * 2_000_000
    assert "error" in requests.post(f"{url}/v2/models/{MODEL_NAME}/infer", data=body, timeout=10).json()
    answer = requests.post(f"{url}/invocations", data=body, timeout=10)
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
