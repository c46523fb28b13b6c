"""The simulated company: what it reports in time adds up to what the simulator says came true."""

from __future__ import annotations

import pandas as pd
import pytest

from attrition import Workspace
from attrition.data.maturity import matured_labels
from attrition.errors import UsageError
from attrition.retraining.simulated_world import HISTORY_QUARTERS, make_world


@pytest.fixture(scope="module")
def world():
    return make_world(5, n_employees=600, seed=3, scenario="flexible_hours", drift_quarter=2)


def test_reported_outcomes_mature_to_the_truth(world):
    """Predictions of a quarter, labelled by what is reported a year later, have the simulator's own labels."""
    quarter = 1
    staff = world.staff(quarter)
    told = pd.concat([world.leavers(each) for each in range(quarter - 3, quarter + 5)], ignore_index=True)
    made = pd.DataFrame({"employee_id": staff["employee_id"], "time": pd.Timestamp(world.scored_at(quarter))})
    as_of = world.reported_at(quarter + 4)
    labels = matured_labels(made, told, horizon_days=365, as_of=as_of)["label"]
    assert labels.notna().all()
    assert labels.astype(int).tolist() == world.truth(quarter).tolist()
    early = matured_labels(made, told, horizon_days=365, as_of=world.reported_at(quarter + 3))["label"]
    assert (early == 0).sum() == 0


def test_the_calendar(world):
    """Score, then report, then check, each before the next quarter; the window of a week holds the scoring."""
    for quarter in world.quarters:
        assert world.scored_at(quarter) < world.reported_at(quarter) < world.checked_at(quarter)
        assert (world.checked_at(quarter) - world.scored_at(quarter)).days < 7
    assert world.history()["snapshot_date"].nunique() == HISTORY_QUARTERS
    assert "attrition" not in world.staff(1)


def test_equal_until_the_drift_begins(world):
    """Extracts before the scenario are those of an undisturbed company."""
    quiet = make_world(5, n_employees=600, seed=3, scenario="none", drift_quarter=2)
    pd.testing.assert_frame_equal(world.staff(1), quiet.staff(1))
    assert not world.staff(2).equals(quiet.staff(2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_quarters": 0}, "at least 1"),
        ({"n_employees": 10}, "at least 500"),
        ({"drift_quarter": 6}, "-3 to 5"),
        ({"drift_quarter": -4}, "-3 to 5"),
        ({"scenario": "flood"}, "flexible_hours"),
    ],
)
def test_what_cannot_be_simulated(changes, said):
    """Refused before anything is made."""
    usual = {"n_quarters": 5, "n_employees": 600, "seed": 3, "scenario": "remote_work", "drift_quarter": 2}
    usual |= changes
    with pytest.raises(UsageError, match=said):
        make_world(usual.pop("n_quarters"), **usual)


@pytest.mark.parametrize("where", [{"ray_address": "127.0.0.1:6379"}, {"ray_service": "hr/attrition"}])
def test_a_simulation_serves_on_a_ray_of_its_own_only(tmp_path, where):
    """On a cluster the endpoint may be the one that answers real requests; nothing is touched."""
    with Workspace(home=tmp_path / "home", **where) as company, pytest.raises(UsageError, match="that others use"):
        company.simulate(tmp_path / "simulated", serve=True)
    assert not (tmp_path / "simulated").exists()
