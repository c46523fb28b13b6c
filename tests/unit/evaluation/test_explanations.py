"""Explanations of single predictions and of whole models, as values."""

from __future__ import annotations

import json
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest

from attrition.data.schema import FeatureSchema
from attrition.errors import IntegrityError
from attrition.evaluation.explanation_plots import importance_bars, summary_plot
from attrition.evaluation.explanations import Explanation, GlobalImportance, explain, summarise, trend_words
from attrition.evaluation.plots import figure_png

SCHEMA = FeatureSchema.default().without(*FeatureSchema.default().names[3:8])  # tenure, age, satisfaction, department
GOLDEN = Path(__file__).with_name("golden") / "importance.json"


def logistic(slope=1.0, intercept=0.0):
    return lambda raw: 1 / (1 + np.exp(-(slope * raw + intercept)))


def made(contributions=(0.5, -2.0, 0.0, 0.25), served=None, slope=1.0, **options):
    raw = -1.0 + sum(contributions)
    fields = {
        "model_version": "1.0.0",
        "base_value": -1.0,
        "space": "log_odds",
        "quartiles": [(10.0, 20.0, 30.0), (25.0, 40.0, 50.0), None, None],
        "threshold": 0.4,
        "to_probability": logistic(slope),
        "mapping": {"kind": "logistic", "slope": slope, "intercept": 0.0},
        "served": logistic(slope)(raw) if served is None else served,
    }
    return explain(SCHEMA, [5.0, 60.0, nan, 3.0], np.array(contributions), **{**fields, **options})


def test_contributions_are_ordered_and_named():
    """The largest first, each with its direction and words; a missing value is None."""
    found = made()
    assert [part.feature for part in found.contributions] == ["age", "tenure", "department_code", "satisfaction_score"]
    assert [part.direction for part in found.contributions] == ["lowers", "raises", "raises", "none"]
    assert found.contributions[-1].value is None
    assert found.top[0] == "A higher age (60 years) lowers the estimate most."
    assert found.raw_score == pytest.approx(-2.25)
    assert found.base_probability == pytest.approx(logistic()(-1.0))
    assert not found.decision
    assert "A higher age" in str(found)


def test_a_falling_map_turns_the_directions_round():
    """A calibration with a negative slope makes a high raw score a low probability."""
    found = made(slope=-1.0)
    assert [part.direction for part in found.contributions] == ["raises", "lowers", "lowers", "none"]


def test_what_does_not_add_up_is_no_explanation():
    """By more than 1e-9."""
    served = logistic()(-2.25)
    assert made(served=served + 9e-10).difference == pytest.approx(9e-10, rel=1e-3)
    with pytest.raises(IntegrityError, match=r"differs from the served one by 1\.0e-06"):
        made(served=served + 1e-6)


def test_a_steep_step_of_an_isotonic_map_is_no_failure():
    """The rounding of a sum may fall on its other side; a real difference does not."""
    step = made(to_probability=lambda raw: float(raw >= -2.25 + 1e-15), served=1.0)
    assert step.probability == 1.0
    with pytest.raises(IntegrityError):
        made(to_probability=lambda raw: float(raw >= -2.25 + 1e-6), served=1.0)


def test_an_explanation_survives_json():
    """To the last bit."""
    found = made(prediction_id="018e2f5c-7a10-7cc3-98c4-dc0c0c07398f")
    assert Explanation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def values_and_parts(n=500, seed=0):
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [rng.uniform(0, 99, n), rng.uniform(18, 65, n), rng.uniform(1, 5, n), rng.integers(0, 4, n)]
    )
    values[:40, 0] = nan
    parts = np.column_stack([np.zeros(n), (values[:, 1] - 40) * 0.02, -(values[:, 2] - 3), values[:, 3] * 0.1])
    return values, parts


def test_importance_ranks_features_and_says_their_trend():
    """Mean absolute contributions; the trend is a rank correlation; categories and constants have none."""
    values, parts = values_and_parts()
    found = summarise(SCHEMA, values, parts, space="log_odds", base_value=-1.0)
    by_name = {feature.feature: feature for feature in found.features}
    assert found.features[0].feature == "satisfaction_score"
    assert sum(feature.share for feature in found.features) == pytest.approx(1.0)
    assert by_name["satisfaction_score"].mean_absolute == pytest.approx(np.abs(values[:, 2] - 3).mean())
    assert by_name["satisfaction_score"].trend == pytest.approx(-1.0)
    assert by_name["age"].trend == pytest.approx(1.0)
    assert (by_name["tenure"].trend, by_name["tenure"].share) == (None, 0.0)
    assert by_name["department_code"].trend is None
    assert {rank for _, rank in by_name["department_code"].points} == {None}
    assert "lower values raise the estimate" in str(found)


def test_points_are_few_sorted_and_cannot_be_joined():
    """At most 300 of each feature, each list in its own order: no row of a person is left."""
    values, parts = values_and_parts()
    found = summarise(SCHEMA, values, parts, space="log_odds", base_value=-1.0)
    for feature in found.features:
        assert len(feature.points) == 300
        assert [point[0] for point in feature.points] == sorted(point[0] for point in feature.points)
        assert all(rank is None or 0.0 <= rank <= 1.0 for _, rank in feature.points)


@pytest.mark.parametrize(
    ("trend", "words"),
    [(None, ""), (0.1, "no single direction"), (0.8, "higher values raise the estimate")],
)
def test_trends_in_words(trend, words):
    """A weak one is none."""
    assert trend_words(trend) == words


def test_importance_survives_json_and_reads_what_was_stored():
    """The golden file was written by the first version of the format."""
    values, parts = values_and_parts(8)
    found = summarise(SCHEMA, values, parts, space="log_odds", base_value=-1.0)
    assert GlobalImportance.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    stored = GlobalImportance.from_dict(json.loads(GOLDEN.read_text(encoding="utf-8")))
    assert (stored.space, stored.n_rows, stored.base_value) == ("log_odds", 8, -1.0)
    assert [feature.feature for feature in stored.features][:2] == ["satisfaction_score", "age"]
    assert stored.features[0].points[0] == (pytest.approx(-1.452716, abs=1e-6), 1.0)
    with pytest.raises(IntegrityError, match="importance/1 is read"):
        GlobalImportance.from_dict({**found.to_dict(), "format": "attrition.importance/9"})


def test_plots_are_drawn(tmp_path):
    """Also when nothing moves the estimate, and when a feature is missing in every row."""
    values, parts = values_and_parts(60)
    values[:, 1] = nan
    found = summarise(SCHEMA, values, parts, space="probability", base_value=0.2)
    still = summarise(SCHEMA, values, parts * 0, space="probability", base_value=0.2)
    for importance in (found, still, replace(found, features=found.features[:1])):
        for figure in (summary_plot(importance), importance_bars(importance)):
            assert figure_png(figure).startswith(b"\x89PNG")
