"""A small canonical extract, files written from it, and tables about three persons."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyarrow import parquet

from attrition.data.employees import EmployeeTable
from attrition.data.erasure import PersonRecords
from attrition.data.outcomes import OutcomeTable
from attrition.data.person_tables import person_tables
from attrition.data.predictions import PredictionTable, prediction_schema
from attrition.data.retention import RetentionPolicy
from attrition.data.schema import FeatureSchema
from attrition.data.tables import SnapshotRef, Tables
from attrition.governance.persons import PersonKeys
from attrition.governance.privacy import PseudonymKey

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ANNA, BERT, CARL = "a1" * 16, "b2" * 16, "c3" * 16


@pytest.fixture(scope="session")
def key() -> PseudonymKey:
    return PseudonymKey(bytes(range(32)))


@pytest.fixture
def canonical() -> pd.DataFrame:
    """Two hundred employees with canonical columns and a weak cause of leaving."""
    rng = np.random.default_rng(7)
    n = 200
    satisfaction = rng.uniform(1, 5, n).round(1)
    return pd.DataFrame(
        {
            "employee_id": [f"E{i:04d}" for i in range(n)],
            "snapshot_date": "2024-03-31",
            "tenure": rng.integers(1, 240, n),
            "age": rng.integers(20, 60, n),
            "satisfaction_score": satisfaction,
            "performance_rating": rng.uniform(1, 5, n).round(1),
            "work_hours": rng.normal(40, 3, n).round(1),
            "projects_count": rng.integers(1, 8, n),
            "promotion_flag": rng.integers(0, 2, n),
            "salary": rng.normal(60_000, 9_000, n).round(0),
            "department_code": rng.integers(1, 7, n),
            "gender": rng.choice(["female", "male"], n),
            "attrition": (rng.uniform(size=n) < 0.5 - 0.08 * satisfaction).astype(int),
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a frame as CSV and return its path."""

    def write_csv(frame: pd.DataFrame, name: str = "extract.csv", **options: object) -> Path:
        path = tmp_path / name
        frame.to_csv(path, index=False, **options)
        return path

    return write_csv


class Records:
    """The tables of a project, and short ways to fill and to look at them."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.tables = Tables(self.root)
        self.predictions = PredictionTable(self.root)
        self.outcomes = OutcomeTable(self.root)
        self.keys = PersonKeys.open("sqlite://")
        self.n_spools = 0

    def write_snapshot(self, *ids: str, date: str = "2024-03-31") -> SnapshotRef:
        """One row per id, in this order; values follow from the id and the date."""
        numbers = [int(text[:2], 16) for text in ids]
        frame = pd.DataFrame(
            {
                "employee_id": list(ids),
                "snapshot_date": pd.Timestamp(date),
                **{name: [float(number) for number in numbers] for name in FeatureSchema.default().names},
                "attrition": [number % 2 for number in numbers],
                "gender": "f",
            }
        )
        return self.tables.write_snapshot(
            EmployeeTable.of(frame, FeatureSchema.default(), sensitive=("gender",), source=f"{date}.csv")
        )

    def predict(self, *ids: str | None, start: datetime = NOW) -> None:
        """One commit with a prediction per id, a minute apart."""
        self.n_spools += 1
        times = [start + timedelta(minutes=number) for number in range(len(ids))]
        n = len(ids)
        columns = {
            "prediction_id": [f"{self.n_spools}-{number}" for number in range(n)],
            "time": times,
            "day": [time.date() for time in times],
            "version": ["1.0.0"] * n,
            "variant": ["blue"] * n,
            "reason": ["sole"] * n,
            "shadow_of": [None] * n,
            "employee_id": list(ids),
            "probability": [0.3] * n,
            "threshold": [0.5] * n,
            "decision": [False] * n,
            "latency_us": [120] * n,
            "feature_salary": [40.0] * n,
        }
        rows = pa.table(columns, schema=prediction_schema(["salary"]))
        assert self.predictions.append(rows, {f"spool-{self.n_spools}": 1})

    def state(self, *ids: str, now: datetime = NOW) -> int:
        """A statement per id that the person is employed; how many were new."""
        statements = pd.DataFrame(
            {
                "employee_id": pd.Series(ids, dtype="str"),
                "left_on": pd.Series([pd.NaT] * len(ids), dtype="datetime64[us]"),
                "observed_at": pd.Series([pd.Timestamp(now)] * len(ids), dtype="datetime64[us, UTC]"),
                "source": "test",
            }
        )
        return self.outcomes.record(statements, now=now).n_new

    def persons(self, **policy: int) -> PersonRecords:
        """What erases and reports."""
        stores = person_tables(self.tables, self.root, RetentionPolicy(**policy))
        return PersonRecords(stores, self.tables.tombstones, self.keys)

    def readable(self) -> set[str]:
        """Ids in every version of every table that can still be read, and in every file that still exists."""
        found: set[str] = set()
        for name in ("snapshots", "predictions", "outcomes"):
            uri = f"{self.root}/{name}"
            if not DeltaTable.is_deltatable(uri):
                continue
            for version in range(DeltaTable(uri).version() + 1):
                with contextlib.suppress(FileNotFoundError):
                    found |= set(DeltaTable(uri, version=version).to_pyarrow_table()["employee_id"].to_pylist())
            for path in Path(uri).rglob("*.parquet"):
                if "_delta_log" not in path.parts:
                    found |= set(parquet.read_table(path, columns=["employee_id"])["employee_id"].to_pylist())
        return found - {None}

    def logs(self) -> str:
        """Text of the logs of all tables."""
        return "".join(path.read_text() for path in Path(self.root).rglob("_delta_log/*.json"))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "tables")


@pytest.fixture(scope="session")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Records:
    records = Records(tmp_path_factory.mktemp("filled"))
    records.write_snapshot(ANNA, BERT, CARL)
    records.write_snapshot(ANNA, BERT, CARL, date="2024-04-30")
    records.predict(ANNA, BERT, None, ANNA, start=NOW - timedelta(days=1))
    records.predict(CARL, ANNA, BERT)
    records.state(ANNA, BERT, CARL)
    return records


@pytest.fixture
def filled(records: Records, _filled: Records) -> Records:
    """Three persons in two snapshot versions, on two days of predictions, and in the outcomes."""
    shutil.copytree(_filled.root, records.root)
    records.n_spools = _filled.n_spools
    return records
