"""One Ray and one PostgreSQL for all integration tests, and model versions that are made without training."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from postgres import throwaway_postgres

from attrition.cluster.environment import environment, free_ports
from attrition.cluster.session import connect
from attrition.data.schema import FeatureSchema
from attrition.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory):
    """A local Ray, ready for serving, with four logical CPUs: trials and replicas fit side by side.

    Every project that a test opens serves on this cluster's one HTTP port.
    """
    (port,) = free_ports(1)
    variables = {"ATTRITION_SERVE_PORT": str(port), "ATTRITION_SERVE_HOST": "127.0.0.1"}
    settings = Settings.from_environment({**os.environ, **variables}, home=tmp_path_factory.mktemp("ray"))
    settings = settings.model_copy(update={"ray_address": None})
    with environment(variables), connect(settings, serving=True, num_cpus=4) as session:
        yield session


@pytest.fixture(scope="session")
def postgres_server():
    """A PostgreSQL of our own for the session; skips where none can be run."""
    with throwaway_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server):
    """Address of a new, empty database on it."""
    return postgres_server.new_database()


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory):
    """Function that exports a linear version: probability = logistic(intercept + slope · age)."""
    from attrition.registry.bundle import CANDIDATE_FILE, FORMAT, SCHEMA_FILE, SCORING_FOLDER, BundleRef
    from attrition.registry.manifest import write_folder
    from attrition.scoring import format as scorer_format

    def make(version: str, intercept: float, *, slope: float = -0.02, folder: Path | None = None) -> BundleRef:
        schema = FeatureSchema.default()
        scorer = scorer_format.LinearDocument(
            format=scorer_format.FORMAT,
            features=schema.names,
            output=scorer_format.Logistic(slope=1.0, intercept=0.0),
            intercept=intercept,
            numeric=(scorer_format.NumericTerm(feature=schema.names.index("age"), weight=slope, missing=0.0),),
            tables=(),
        )
        candidate = {"format": FORMAT, "version": version, "family": "logistic_regression", "threshold": 0.5}
        files = {
            SCORING_FOLDER + scorer_format.SCORER_FILE: scorer_format.encode(scorer),
            SCHEMA_FILE: json.dumps(schema.to_dict()).encode(),
            CANDIDATE_FILE: json.dumps(candidate).encode(),
        }
        target = (folder or tmp_path_factory.mktemp("bundles")) / version
        return BundleRef(str(target), version, write_folder(target, files, {}))

    return make
