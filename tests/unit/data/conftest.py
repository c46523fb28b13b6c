"""A small canonical extract, and files written from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from attrition.governance.privacy import PseudonymKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def key() -> PseudonymKey:
    return PseudonymKey(bytes(range(32)))


@pytest.fixture
def canonical() -> pd.DataFrame:
    """Two hundred employees with canonical columns and a weak cause of leaving."""
    rng = np.random.default_rng(7)
    n = 200
    satisfaction = rng.uniform(1, 5, n).round(1)
    return pd.DataFrame(
        {
            "employee_id": [f"E{i:04d}" for i in range(n)],
            "snapshot_date": "2024-03-31",
            "tenure": rng.integers(1, 240, n),
            "age": rng.integers(20, 60, n),
            "satisfaction_score": satisfaction,
            "performance_rating": rng.uniform(1, 5, n).round(1),
            "work_hours": rng.normal(40, 3, n).round(1),
            "projects_count": rng.integers(1, 8, n),
            "promotion_flag": rng.integers(0, 2, n),
            "salary": rng.normal(60_000, 9_000, n).round(0),
            "department_code": rng.integers(1, 7, n),
            "gender": rng.choice(["female", "male"], n),
            "attrition": (rng.uniform(size=n) < 0.5 - 0.08 * satisfaction).astype(int),
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a frame as CSV and return its path."""

    def write_csv(frame: pd.DataFrame, name: str = "extract.csv", **options: object) -> Path:
        path = tmp_path / name
        frame.to_csv(path, index=False, **options)
        return path

    return write_csv
