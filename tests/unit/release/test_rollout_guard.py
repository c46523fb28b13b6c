"""The immediate guard: counts of replicas, windows, and limits that chance does not break."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from attrition.release.rollout_guard import P_VALUE, Watch, breach, is_beyond
from attrition.release.rollout_plan import GuardLimits
from attrition.serving.vitals import EDGES, Reading, Vitals


def reading(replica, age, **versions):
    return Reading(replica, age, {name: Vitals(*counts) for name, counts in versions.items()})


def test_what_a_version_did_within_the_window():
    """The sum of what was added on all replicas; what is older is left out, and what came before the first look."""
    watch = Watch(5.0)
    watch.take([reading("a", 100.0, new=(50, 5)), reading("b", 100.0, new=(70, 0))], 0.0)
    assert watch.window("new") == Vitals()
    watch.take([reading("a", 101.0, new=(60, 6), old=(9, 0))], 1.0)
    watch.take([reading("a", 104.0, new=(61, 6)), reading("b", 104.0, new=(80, 2))], 4.0)
    assert watch.window("new") == Vitals(21, 3)
    watch.take([reading("a", 106.5, new=(61, 6))], 6.5)
    assert watch.window("new") == Vitals(11, 2)
    assert watch.requests("new", shadow=False).requests == 24
    watch.reset()
    assert watch.requests("new", shadow=False).requests == 0


def test_replicas_that_come_and_go():
    """One that started meanwhile counts from its start; one that was only not met yet does not."""
    watch = Watch(5.0)
    watch.take([reading("a", 100.0, new=(50, 5))], 0.0)
    watch.take([reading("fresh", 1.5, new=(7, 1)), reading("old", 50.0, new=(70, 9))], 2.0)
    assert watch.window("new") == Vitals(7, 1)
    watch.take([reading("old", 51.0, new=(75, 9))], 3.0)
    assert watch.window("new") == Vitals(12, 1)


def test_failures_beyond_the_limit():
    """Certain ones, not a few by chance."""
    limits = GuardLimits(max_error_rate=0.02, window=10)
    assert not breach(limits, Vitals(answered=1_000, failed=30))
    assert breach(limits, Vitals(answered=100, failed=30)) == (
        "guard: 30 of 130 requests failed within 10 s (23.1 %; limit 2 %)"
    )
    assert "failed" in breach(limits, Vitals(shadow_answered=100, shadow_failed=30))
    assert "failed" in breach(GuardLimits(max_error_rate=0), Vitals(answered=100, failed=1))
    assert not breach(limits, Vitals())


def test_slowness_beyond_the_limit():
    """30 ms more is found by a limit of 25 ms, whatever the cell's width."""
    fast, slow = (int(np.searchsorted(EDGES, seconds)) for seconds in (0.001, 0.031))
    limits = GuardLimits(max_latency_ms=25)
    assert not breach(limits, Vitals(answered=100, durations=Counter({fast: 96, slow: 4})))
    found = breach(limits, Vitals(answered=100, durations=Counter({fast: 60, slow: 40})))
    assert "40 of 100 requests took longer than 25 ms" in found
    assert not breach(GuardLimits(max_latency_ms=31), Vitals(answered=100, durations=Counter({slow: 100})))


@pytest.mark.parametrize("limit", [0.005, 0.02, 0.05, 0.3])
@pytest.mark.parametrize("n", [1, 5, 20, 100, 5_000])
def test_the_limit_is_an_exact_binomial_test(n, limit):
    """The same as SciPy's distribution says."""
    for k in range(0, n + 1, max(1, n // 40)):
        assert is_beyond(k, n, limit) == (k > n * limit and stats.binom.sf(k - 1, n, limit) <= P_VALUE)


def test_a_version_on_its_limit_is_left_alone():
    """A day of looks, each at a window of 200 requests: no false alarm."""
    rng = np.random.default_rng(3)
    limits = GuardLimits(max_error_rate=0.02)
    failures = rng.binomial(200, 0.02, 86_400)
    assert not any(breach(limits, Vitals(answered=200 - int(k), failed=int(k))) for k in np.unique(failures))
