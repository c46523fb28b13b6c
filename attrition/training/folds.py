"""The work of one trial: a configuration fitted and scored fold by fold, in a worker."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attrition.training.families import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema

SCORE = "score"
"""Key under which a trial reports its mean so far."""


@dataclass(frozen=True, slots=True)
class FoldData:
    """What every trial reads, shared between the workers without a copy.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,), int8
    folds : sequence of (fit rows, score rows)
    schema : FeatureSchema
    """

    features: pd.DataFrame
    y: NDArray[np.int8]
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
    schema: FeatureSchema


def fold_scores(data: FoldData, family: str, parameters: Mapping[str, Any], metric: str, seed: int) -> Iterator[float]:
    """The metric on each fold of one configuration, one after the other.

    Parameters
    ----------
    metric
        ``auc`` or ``average_precision``.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    measure = {"auc": roc_auc_score, "average_precision": average_precision_score}[metric]
    for fit_rows, score_rows in data.folds:
        pipeline = FAMILIES[family].build(data.schema, parameters, seed)
        pipeline.fit(data.features.iloc[fit_rows], data.y[fit_rows])
        scores = pipeline.predict_proba(data.features.iloc[score_rows])[:, 1]
        yield float(measure(data.y[score_rows], scores))


def run_trial(config: dict[str, Any], data: FoldData, metric: str, seed: int) -> None:
    """One trial, in a worker: reports the mean so far after each fold."""
    from ray import tune

    started = time.perf_counter()
    scores: list[float] = []
    for score in fold_scores(data, config["family"], config["parameters"], metric, seed):
        scores.append(score)
        mean = sum(scores) / len(scores)
        tune.report({SCORE: mean, "fold_score": score, "seconds": time.perf_counter() - started})
