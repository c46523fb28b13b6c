"""What a version is retrained on: matured, joined, once per person and period, and of the right age."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from attrition.data.employees import EmployeeTable
from attrition.data.predictions import FEATURE
from attrition.data.quality import check_split
from attrition.data.schema import FeatureSchema
from attrition.data.splits import split_holdout
from attrition.errors import InsufficientData
from attrition.retraining.policy import DataRules
from attrition.retraining.records import MADE_HERE, assemble, imported

SCHEMA = FeatureSchema.default()
AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
RNG = np.random.default_rng(5)


def features(n, prefix=""):
    return {prefix + name: RNG.uniform(1, 5, n) for name in SCHEMA.names}


def history(n=200, **changes):
    frame = pd.DataFrame(
        {
            "employee_id": [f"p{i}" for i in range(n)],
            "snapshot_date": pd.to_datetime(["2024-01-31", "2024-04-30"] * (n // 2)),
            **features(n),
            "attrition": np.arange(n) % 4 == 0,
            "gender": np.where(np.arange(n) % 2, "female", "male"),
            **changes,
        }
    )
    return EmployeeTable.of(frame, SCHEMA, sensitive=("gender",), source="hr.csv")


def predictions(persons, days, **changes):
    n = len(persons)
    return pd.DataFrame(
        {
            "employee_id": persons,
            "time": pd.to_datetime(days, utc=True),
            "version": "1.0.0",
            "probability": 0.3,
            "decision": False,
            "shadow_of": None,
            **features(n, FEATURE),
            **changes,
        }
    )


def outcomes(**left_on):
    return pd.DataFrame({"employee_id": list(left_on), "left_on": pd.to_datetime(list(left_on.values()))})


def test_only_matured_predictions_become_records():
    """A known leaver of an open horizon stays out, as the stayers of that time do; labels are those of maturity."""
    rows = predictions(["p1", "p2", "p3", "p4"], ["2025-05-01", "2025-05-01", "2026-05-01", "2026-05-01"])
    table, counts = assemble(history(), rows, outcomes(p1="2025-12-01", p3="2026-05-20"), DataRules(), as_of=AS_OF)
    new = table.frame.iloc[200:]
    assert new["employee_id"].tolist() == ["p1", "p2"]
    assert new["attrition"].tolist() == [1, 0]
    assert (counts.n_history, counts.n_production, counts.n_immature) == (200, 2, 2)


def test_repeated_predictions_count_once():
    """Nightly scoring gives a person one record per month, the first; the snapshot's comes before."""
    days = ["2025-03-02", "2025-03-01", "2025-04-01", "2024-01-05"]
    rows = predictions(["p1", "p1", "p1", "p2"], days)
    known = history(snapshot_date=pd.Timestamp("2024-01-31"))
    table, counts = assemble(known, rows, outcomes(), DataRules(), as_of=AS_OF)
    assert table.dates.iloc[200:].dt.strftime("%Y-%m-%d").tolist() == ["2025-03-01", "2025-04-01"]
    assert counts.n_repeated == 2


def test_what_teaches_nothing_is_counted():
    """Shadows, rows without a person, rows of which retention left group labels, outcomes of strangers."""
    kept = {"age", "department_code"}
    emptied = {FEATURE + name: [1.0, 1.0, 1.0, 1.0 if name in kept else np.nan] for name in SCHEMA.names}
    rows = predictions(
        ["p1", "p2", None, "p3"], ["2025-03-01"] * 4, shadow_of=[None, "01890a5d", None, None], **emptied
    )
    table, counts = assemble(history(), rows, outcomes(stranger="2025-04-01"), DataRules(), as_of=AS_OF)
    assert len(table) == 201
    assert (counts.n_shadow, counts.n_without_person, counts.n_emptied, counts.n_unknown_persons) == (1, 1, 1, 1)
    assert "never predicted" in str(counts)


