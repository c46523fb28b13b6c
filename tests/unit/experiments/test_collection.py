"""Samples from a prediction log that was written to disk: who counts, once, where, and what is kept apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from attrition.data.predictions import PredictionTable, prediction_schema
from attrition.experiments import collection
from attrition.experiments.collection import UNCOUNTED, Outcomes, collect
from attrition.experiments.epochs import Span
from attrition.experiments.plan import ExperimentPlan
from attrition.experiments.samples import Errors

START = datetime(2026, 3, 1, 6, tzinfo=UTC)
END = START + timedelta(days=3)
SPLIT = ExperimentPlan(name="x", control="1.0.0", challenger="1.1.0")
SHADOW = ExperimentPlan(name="x", control="1.0.0", challenger="1.1.0", design="shadow")
SPAN = Span(START, END, {"1.1.0": 0.5, "1.0.0": 0.5})


class Log:
    """Rows of a prediction log, written when they are read."""

    def __init__(self, root):
        self.root, self.rows = str(root), []

    def add(self, person, version="1.0.0", *, hours=1.0, p=0.2, reason="sticky", ms=8.0, name=None, shadow_of=None):
        moment = START + timedelta(hours=hours)
        self.rows.append(
            {
                "prediction_id": name or f"p{len(self.rows)}",
                "time": moment,
                "day": moment.date(),
                "version": version,
                "variant": {"1.0.0": "blue", "1.1.0": "green"}.get(version, "amber"),
                "reason": reason,
                "shadow_of": shadow_of,
                "employee_id": person,
                "probability": p,
                "threshold": 0.5,
                "decision": p >= 0.5,
                "latency_us": round(ms * 1_000),
            }
        )

    def collect(self, plan=SPLIT, spans=(SPAN,), **options):
        if self.rows:
            PredictionTable(self.root).append(pa.Table.from_pylist(self.rows, prediction_schema()), {"s": 1})
        return collect(plan, spans, self.root, **{"as_of": END, **options})


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


def test_a_person_counts_once_with_the_first_prediction(log):
    """However often and in whatever order the rows stand; repeated predictions are counted as such."""
    log.add("ann", hours=30, p=0.9)
    log.add("ann", hours=2, p=0.3)
    log.add("ann", hours=50, p=0.9)
    log.add("bob", "1.1.0", hours=3, p=0.7)
    (epoch,) = log.collect().epochs
    assert (epoch.control.employees, epoch.control.records, epoch.control.selected) == (1, 3, 0)
    assert epoch.control.scores.mean == pytest.approx(0.3)
    assert (epoch.challenger.employees, epoch.challenger.selected) == (1, 1)
    assert epoch.assigned == {"1.0.0": 1, "1.1.0": 1}


def test_pinned_and_idless_traffic_is_kept_apart(log):
    """Counted, and without a part in anything that is compared."""
    log.add("ann")
    for reason in ("pin", "requested"):
        log.add("bob", "1.1.0", reason=reason, p=0.9, ms=500)
    log.add(None, "1.1.0", reason="random", p=0.9, ms=500)
    (epoch,) = log.collect().epochs
    arm = epoch.challenger
    assert (arm.employees, arm.records, arm.pinned, arm.idless) == (0, 0, 2, 1)
    assert arm.latency.n == arm.scores.n == 0


def test_each_span_is_an_epoch_of_its_own(log):
    """The same person counts in each; what lies between or outside counts in none."""
    log.add("ann", hours=-1, p=0.9)
    log.add("ann", hours=1, p=0.1)
    log.add("ann", hours=24.5, p=0.9)
    log.add("ann", "1.1.0", hours=30, p=0.6)
    log.add("ann", "1.1.0", hours=80, p=0.6)
    day = timedelta(days=1)
    spans = (Span(START, START + day, SPAN.shares), Span(START + 1.2 * day, END, SPAN.shares))
    first, second = log.collect(spans=spans).epochs
    assert (first.number, first.control.employees, first.control.selected, first.challenger.employees) == (0, 1, 0, 0)
    assert (second.number, second.control.employees, second.challenger.records) == (1, 0, 1)


def test_who_met_both_versions_is_left_out_and_told(log):
    """In one epoch that should not happen, and such a person would count on both sides."""
    for version in ("1.0.0", "1.1.0"):
        log.add("ann", version)
        log.add(f"only-{version}", version)
    found = log.collect()
    assert found.epochs[0].assigned == {"1.0.0": 1, "1.1.0": 1}
    assert found.notes[1] == "1 persons met two versions within one epoch and are left out"


def test_latency_counts_one_request_of_a_person_and_day(log):
    """A request of many records once, and one that both versions answered not at all."""
    log.add("ann", hours=1, ms=10)
    log.add("ann", hours=2, ms=99)
    log.add("ann", hours=25, ms=20)  # the next day
    for person in ("bob", "cid", "dan"):  # one request, three records
        log.add(person, hours=3, ms=40)
    log.add("eve", hours=4, ms=77)
    log.add("fay", "1.1.0", hours=4, ms=77)  # the same request
    found = log.collect()
    latency = found.epochs[0].control.latency
    assert (latency.n, latency.mean) == (3, pytest.approx((10 + 20 + 40) / 3))
    assert found.epochs[0].challenger.latency.n == 0
    assert "latency of 1 requests is left out: both versions had a part in them" in found.notes


def test_who_stands_for_a_request_does_not_depend_on_the_order_of_its_records(tmp_path):
    """A table that was compacted has its rows in another order."""
    found = set()
    for order in (1, -1):
        log = Log(tmp_path / str(order))
        log.add("ann", hours=1, ms=10)
        for person in ("ann", "bob")[::order]:  # one request, two records
            log.add(person, hours=2, ms=40)
        found.add(log.collect().epochs[0].control.latency.n)
    assert len(found) == 1


def test_a_third_version_counts_for_the_split_only(log):
    """Its persons are assigned, but nothing of it is compared."""
    shares = {"1.0.0": 0.4, "1.1.0": 0.3, "0.9.0": 0.3}
    for i, version in enumerate(("1.0.0", "1.0.0", "1.1.0", "0.9.0")):
        log.add(f"p{i}", version)
    (epoch,) = log.collect(spans=(Span(START, END, shares),)).epochs
    assert epoch.assigned == {"1.0.0": 2, "1.1.0": 1, "0.9.0": 1}


def test_labels_are_those_of_mature_predictions(log):
    """Left within the horizon, stayed over it, or not over yet: the last one has none, also when the person left."""
    log.add("left", p=0.9)
    log.add("stayed", p=0.9)
    log.add("missed", p=0.1)
    log.add("late", hours=60, p=0.9)
    log.add("fine", "1.1.0", p=0.1)
    left_on = {"left": "2026-03-20", "missed": "2026-03-25", "late": "2026-03-10"}
    persons = ["left", "stayed", "missed", "late", "fine"]
    known = pd.DataFrame({"employee_id": persons, "left_on": pd.to_datetime([left_on.get(p) for p in persons])})
    outcomes = Outcomes(known, datetime(2026, 4, 1, tzinfo=UTC), 30)
    (epoch,) = log.collect(outcomes=outcomes).epochs
    labels = epoch.control.labels
    assert (labels.tp, labels.fp, labels.tn, labels.fn) == (1, 1, 0, 1)
    assert epoch.challenger.labels.tn == 1


def test_errors_are_asked_for_each_version_and_epoch(log):
    """Or it is said that nobody counted them."""
    log.add("ann")
    asked = []

    def count(version, start, end, as_shadow):
        asked.append((version, start, end, as_shadow))
        return Errors(10, 1, "a test")

    found = log.collect(count_errors=count)
    assert found.epochs[0].challenger.errors == Errors(10, 1, "a test")
    assert asked == [("1.1.0", START, END, False), ("1.0.0", START, END, False)]
    assert UNCOUNTED not in found.notes
    assert UNCOUNTED in collect(SPLIT, (SPAN,), log.root, as_of=END).notes


def test_pairs_join_a_shadow_with_what_was_answered(log):
    """By the identifier of the answer, the first pair of a person, also over midnight; without a latency."""
    log.add("ann", name="a1", p=0.6, reason="sole")
    log.add("ann", "1.1.0", name="s1", hours=1.001, p=0.4, reason="shadow", shadow_of="a1", ms=0)
    log.add("ann", name="a2", hours=5, p=0.9, reason="sole")
    log.add("ann", "1.1.0", name="s2", hours=5.001, p=0.9, reason="shadow", shadow_of="a2", ms=0)
    log.add("bob", name="b1", hours=17.9999, p=0.1, reason="sole")
    log.add("bob", "1.1.0", name="s3", hours=18.0001, p=0.7, reason="shadow", shadow_of="b1", ms=0)
    log.add("cid", name="c1", hours=20, p=0.1, reason="sole")  # its copy was dropped
    log.add(None, name="d1", hours=21, p=0.1, reason="random")
    log.add(None, "1.1.0", name="s4", hours=21.1, p=0.1, reason="shadow", shadow_of="d1", ms=0)
    (epoch,) = log.collect(SHADOW, (Span(START, END, {"1.0.0": 1.0}),)).epochs
    pairs = epoch.pairs
    order = np.argsort(pairs.control)
    assert pairs.control[order].tolist() == [0.1, 0.6]
    assert pairs.challenger[order].tolist() == [0.7, 0.4]
    assert pairs.control_selected[order].tolist() == [False, True]
    assert pairs.challenger_selected[order].tolist() == [True, False]
    assert pairs.left.tolist() == [-1, -1]
    assert (epoch.control.employees, epoch.challenger.employees, epoch.challenger.latency) == (3, 2, None)


def test_the_size_of_a_batch_does_not_matter(log, monkeypatch):
    """Nor how often persons are gathered in between."""
    rng = np.random.default_rng(1)
    for i in range(400):
        person = int(rng.integers(0, 60))
        version = "1.1.0" if person % 3 else "1.0.0"
        log.add(f"{person}", version, hours=float(rng.uniform(0, 70)), p=float(rng.random()), ms=float(i % 37) + 1)
    whole = log.collect()
    monkeypatch.setattr(collection, "BATCH_ROWS", 7)
    monkeypatch.setattr(collection, "_CONSOLIDATE", 20)
    pieces = collect(SPLIT, (SPAN,), log.root, as_of=END)
    for arm in ("control", "challenger"):
        one, other = (getattr(found.epochs[0], arm) for found in (whole, pieces))
        assert (one.employees, one.records, one.selected) == (other.employees, other.records, other.selected)
        assert one.scores.mean == pytest.approx(other.scores.mean)
        np.testing.assert_array_equal(one.latency.counts, other.latency.counts)


def test_nothing_was_logged_yet(log):
    """Then nobody was seen."""
    (epoch,) = log.collect().epochs
    assert epoch.assigned == {"1.1.0": 0, "1.0.0": 0}
