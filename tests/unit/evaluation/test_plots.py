"""Figures: they draw, also for odd evaluations, and say what they show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attrition.evaluation import plots
from attrition.evaluation.reports import evaluate

PNG = b"\x89PNG\r\n\x1a\n"
PLOTS = (plots.roc_plot, plots.precision_recall_plot, plots.calibration_plot, plots.confusion_plot)


def odd_evaluations():
    """Perfect separation, a rare outcome that nobody is flagged for, a constant score."""
    rng = np.random.default_rng(0)
    yield evaluate(np.r_[np.zeros(90), np.ones(10)], np.r_[rng.random(90) * 0.5, np.full(10, 0.9)], 0.6)
    yield evaluate(np.arange(200) % 100 == 0, rng.random(200) * 0.05, 0.5)
    yield evaluate(np.arange(60) % 3 == 0, np.full(60, 0.3), 0.3)


@pytest.mark.parametrize("plot", PLOTS)
def test_a_figure_becomes_a_png_with_a_caption(plot, evaluation):
    """Rows and an interval stand under the figure; the threshold is marked."""
    figure = plot(evaluation)
    assert plots.figure_png(figure).startswith(PNG)
    caption = figure.get_supxlabel()
    assert f"{evaluation.n:,} rows" in caption
    assert "[" in caption
    axes = figure.axes[0]
    words = [text.get_text() for text in axes.get_legend().get_texts()] if axes.get_legend() else [axes.get_xlabel()]
    assert any("threshold 0.400" in word for word in words)


@pytest.mark.parametrize("plot", PLOTS)
def test_odd_evaluations_draw_without_a_warning(plot):
    """Warnings are errors in this suite."""
    for evaluation in odd_evaluations():
        assert plots.figure_png(plot(evaluation)).startswith(PNG)


def test_the_first_feature_stands_on_top():
    """The order of importance is the order of reading."""
    figure = plots.importance_plot(["satisfaction_score", "tenure"], [0.1, 0.02], [0.01, 0.002])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["satisfaction score", "tenure"]
    assert axes.yaxis_inverted()
    assert plots.figure_png(figure).startswith(PNG)


def test_groups_that_are_all_too_small_draw_without_a_warning(fairness):
    """Nothing is drawn then, and the caption says why."""
    figure = plots.fairness_plot(replace(fairness[0], groups=(), n_excluded_groups=6, ratio=None, difference=None))
    assert plots.figure_png(figure).startswith(PNG)
    assert "6 groups" in figure.get_supxlabel()


def test_a_group_name_with_a_dollar_sign_is_text(fairness):
    """Labels are never read as formulas."""
    assert plots.figure_png(plots.fairness_plot(fairness[0])).startswith(PNG)
    figure = plots.importance_plot(["a$b$c$"], [0.1], [0.01])
    assert plots.figure_png(figure).startswith(PNG)
