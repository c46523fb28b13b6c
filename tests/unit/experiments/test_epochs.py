"""Epochs: which changes of the traffic end one, and what lies between two of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from attrition.experiments.epochs import find_spans
from attrition.experiments.plan import ExperimentPlan
from attrition.registry.bundle import BundleRef
from attrition.serving import changes
from attrition.serving.traffic_history import ChangeOutcome, TrafficChange

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REFS = {
    version: BundleRef(f"b/{version}", version, version.replace(".", "") + "0" * 61) for version in ("1.0.0", "1.1.0")
}
SPLIT = ExperimentPlan(name="x", control="1.0.0", challenger="1.1.0")
SHADOW = ExperimentPlan(name="x", control="1.0.0", challenger="1.1.0", design="shadow")


def split(current, share):
    return changes.shift(current, [(REFS["1.0.0"], 1 - share), (REFS["1.1.0"], share)], experiment="x")


def change(traffic, hours, *, seconds=60.0, outcome=ChangeOutcome.APPLIED):
    return TrafficChange(NOON + timedelta(hours=hours), "me", "app", "set", outcome, "", seconds, traffic)


@pytest.fixture
def alone():
    return changes.shift(None, [(REFS["1.0.0"], 1.0)])


def spans(found, plan=SPLIT, *, since=-1, until=10):
    return [
        ((s.start - NOON) / timedelta(hours=1), (s.end - NOON) / timedelta(hours=1), s.shares)
        for s in find_spans(found, plan, since=NOON + timedelta(hours=since), until=NOON + timedelta(hours=until))
    ]


def test_each_weight_is_an_epoch(alone):
    """From its last confirmed replica until the next change began; before and after the split there is none."""
    five, thirty = split(alone, 0.05), split(split(alone, 0.05), 0.3)
    history = [change(alone, -2), change(five, 0), change(thirty, 3, seconds=3_600), change(alone, 5)]
    first, second = spans(history)
    assert first == (0.0, 2.0, {"1.1.0": pytest.approx(0.05), "1.0.0": pytest.approx(0.95)})
    assert second[:2] == (3.0, pytest.approx(5 - 1 / 60))


def test_what_leaves_the_assignment_as_it_is_ends_nothing(alone):
    """A pin, a refused change, a switch that was tried; and a shadow beside a split."""
    half = split(alone, 0.5)
    pinned = changes.pin(half, "x-user-group", "pilot", REFS["1.1.0"])
    refused = change(split(half, 0.9), 2, outcome=ChangeOutcome.REFUSED)
    tried = change(changes.pin(half, "x-attrition-smoke", "t", REFS["1.1.0"]), 3, outcome=ChangeOutcome.TRIAL)
    assert len(spans([change(half, 0), change(pinned, 1), refused, tried])) == 1


def test_an_experiment_begins_and_ends_within_the_traffic(alone):
    """What was split before it began, or is split after, does not belong to it."""
    half = split(alone, 0.5)
    assert [span[:2] for span in spans([change(half, -5)], since=1, until=2)] == [(1.0, 2.0)]
    assert spans([change(half, 5)], since=1, until=2) == []
    assert spans([]) == []


def test_a_shadow_is_an_epoch_of_its_design(alone):
    """And only of that."""
    shadowed = changes.shadow(alone, [REFS["1.1.0"]])
    history = [change(alone, 0), change(shadowed, 1), change(alone, 4)]
    assert [span[:2] for span in spans(history, SHADOW)] == [(1.0, pytest.approx(4 - 1 / 60))]
    assert spans(history, SPLIT) == []
