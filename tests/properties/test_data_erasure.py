"""Erasure, on tables that nobody chose: whoever is erased is nowhere, and everybody else is as before."""

from __future__ import annotations

import contextlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from attrition.data.employees import EmployeeTable
from attrition.data.erasure import PersonRecords
from attrition.data.outcomes import OutcomeTable
from attrition.data.person_tables import person_tables
from attrition.data.predictions import PredictionTable, prediction_schema
from attrition.data.retention import RetentionPolicy
from attrition.data.schema import FeatureSchema
from attrition.data.tables import Tables
from attrition.errors import NotFound
from attrition.governance.persons import PersonKeys

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
SCHEMA = FeatureSchema.default().without(*FeatureSchema.default().names[2:])
PERSONS = [f"{number:x}" * 32 for number in range(1, 6)]

persons = st.lists(st.sampled_from([*PERSONS, f"{PERSONS[0]}-2"]), min_size=1, max_size=6)
writes = st.lists(
    st.one_of(
        st.tuples(st.just("snapshot"), persons, st.integers(0, 99)),
        st.tuples(st.just("predict"), persons, st.integers(0, 3)),
        st.tuples(st.just("state"), persons, st.integers(0, 3)),
        st.tuples(st.just("erase"), st.sampled_from(PERSONS), st.just(0)),
        st.tuples(st.just("compact"), persons, st.integers(0, 3)),
    ),
    min_size=1,
    max_size=8,
)


class Project:
    """Real tables, and the rows that should be in them."""

    def __init__(self, root):
        self.root = root
        self.tables, self.predictions, self.outcomes = Tables(root), PredictionTable(root), OutcomeTable(root)
        stores = person_tables(self.tables, root, RetentionPolicy())
        self.records = PersonRecords(stores, self.tables.tombstones, PersonKeys.open("sqlite://"))
        self.erased = set()
        self.expected = {"snapshots": {}, "predictions": [], "outcomes": set()}
        self.n_writes = 0

    def admitted(self, ids):
        return [name for name in ids if name.partition("-")[0] not in self.erased]

    def snapshot(self, ids, seed):
        rows = sorted(set(ids))
        values = [float(seed + index) for index in range(len(rows))]
        frame = pd.DataFrame(
            {"employee_id": rows, "snapshot_date": pd.Timestamp("2024-03-31"), "tenure": values, "age": values}
        )
        ref = self.tables.write_snapshot(EmployeeTable.of(frame, SCHEMA, source="x"))
        kept = {name: value for name, value in zip(rows, values, strict=True) if name in self.admitted(rows)}
        self.expected["snapshots"][ref.version] = kept

    def predict(self, ids, day):
        self.n_writes += 1
        moment, n = NOW + timedelta(days=day), len(ids)
        names = [f"{self.n_writes}-{index}" for index in range(n)]
        columns = {
            "prediction_id": names,
            "time": [moment] * n,
            "day": [moment.date()] * n,
            "version": ["1.0.0"] * n,
            "variant": ["b"] * n,
            "reason": ["sole"] * n,
            "shadow_of": [None] * n,
            "employee_id": ids,
            "probability": [0.1] * n,
            "threshold": [0.5] * n,
            "decision": [False] * n,
            "latency_us": [1] * n,
            "feature_age": [1.5] * n,
        }
        self.predictions.append(pa.table(columns, schema=prediction_schema(["age"])), {str(self.n_writes): 1})
        kept = set(self.admitted(ids))
        self.expected["predictions"] += [(name, who) for name, who in zip(names, ids, strict=True) if who in kept]

    def state(self, ids, day):
        moment = NOW + timedelta(days=day)
        frame = pd.DataFrame({"employee_id": pd.Series(ids, dtype="str")})
        frame["left_on"] = pd.Series([pd.NaT] * len(ids), dtype="datetime64[us]")
        frame["observed_at"] = pd.Series([pd.Timestamp(moment)] * len(ids), dtype="datetime64[us, UTC]")
        self.outcomes.record(frame.assign(source="x"), now=moment)
        self.expected["outcomes"] |= {(who, day) for who in self.admitted(ids)}

    def compact(self, _ids, day):
        with contextlib.suppress(NotFound):
            self.predictions.compact(NOW + timedelta(days=day))

    def erase(self, who, _=0):
        held = who in {name.partition("-")[0] for name in self.everybody()}
        try:
            assert self.records.erase(who, now=NOW).is_finished
        except NotFound:
            assert not held
            return
        assert held
        self.erased.add(who)
        for version, rows in self.expected["snapshots"].items():
            self.expected["snapshots"][version] = {name: rows[name] for name in self.admitted(rows)}
        for table in ("predictions", "outcomes"):
            kind = type(self.expected[table])
            index = 1 if table == "predictions" else 0
            self.expected[table] = kind(row for row in self.expected[table] if self.admitted([row[index]]))

    def everybody(self):
        """Ids in every file, and through every version that can be read."""
        found = set()
        for path in Path(self.root).rglob("*.parquet"):
            if "_delta_log" not in path.parts and "erasures" not in path.parts:
                found |= set(parquet.read_table(path, columns=["employee_id"])["employee_id"].to_pylist())
        for name in ("snapshots", "predictions", "outcomes"):
            uri = f"{self.root}/{name}"
            for version in range(DeltaTable(uri).version() + 1 if DeltaTable.is_deltatable(uri) else 0):
                with contextlib.suppress(FileNotFoundError):
                    found |= set(DeltaTable(uri, version=version).to_pyarrow_table()["employee_id"].to_pylist())
        return found

    def check(self):
        assert not {name.partition("-")[0] for name in self.everybody()} & self.erased
        logs = "".join(path.read_text() for path in Path(self.root).rglob("_delta_log/*.json"))
        assert not [who for who in PERSONS if who in logs]
        for version, rows in self.expected["snapshots"].items():
            frame = self.tables.read_snapshot(version)[0].frame
            assert dict(zip(frame["employee_id"], frame["tenure"], strict=True)) == rows
        if self.n_writes:
            frame = self.predictions.between()
            assert sorted(zip(frame["prediction_id"], frame["employee_id"], strict=True)) == sorted(
                self.expected["predictions"]
            )
            assert (frame["feature_age"] == 1.5).all()
        history = self.outcomes.history()
        found = {(row.employee_id, (row.observed_at - NOW).days) for row in history.itertuples()}
        assert found == self.expected["outcomes"]


@settings(max_examples=8, deadline=None)
@given(writes, st.sampled_from(PERSONS))
def test_whoever_is_erased_is_nowhere_and_everybody_else_as_before(plan, who):
    """After any sequence of writes, compactions and erasures."""
    with tempfile.TemporaryDirectory() as root:
        project = Project(root)
        for step, subject, number in plan:
            getattr(project, step)(subject, number)
        project.erase(who)
        project.check()
