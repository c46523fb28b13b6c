"""Whatever is fitted, its scorer equals it; whatever is stored, it scores the same when read back."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attrition.data.schema import Feature, FeatureSchema
from attrition.errors import IntegrityError
from attrition.scoring.background import decode as decode_background
from attrition.scoring.compile import compile_background, compile_candidate, prove_equal
from attrition.scoring.compiled import compiled_scorer
from attrition.scoring.ensembles import largest_not_above
from attrition.scoring.explainer import Explainer
from attrition.scoring.format import FORMAT, LinearDocument, Logistic
from attrition.scoring.parity import edge_records
from attrition.scoring.scorer import load_scorer
from attrition.training.families import FAMILIES

SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FAMILY_PARAMETERS = {
    "logistic_regression": st.fixed_dictionaries({"C": st.sampled_from([1e-3, 1.0, 100.0])}),
    "random_forest": st.fixed_dictionaries(
        {"n_estimators": st.integers(1, 6), "max_depth": st.sampled_from([2, 6, None]), "bootstrap": st.booleans()}
    ),
    "extra_trees": st.fixed_dictionaries(
        {"n_estimators": st.integers(1, 6), "max_depth": st.sampled_from([2, 6, None])}
    ),
    "hist_gradient_boosting": st.fixed_dictionaries(
        {"max_iter": st.integers(1, 8), "max_leaf_nodes": st.sampled_from([2, 31, 100]), "min_samples_leaf": st.just(2)}
    ),
}


KINDS = st.lists(st.sampled_from(["continuous", "integer", "binary", "category"]), min_size=1, max_size=4)


@st.composite
def recipes(draw, family):
    """What to fit: kinds of features, size, scale, share of missing values, parameters, calibration, seed."""
    return SimpleNamespace(
        family=family,
        kinds=draw(KINDS),
        n_rows=draw(st.integers(40, 120)),
        scale=10.0 ** draw(st.integers(-6, 6)),
        missing=draw(st.sampled_from([0.0, 0.1, 0.5])),
        parameters=draw(FAMILY_PARAMETERS[family]),
        calibration=draw(st.sampled_from(["none", "sigmoid", "isotonic"])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _fitted(recipe):
    """A candidate on random data with ties, missing values and categories."""
    from sklearn.calibration import CalibratedClassifierCV

    rng = np.random.default_rng(recipe.seed)
    n_rows = recipe.n_rows
    schema = FeatureSchema(features=tuple(Feature(name=f"f{i}", kind=kind) for i, kind in enumerate(recipe.kinds)))
    columns = {
        "continuous": lambda: rng.normal(size=n_rows) * recipe.scale,
        "integer": lambda: rng.integers(-50, 50, n_rows).astype(float),
        "binary": lambda: rng.integers(0, 2, n_rows).astype(float),
        "category": lambda: rng.choice([-3.0, 0.0, 1.0, 12.0], n_rows),
    }
    frame = pd.DataFrame({feature.name: columns[feature.kind]() for feature in schema.features})
    frame = frame.mask(rng.random(frame.shape) < recipe.missing)
    y = rng.integers(0, 2, n_rows)
    y[:4] = [0, 1, 0, 1]
    classifier = FAMILIES[recipe.family].build(schema, recipe.parameters, 0)
    if recipe.calibration != "none":
        classifier = CalibratedClassifierCV(classifier, method=recipe.calibration, cv=2, ensemble=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence and the like: a badly fitted model must compile as well
        classifier.fit(frame, y)
    names = list(schema.names)
    return SimpleNamespace(
        classifier=classifier, schema=schema, features=frame, score=lambda f: classifier.predict_proba(f[names])[:, 1]
    )


@pytest.mark.parametrize("family", FAMILY_PARAMETERS)
@SLOW
@given(st.data())
def test_scorer_equals_pipeline_and_survives_storage(family, data):
    """On the data, on edge records; and alone, among others and compiled, a record has the same bits."""
    candidate = _fitted(data.draw(recipes(family)))
    files = compile_candidate(candidate)
    parity = prove_equal(files, candidate, candidate.features)
    assert parity.max_difference <= (1e-9 if family == "logistic_regression" else 1e-12)
    records = candidate.features.to_numpy()
    again = load_scorer({name: bytes(bytearray(content)) for name, content in files.items()})
    np.testing.assert_array_equal(again.score(records), load_scorer(files).score(records))
    categorical = [i for i, feature in enumerate(candidate.schema.features) if feature.kind == "category"]
    records = np.concatenate([records, edge_records(again, records, categorical)])
    alone = np.array([again.score_one(record) for record in records.tolist()])
    cut = data.draw(st.integers(1, len(records)))
    for many in (again, compiled_scorer(again)):
        np.testing.assert_array_equal(many.score(records), alone)
        np.testing.assert_array_equal(many.score(np.asfortranarray(records[:cut])), alone[:cut])
        np.testing.assert_array_equal(many.score(records[cut - 1 :]), alone[cut - 1 :])


@pytest.mark.parametrize("family", FAMILY_PARAMETERS)
@SLOW
@given(st.data())
def test_explanations_add_up_on_any_record(family, data):
    """On the data and on edge records: missing values, unknown codes, the neighbours of every threshold."""
    candidate = _fitted(data.draw(recipes(family)))
    observed = candidate.features.to_numpy()
    files = compile_candidate(candidate)
    background = compile_background(candidate, files, observed)
    explainer = Explainer(files, background, schema=candidate.schema, version="1.0.0", threshold=0.5)
    names = list(candidate.schema.names)
    edges = edge_records(explainer.scorer, observed, [names.index(name) for name in candidate.schema.categorical])
    for row in [*observed[:5].tolist(), *edges[:: max(1, len(edges) // 40)].tolist()]:
        explanation = explainer.explain(row)  # raises unless it adds up to the scorer's probability
        assert {part.feature for part in explanation.contributions} == set(names)
        assert np.isfinite([part.contribution for part in explanation.contributions]).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=20),
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
)
def test_folded_threshold_decides_as_the_rounded_comparison(thresholds, shift, scale):
    """For the threshold itself and its neighbours: the fold is exact."""

    def g(x):
        return ((x - shift) / scale).astype(np.float32).astype(np.float64)

    targets = np.array(thresholds)
    with np.errstate(over="ignore"):
        boundary = largest_not_above(g, targets)
        inside = np.abs(boundary) < np.finfo(np.float64).max
        assert (g(boundary)[inside] <= targets[inside]).all()
        assert (g(np.nextafter(boundary, np.inf))[inside] > targets[inside]).all()


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_with_one_kind_of_error(data):
    """Never a crash, never a scorer."""
    with pytest.raises(IntegrityError):
        load_scorer({"scorer.json": data, "trees.bin": data})
    document = LinearDocument(FORMAT, ("a",), Logistic(1.0, 0.0), 0.0, (), ())
    with pytest.raises(IntegrityError):
        decode_background({"background.json": data, "covers.bin": data}, document)
