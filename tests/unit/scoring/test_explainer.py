"""Explanations from declared files against the shap library, and what Shapley values promise."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from attrition.errors import IntegrityError, NotFound
from attrition.scoring.background import BACKGROUND_FILE, COVERS_FILE
from attrition.scoring.compile import compile_background, compile_classifier
from attrition.scoring.explainer import Explainer

GOLDEN = Path(__file__).with_name("golden")

MODELS = [
    ("logistic_regression", {}, "none"),
    ("logistic_regression", {"C": 0.1}, "sigmoid"),
    ("random_forest", {"n_estimators": 20, "min_samples_leaf": 5}, "none"),
    ("random_forest", {"n_estimators": 20, "class_weight": "balanced"}, "isotonic"),
    ("extra_trees", {"n_estimators": 20, "max_depth": 6}, "sigmoid"),
    ("hist_gradient_boosting", {"max_iter": 30}, "none"),
    ("hist_gradient_boosting", {"max_iter": 30, "max_leaf_nodes": 48, "class_weight": "balanced"}, "sigmoid"),
    ("hist_gradient_boosting", {"max_iter": 30}, "isotonic"),
]


def explainer_of(fitted, **options):
    names = fitted.schema.names
    files = compile_classifier(fitted.classifier, names)
    candidate = SimpleNamespace(classifier=fitted.classifier, schema=fitted.schema)
    background = compile_background(candidate, files, fitted.features.to_numpy())
    return Explainer(files, background, schema=fitted.schema, version="1.0.0", threshold=0.5, **options)


def edge_rows(features):
    """Rows as in training, with each feature missing, all missing, and categories that training did not see."""
    rows = features.to_numpy()[:40].copy()
    for place in range(rows.shape[1]):
        rows[place, place] = np.nan
    rows[4, :] = np.nan
    rows[5:8, 3] = 77.0
    return rows


def shap_values(fitted, rows):
    """What the shap library says about the pipeline's model, columns of a category summed; and its expected value."""
    import shap

    classifier = fitted.classifier
    pipeline = classifier if hasattr(classifier, "steps") else classifier.calibrated_classifiers_[0].estimator
    prepare, model = pipeline["prepare"], pipeline["model"]
    names = list(fitted.schema.names)
    matrix = prepare.transform(pd.DataFrame(rows, columns=names))
    if type(model).__name__ == "LogisticRegression":
        training = prepare.transform(fitted.features[names])
        explainer = shap.LinearExplainer(model, shap.maskers.Independent(training, max_samples=len(training)))
        found = explainer.shap_values(matrix)
    else:
        explainer = shap.TreeExplainer(model)
        found = np.asarray(explainer.shap_values(matrix, check_additivity=False))
        found = found[..., 1] if found.ndim == 3 else found
    columns = [
        next(n for n in names if c.removeprefix("missingindicator_").startswith(n))
        for c in prepare.get_feature_names_out()
    ]
    summed = np.stack([found[:, [c == name for c in columns]].sum(axis=1) for name in names], axis=1)
    return summed, float(np.atleast_1d(explainer.expected_value)[-1])


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # shap's colour maps, at import
@pytest.mark.parametrize(("family", "parameters", "calibration"), MODELS, ids=lambda part: str(part)[:30])
def test_equals_the_shap_library(fit, family, parameters, calibration):
    """To 1e-6, for every family, with missing values and codes that training did not see."""
    fitted = fit(family, parameters, calibration)
    explainer = explainer_of(fitted)
    rows = edge_rows(fitted.features)
    expected, base = shap_values(fitted, rows)
    found = np.array([explainer.additive.contributions(row) for row in rows.tolist()])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert explainer.additive.base_value == pytest.approx(base, abs=1e-9)


@pytest.mark.parametrize(("family", "parameters", "calibration"), MODELS, ids=lambda part: str(part)[:30])
def test_adds_up_to_the_served_probability(fit, family, parameters, calibration):
    """Base value and contributions, mapped as the document says, are the probability of the pipeline."""
    fitted = fit(family, parameters, calibration)
    explainer = explainer_of(fitted)
    rows = edge_rows(fitted.features)
    served = fitted.score(pd.DataFrame(rows, columns=list(fitted.schema.names)))
    for row, probability in zip(rows.tolist(), served, strict=True):
        explanation = explainer.explain(row)
        raw = explanation.base_value + sum(part.contribution for part in explanation.contributions)
        assert mapped(explanation.mapping, raw) == pytest.approx(probability, abs=1e-6)
        assert explanation.difference <= 1e-9
        assert len(explanation.contributions) == len(fitted.schema.names)


def mapped(mapping, raw):
    """The map, written out a second time."""
    if mapping["kind"] == "logistic":
        return 1 / (1 + np.exp(-(mapping["slope"] * raw + mapping["intercept"])))
    if mapping["kind"] == "isotonic":
        return np.interp(raw, mapping["raw"], mapping["probability"])
    return raw


def test_a_feature_without_effect_gets_exactly_zero(employees, schema):
    """A promotion that no tree can ask about, because it never varied."""
    from attrition.training.families import FAMILIES

    X, y = employees()
    X["promoted"] = 1.0
    classifier = FAMILIES["hist_gradient_boosting"].build(schema, {"max_iter": 10}, 7).fit(X, y)
    explainer = explainer_of(SimpleNamespace(classifier=classifier, schema=schema, features=X))
    place = schema.names.index("promoted")
    assert all(explainer.additive.contributions(row)[place] == 0.0 for row in X.to_numpy()[:20].tolist())


