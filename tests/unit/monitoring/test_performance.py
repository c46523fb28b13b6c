"""Realised performance: which predictions count, what is measured, and when it alarms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from attrition.cli.performance_views import performance_view
from attrition.data.maturity import matured_labels
from attrition.errors import UsageError
from attrition.evaluation.plots import figure_png
from attrition.monitoring.buckets import Period, first_per_person
from attrition.monitoring.performance import assess_performance
from attrition.monitoring.performance_policy import PerformancePolicy
from attrition.monitoring.performance_report import Standing

LATER = datetime(2024, 10, 1, tzinfo=UTC)


def assess(made, as_of=LATER, now=LATER, **options):
    return assess_performance(made.predictions, made.outcomes, made.models, as_of=as_of, now=now, **options)


def test_metrics_equal_scikit_learn(world):
    """With every label mature the figures are those of the plain definitions."""
    made = world()
    whole = assess(made).versions[0].whole
    truth = made.truth.loc[made.predictions["employee_id"]].to_numpy()
    decision = made.predictions["decision"].to_numpy()
    tn, fp, fn, tp = confusion_matrix(truth, decision).ravel()
    value = {name: estimate.value for name, estimate in whole.metrics.items()}
    assert value["auc"] == pytest.approx(roc_auc_score(truth, made.predictions["probability"]), abs=1e-12)
    assert value["f1"] == pytest.approx(f1_score(truth, decision), abs=1e-12)
    assert value["fpr"] == pytest.approx(fp / (fp + tn))
    assert value["fnr"] == pytest.approx(fn / (fn + tp))
    assert value["precision"] == pytest.approx(tp / (tp + fp))
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in whole.metrics.values())


def test_only_predictions_whose_horizon_is_over_count(world):
    """Known leavers of an open horizon are censored: with them alone every precision would be 1."""
    made = world()
    as_of = datetime(2024, 5, 15, tzinfo=UTC)
    version = assess(made, as_of=as_of).versions[0]
    labels = matured_labels(made.predictions, made.outcomes, horizon_days=90, as_of=as_of)
    is_over = labels["horizon_end"] < pd.Timestamp("2024-05-15")
    maturity = version.whole.maturity
    assert maturity.n_mature == int(is_over.sum())
    assert maturity.n_censored == int((~is_over).sum())
    assert maturity.n_censored_left == int((labels["label"] == 1)[~is_over].sum()) > 0
    assert [bucket.name for bucket in version.buckets] == [f"2024-0{month}" for month in range(1, 7)]
    last = version.buckets[-1]
    assert last.standing is Standing.NOT_MEASURED
    assert last.maturity.n_mature == 0
    assert not last.metrics


def test_before_any_label_is_mature(world):
    """The first day that knows more is named, and no table is empty."""
    made = world(n_persons=300)
    first = made.predictions["time"].min()
    report = assess(made, as_of=datetime(2024, 2, 1, tzinfo=UTC))
    assert not report.versions[0].whole.metrics
    day = first + timedelta(days=90)
    assert f"no label is mature before {day:%Y-%m-%d}, 90 days after its first prediction" in report.findings[0]
    terminal = Console(file=StringIO(), width=250)
    terminal.print(performance_view(report))
    assert "not measured" in terminal.file.getvalue()
    assert "Whole period" not in terminal.file.getvalue()


def test_counts_add_up(world):
    """Every person of a bucket is mature, censored or gone before, and no row is lost."""
    made = world(n_persons=600)
    made.predictions.loc[:9, "employee_id"] = None
    gone = made.predictions["employee_id"].iloc[20:25]
    made.outcomes.loc[made.outcomes["employee_id"].isin(gone), "left_on"] = pd.Timestamp("2020-01-01")
    report = assess(made, as_of=datetime(2024, 6, 1, tzinfo=UTC))
    for bucket in (report.versions[0].whole, *report.versions[0].buckets):
        n = bucket.maturity
        assert n.n_persons == n.n_mature + n.n_censored + n.n_gone
        assert n.n_predictions == n.n_persons + n.n_without_person
    assert report.versions[0].whole.maturity.n_gone == 5
    assert "predictions without a person, which never get a label: 10" in report.findings


def test_repeated_predictions_add_no_certainty(world):
    """Thirty predictions of the same person in a month leave value and interval as they are."""
    made = world(n_persons=600)
    once = assess(made)
    again = made.predictions.copy()
    copies = [again.assign(time=again["time"] + pd.Timedelta(minutes=5 * n)) for n in range(30)]
    made.predictions = pd.concat(copies, ignore_index=True)
    often = assess(made)
    assert often.versions[0].whole.metrics == once.versions[0].whole.metrics
    assert often.versions[0].whole.maturity.n_predictions == 30 * 600
    assert often.versions[0].whole.maturity.n_persons == 600


def test_the_first_prediction_stands_for_the_person():
    """Whatever the order of the rows."""
    times = pd.to_datetime(["2024-01-03", "2024-01-01", "2024-01-02"], utc=True)
    frame = pd.DataFrame({"employee_id": ["a", "a", None], "time": times, "probability": [0.9, 0.1, 0.5]})
    assert first_per_person(frame)["probability"].tolist() == [0.1]


def test_an_alert_needs_the_whole_interval(world):
    """A poor version alerts, a good one does not, and a small sample is inconclusive."""
    poor = assess(world(skill=0.5, n_persons=3_000))
    assert any("all: AUC" in alert for alert in poor.alerts)
    assert poor.versions[0].whole.standing is Standing.BELOW
    good = assess(world(skill=4.0))
    assert good.alerts == ()
    assert good.versions[0].whole.standing is Standing.MET
    few = assess(world(skill=1.8, n_persons=120))
    assert few.versions[0].whole.standing is Standing.INCONCLUSIVE
    assert few.alerts == ()


def test_the_minimum_is_configurable(world):
    """What is fine for 0.82 is alarming for 0.999."""
    assert assess(world(skill=4.0), policy=PerformancePolicy(min_auc=0.999)).alerts


def test_a_retired_version_alarms_nobody(world):
    """It is shown as below, but nothing serves it any more."""
    report = assess(world(skill=0.5), as_of=datetime(2025, 6, 1, tzinfo=UTC))
    assert report.versions[0].whole.standing is Standing.BELOW
    assert not report.versions[0].is_active
    assert report.alerts == ()


def test_versions_stand_apart(world):
    """Each version has its own rows; one that the registry does not know is named, not dropped."""
    first, second, third = world(skill=4.0), world(version="1.1.0", skill=0.5), world(version="9.9.9", n_persons=60)
    first.predictions = pd.concat([first.predictions, second.predictions, third.predictions], ignore_index=True)
    first.outcomes = pd.concat([first.outcomes, second.outcomes, third.outcomes], ignore_index=True)
    first.models |= second.models
    report = assess(first)
    assert [version.version for version in report.versions] == ["1.0.0", "1.1.0"]
    assert all(alert.startswith("version 1.1.0") for alert in report.alerts)
    assert any(finding.startswith("version 9.9.9: 60 predictions") for finding in report.findings)


def test_clock_skew_and_strangers_are_found(world):
    """Counts, and no ids."""
    made = world(n_persons=300)
    made.predictions.loc[:2, "time"] = pd.Timestamp("2031-01-01", tz="UTC")
    stranger = pd.DataFrame({"employee_id": ["stranger"], "left_on": pd.to_datetime(["2032-01-01"])})
    made.outcomes = pd.concat([made.outcomes, stranger], ignore_index=True)
    text = " ".join(assess(made).findings)
    assert "predictions in the future; check the clocks of the replicas: 3" in text
    assert "persons with an outcome who were never predicted: 1" in text
    assert "outcomes on a day that is still to come, not counted yet: 1" in text
    assert "stranger" not in text


def test_fairness_by_what_the_log_holds(world):
    """By department and age band; a department that decides differently has the larger rate."""
    made = world(n_persons=1_800)
    first = made.predictions["feature_department_code"] == 1
    made.predictions.loc[first, "decision"] = True
    reports = {report.attribute: report for report in assess(made).versions[0].fairness}
    assert set(reports) == {"department", "age_band"}
    assert reports["department"].extremes[1].label == "1"
    assert reports["department"].difference.low > 0.3


def test_features_that_retention_removed(world):
    """They form a group that is shown and not compared."""
    made = world()
    made.predictions[["feature_department_code", "feature_age"]] = float("nan")
    report = assess(made)
    assert any(
        (finding.startswith("predictions without features") and finding.endswith(": 1,200"))
        for finding in report.findings
    )
    reports = {report.attribute: report for report in report.versions[0].fairness}
    assert [group.label for group in reports["department"].groups] == ["(missing)"]
    assert reports["department"].difference is None


def test_one_class_is_undefined_not_an_error(world):
    """Nobody left: no AUC, no recall, no alert."""
    made = world()
    made.outcomes["left_on"] = pd.NaT
    made.outcomes["left_on"] = made.outcomes["left_on"].astype("datetime64[us]")
    whole = assess(made).versions[0].whole
    assert not whole.metrics["auc"].defined
    assert not whole.metrics["fnr"].defined
    assert whole.standing is Standing.INCONCLUSIVE


def test_an_empty_log_has_no_versions(world):
    """And no alert."""
    made = world()
    made.predictions = made.predictions.iloc[:0]
    report = assess(made)
    assert report.versions == ()
    assert report.alerts == ()
    figure_png(report.plot())


def test_quarters(world):
    """Buckets of three months."""
    names = [bucket.name for bucket in assess(world(), period=Period.QUARTER).versions[0].buckets]
    assert names == ["2024Q1", "2024Q2"]
    with pytest.raises(UsageError, match="month, quarter"):
        Period.parse("week")


def test_views(world):
    """JSON holds no NaN; text, notebook and page show the same table."""
    made = world()
    made.outcomes = made.outcomes.iloc[:0].astype({"left_on": "datetime64[us]"})
    report = assess(made)
    json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert "2024-06" in str(report)
    terminal = Console(file=StringIO(), width=250)
    terminal.print(performance_view(report))
    assert "Whole period" in terminal.file.getvalue()
    page = report.to_html()
    assert page.startswith("<!doctype html>")
    assert "data:image/png" in page
    assert "department" in page