def test_the_latest_attributes_count_in_whatever_order_they_stand():
    """An extract may list the newest first."""
    dates = pd.to_datetime(["2024-06-30"] * 100 + ["2024-01-31"] * 100)
    known = history(employee_id=["p1"] * 200, snapshot_date=dates, gender=["female"] * 100 + ["male"] * 100)
    table, _ = assemble(known, predictions(["p1"], ["2025-03-01"]), outcomes(), DataRules(), as_of=AS_OF)
    assert table.frame["gender"].iloc[-1] == "female"


def test_sensitive_attributes_are_those_of_the_snapshot():
    """A known person keeps the attribute; a newcomer's is missing, not a group of its own."""
    rows = predictions(["p1", "newcomer"], ["2025-03-01"] * 2)
    table, _ = assemble(history(), rows, outcomes(), DataRules(), as_of=AS_OF)
    assert table.frame["gender"].iloc[200:].tolist() == ["female", ""]


def test_age_is_a_window_or_a_half_life():
    """The window drops what is older; the half-life keeps a half of what is one half-life old, the same each time."""
    rows = predictions([f"p{i}" for i in range(200)], ["2025-01-31"] * 200)
    old = history(4_000, snapshot_date=pd.Timestamp("2024-01-31"))
    window, counts = assemble(old, rows, outcomes(), DataRules(max_age_days=200), as_of=AS_OF)
    assert (counts.n_history, counts.n_production, counts.n_aged) == (0, 200, 4_000)
    assert len(window) == 200
    rules = DataRules(half_life_days=366)
    thinned, counts = assemble(old, rows, outcomes(), rules, as_of=AS_OF)
    assert counts.n_production == 200
    assert pytest.approx(counts.n_history, abs=130) == 2_000
    assert assemble(old, rows, outcomes(), rules, as_of=AS_OF)[0].content_hash() == thinned.content_hash()


def test_no_prediction_is_mature_yet():
    """The records are those of the snapshot."""
    rows = predictions(["p1"], ["2026-05-01"])
    table, counts = assemble(history(), rows, outcomes(), DataRules(), as_of=AS_OF)
    assert (len(table), counts.n_production) == (200, 0)
    assert table.content_hash() == history_hash(table)


def history_hash(table):
    return EmployeeTable.of(table.frame, SCHEMA, sensitive=("gender",)).content_hash()


def test_a_history_that_cannot_be_joined_is_refused():
    """Every reason at once, with what to do."""
    table = history(snapshot_date=pd.NaT)
    frame = table.frame.drop(columns="attrition")
    bare = EmployeeTable.of(frame, SCHEMA, sensitive=("gender",), surrogate_ids=True, source="hr.csv")
    with pytest.raises(InsufficientData) as caught:
        assemble(bare, predictions(["p1"], ["2025-03-01"]), outcomes(), DataRules(), as_of=AS_OF)
    assert len(caught.value.faults) == 3


def test_the_split_of_the_records_does_not_leak():
    """Production records are the holdout, of persons that training does not know, all later than training."""
    rows = predictions([f"p{i}" for i in range(200)] * 2, ["2025-03-01"] * 200 + ["2025-05-01"] * 200)
    left = outcomes(**{f"p{i}": "2025-05-20" for i in range(0, 200, 3)})
    table, _ = assemble(history(), rows, left, DataRules(), as_of=AS_OF)
    split = split_holdout(table, holdout_share=0.25, cutoff=datetime(2025, 5, 1, tzinfo=UTC).date())
    assert table.dates.iloc[split.train].max() < table.dates.iloc[split.holdout].min()
    assert not set(table.persons[split.train]) & set(table.persons[split.holdout])
    assert not [finding for finding in check_split(table, split) if finding.severity == "ERROR"]


class Ref:
    def __init__(self, version, source):
        self.version, self.source = version, source


def test_the_next_retraining_starts_from_the_imported_snapshot():
    """A snapshot that was made for a retraining is no history: its production records would be frozen."""
    assert imported([Ref(0, "a.csv"), Ref(1, "b.csv"), Ref(2, f"{MADE_HERE}b.csv and production")]) == 1
    with pytest.raises(InsufficientData, match="no snapshot"):
        imported([])
