"""From a candidate to the declared files of its scorer, and the proof that both say the same."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.scoring import background
from attrition.scoring.additive import mean_contributions, read_model
from attrition.scoring.columns import Number, cannot_compile, model_columns
from attrition.scoring.ensembles import flatten, read_trees
from attrition.scoring.format import (
    FORMAT,
    SCORER_FILE,
    TREES_FILE,
    Identity,
    Isotonic,
    LinearDocument,
    Logistic,
    NumericTerm,
    TableTerm,
    TreesDocument,
    encode,
)
from attrition.scoring.parity import Parity, prove_equal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema
    from attrition.scoring.columns import Column, Table
    from attrition.scoring.ensembles import Trees
    from attrition.scoring.format import Output
    from attrition.training.candidate import Candidate

__all__ = ["Parity", "compile_background", "compile_candidate", "compile_classifier", "prove_equal"]


def compile_candidate(candidate: Candidate) -> dict[str, bytes]:
    """The files of a candidate's scorer, content by name; see :func:`compile_classifier`."""
    return compile_classifier(candidate.classifier, candidate.schema.names)


def compile_classifier(classifier: Any, names: Sequence[str]) -> dict[str, bytes]:
    """The files that say what a fitted classifier computes: ``scorer.json``, and ``trees.bin`` for an ensemble.

    Parameters
    ----------
    classifier : sklearn Pipeline or CalibratedClassifierCV around one
        Binary, classes 0 and 1, fitted on ``DataFrame[names]``. The calibration is one map for the whole model
        (``ensemble=False``).
    names
        The features, in the order of the records to score.

    Raises
    ------
    ParityError
        A step, model or calibration that has no declared form; names it.
    """
    pipeline, calibrator = _parts(classifier)
    if list(classifier.classes_) != [0, 1]:
        raise cannot_compile(f"a classifier of {len(classifier.classes_)} classes", "0 (stayed) and 1 (left) can")
    columns, model = model_columns(pipeline, names)
    trees = read_trees(model)
    # scikit-learn calibrates decision_function where a model has one, else the probability
    output = _output(calibrator, logit=hasattr(model, "decision_function"))
    if trees is not None:
        return _tree_files(trees, columns, names, output)
    return {SCORER_FILE: encode(_linear(model, columns, names, output))}


def compile_background(
    candidate: Candidate, files: Mapping[str, bytes], training: NDArray[np.float64]
) -> dict[str, bytes]:
    """The files that explanations of a candidate need beside its scorer; see :mod:`attrition.scoring.background`.

    Parameters
    ----------
    files
        Of :func:`compile_candidate`.
    training : ndarray of shape (n, n_features), float64; n > 0
        The rows that the candidate was fitted on.
    """
    pipeline, _ = _parts(candidate.classifier)
    columns, model = model_columns(pipeline, candidate.schema.names)
    trees = read_trees(model)
    document, _ = read_model(files)
    covers = None if trees is None else flatten(trees, columns).cover
    found = background.Background(
        format=background.FORMAT,
        space="log_odds" if hasattr(model, "decision_function") else "probability",
        n_rows=len(training),
        mean_contributions=mean_contributions(document, training) if isinstance(document, LinearDocument) else (),
        n_nodes=0 if covers is None else len(covers),
        quartiles=_quartiles(candidate.schema, training),
    )
    return background.encode(found, covers)


def _quartiles(schema: FeatureSchema, matrix: NDArray[np.float64]) -> tuple[tuple[float, float, float] | None, ...]:
    found: list[tuple[float, float, float] | None] = []
    for name, column in zip(schema.names, matrix.T, strict=True):
        known = column[~np.isnan(column)]
        if name in schema.categorical or not len(known):
            found.append(None)
        else:
            low, median, high = np.quantile(known, (0.25, 0.5, 0.75)).tolist()
            found.append((low, median, high))
    return tuple(found)


