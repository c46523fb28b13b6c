"""The estimate of a window of the log: whose predictions, when it alarms, and its reconciliation."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from attrition.errors import ConfigError, InsufficientData, UsageError
from attrition.monitoring.buckets import parse_span
from attrition.monitoring.performance_policy import PerformancePolicy
from attrition.monitoring.window_estimate import estimate_window

PERIOD = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)
LATER = datetime(2024, 10, 1, tzinfo=UTC)


def reference(skill=2.0, n=4_000):
    rng = np.random.default_rng(9)
    score = 1 / (1 + np.exp(-rng.normal(-1.2, skill, n)))
    return rng.random(n) < score, score


def estimate(made, *, as_of=LATER, **policy):
    return estimate_window(
        made.predictions,
        made.outcomes,
        reference(),
        version="1.0.0",
        period=PERIOD,
        horizon_days=90,
        as_of=as_of,
        policy=PerformancePolicy(n_simulations=300, **policy),
    )


def test_matured_outcomes_reconcile(world):
    """Without drift the realised figures lie in the bands (all but one at most)."""
    found = estimate(world())
    assert found.n_mature == 1_200
    assert [item.metric for item in found.reconciliation] == list(found.estimated.metrics)
    assert len(found.outside) <= 1
    json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert "ESTIMATED" in str(found)


def test_immature_outcomes_do_not(world):
    """The estimate is the same, and says how many labels are there."""
    late, early = estimate(world()), estimate(world(), as_of=datetime(2024, 3, 1, tzinfo=UTC))
    assert early.reconciliation == ()
    assert early.estimated == late.estimated
    assert early.remarks[0].startswith("Not reconciled: 0 of 1,200")


def test_only_the_mature_are_compared(world):
    """With an estimate for exactly these persons."""
    found = estimate(world(), as_of=datetime(2024, 6, 15, tzinfo=UTC))
    assert 0 < found.n_mature < 1_200
    assert {item.estimated.n for item in found.reconciliation} == {found.n_mature}
    assert found.estimated.n == 1_200


def test_outcomes_that_contradict(world):
    """Concept drift: who left no longer depends on the score. The estimate stays, its reconciliation fails."""
    made = world()
    made.outcomes["left_on"] = made.outcomes["left_on"].sample(frac=1, random_state=1).to_numpy()
    found = estimate(made)
    assert found.estimated == estimate(world()).estimated
    assert "auc" in found.outside
    assert "outside the band" in found.remarks[0]


def test_repeated_predictions_add_no_certainty(world):
    """A person counts once."""
    made = world()
    once = estimate(made)
    copies = [made.predictions.assign(time=made.predictions["time"] + pd.Timedelta(minutes=n)) for n in range(5)]
    made.predictions = pd.concat(copies, ignore_index=True)
    assert estimate(made).estimated == once.estimated


def test_a_low_estimate_alarms_as_an_estimate(world):
    """A warning, never critical, and it says what it is."""
    assert estimate(world(), min_auc=0.5).alerts == ()
    low = estimate(world(), min_auc=0.999)
    (alert,) = low.to_alerts()
    assert alert.severity == "warning"
    assert "ESTIMATED" in alert.title
    assert "ESTIMATED" in low.alerts[0]


def test_too_few_persons(world):
    """Refused, and says how many there are."""
    with pytest.raises(InsufficientData, match="40 known persons"):
        estimate(world(n_persons=40))


@pytest.mark.parametrize(
    "text", ["soon", "0d", "2024-02-01..2024-01-01", "2024-01-01", "..", "30m", "2024-13-01..2024-14-01"]
)
def test_windows_that_are_none(text):
    """A usage error that names the forms."""
    with pytest.raises(UsageError):
        parse_span(text, now=LATER)


def test_windows():
    """Spans until now, and whole days."""
    assert parse_span("24h", now=LATER) == (datetime(2024, 9, 30, tzinfo=UTC), LATER)
    days = parse_span("2024-01-01..2024-01-01", now=LATER)
    assert days == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC))


def test_a_policy_with_a_typo(tmp_path):
    """Named with its file."""
    path = tmp_path / "policy.yaml"
    path.write_text("min_acu: 0.8\n")
    with pytest.raises(ConfigError, match="min_acu"):
        PerformancePolicy.load(path)
