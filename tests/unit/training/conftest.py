"""A small employee table that something can be learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from attrition.data.employees import EmployeeTable
from attrition.data.schema import FeatureSchema
from attrition.training.candidate import Candidate, fit_candidate, one_thread
from attrition.training.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _make_table(n_rows: int = 600, seed: int = 0) -> EmployeeTable:
    """Employees who leave when dissatisfied, with missing scores and departments."""
    rng = np.random.default_rng(seed)
    schema = FeatureSchema.default().without("age", "performance_rating", "work_hours", "projects_count", "salary")
    satisfaction = rng.uniform(1, 5, n_rows)
    department = rng.integers(1, 4, n_rows).astype(float)
    risk = 1 / (1 + np.exp(2.5 * (satisfaction - 2.2) + (department == 2)))
    satisfaction[rng.random(n_rows) < 0.05] = np.nan
    department[rng.random(n_rows) < 0.02] = np.nan
    frame = pd.DataFrame(
        {
            "employee_id": [f"{i:08x}" for i in range(n_rows)],
            "snapshot_date": pd.Timestamp("2024-03-31"),
            "tenure": rng.uniform(0, 200, n_rows),
            "satisfaction_score": satisfaction,
            "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
            "department_code": department,
            "attrition": (rng.random(n_rows) < risk).astype(np.int8),
            "gender": rng.choice(["f", "m"], n_rows),
        }
    )
    return EmployeeTable(frame, schema, sensitive=("gender",), source="made up")


@pytest.fixture(scope="session")
def make_table() -> Callable[..., EmployeeTable]:
    """Makes tables of other sizes and seeds."""
    return _make_table


@pytest.fixture(scope="session")
def table() -> EmployeeTable:
    """600 employees, about a quarter of whom leave."""
    return _make_table()


@pytest.fixture(scope="session")
def lineage() -> Lineage:
    """Of a table that was never written."""
    return Lineage(None, None, "0.1.0+test", "unit", "0" * 64, 42, "2026-01-01T00:00:00+00:00")


@pytest.fixture(scope="session")
def candidate(table: EmployeeTable, lineage: Lineage) -> Candidate:
    """A calibrated logistic regression."""
    return fit_candidate(table, "logistic_regression", {"C": 1.0}, n_folds=3, lineage=lineage)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small fits on a busy machine would wait for each other's threads."""
    with one_thread():
        yield
