"""Employees, and a prediction log of some days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema

NAMES = FeatureSchema.default().names


@pytest.fixture(scope="session")
def people():
    """Makes a table of employees in canonical columns; `shift` moves satisfaction."""

    def make(n_rows, seed=0, *, shift=0.0):
        rng = np.random.default_rng(seed)
        columns = {name: rng.normal(3, 0.7, n_rows).round(2) for name in NAMES}
        columns["satisfaction_score"] = columns["satisfaction_score"] + shift
        columns |= {
            "age": np.clip(rng.normal(40, 8, n_rows), 18, 70).round(1),
            "projects_count": rng.integers(0, 9, n_rows).astype(float),
            "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
            "department_code": rng.integers(1, 4, n_rows).astype(float),
        }
        columns["salary"] = np.where(rng.random(n_rows) < 0.02, np.nan, rng.lognormal(11, 0.3, n_rows).round())
        return pd.DataFrame(columns)

    return make


@pytest.fixture
def log(tmp_path):
    """Writes predictions of a day to the table of the test."""
    tables = str(tmp_path / "home" / "tables")

    def write(day, frame, *, version="1.0.0", reason="sole", probability=None):
        rng = np.random.default_rng(len(frame))
        n_rows = len(frame)
        start = datetime.combine(day, datetime.min.time(), UTC)
        times = [start + timedelta(seconds=i * 86_000 / n_rows) for i in range(n_rows)]
        score = rng.beta(2, 6, n_rows) if probability is None else probability
        columns = {
            "prediction_id": [f"{day:%j}{version}{reason}{i:09d}" for i in range(n_rows)],
            "time": times,
            "day": [day] * n_rows,
            "version": [version] * n_rows,
            "variant": ["champion"] * n_rows,
            "reason": [reason] * n_rows,
            "shadow_of": [f"{day:%j}{i:09d}" if reason == "shadow" else None for i in range(n_rows)],
            "employee_id": [None] * n_rows,
            "probability": score,
            "threshold": [0.5] * n_rows,
            "decision": [False] * n_rows,
            "latency_us": [900] * n_rows,
        }
        columns |= {FEATURE + name: pa.array(frame[name], from_pandas=True) for name in frame.columns}
        PredictionTable(tables).append(pa.table(columns, prediction_schema(tuple(frame.columns))), {})
        return tables

    write.tables = tables
    return write
