"""The report of a simulation: its table, its sentence, its page."""

from __future__ import annotations

import json

from attrition.evaluation.intervals import Estimate
from attrition.retraining.simulation_report import Quarter, SimulationReport


def quarter(number, *, gain=None, version="1.0.0", state="DECIDED", challenger=""):
    return Quarter(
        number=number,
        name=f"2026Q{number}",
        n_persons=1_000,
        share_left=0.15,
        version=version,
        auc=Estimate(0.9, 0.88, 0.92, 1_000),
        auc_without=Estimate(0.85, 0.83, 0.87, 1_000),
        gain=gain,
        drift="MAJOR",
        drifted=("work_hours",),
        verdict="RETRAIN" if challenger else "HOLD",
        rule="the ranking got worse" if challenger else "",
        state=state,
        note="",
        challenger=challenger,
    )


def report(*quarters):
    return SimulationReport(
        "flexible_hours", 2, 4_000, 42, "smoke", "batch", Estimate(0.91, 0.89, 0.93, 900), quarters, 12.0
    )


def test_what_the_loop_was_worth():
    """Only quarters of a retrained version count, and only whole intervals above 0 are called better."""
    better, doubtful = Estimate(0.05, 0.03, 0.07, 1_000), Estimate(0.01, -0.01, 0.03, 1_000)
    made = report(
        quarter(1, state="REGISTERED", challenger="1.1.0"),
        quarter(2, gain=better, version="1.1.0"),
        quarter(3, gain=doubtful, version="1.1.0"),
    )
    assert "retrained version: 2; mean gain in AUC over doing nothing +0.030" in made.summary
    assert [each.number for each in made.improved] == [2]
    assert "registered 1.1.0" in str(made)
    assert "MAJOR work_hours" in str(made)
    json.dumps(made.to_dict(), allow_nan=False)


def test_a_loop_that_never_retrains():
    """Said, not shown as a gain of zero."""
    assert "both are the same" in report(quarter(1)).summary


def test_the_page_needs_no_other_file():
    """One HTML document with the plot inside."""
    page = report(quarter(1), quarter(2, gain=Estimate(0.05, 0.03, 0.07, 1_000), version="1.1.0")).to_html()
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page.replace("http-equiv", "")
