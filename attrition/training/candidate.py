"""A candidate: a fitted, calibrated classifier with its threshold, its schema and its lineage."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, InsufficientData
from attrition.training.families import family_named
from attrition.training.lineage import Lineage, code_version
from attrition.training.threshold import ThresholdObjective, choose_threshold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import pandas as pd
    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable
    from attrition.data.schema import FeatureSchema
    from attrition.training.families import Family, Value
    from attrition.training.plan import Calibration

__all__ = ["MIN_PERSONS_PER_FOLD", "Candidate", "Lineage", "check_learnable", "code_version", "fit_candidate"]

MIN_PERSONS_PER_FOLD = 5
"""Leavers, and stayers, that every fold needs for its score to mean anything."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may become a version once the gates have looked at it. Needs neither Ray nor MLflow.

    Attributes
    ----------
    classifier : CalibratedClassifierCV or Pipeline
        Reads ``DataFrame[schema.names]``; the bare pipeline when `calibration` is ``none``.
    threshold : float
        Call a leaver when the probability is at least this.
    schema : FeatureSchema
    family : str
    parameters : mapping
    calibration : str
        ``sigmoid``, ``isotonic`` or ``none``.
    objective : mapping
        What the threshold was chosen for, and what it reached out of fold (key ``reached``).
    lineage : Lineage
    oof_true : ndarray of shape (n_rows,), int8
    oof_score : ndarray of shape (n_rows,), float64
        Probability of each training row from the pipeline that had not seen its person, passed through the final
        calibration map. The map itself has seen these rows; it has two parameters (sigmoid) or is monotone (isotonic).
    """

    classifier: Any
    threshold: float
    schema: FeatureSchema
    family: str
    parameters: Mapping[str, Value]
    calibration: str
    objective: Mapping[str, Any]
    lineage: Lineage
    oof_true: NDArray[np.int8]
    oof_score: NDArray[np.float64]

    def score(self, features: pd.DataFrame) -> NDArray[np.float64]:
        """Probability that each person leaves within the horizon, shape (n_rows,), in [0, 1].

        Parameters
        ----------
        features : DataFrame
            Holds the schema's columns, float64, NaN = missing; other columns are ignored.
        """
        matrix = features.loc[:, list(self.schema.names)]
        with one_thread():
            return np.asarray(self.classifier.predict_proba(matrix)[:, 1], dtype=np.float64)

    def decide(self, features: pd.DataFrame) -> NDArray[np.int8]:
        """1 where the probability reaches the threshold, shape (n_rows,)."""
        return (self.score(features) >= self.threshold).astype(np.int8)


def one_thread() -> AbstractContextManager[Any]:
    """A context in which OpenMP and BLAS use one thread.

    Their threads spin while they wait: on a machine that also runs trials this makes a fit of a tenth of a second take
    seconds, and the order of their sums would vary.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def check_learnable(table: EmployeeTable, n_folds: int) -> None:
    """Raise unless every one of `n_folds` folds can hold some leavers and some stayers.

    Raises
    ------
    InsufficientData
        No outcomes, one class only, or fewer than `MIN_PERSONS_PER_FOLD` persons of a class per fold.
    """
    where = table.source or "training rows"
    if not table.has_target:
        raise InsufficientData(Fault(where, "outcomes are unknown", remedy="training needs a column attrition"))
    y, needed = table.target, n_folds * MIN_PERSONS_PER_FOLD
    persons = table.persons
    found = {"left": len(set(persons[y == 1])), "stayed": len(set(persons[y == 0]))}
    faults = [
        Fault(
            where,
            f"{n} persons who {what} among {len(table)} rows",
            f"{n_folds} folds need at least {needed}",
            "both outcomes must occur" if n == 0 else "bring more rows or fewer folds",
        )
        for what, n in found.items()
        if n < needed
    ]
    if faults:
        raise InsufficientData(faults)


