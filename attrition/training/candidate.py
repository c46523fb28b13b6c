"""A candidate: a fitted, calibrated classifier with its threshold, its schema and its lineage."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, InsufficientData
from attrition.training.families import family_named
from attrition.training.lineage import Lineage, code_version
from attrition.training.mitigation import groups_of, mitigate
from attrition.training.threshold import ThresholdObjective, choose_threshold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    import pandas as pd
    from numpy.typing import NDArray

    from attrition.data.employees import EmployeeTable
    from attrition.data.schema import FeatureSchema
    from attrition.training.families import Family, Value
    from attrition.training.mitigation import Mitigated, Mitigation
    from attrition.training.plan import Calibration

    Folds = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]

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
    mitigation: Mapping[str, Any] | None = None

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
    mitigation: Mitigation | None = None,
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
    mitigation
        Even decisions out over an attribute's groups; None fits the rows as they are.
    lineage
        Recorded with the candidate.

    Raises
    ------
    ConfigError
        There is no such family, it does not accept the parameters, or the data lack the attribute to mitigate by.
    InsufficientData
        See :func:`check_learnable`, and :func:`attrition.training.mitigation.groups_of`.
    """
    from attrition.data.splits import stratified_folds

    objective = objective or ThresholdObjective()
    chosen = family_named(family)
    chosen.validate(parameters)
    check_learnable(table, n_folds)
    folds = stratified_folds(table, n_folds, seed)
    pipeline = chosen.build(table.schema, parameters, seed)
    fit_parameters: dict[str, Any] = {}
    mitigated: Mitigated | None = None
    with one_thread(), _folds_at_once(chosen):
        if mitigation is not None:
            groups = groups_of(table, mitigation)
            attempt = partial(_attempt, table.features, table.target, folds)
            reduced, mitigated = mitigate(pipeline, groups, table.target, mitigation, objective, attempt)
            if reduced is not None:
                pipeline, fit_parameters = reduced, {"sensitive_features": groups}
        classifier, scores = _fit(pipeline, table.features, table.target, folds, calibration, fit_parameters)
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
        mitigation=None if mitigated is None else mitigated.to_dict(),
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
    folds: Folds,
    calibration: Calibration,
    parameters: Mapping[str, Any],
) -> tuple[Any, NDArray[np.float64]]:
    """The fitted classifier and its out-of-fold probabilities."""
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV

    if calibration == "none":
        scores = _out_of_fold(clone(pipeline), "predict_proba", features, y, folds, parameters)[:, 1]
        pipeline.fit(features, y, **parameters)
        return _plain(pipeline), scores
    classifier = CalibratedClassifierCV(pipeline, method=calibration, cv=folds, ensemble=False)
    classifier.fit(features, y, **parameters)
    (calibrated,) = classifier.calibrated_classifiers_
    # these are the scores that its map was fitted to. It discards them, and scikit-learn has no public way to build a
    # fitted CalibratedClassifierCV from scores at hand (a frozen pipeline would be calibrated on rows that it has
    # seen), so the folds of the winner, and only of the winner, are fitted twice
    # the same choice as CalibratedClassifierCV makes, so that its map fits these scores
    method = "decision_function" if hasattr(calibrated.estimator, "decision_function") else "predict_proba"
    raw = _out_of_fold(clone(pipeline), method, features, y, folds, parameters)
    scores = calibrated.calibrators[0].predict(raw if raw.ndim == 1 else raw[:, 1])
    calibrated.estimator = _plain(calibrated.estimator)
    # the fold indices have served; they are longer than the model
    classifier.set_params(cv=len(folds), estimator=_plain(pipeline))
    return classifier, np.asarray(scores, dtype=np.float64)


def _plain(estimator: Any) -> Any:
    """The pipeline that a reduction fitted or would fit: groups matter in training only."""
    return getattr(estimator, "pipeline_", getattr(estimator, "pipeline", estimator))


def _attempt(
    features: pd.DataFrame, y: NDArray[np.int8], folds: Folds, estimator: Any, parameters: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Out-of-fold scores in [0, 1]; calibration would change neither their order nor, so, any decision."""
    from sklearn.base import clone

    return _out_of_fold(clone(estimator), "predict_proba", features, y, folds, parameters)[:, 1]


def _out_of_fold(
    pipeline: Any,
    method: str,
    features: pd.DataFrame,
    y: NDArray[np.int8],
    folds: Folds,
    parameters: Mapping[str, Any],
) -> NDArray[np.float64]:
    from sklearn.model_selection import cross_val_predict

    scores = cross_val_predict(pipeline, features, y, cv=folds, method=method, params=dict(parameters))
    return np.asarray(scores, dtype=np.float64)
