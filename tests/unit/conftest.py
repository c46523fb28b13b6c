"""One small judged candidate and its package; an identity provider."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from identity_provider import Provider

from attrition.data.employees import EmployeeTable
from attrition.data.quality import QualityReport
from attrition.data.schema import FeatureSchema
from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.gates import Evidence, GatePolicy, judge
from attrition.evaluation.references import DriftReference
from attrition.evaluation.reports import evaluate
from attrition.registry.package import write_package
from attrition.scoring.compile import compile_background, compile_candidate, prove_equal
from attrition.scoring.explainer import Explainer
from attrition.training.candidate import Candidate, fit_candidate
from attrition.training.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attrition.registry.package import PackageRef


@dataclass
class Made:
    """A candidate with everything that is packaged with it."""

    candidate: Candidate
    table: EmployeeTable
    evaluation: Any
    quality: QualityReport
    fairness: Any
    verdict: Any
    parity: Any
    scoring: Any
    background: Any
    importance: Any
    drift_reference: Any

    def write(self, directory: Path, **changes: Any) -> PackageRef:
        candidate = replace(self.candidate, **changes)
        return write_package(
            directory,
            candidate,
            self.evaluation,
            self.quality,
            self.fairness,
            self.verdict,
            self.parity,
            scoring_files=self.scoring,
            background_files=self.background,
            importance=self.importance,
            drift_reference=self.drift_reference,
        )


def _table(n_rows: int = 400) -> EmployeeTable:
    rng = np.random.default_rng(5)
    schema = FeatureSchema.default().without("age", "performance_rating", "work_hours", "projects_count", "salary")
    satisfaction = rng.uniform(1, 5, n_rows)
    frame = pd.DataFrame(
        {
            "employee_id": [f"{i:08x}" for i in range(n_rows)],
            "snapshot_date": pd.Timestamp("2024-03-31"),
            "tenure": rng.uniform(0, 200, n_rows),
            "satisfaction_score": satisfaction,
            "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
            "department_code": rng.integers(1, 4, n_rows).astype(float),
            "attrition": (rng.random(n_rows) < 1 / (1 + np.exp(4 * (satisfaction - 2.5)))).astype(np.int8),
            "gender": rng.choice(["f", "m"], n_rows),
        }
    )
    return EmployeeTable(frame, schema, sensitive=("gender",), source="made up")


@pytest.fixture(scope="session")
def made() -> Made:
    """A calibrated logistic regression that the default gates may hold."""
    table = _table()
    lineage = Lineage(None, None, "0.1.0+test", "unit", "0" * 64, 42, "2026-01-01T00:00:00+00:00")
    candidate = fit_candidate(table, "logistic_regression", {"C": 1.0}, n_folds=3, lineage=lineage)
    score = candidate.score(table.features)
    evaluation = evaluate(table.target, score, candidate.threshold, n_resamples=100)
    fairness = assess_fairness(table.target, candidate.decide(table.features), table.attributes)
    verdict = judge(GatePolicy.default(), Evidence(evaluation, fairness))
    scoring = compile_candidate(candidate)
    parity = prove_equal(scoring, candidate, table.features)
    quality = QualityReport(findings=(), n_rows=len(table), n_positive=int(table.target.sum()))
    background = compile_background(candidate, scoring, table.features.to_numpy())
    explainer = Explainer(scoring, background, schema=table.schema, version="", threshold=candidate.threshold)
    importance = explainer.importance(table.features.to_numpy())
    reference = DriftReference.of(table.features, table.schema, candidate.oof_score)
    return Made(
        candidate, table, evaluation, quality, fairness, verdict, parity, scoring, background, importance, reference
    )


@pytest.fixture(scope="session")
def _written(made, tmp_path_factory) -> PackageRef:
    return made.write(tmp_path_factory.mktemp("package") / "written")


@pytest.fixture
def package(_written, tmp_path) -> PackageRef:
    """A written package, to be damaged at will."""
    shutil.copytree(_written.directory, tmp_path / "package")
    return replace(_written, directory=tmp_path / "package")


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A running identity provider."""
    running = Provider()
    yield running
    running.close()


@pytest.fixture
def object_store(monkeypatch):
    """A store in memory, which every address ``abfss://container@account...`` means."""
    from fsspec.implementations.memory import MemoryFileSystem
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    memory = MemoryFileSystem()
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]

    def system_and_path(address):
        parts = urlsplit(address)
        return PyFileSystem(FSSpecHandler(memory)), f"{parts.username}{parts.path}"

    monkeypatch.setattr("attrition.data.addresses.filesystem_of", system_and_path)
    return memory