def fit_candidate(
    table: EmployeeTable,
    family: str,
    parameters: Mapping[str, Value],
    *,
    n_folds: int = 5,
    seed: int = 42,
    calibration: Calibration = "sigmoid",
    objective: ThresholdObjective | None = None,
    lineage: Lineage,
) -> Candidate:
    """Fit one configuration on all rows, calibrate it and choose its threshold on out-of-fold scores.

    Parameters
    ----------
    table
        Training rows with outcomes; never the holdout.
    family, parameters
        See :data:`attrition.training.families.FAMILIES`.
    n_folds
        Person-disjoint stratified folds.
    seed
        Of the folds and the model.
    calibration
        Map from scores to probabilities, one for the whole model.
    objective
        Default: best accuracy with a recall of at least one half.
    lineage
        Recorded with the candidate.

    Raises
    ------
    ConfigError
        There is no such family, or it does not accept the parameters.
    InsufficientData
        See :func:`check_learnable`.
    """
    from attrition.data.splits import stratified_folds

    objective = objective or ThresholdObjective()
    chosen = family_named(family)
    chosen.validate(parameters)
    check_learnable(table, n_folds)
    folds = stratified_folds(table, n_folds, seed)
    pipeline = chosen.build(table.schema, parameters, seed)
    with one_thread(), _folds_at_once(chosen):
        classifier, scores = _fit(pipeline, table.features, table.target, folds, calibration)
    choice = choose_threshold(table.target, scores, objective)
    return Candidate(
        classifier=classifier,
        threshold=choice.threshold,
        schema=table.schema,
        family=family,
        parameters=dict(parameters),
        calibration=calibration,
        objective={**objective.model_dump(mode="json"), "reached": choice.to_dict()},
        lineage=lineage,
        oof_true=table.target,
        oof_score=scores,
    )


def _folds_at_once(family: Family) -> AbstractContextManager[Any]:
    """Cross-validation in threads, where that helps; each fit stays single-threaded, hence reproducible to the bit."""
    import joblib  # type: ignore[import-untyped]  # it has no stubs

    if not family.releases_gil:
        return nullcontext()
    # joblib applies it when it is made, not when it is entered
    config: AbstractContextManager[Any] = joblib.parallel_config("threading", n_jobs=os.cpu_count())
    return config


def _fit(
    pipeline: Any,
    features: pd.DataFrame,
    y: NDArray[np.int8],
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    calibration: Calibration,
) -> tuple[Any, NDArray[np.float64]]:
    """The fitted classifier and its out-of-fold probabilities."""
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV

    if calibration == "none":
        scores = _out_of_fold(clone(pipeline), "predict_proba", features, y, folds)[:, 1]
        pipeline.fit(features, y)
        return pipeline, scores
    classifier = CalibratedClassifierCV(pipeline, method=calibration, cv=folds, ensemble=False)
    classifier.fit(features, y)
    (calibrated,) = classifier.calibrated_classifiers_
    # these are the scores that its map was fitted to. It discards them, and scikit-learn has no public way to build a
    # fitted CalibratedClassifierCV from scores at hand (a frozen pipeline would be calibrated on rows that it has
    # seen), so the folds of the winner, and only of the winner, are fitted twice
    # the same choice as CalibratedClassifierCV makes, so that its map fits these scores
    method = "decision_function" if hasattr(calibrated.estimator, "decision_function") else "predict_proba"
    raw = _out_of_fold(clone(pipeline), method, features, y, folds)
    scores = calibrated.calibrators[0].predict(raw if raw.ndim == 1 else raw[:, 1])
    # the fold indices have served; they are longer than the model
    classifier.set_params(cv=len(folds))
    return classifier, np.asarray(scores, dtype=np.float64)


def _out_of_fold(
    pipeline: Any,
    method: str,
    features: pd.DataFrame,
    y: NDArray[np.int8],
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
) -> NDArray[np.float64]:
    from sklearn.model_selection import cross_val_predict

    return np.asarray(cross_val_predict(pipeline, features, y, cv=folds, method=method), dtype=np.float64)
