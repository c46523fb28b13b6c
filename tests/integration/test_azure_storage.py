"""Delta tables on Azure's Blob protocol (Azurite), through the code that writes to Azure."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pytest
from azurite import throwaway_azurite

from attrition.data.employees import EmployeeTable
from attrition.data.outcomes import OutcomeTable
from attrition.data.predictions import PredictionTable, prediction_schema
from attrition.data.schema import FeatureSchema
from attrition.data.tables import Tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def azurite(tmp_path_factory):
    with throwaway_azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(params=["az", "abfss"])
def root(request, azurite, monkeypatch):
    """Address of an empty folder, in each of the two spellings, with the credentials in the environment."""
    for name, value in azurite.environment.items():
        monkeypatch.setenv(name, value)
    container = azurite.new_container()
    if request.param == "az":
        return f"az://{container}/tables"
    return f"abfss://{container}@devstoreaccount1.dfs.core.windows.net/tables"


def employees():
    """Fifty employees with two features."""
    schema = FeatureSchema.default()
    kept = ("tenure", "satisfaction_score")
    frame = pd.DataFrame(
        {
            "employee_id": [f"{number:08x}" for number in range(50)],
            "snapshot_date": pd.Timestamp("2024-03-31"),
            "tenure": [float(number) for number in range(50)],
            "satisfaction_score": [1 + number % 5 for number in range(50)],
            "attrition": pd.Series([number % 2 for number in range(50)], dtype="int8"),
        }
    ).astype({"satisfaction_score": "float64"})
    others = [feature.name for feature in schema.features if feature.name not in kept]
    return EmployeeTable(frame, schema.without(*others), source="made up")


def test_snapshots(root):
    """A snapshot comes back identical."""
    table = employees()
    first = Tables(root).write_snapshot(table)
    back, same = Tables(root).read_snapshot()
    assert same == first
    pd.testing.assert_frame_equal(back.frame, table.frame)


def test_predictions_once(root):
    """A segment of the log that is committed again is not added again."""
    log = PredictionTable(root)
    row = {
        "prediction_id": "0001",
        "time": datetime(2024, 4, 1, tzinfo=UTC),
        "day": date(2024, 4, 1),
        "version": "1.0.0",
        "variant": "blue",
        "reason": "sole",
        "probability": 0.3,
        "threshold": 0.5,
        "decision": False,
        "latency_us": 120,
        "feature_age": 40.0,
    }
    rows = pa.Table.from_pylist([row], schema=prediction_schema(["age"]))
    assert log.append(rows, {"s": 4})
    assert not log.append(rows, {"s": 4})
    assert log.committed(["s"]) == {"s": 4}
    assert len(PredictionTable(root).between()) == 1


def test_outcomes_once(root):
    """The same statement again changes nothing."""
    now = datetime(2024, 6, 1, tzinfo=UTC)
    batch = pd.DataFrame(
        {
            "employee_id": pd.Series(["a"], dtype="str"),
            "left_on": pd.to_datetime(["2024-03-31"]).astype("datetime64[us]"),
            "observed_at": pd.to_datetime(["2024-04-01"], utc=True).astype("datetime64[us, UTC]"),
            "source": "test",
        }
    )
    assert OutcomeTable(root).record(batch, now=now).n_new == 1
    assert OutcomeTable(root).record(batch, now=now).n_new == 0
    assert list(OutcomeTable(root).current()["employee_id"]) == ["a"]
