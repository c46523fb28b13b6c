"""A simulated holdout whose scores are calibrated."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.reports import evaluate


def simulate(n, seed=0):
    """Outcomes and calibrated scores, about one in five leaves, AUC about 0.88."""
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(2.4 - 2.2 * rng.standard_normal(n)))
    return (rng.random(n) < score).astype(int), score


@pytest.fixture
def holdout():
    """Function from a number of rows (and a seed) to outcomes and scores."""
    return simulate


@pytest.fixture(scope="session")
def attributes():
    """Departments and an attribute with gaps, for 1,500 rows."""
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "department": rng.choice(["sales", "IT", "R&D", "<legal>"], 1_500, p=[0.5, 0.3, 0.195, 0.005]),
            "gender": rng.choice(["f", "m", None], 1_500, p=[0.47, 0.47, 0.06]),
        }
    )


@pytest.fixture(scope="session")
def evaluation(attributes):
    """An evaluation of 1,500 rows with slices."""
    return evaluate(*simulate(1_500), 0.4, groups=attributes)


@pytest.fixture(scope="session")
def fairness(attributes):
    """Fairness reports of the same rows, by department and by gender."""
    y, score = simulate(1_500)
    return assess_fairness(y, (score >= 0.4).astype(int), attributes)
