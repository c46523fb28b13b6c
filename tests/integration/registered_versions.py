"""Registered versions within a second each: one small model with different thresholds, packaged as a search would."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.employees import EmployeeTable
from attrition.data.schema import FeatureSchema
from attrition.evaluation.gates import GateResult, Outcome, Verdict
from attrition.evaluation.reports import evaluate
from attrition.registry.models import ModelRegistry
from attrition.registry.package import write_package
from attrition.scoring.compile import compile_candidate, prove_equal
from attrition.training.candidate import fit_candidate
from attrition.training.lineage import Lineage
from attrition.training.tracking import connect

if TYPE_CHECKING:
    from pathlib import Path

    from attrition.settings import Settings

ADMITTED = Verdict((GateResult("auc", Outcome.PASS, 0.9, 0.88, 0.92, 0.85, 100, "AUC is high enough", holds=False),))
HELD = Verdict((GateResult("auc", Outcome.FAIL, 0.6, 0.5, 0.7, 0.85, 100, "AUC is below 0.85", holds=True),))


def leaves(satisfaction: float, draw: float) -> bool:
    """Whether an invented person leaves; `draw` is uniform in [0, 1)."""
    return draw < 1 / (1 + np.exp(4 * (satisfaction - 2.5)))


def register(settings: Settings, folder: Path, thresholds: list[float], *, held: tuple[float, ...] = ()) -> list[str]:
    """Versions 1.0.0, 1.0.1 ... with these thresholds, in order; those in `held` did not pass their gates."""
    rng = np.random.default_rng(5)
    satisfaction = rng.uniform(1, 5, 400)
    frame = pd.DataFrame(
        {
            "employee_id": [f"{i:08x}" for i in range(400)],
            "snapshot_date": pd.Timestamp("2024-03-31"),
            "tenure": rng.uniform(0, 200, 400),
            "satisfaction_score": satisfaction,
            "department_code": rng.integers(1, 4, 400).astype(float),
            "attrition": [int(leaves(s, d)) for s, d in zip(satisfaction, rng.random(400), strict=True)],
        }
    ).astype({"attrition": np.int8})
    names = ("age", "performance_rating", "work_hours", "projects_count", "salary", "promotion_flag")
    table = EmployeeTable(frame, FeatureSchema.default().without(*names), source="made up")
    lineage = Lineage(None, None, "0.1.0+test", "unit", "0" * 64, 42, "2026-01-01T00:00:00+00:00")
    candidate = fit_candidate(table, "logistic_regression", {"C": 1.0}, n_folds=3, lineage=lineage)
    scores = candidate.score(table.features)
    parity = prove_equal(compile_candidate(candidate), candidate, table.features)
    registry, client = ModelRegistry(settings), connect(settings)
    experiment = client.get_experiment_by_name(settings.experiment)
    versions = []
    for number, threshold in enumerate(thresholds):
        other = replace(candidate, threshold=threshold)
        report = evaluate(table.target, scores, threshold, n_resamples=100)
        verdict = HELD if threshold in held else ADMITTED
        files = compile_candidate(other)
        ref = write_package(folder / str(number), other, report, None, (), verdict, parity, scoring_files=files)
        run_id = client.create_run(experiment.experiment_id).info.run_id
        registry.log_package(run_id, ref)
        waive = "to show that it is refused" if threshold in held else None
        versions.append(registry.register(run_id, waive=waive, author="somebody").version)
    return versions
