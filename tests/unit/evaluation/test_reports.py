"""The evaluation of a holdout: curves, slices, storage and rendering."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from attrition.errors import UsageError
from attrition.evaluation.metrics import METRICS, measure
from attrition.evaluation.reports import CURVE_POINTS, Evaluation, evaluate

GOLDEN = Path(__file__).parent / "golden"


def test_an_evaluation_survives_json(evaluation):
    """Everything comes back equal, without NaN in the text."""
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    assert Evaluation.from_dict(json.loads(text)) == evaluation


def test_a_stored_evaluation_of_the_first_format_loads():
    """Versions registered long ago stay readable, and are written as they were."""
    document = json.loads((GOLDEN / "evaluation.json").read_text(encoding="utf-8"))
    evaluation = Evaluation.from_dict(document)
    assert evaluation.n == 60
    assert not evaluation.slices["department"]["IT"]["auc"].defined
    assert evaluation.to_dict() == document


def test_slices_measure_their_own_rows(evaluation, attributes, holdout):
    """The slice of a department is the evaluation of its rows."""
    y, score = holdout(1_500)
    rows = (attributes["department"] == "IT").to_numpy()
    assert evaluation.slices["department"]["IT"] == measure(y[rows], score[rows], 0.4)
    assert tuple(evaluation.slices["department"]["IT"]) == METRICS


def test_slices_too_small_to_report_are_counted(evaluation, attributes):
    """A handful of people is not shown, but not hidden either."""
    size = int((attributes["department"] == "<legal>").sum())
    assert 0 < size < 20
    assert "<legal>" not in evaluation.slices["department"]
    assert evaluation.small_slices["department"] == {"<legal>": size}


def test_a_missing_attribute_is_a_slice_of_its_own(evaluation):
    """Rows without the attribute are reported as such."""
    assert set(evaluation.slices["gender"]) == {"f", "m", "(missing)"}


def test_a_slice_of_one_class_is_undefined_where_it_must_be():
    """AUC needs both classes; accuracy does not."""
    y = np.r_[np.zeros(30), np.ones(10), np.zeros(20)]
    groups = pd.DataFrame({"site": ["a"] * 30 + ["b"] * 30})
    found = evaluate(y, np.linspace(0, 1, 60), 0.5, groups=groups).slices["site"]["a"]
    for name in ("auc", "average_precision", "balanced_accuracy", "recall"):
        assert not found[name].defined
        assert (found[name].low, found[name].high) == (0.0, 1.0)
    assert found["accuracy"].defined


def test_the_roc_curve_is_scikit_learns(holdout):
    """Every kept point lies on scikit-learn's curve, which it follows closely from corner to corner."""
    y, score = holdout(3_000)
    curves = evaluate(y, score, 0.4).curves
    fpr, tpr, _ = roc_curve(y, score, drop_intermediate=False)
    exact = set(zip(fpr.tolist(), tpr.tolist(), strict=True))
    kept = list(zip(curves.fpr, curves.tpr, strict=True))
    assert set(kept) <= exact
    assert (kept[0], kept[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert len(kept) <= CURVE_POINTS + 1
    # along the diagonal both curves are functions, also where they rise vertically
    along, above = np.add(curves.fpr, curves.tpr), np.subtract(curves.tpr, curves.fpr)
    assert np.abs(np.interp(fpr + tpr, along, above) - (tpr - fpr)).max() < 0.01


def test_groups_of_another_length_are_refused(holdout):
    """Labels that belong to other rows would slice at random."""
    y, score = holdout(100)
    with pytest.raises(UsageError, match="99 rows"):
        evaluate(y, score, 0.4, groups=pd.DataFrame({"site": ["a"] * 99}))


def test_it_reads_well_in_a_terminal_and_in_a_notebook(evaluation):
    """One line per metric, value and interval; the HTML is a table."""
    text = str(evaluation)
    assert len(text.splitlines()) == len(METRICS) + 3
    assert f"{evaluation.metrics['auc'].value:.3f}" in text
    html = evaluation._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == len(METRICS) + 1


def test_a_notebook_shows_the_curves(evaluation):
    """The HTML holds its pictures, so that a saved notebook needs no file beside it."""
    html = evaluation._repr_html_()
    assert html.count("data:image/png;base64,iVBOR") == 2
    assert set(evaluation.plots()) == {"roc", "precision_recall", "calibration", "confusion"}
