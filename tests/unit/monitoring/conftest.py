"""Logged predictions and outcomes of a simulated year."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from attrition.data.schema import FeatureSchema
from attrition.monitoring.performance import ServedModel

START = datetime(2024, 1, 1, tzinfo=UTC)


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
