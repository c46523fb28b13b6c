"""The compiled scorer says what the pipeline says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler

from attrition.errors import ParityError
from attrition.scoring.compile import compile_candidate, compile_classifier, prove_equal
from attrition.scoring.ensembles import largest_not_above
from attrition.scoring.masks import MaskScorer
from attrition.scoring.scorer import load_scorer
from attrition.scoring.trees import TreeScorer

CONFIGURATIONS = [
    ("logistic_regression", {"class_weight": "balanced"}),
    ("random_forest", {"n_estimators": 12, "max_depth": 5}),
    ("random_forest", {"n_estimators": 12, "min_samples_leaf": 2}),
    ("extra_trees", {"n_estimators": 12, "max_depth": 5}),
    ("extra_trees", {"n_estimators": 12, "class_weight": "balanced_subsample", "bootstrap": True}),
    ("hist_gradient_boosting", {"max_iter": 15}),
    ("hist_gradient_boosting", {"max_iter": 8, "max_leaf_nodes": 120, "min_samples_leaf": 1}),
]
NAMES = ["tenure", "satisfaction", "promoted", "department"]
NUMERIC = NAMES[:3]


@pytest.mark.parametrize("calibration", ["none", "sigmoid", "isotonic"])
@pytest.mark.parametrize(("family", "parameters"), CONFIGURATIONS)
def test_every_family_and_calibration_is_proven_equal(fit, family, parameters, calibration):
    """On observed and edge records, far below the tolerance."""
    candidate = fit(family, parameters, calibration)
    parity = prove_equal(compile_candidate(candidate), candidate, candidate.features)
    assert parity.max_difference <= (1e-12 if family == "logistic_regression" else 1e-15)
    assert parity.n_rows > len(candidate.features)


@pytest.mark.parametrize("family", ["logistic_regression", "random_forest", "hist_gradient_boosting"])
def test_missing_values_that_training_never_saw(fit, family):
    """A model trained on complete rows scores incomplete ones as its pipeline does."""
    candidate = fit(family, {}, "sigmoid", missing=0.0)
    prove_equal(compile_candidate(candidate), candidate, candidate.features)


def test_a_missing_code_is_its_own_category_or_unknown(fit):
    """Depending on whether training had missing codes."""
    for missing in (0.0, 0.2):
        candidate = fit("logistic_regression", missing=missing)
        scorer = load_scorer(compile_candidate(candidate))
        record = [40.0, 3.0, 0.0]
        unknown, absent = scorer.score_one([*record, 77.0]), scorer.score_one([*record, np.nan])
        assert (unknown == absent) is (missing == 0.0)


def test_small_trees_are_scored_by_masks_and_large_ones_by_walking(fit):
    """The runtime follows from the trees."""
    small = load_scorer(compile_candidate(fit("hist_gradient_boosting", {"max_iter": 5})))
    large = load_scorer(compile_candidate(fit("random_forest", {"n_estimators": 3, "min_samples_leaf": 1})))
    assert isinstance(small, MaskScorer)
    assert isinstance(large, TreeScorer)


@pytest.mark.parametrize("model", [RandomForestClassifier, ExtraTreesClassifier])
def test_forests_round_their_input_to_float32_and_so_does_the_scorer(model, employees):
    """Records around every threshold, in steps far finer than float32 can tell."""
    X, y = employees(300, missing=0.0)
    X = X[["satisfaction"]]
    pipeline = Pipeline([("model", model(n_estimators=5, random_state=0))]).fit(X, y)
    scorer = load_scorer(compile_classifier(pipeline, ["satisfaction"]))
    thresholds = np.concatenate([tree.tree_.threshold for tree in pipeline[-1].estimators_])
    spacing = np.spacing(thresholds.astype(np.float32)).astype(np.float64)
    around = np.concatenate([thresholds + spacing * step for step in np.linspace(-2, 2, 81)])
    expected = pipeline.predict_proba(pd.DataFrame({"satisfaction": around}))[:, 1]
    np.testing.assert_array_equal(scorer.score(around[:, None]), expected)


@pytest.mark.parametrize(
    "model", [RandomForestClassifier(8, random_state=0), HistGradientBoostingClassifier(max_iter=8)]
)
def test_imputation_and_scaling_before_trees_fold_into_thresholds(model, employees, schema):
    """Exactly: the same float operations decide, only earlier."""
    X, y = employees()
    numeric = Pipeline([("impute", SimpleImputer(strategy="mean", add_indicator=True)), ("scale", StandardScaler())])
    category = Pipeline([("impute", SimpleImputer(strategy="most_frequent")), ("code", _one_hot())])
    prepare = ColumnTransformer([("n", numeric, NUMERIC), ("c", category, ["department"])], sparse_threshold=0.0)
    pipeline = Pipeline([("prepare", prepare), ("model", model)]).fit(X, y)
    _assert_proven(pipeline, X, schema)


def test_columns_may_come_in_another_order_than_features(employees, schema):
    """The scorer reads schema order whatever the ColumnTransformer does."""
    X, y = employees(missing=0.0)
    parts = [("c", _one_hot(), ["department"]), ("n", SimpleImputer(), ["promoted", "tenure"])]
    pipeline = Pipeline([("p", ColumnTransformer(parts)), ("m", LogisticRegression(max_iter=2000))]).fit(X, y)
    scorer = load_scorer(compile_classifier(pipeline, NAMES))
    np.testing.assert_allclose(scorer.score(X.to_numpy()), pipeline.predict_proba(X)[:, 1], atol=1e-12)


def test_a_feature_that_no_split_reads_changes_nothing(employees):
    """And a forest of single leaves is a constant."""
    X, y = employees()
    pipeline = Pipeline([("m", RandomForestClassifier(3, min_samples_leaf=300, random_state=0))]).fit(X, y)
    scorer = load_scorer(compile_classifier(pipeline, NAMES))
    np.testing.assert_array_equal(scorer.score(X.to_numpy()), pipeline.predict_proba(X)[:, 1])
    assert all(len(points) == 0 for points in scorer.split_points)


@pytest.mark.parametrize(
    ("pipeline", "named"),
    [
        (Pipeline([("n", SimpleImputer()), ("m", GaussianNB())]), "GaussianNB"),
        (
            Pipeline(
                [("n", SimpleImputer()), ("b", KBinsDiscretizer(strategy="uniform")), ("m", LogisticRegression())]
            ),
            "KBinsDiscretizer",
        ),
        (
            Pipeline(
                [("n", SimpleImputer()), ("o", OneHotEncoder(handle_unknown="error")), ("m", LogisticRegression())]
            ),
            "OneHotEncoder",
        ),
        (
            Pipeline([("o", OneHotEncoder(handle_unknown="ignore", min_frequency=30)), ("m", LogisticRegression())]),
            "OneHotEncoder",
        ),
        (
            Pipeline(
                [("n", StandardScaler()), ("o", OneHotEncoder(handle_unknown="ignore")), ("m", LogisticRegression())]
            ),
            "OneHotEncoder",
        ),
        (Pipeline([("m", HistGradientBoostingClassifier(max_iter=2, categorical_features=[3]))]), "native categories"),
    ],
)
def test_what_has_no_declared_form_is_refused_by_name(pipeline, named, employees):
    """Rather than compiled wrongly."""
    X, y = employees(missing=0.0)
    with pytest.raises(ParityError, match=named):
        compile_classifier(pipeline.fit(X, y), NAMES)


def test_a_linear_model_that_was_never_told_about_missing_values_is_refused(employees):
    """Its pipeline cannot score them either."""
    X, y = employees(missing=0.0)
    pipeline = Pipeline([("s", StandardScaler()), ("m", LogisticRegression())]).fit(X, y)
    with pytest.raises(ParityError, match="without imputation"):
        compile_classifier(pipeline, NAMES)


def test_a_calibration_of_several_models_is_refused(fit, employees):
    """ensemble=True averages pipelines: there is no single one to compile."""
    X, y = employees()
    several = CalibratedClassifierCV(fit("random_forest", {"n_estimators": 3}).classifier, cv=2, ensemble=True).fit(
        X, y
    )
    with pytest.raises(ParityError, match="2 models"):
        compile_classifier(several, NAMES)


def test_another_pair_of_classes_is_refused(employees):
    """Probability of which one would be a guess."""
    X, y = employees()
    pipeline = Pipeline([("m", RandomForestClassifier(2))]).fit(X, y + 1)
    with pytest.raises(ParityError, match="classes"):
        compile_classifier(pipeline, NAMES)


def test_the_same_model_compiles_to_the_same_bytes(fit):
    """The digest of what was learned depends on it."""
    candidate = fit("hist_gradient_boosting", {"max_iter": 5}, "isotonic")
    assert compile_candidate(candidate) == compile_candidate(candidate)


def test_largest_not_above_is_the_boundary_of_a_rounded_function():
    """The next number up lies above the threshold, the returned one does not."""
    rng = np.random.default_rng(3)
    thresholds = np.concatenate([rng.normal(size=50) * 10.0 ** rng.integers(-8, 8, 50), [0.0, -0.0]])

    def g(x):
        return ((x - 0.3) / 7.7).astype(np.float32).astype(np.float64)

    boundary = largest_not_above(g, thresholds)
    assert (g(boundary) <= thresholds).all()
    assert (g(np.nextafter(boundary, np.inf)) > thresholds).all()


def test_a_threshold_of_infinity_separates_missing_from_all_numbers():
    """The boundary is the largest number there is."""
    assert largest_not_above(lambda x: x, np.array([np.inf]))[0] == np.finfo(np.float64).max


def _one_hot() -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def _assert_proven(pipeline, X, schema):
    from types import SimpleNamespace

    candidate = SimpleNamespace(schema=schema, score=lambda f: pipeline.predict_proba(f[NAMES])[:, 1])
    parity = prove_equal(compile_classifier(pipeline, NAMES), candidate, X)
    assert parity.max_difference <= 1e-15
