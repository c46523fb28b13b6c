"""What holds for every simulated workforce, whatever its size, length, seed and scenario."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.data.schema import FeatureSchema
from attrition.data.workforce import HORIZON_QUARTERS, SCENARIOS, Scenario, simulate

SCHEMA = FeatureSchema.default()

seeds = st.integers(0, 2**63)
runs = st.fixed_dictionaries(
    {
        "n_employees": st.integers(1, 150),
        "n_quarters": st.integers(5, 8),
        "seed": seeds,
        "scenario": st.sampled_from([None, *SCENARIOS]),
    }
)


@settings(max_examples=25, deadline=None)
@given(runs)
def test_every_run_is_consistent(run):
    """Values lie in the schema, persons are unique per date, and outcomes agree with who is there a year later."""
    frame = simulate(**run)
    for feature in SCHEMA.features:
        assert frame[feature.name].dropna().between(*feature.bounds).all()
    assert not frame.duplicated(["employee_id", "snapshot_date"]).any()
    parts = [part for _, part in frame.groupby("snapshot_date")]
    assert len(parts) == run["n_quarters"]
    for now, later in zip(parts, parts[HORIZON_QUARTERS:], strict=False):
        gone = ~now["employee_id"].isin(later["employee_id"])
        np.testing.assert_array_equal(now["attrition"] == 1, gone)


@settings(max_examples=15, deadline=None)
@given(
    n_employees=st.integers(1, 100), seed=seeds, more=st.integers(1, 4), scenario=st.sampled_from([None, *SCENARIOS])
)
def test_a_longer_run_extends_a_shorter_one(n_employees, seed, more, scenario):
    """Asking for more quarters changes nothing in those that one had, outcomes included."""
    short = simulate(n_employees, n_quarters=5, seed=seed, scenario=scenario)
    long = simulate(n_employees, n_quarters=5 + more, seed=seed, scenario=scenario)
    pd.testing.assert_frame_equal(short, long.iloc[: len(short)])


@settings(max_examples=50, deadline=None)
@given(start=st.integers(0, 20), ramp=st.integers(1, 8), quarter=st.integers(-70, 40))
def test_intensity_is_a_ramp(start, ramp, quarter):
    """Nothing before the start, everything after the ramp, never falling between."""
    scenario = Scenario("x", "X.", start_quarter=start, affected=(), ramp_quarters=ramp)
    now, later = scenario.intensity(quarter), scenario.intensity(quarter + 1)
    assert 0 <= now <= later <= 1
    assert (now > 0) == (quarter >= start)
    assert (now == 1) == (quarter >= start + ramp - 1)
