"""Selection rates by group, and limits of how far they are apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate, selection_rate

from attrition.errors import UsageError
from attrition.evaluation.fairness import FairnessReport, assess_fairness, gaps
from attrition.evaluation.intervals import difference_limits, normal_quantile, wilson_limits

GOLDEN = Path(__file__).parent / "golden"


def report_of(sizes, selected, **options):
    """Report of groups a, b, c … with so many people, so many of them selected; every fourth person left."""
    names = np.repeat([chr(97 + i) for i in range(len(sizes))], sizes)
    decisions = np.concatenate([np.arange(n) < k for n, k in zip(sizes, selected, strict=True)]).astype(int)
    left = np.arange(len(names)) % 4 == 0
    return assess_fairness(left, decisions, pd.DataFrame({"team": names}), **options)[0]


def test_rates_and_gaps_are_fairlearns(fairness, attributes, holdout):
    """Value of difference and ratio equal MetricFrame's on the compared rows."""
    y, score = holdout(1_500)
    rows = (attributes["department"] != "<legal>").to_numpy()
    frame = MetricFrame(
        metrics=selection_rate,
        y_true=y[rows],
        y_pred=(score[rows] >= 0.4).astype(int),
        sensitive_features=attributes["department"][rows],
    )
    report = fairness[0]
    assert {g.label: g.selection_rate.value for g in report.groups} == pytest.approx(frame.by_group.to_dict())
    assert report.difference.value == pytest.approx(frame.difference())
    assert report.ratio.value == pytest.approx(frame.ratio())


@pytest.mark.parametrize(("gap", "metric"), [("fpr", false_positive_rate), ("fnr", false_negative_rate)])
def test_differences_of_error_rates_are_fairlearns(fairness, attributes, holdout, gap, metric):
    """Value of the difference equals MetricFrame's on the compared rows, and lies within its limits."""
    y, score = holdout(1_500)
    rows = (attributes["department"] != "<legal>").to_numpy()
    decisions = (score[rows] >= 0.4).astype(int)
    frame = MetricFrame(
        metrics=metric, y_true=y[rows], y_pred=decisions, sensitive_features=attributes["department"][rows]
    )
    difference = fairness[0].gaps[f"{gap}_difference"]
    assert difference.value == pytest.approx(frame.difference())
    assert difference.low <= difference.value <= difference.high


def test_error_rates_per_group_are_of_that_groups_stayers_and_leavers():
    """Of 100 people in a group, 25 left; the 40 selected ones come first."""
    group = report_of([100, 100], [40, 20]).groups[0]
    assert (group.n, group.n_positive) == (100, 25)
    assert group.fpr.value == pytest.approx(30 / 75)
    assert group.fnr.value == pytest.approx(15 / 25)


def test_a_group_without_leavers_has_no_false_negative_rate():
    """Zero over zero is undefined, not perfect."""
    teams = pd.DataFrame({"team": ["a"] * 60 + ["b"] * 60})
    left = np.r_[np.zeros(60), np.ones(60)]
    report = assess_fairness(left, np.zeros(120), teams)[0]
    assert not report.groups[0].fnr.defined
    assert not report.groups[1].fpr.defined
    assert report.fpr_difference is None
    assert report.fnr_difference is None


def test_small_groups_are_counted_not_compared():
    """A group of 49 does not decide anything."""
    report = report_of([200, 200, 49], [40, 40, 49])
    assert [group.label for group in report.groups] == ["a", "b"]
    assert (report.n_excluded_groups, report.n_excluded_rows) == (1, 49)
    assert report.difference.value == 0
    assert "1 group below 50 rows left out" in str(report)


def test_fewer_than_two_groups_have_no_gap():
    """Nothing to compare is neither fair nor unfair."""
    report = report_of([200, 30], [40, 6])
    assert report.ratio is None
    assert report.difference is None
    assert report.extremes is None


def test_rows_without_the_attribute_are_shown_but_not_compared():
    """Not being recorded is not a trait; the rate is there to be seen."""
    teams = pd.DataFrame({"team": ["a"] * 100 + ["b"] * 100 + [None] * 100})
    decisions = np.r_[np.arange(200) % 5 == 0, np.ones(100)]
    report = assess_fairness(np.zeros(300), decisions, teams)[0]
    assert [(group.label, group.compared) for group in report.groups] == [
        ("(missing)", False),
        ("a", True),
        ("b", True),
    ]
    assert report.difference.value == 0


def test_two_groups_have_newcombes_limits():
    """With one pair there is nothing to correct for."""
    z = normal_quantile(0.95)
    low, high = difference_limits(wilson_limits(56, 70, z), wilson_limits(48, 80, z))
    difference, _ = gaps([48, 56], [80, 70], 0.95)
    assert (difference.low, difference.high) == pytest.approx((float(low), float(high)))


def test_more_groups_raise_the_bar_for_a_certain_gap_only():
    """Equal groups added in between lower the lower limit and leave the upper one."""
    two, _ = gaps([30, 60], [200, 200], 0.95)
    ten, _ = gaps([30, 60, *[45] * 8], [200] * 10, 0.95)
    assert ten.low < two.low
    assert ten.high == pytest.approx(two.high)


def test_nobody_selected_has_no_ratio_but_a_difference_of_zero():
    """The ratio of nothing to nothing is undefined and may be anything."""
    difference, ratio = gaps([0, 0], [100, 100], 0.95)
    assert difference.value == 0
    assert 0 < difference.high < 0.1
    assert not ratio.defined
    assert (ratio.low, ratio.high) == (0.0, 1.0)


def test_a_group_never_selected_has_a_ratio_of_zero():
    """The four-fifths rule is broken for certain when one group is never and one is often selected."""
    _, ratio = gaps([0, 60], [200, 200], 0.95)
    assert (ratio.value, ratio.low) == (0.0, 0.0)
    assert ratio.high < 0.2


def test_reports_survive_json(fairness):
    """Also a report without a comparison."""
    for report in (*fairness, report_of([60], [10])):
        assert FairnessReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False))) == report


def test_a_stored_report_of_the_first_format_loads():
    """Versions registered long ago stay readable."""
    document = json.loads((GOLDEN / "fairness.json").read_text(encoding="utf-8"))
    added_since = {"fpr_difference": None, "fnr_difference": None, "bootstrap": {}}
    assert FairnessReport.from_dict(document).to_dict() == document | added_since


def test_labels_are_escaped_in_a_notebook():
    """A department may be called anything."""
    teams = pd.DataFrame({"team": ["<b>x</b>"] * 60 + ["y"] * 60})
    html = assess_fairness(np.zeros(120), np.zeros(120), teams)[0]._repr_html_()
    assert "<b>x</b>" not in html
    assert "&lt;b&gt;x&lt;/b&gt;" in html


def test_faults_are_reported_together():
    """Lengths and foreign values in one message."""
    with pytest.raises(UsageError) as caught:
        assess_fairness([0, 1, 2], [0, 1], pd.DataFrame({"team": ["a"]}))
    assert len(caught.value.faults) == 2