def test_a_wrong_probability_is_refused(fit):
    """Nothing is explained that does not add up."""
    fitted = fit("hist_gradient_boosting", {"max_iter": 10}, "sigmoid")
    explainer = explainer_of(fitted)
    row = fitted.features.to_numpy()[0].tolist()
    served = explainer.scorer.score_one(row)
    assert explainer.explain(row, served=served + 1e-12).difference <= 1e-9
    with pytest.raises(IntegrityError, match="differs from the served one"):
        explainer.explain(row, served=served + 1e-3)


def test_damaged_or_absent_backgrounds_are_named(fit):
    """Of an older version, of another model, with covers that cannot be."""
    fitted = fit("hist_gradient_boosting", {"max_iter": 10})
    names = fitted.schema.names
    files = compile_classifier(fitted.classifier, names)
    background = compile_background(fitted, files, fitted.features.to_numpy())
    options = {"schema": fitted.schema, "version": "1.0.0", "threshold": 0.5}
    with pytest.raises(NotFound, match="registered without it"):
        Explainer(files, {}, **options)
    for file, change, message in (
        (BACKGROUND_FILE, lambda data: data.replace(b"/1", b"/9"), "format is"),
        (BACKGROUND_FILE, lambda data: data.replace(b'"space"', b'"spaec"'), "spaec|space"),
        (BACKGROUND_FILE, lambda data: data[:50], "background.json"),
        (COVERS_FILE, lambda data: data[8:], "nodes take"),
        (COVERS_FILE, lambda data: bytes(8) + data[8:], "not positive"),
    ):
        with pytest.raises(IntegrityError, match=message):
            Explainer(files, {**background, file: change(background[file])}, **options)
    other = compile_classifier(fit("hist_gradient_boosting", {"max_iter": 12}).classifier, names)
    with pytest.raises(IntegrityError, match="nodes"):
        Explainer(other, background, **options)


def test_a_trunk_without_splits_has_no_contributions(employees, schema):
    """A forest of single leaves gives everybody the same probability."""
    from attrition.training.families import FAMILIES

    X, y = employees()
    classifier = FAMILIES["random_forest"].build(schema, {"n_estimators": 3, "min_samples_leaf": 400}, 7).fit(X, y)
    explainer = explainer_of(SimpleNamespace(classifier=classifier, schema=schema, features=X))
    explanation = explainer.explain(X.to_numpy()[0].tolist())
    assert {part.direction for part in explanation.contributions} == {"none"}
    assert explanation.top == ("No feature moves the estimate away from its average.",)
    assert explanation.base_probability == pytest.approx(explanation.probability)


@pytest.mark.parametrize("kind", ["linear", "boosting", "forest"])
def test_a_background_stored_by_an_earlier_version_explains_as_it_did(schema, kind):
    """The format is a promise: these files are never regenerated, new ones are added."""
    stored = json.loads((GOLDEN / f"explainer-{kind}.json").read_text())
    scoring, background = (
        {name: base64.b64decode(data) for name, data in stored[part].items()} for part in ("scoring", "background")
    )
    explainer = Explainer(scoring, background, schema=schema, version="1.0.0", threshold=0.5)
    assert explainer.additive.base_value == pytest.approx(stored["base_value"], rel=1e-12)
    for record, expected in zip(stored["records"], stored["contributions"], strict=True):
        values = [np.nan if value is None else value for value in record]
        np.testing.assert_allclose(explainer.additive.contributions(values), expected, atol=1e-12)


def test_importance_is_over_rows_that_are_given(fit):
    """Evenly spread, few enough to take seconds, in the space of the model."""
    fitted = fit("random_forest", {"n_estimators": 20, "min_samples_leaf": 5}, "sigmoid")
    explainer = explainer_of(fitted)
    found = explainer.importance(fitted.features.to_numpy())
    assert (found.space, found.n_rows) == ("probability", 400)
    parts = [explainer.additive.contributions(row) for row in fitted.features.to_numpy().tolist()]
    expected = dict(zip(fitted.schema.names, np.abs(parts).mean(axis=0), strict=True))
    assert {part.feature: part.mean_absolute for part in found.features} == pytest.approx(expected)
    assert found.base_value == explainer.additive.base_value


def test_explaining_imports_neither_shap_nor_the_training_libraries():
    """A replica that explains is as small as one that scores."""
    program = f"""
import base64, json, sys
from attrition.data.schema import Feature, FeatureSchema
from attrition.scoring.explainer import Explainer
stored = json.loads(open({str(GOLDEN / "explainer-boosting.json")!r}).read())
parts = [{{n: base64.b64decode(d) for n, d in stored[part].items()}} for part in ("scoring", "background")]
schema = FeatureSchema(features=tuple(Feature(name=n, kind="continuous") for n in ("a", "b", "c", "d")))
print(Explainer(*parts, schema=schema, version="1", threshold=0.5).explain([1.0, 2.0, 1.0, 5.0]))
heavy = {{"shap", "sklearn", "pandas", "scipy", "mlflow", "ray", "matplotlib", "numba"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
