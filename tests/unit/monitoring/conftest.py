"""Employees, a prediction log of some days, and a simulated year with its outcomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attrition.data.predictions import FEATURE, PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema
from attrition.monitoring.performance import ServedModel

NAMES = FeatureSchema.default().names
START = datetime(2024, 1, 1, tzinfo=UTC)


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


class World:
    """People who are scored once a month and some of whom leave; `skill` scales what the score knows."""

    schema = FeatureSchema.default().model_copy(update={"horizon_days": 90})

    def __init__(self, n_persons=1_200, n_months=6, skill=2.0, version="1.0.0", seed=3):
        rng = np.random.default_rng(seed)
        ids = np.array([f"{version}-{i:06d}" for i in range(n_persons)])
        logit = rng.normal(-1.2, skill, n_persons)
        self.probability = 1 / (1 + np.exp(-logit))
        leaves = rng.random(n_persons) < self.probability
        rows = []
        for month in range(n_months):
            # a fresh part of the staff each month, so that a person's outcome belongs to one bucket
            mine = np.flatnonzero(np.arange(n_persons) % n_months == month)
            time = START + pd.DateOffset(months=month) + pd.to_timedelta(rng.integers(0, 27, len(mine)), unit="D")
            rows.append(
                pd.DataFrame(
                    {
                        "employee_id": ids[mine],
                        "time": pd.DatetimeIndex(time),
                        "version": version,
                        "probability": self.probability[mine],
                        "decision": self.probability[mine] >= 0.5,
                        "feature_department_code": rng.integers(1, 4, len(mine)).astype(float),
                        "feature_age": rng.uniform(20, 65, len(mine)),
                        "left": leaves[mine],
                    }
                )
            )
        frame = pd.concat(rows, ignore_index=True).sort_values("time", ignore_index=True)
        days = pd.to_timedelta(rng.integers(1, 80, len(frame)), unit="D")
        left_on = (frame["time"].dt.tz_convert(None) + days).dt.normalize().astype("datetime64[us]")
        self.outcomes = pd.DataFrame({"employee_id": frame["employee_id"], "left_on": left_on.where(frame["left"])})
        self.truth = frame.set_index("employee_id")["left"]
        self.predictions = frame.drop(columns="left").assign(time=frame["time"].astype("datetime64[us, UTC]"))
        self.models = {version: ServedModel(self.schema)}


@pytest.fixture
def world():
    return World
