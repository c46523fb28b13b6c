"""The compiled scorers of a batch: the same bits as the served ones, or not used."""

from __future__ import annotations

import builtins
import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from attrition.scoring import compiled
from attrition.scoring.compile import compile_candidate
from attrition.scoring.compiled import CompiledLinear, CompiledMasks, CompiledTrees, compiled_scorer, probes
from attrition.scoring.scorer import load_scorer

FORMS = [
    ("logistic_regression", {}, "sigmoid", CompiledLinear),
    ("logistic_regression", {}, "isotonic", CompiledLinear),
    ("hist_gradient_boosting", {"max_iter": 10}, "sigmoid", CompiledMasks),
    ("hist_gradient_boosting", {"max_iter": 5, "max_leaf_nodes": 50, "min_samples_leaf": 2}, "none", CompiledMasks),
    ("random_forest", {"n_estimators": 12}, "sigmoid", CompiledTrees),
    ("extra_trees", {"n_estimators": 7}, "isotonic", CompiledTrees),
]


@pytest.fixture
def served(fit):
    """The served scorer of a family."""
    return lambda family, parameters, calibration: load_scorer(compile_candidate(fit(family, parameters, calibration)))


@pytest.mark.parametrize(("family", "parameters", "calibration", "form"), FORMS)
def test_the_same_bits(served, family, parameters, calibration, form):
    """For numbers of rows that fill no block and more than one, in both memory layouts."""
    scorer = served(family, parameters, calibration)
    fast = compiled_scorer(scorer)
    assert isinstance(fast, form)
    for n_rows in (1, 15, 4_097):
        records = np.resize(probes(scorer), (n_rows, len(scorer.feature_names)))
        np.testing.assert_array_equal(fast.score(records), scorer.score(records))
        np.testing.assert_array_equal(fast.score(np.asfortranarray(records)), scorer.score(records))
        assert fast.score_one(records[0].tolist()) == fast.score(records[:1])[0]
    assert fast.feature_names == scorer.feature_names


def test_a_scorer_that_differs_is_not_used(served, monkeypatch, caplog):
    """One wrong bit on the probes is enough."""
    scorer = served("logistic_regression", {}, "sigmoid")
    score = CompiledLinear.score
    monkeypatch.setattr(CompiledLinear, "score", lambda self, matrix: np.nextafter(score(self, matrix), 2.0))
    with caplog.at_level(logging.WARNING):
        assert compiled_scorer(scorer) is scorer
    assert "not used" in caplog.text


def test_a_compiler_that_fails_is_survived(served, monkeypatch, caplog):
    """The served scorer does the work, and a line says so."""
    scorer = served("logistic_regression", {}, "sigmoid")

    def fail(*_):
        raise NotImplementedError

    monkeypatch.setattr(CompiledLinear, "score", fail)
    with caplog.at_level(logging.WARNING):
        assert compiled_scorer(scorer) is scorer
    assert "NotImplementedError" in caplog.text


def test_numba_may_be_missing(served, monkeypatch):
    """It is a dependency of a dependency."""
    scorer = served("logistic_regression", {}, "sigmoid")
    real = builtins.__import__

    def refuse(name, *arguments):
        if name == "numba":
            raise ImportError(name)
        return real(name, *arguments)

    compiled.compiled_kernels.cache_clear()
    monkeypatch.setattr(builtins, "__import__", refuse)
    try:
        assert compiled_scorer(scorer) is scorer
    finally:
        monkeypatch.undo()
        compiled.compiled_kernels.cache_clear()


def test_a_replica_needs_no_compiler():
    """Loading and scoring import neither numba nor the kernels."""
    code = "import sys, json, attrition.registry.bundle; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"numba", "llvmlite", "attrition.scoring.kernels", "attrition.scoring.compiled"} & set(loaded)
