"""Requests that schemathesis makes from the OpenAPI document: no server error, nothing that contradicts it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from attrition.data.schema import FeatureSchema
from attrition.scoring import background
from attrition.scoring.explainer import Explainer
from attrition.scoring.format import FORMAT, SCORER_FILE, LinearDocument, Logistic, NumericTerm, encode
from attrition.serving.explain_route import ExplainRoute
from attrition.serving.explainer import ExplainerService, ExplainOptions
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.serving.traffic import Traffic, Variant
from attrition.settings import MODEL_NAME, Settings

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


class ConstantScorer:
    """Half for everybody."""

    def __init__(self, names):
        self.feature_names = names

    def score_one(self, _values):
        return 0.5

    def score(self, matrix):
        return np.full(len(matrix), 0.5)


class Bundle:
    """The default features."""

    version = "1.0.0"
    threshold = 0.5
    schema = FeatureSchema.default()
    scorer = ConstantScorer(schema.names)


def explaining():
    """A route to an explainer in this process; no prediction is logged."""
    age = Bundle.schema.names.index("age")
    scorer = LinearDocument(FORMAT, Bundle.schema.names, Logistic(1.0, 0.0), 0.5, (NumericTerm(age, 0.1, 0.0),), ())
    n = len(Bundle.schema.names)
    found = background.Background(background.FORMAT, "log_odds", 9, (0.0,) * n, 0, (None,) * n)
    files = {SCORER_FILE: encode(scorer)}, background.encode(found)
    explainer = Explainer(*files, schema=Bundle.schema, version=Bundle.version, threshold=Bundle.threshold)
    service = ExplainerService(ExplainOptions(), lambda *_: explainer, {}.get)

    async def ask(request, variants):
        return service.answer(request, [Variant.model_validate(v) for v in variants], now=datetime.now(UTC))

    return ExplainRoute(ask)


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The document of a gateway in this process."""
    log = PredictionLog(LogConfig.of(Settings.from_environment({}, home=tmp_path_factory.mktemp("home"))))
    limits = Limits(max_records=5, max_body_bytes=10_000)
    gateway = Gateway(limits, lambda _uri, _digest: Bundle(), replica="r1", log=log, explanations=explaining())
    variant = Variant(name="blue", version="1.0.0", bundle="b", manifest_sha256="0" * 64)
    asyncio.run(gateway.reconfigure(Traffic(variants=(variant,)).model_dump(mode="json")))
    yield schemathesis.openapi.from_asgi("/openapi.json", gateway)
    log.close()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_request_breaks_the_service(document, mode):
    """Valid and invalid bodies, parameters, headers and methods, for every operation of the document."""
    operations = [result.ok() for result in document.get_all_operations()]
    paths = {operation.path for operation in operations}
    assert paths >= {
        "/v1/predict",
        "/v1/explain",
        "/v1/outcomes",
        "/invocations",
        f"/v2/models/{MODEL_NAME}/versions/{{version}}/infer",
    }
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing about it can be wrong

        @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            case.call_and_validate(checks=CHECKS)

        ask()
