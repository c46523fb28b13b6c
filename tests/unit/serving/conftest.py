"""A gateway in this process, with a scorer that is easy to predict."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from attrition.data.schema import Feature, FeatureSchema
from attrition.errors import IntegrityError
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.traffic import Traffic, Variant


class SumScorer:
    """Probability: the mean of the present values, divided by a hundred."""

    def __init__(self, schema: FeatureSchema, offset: float) -> None:
        self.feature_names = schema.names
        self._offset = offset

    def score_one(self, values: Any) -> float:
        return float(self.score(np.array([values], dtype=np.float64))[0])

    def score(self, matrix: Any) -> Any:
        assert matrix.dtype == np.float64
        return np.nan_to_num(np.nanmean(matrix, axis=1) / 100) + self._offset


@dataclass
class FakeBundle:
    """A loaded version."""

    version: str
    scorer: SumScorer
    schema: FeatureSchema
    threshold: float = 0.5


@dataclass
class Store:
    """Versions that can be loaded, by bundle name."""

    bundles: dict[str, FakeBundle] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)

    def add(self, version: str, schema: FeatureSchema, *, offset: float = 0.0) -> Variant:
        """Make a version and the variant that names it."""
        self.bundles[version] = FakeBundle(version, SumScorer(schema, offset), schema)
        return Variant(name="blue", version=version, bundle=version, manifest_sha256=f"{len(self.bundles):064x}")

    def load(self, uri: str, _manifest_sha256: str) -> FakeBundle:
        """What a replica calls."""
        self.loads.append(uri)
        if uri not in self.bundles:
            raise IntegrityError(f"{uri}: a byte differs.")
        return self.bundles[uri]


class Endpoint:
    """A gateway and a client in front of it."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.gateway = Gateway(limits, store.load, replica="r1")

    def configure(self, *variants: Variant, generation: int = 0) -> None:
        traffic = Traffic(variants=variants, generation=generation)
        asyncio.run(self.gateway.reconfigure(traffic.model_dump(mode="json")))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.gateway)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, **options)

        return asyncio.run(send())

    def predict(self, document: Any = None, **options: Any) -> httpx.Response:
        if document is not None:
            options["json"] = document
        return self.request("POST", "/v1/predict", **options)


@pytest.fixture
def schema() -> FeatureSchema:
    """Four features, one of each kind; age is required."""
    return FeatureSchema(
        features=(
            Feature(name="age", kind="continuous", unit="years", minimum=14, maximum=100, required=True),
            Feature(name="projects", kind="integer", minimum=0, maximum=50),
            Feature(name="promoted", kind="binary"),
            Feature(name="department", kind="category"),
        )
    )


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def endpoint(store: Store, schema: FeatureSchema) -> Endpoint:
    """A gateway that serves version 1.0.0 and takes up to five records."""
    served = Endpoint(store, Limits(max_records=5, max_body_bytes=2_000))
    served.configure(store.add("1.0.0", schema))
    return served