def _parts(classifier: Any) -> tuple[Any, Any]:
    """Pipeline and calibrator, None for a bare pipeline."""
    from sklearn.calibration import CalibratedClassifierCV

    if not isinstance(classifier, CalibratedClassifierCV):
        return classifier, None
    members = classifier.calibrated_classifiers_
    if len(members) != 1:
        raise cannot_compile(f"a calibration of {len(members)} models", "ensemble=False makes one")
    return members[0].estimator, members[0].calibrators[0]


def _output(calibrator: Any, *, logit: bool) -> Output:
    from sklearn.isotonic import IsotonicRegression

    if calibrator is None:
        return Logistic(1.0, 0.0) if logit else Identity()
    if isinstance(calibrator, IsotonicRegression):
        raw, probability = calibrator.X_thresholds_.tolist(), calibrator.y_thresholds_.tolist()
        return Isotonic(tuple(raw), tuple(min(max(p, 0.0), 1.0) for p in probability))
    if hasattr(calibrator, "a_"):
        return Logistic(-float(calibrator.a_), -float(calibrator.b_))
    raise cannot_compile(f"calibration {type(calibrator).__name__}", "sigmoid and isotonic can")


def _tree_files(trees: Trees, columns: Sequence[Column], names: Sequence[str], output: Output) -> dict[str, bytes]:
    flat = flatten(trees, columns)
    document = TreesDocument(
        format=FORMAT,
        features=tuple(names),
        output=output,
        base=trees.base,
        divisor=trees.divisor,
        numeric=flat.numeric,
        tables=flat.tables,
        n_nodes=len(flat.ensemble.left),
        n_trees=len(flat.ensemble.roots),
    )
    return {SCORER_FILE: encode(document), TREES_FILE: flat.ensemble.to_bytes()}


def _linear(model: Any, columns: Sequence[Column], names: Sequence[str], output: Output) -> LinearDocument:
    from sklearn.linear_model import LogisticRegression

    if not isinstance(model, LogisticRegression):
        raise cannot_compile(f"model {type(model).__name__}", "logistic regression and ensembles of trees can")
    weights = model.coef_[0].tolist()
    intercept = float(model.intercept_[0])
    numeric, tables = [], []
    for feature in range(len(names)):
        mine = [(c, w) for c, w in zip(columns, weights, strict=True) if c.feature == feature]
        numbers = [(c, w) for c, w in mine if isinstance(c, Number)]
        others = [(c, w) for c, w in mine if not isinstance(c, Number)]
        if numbers:
            term, constant = _numeric_term(feature, numbers, others)
            numeric.append(term)
            intercept += constant
        elif others:
            tables.append(_table_term(feature, others))
    return LinearDocument(FORMAT, tuple(names), output, intercept, tuple(numeric), tuple(tables))


def _numeric_term(
    feature: int, numbers: list[tuple[Number, float]], others: list[tuple[Table, float]]
) -> tuple[NumericTerm, float]:
    """The term of a number and its indicators of missing, less a constant that belongs to the intercept."""
    if any(table.values for table, _ in others):
        raise cannot_compile("a feature used as number and as category", "one of the two can")
    missing = [w * c.missing for c, w in numbers] + [w * c.missing for c, w in others]
    if any(isnan(part) for part in missing):
        raise cannot_compile("a linear model without imputation", "SimpleImputer provides it")
    weight = sum(w * number.affine[0] for number, w in numbers)
    constant = sum(w * number.affine[1] for number, w in numbers) + sum(w * table.unknown for table, w in others)
    return NumericTerm(feature, weight, sum(missing) - constant), constant


def _table_term(feature: int, tables: list[tuple[Table, float]]) -> TableTerm:
    codes = sorted({code for table, _ in tables for code in table.values})
    return TableTerm(
        feature,
        tuple(codes),
        tuple(sum(w * table.values.get(code, table.unknown) for table, w in tables) for code in codes),
        sum(w * table.unknown for table, w in tables),
        sum(w * table.missing for table, w in tables),
    )
