"""Fitted pipelines of every family on a few employees with missing values and unseen categories."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV

from attrition.data.schema import Feature, FeatureSchema
from attrition.training.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMA = FeatureSchema(
    features=(
        Feature(name="tenure", kind="integer"),
        Feature(name="satisfaction", kind="continuous"),
        Feature(name="promoted", kind="binary"),
        Feature(name="department", kind="category"),
    )
)


def _employees(n_rows: int = 400, seed: int = 0, *, missing: float = 0.08) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "tenure": rng.integers(0, 240, n_rows).astype(float),
            "satisfaction": rng.normal(3.0, 0.9, n_rows),
            "promoted": rng.integers(0, 2, n_rows).astype(float),
            "department": rng.choice([1.0, 2.0, 5.0, 9.0], n_rows),
        }
    )
    logit = 2.0 * (2.8 - frame["satisfaction"]) + (frame["department"] == 5.0) - 0.01 * frame["tenure"]
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-logit))).astype(int).to_numpy()
    return frame.mask(rng.random(frame.shape) < missing), y


def _fit(
    family: str, parameters: dict[str, Any] | None = None, calibration: str = "none", *, missing: float = 0.08
) -> SimpleNamespace:
    X, y = _employees(missing=missing)
    classifier = FAMILIES[family].build(SCHEMA, parameters or {}, 7)
    if calibration != "none":
        classifier = CalibratedClassifierCV(classifier, method=calibration, cv=3, ensemble=False)
    classifier.fit(X, y)
    names = list(SCHEMA.names)
    return SimpleNamespace(
        classifier=classifier, schema=SCHEMA, features=X, score=lambda f: classifier.predict_proba(f[names])[:, 1]
    )


@pytest.fixture(scope="session")
def employees() -> Callable[..., tuple[pd.DataFrame, np.ndarray]]:
    """Makes employees and their outcomes."""
    return _employees


@pytest.fixture(scope="session")
def fit() -> Callable[..., SimpleNamespace]:
    """Fits a family; the result has what a candidate has for scoring, and the training `features`."""
    return _fit


@pytest.fixture(scope="session")
def schema() -> FeatureSchema:
    """Four features, one of each kind."""
    return SCHEMA


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of a forest add its trees in the order in which they finish: equality to the last bit needs one."""
    with joblib.parallel_config("sequential"):
        yield
