"""The report of an experiment: self-contained, escaped, drawn for one look as for many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from attrition.experiments.experiment_page import experiment_page
from attrition.experiments.plan import ExperimentPlan
from attrition.experiments.plots import intervals_over_time
from attrition.experiments.samples import Arm, Epoch, Errors, Labels, Samples
from attrition.experiments.verdict import judge

START = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = ExperimentPlan(name="retrained", control="1.0.0", challenger="1.1.0")


def look(n, note="nothing to <b>note</b>"):
    arms = [
        Arm(
            version,
            employees=n,
            records=n,
            selected=n // 5,
            labels=Labels(n // 8, n // 10, n // 2, n // 40),
            errors=Errors(n, n // 200, "a test"),
        )
        for version in ("1.0.0", "1.1.0")
    ]
    moment = START + timedelta(minutes=n)
    shares = {"1.0.0": 0.5, "1.1.0": 0.5}
    epoch = Epoch(0, START, moment, shares, {"1.0.0": n, "1.1.0": n}, *arms)
    return judge(PLAN, Samples(moment, (epoch,), (note,))).to_dict()


def test_the_page_needs_nothing_else():
    """Verdict, metrics, people and tests in one file, with the picture inside and notes escaped."""
    page = experiment_page(PLAN, [look(n) for n in (300, 900, 2_500)])
    assert "look 3 of 2026-03-02 17:40 UTC" in " ".join(page.split())
    assert page.count("<tr>") == 1 + 5 + 1 + 2 + 1 + 4
    assert "&lt;b&gt;note" in page
    assert "src=" in page
    assert page.count("src=") == page.count('src="data:image/png;base64,')
    assert "chi-square" in page


@pytest.mark.parametrize("sizes", [[0], [300], [0, 300, 5_000]])
def test_every_metric_has_a_panel(sizes):
    """Also when nothing bounds it yet, as before the first person."""
    figure = intervals_over_time([look(n) for n in sizes])
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert len(titles) == 5
    assert titles[0].startswith("error rate (guardrail)")
    latency = figure.axes[1]
    assert [text.get_text() for text in latency.texts] == ["nothing bounds it yet"]


def test_the_interval_is_drawn_as_it_was_found():
    """Band, difference and both margins of a shift."""
    looks = [look(n) for n in (300, 900, 2_500)]
    shift = intervals_over_time(looks).axes[2]
    levels = sorted({float(line.get_ydata()[0]) for line in shift.lines if len(set(line.get_ydata())) == 1})
    assert levels == [-0.1, 0.0, 0.1]
    (band,) = shift.collections
    heights = band.get_paths()[0].vertices[:, 1]
    metric = looks[-1]["metrics"][2]
    assert metric["low"] in heights
    assert metric["high"] in heights
