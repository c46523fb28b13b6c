"""What it costs to find and to erase one person among a million predictions, and why it is done as it is.

Run: ``python tests/benchmarks/bench_erasure.py [ROWS] [FILES_PER_DAY]``; a minute, two cores. Not a test: it prints
figures. The predictions lie on ten days, with one third of them about persons who are on every day; two snapshot
versions of 50,000 persons lie beside them.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyarrow import compute, parquet

from attrition.data.employees import EmployeeTable
from attrition.data.erasure import PersonRecords
from attrition.data.outcomes import OutcomeTable
from attrition.data.person_tables import LogStore, person_tables
from attrition.data.predictions import PREDICTIONS, PredictionTable, prediction_schema
from attrition.data.retention import RetentionPolicy
from attrition.data.schema import FeatureSchema
from attrition.data.tables import Tables
from attrition.governance.persons import PersonKeys

N_DAYS, N_PERSONS = 10, 50_000
NOW = datetime(2024, 6, 1, tzinfo=UTC)
SCHEMA = FeatureSchema.default()


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def seconds(call):
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def fill(root, n_rows, files_per_day):
    """A million predictions in ten days, two snapshots, and outcomes of everybody."""
    rng = np.random.default_rng(0)
    persons = np.array([rng.bytes(16).hex() for _ in range(N_PERSONS)])
    predictions = PredictionTable(root)
    n = n_rows // N_DAYS // files_per_day
    for day in range(N_DAYS):
        for part in range(files_per_day):
            moments = np.datetime64(NOW.date() - timedelta(days=day), "us") + rng.integers(0, 86_400_000_000, n)
            columns = {
                "prediction_id": [rng.bytes(16).hex() for _ in range(n)],
                "time": pa.array(moments).cast(pa.timestamp("us", "UTC")),
                "day": [NOW.date() - timedelta(days=day)] * n,
                **{name: ["text"] * n for name in ("version", "variant", "reason")},
                "shadow_of": [None] * n,
                "employee_id": persons[rng.integers(0, N_PERSONS, n)],
                **{name: rng.random(n) for name in ("probability", "threshold")},
                "decision": rng.random(n) > 0.5,
                "latency_us": rng.integers(0, 900, n),
                **{f"feature_{name}": rng.random(n) for name in SCHEMA.names},
            }
            rows = pa.table(columns, schema=prediction_schema(SCHEMA.names))
            predictions.append(rows, {f"{day}-{part}": 1})
    frame = pd.DataFrame({"employee_id": persons, "snapshot_date": pd.Timestamp("2024-03-31")})
    for date in ("2024-03-31", "2024-04-30"):
        values = {name: rng.random(N_PERSONS) for name in SCHEMA.names}
        table = frame.assign(snapshot_date=pd.Timestamp(date), **values, attrition=rng.integers(0, 2, N_PERSONS))
        Tables(root).write_snapshot(EmployeeTable.of(table, SCHEMA, source=date))
    outcomes = pd.DataFrame({"employee_id": pd.Series(persons, dtype="str"), "source": "bench"})
    outcomes["left_on"] = pd.Series([pd.NaT] * N_PERSONS, dtype="datetime64[us]")
    outcomes["observed_at"] = pd.Series([pd.Timestamp(NOW)] * N_PERSONS, dtype="datetime64[us, UTC]")
    OutcomeTable(root).record(outcomes, now=NOW)
    return persons


def erase(root, persons):
    """The product's own way, whole and store by store."""
    tables = Tables(root)
    records = PersonRecords(
        person_tables(tables, root, RetentionPolicy()), tables.tombstones, PersonKeys.open("sqlite://")
    )
    took, report = seconds(lambda: records.report(persons[0]))
    say(f"report: {took:.2f} s, {report.n_rows} rows")
    took, done = seconds(lambda: records.erase(persons[0], now=NOW))
    say(f"erase, all stores, first person: {took:.2f} s, {done.n_rows}, finished: {done.is_finished}")
    took, done = seconds(lambda: records.erase(persons[1], now=NOW))
    say(f"erase, all stores, next person: {took:.2f} s, {done.n_rows}, finished: {done.is_finished}")
    took, n_rows = seconds(lambda: LogStore(root, PREDICTIONS, "time", RetentionPolicy()).erase(persons[2]))
    say(f"erase, predictions alone: {took:.2f} s, {n_rows} rows")
    took, _ = seconds(lambda: LogStore(root, PREDICTIONS, "time", RetentionPolicy()).erase("0" * 32))
    say(f"erase, predictions alone, nobody: {took:.2f} s")
    return persons[3:]


def alternatives(root, persons):
    """What else could find the files with a person, or remove the rows."""
    uri = f"{root}/{PREDICTIONS}"
    table = DeltaTable(uri)
    dataset = table.to_pyarrow_dataset()
    files = table.file_uris()

    def scan(columns):
        for batch in dataset.to_batches(columns=columns):
            compute.any(compute.equal(batch["employee_id"].cast(pa.string()), persons[0]))

    say(f"scan of the ids: {seconds(lambda: scan(['employee_id']))[0]:.2f} s, of {len(files)} files")
    say(f"scan of every column: {seconds(lambda: scan(dataset.schema.names))[0]:.2f} s")
    n_matching = sum(
        persons[0] in parquet.read_table(path, columns=["employee_id"], partitioning=None)["employee_id"].to_pylist()
        for path in files
    )
    say(f"files with the person: {n_matching} of {len(files)}")
    rows = dataset.to_table()
    ids = rows["employee_id"].cast(pa.string())
    rows = rows.set_column(rows.schema.get_field_index("employee_id"), "employee_id", ids)
    for name, data in (("as it comes", rows), ("sorted by id", rows.sort_by("employee_id"))):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.parquet"
            parquet.write_table(data, path, row_group_size=20_000)
            file = parquet.ParquetFile(path)
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
            index = [field.path_in_schema for field in map(groups[0].column, range(groups[0].num_columns))].index(
                "employee_id"
            )
            hit = sum(
                group.column(index).statistics.min <= persons[0] <= group.column(index).statistics.max
                for group in groups
            )
            say(
                f"row groups whose extremes admit the person, {name}: {hit} of {len(groups)}, {path.stat().st_size:,} B"
            )
    took, done = seconds(lambda: DeltaTable(uri).delete(f"employee_id = '{persons[0]}'"))
    say(f"DELETE (leaves the pseudonym in the log): {took:.2f} s, {done['num_deleted_rows']} rows")

    def day_by_day():
        for day in sorted({partition["day"] for partition in DeltaTable(uri).partitions()}):
            one = DeltaTable(uri)
            part = one.to_pyarrow_dataset().to_table(filter=compute.field("day") == datetime.fromisoformat(day).date())
            keep = compute.not_equal(part["employee_id"].cast(pa.string()), persons[1])
            write_deltalake(one, part.filter(keep), mode="overwrite", predicate=f"day = '{day}'")

    say(f"every day written again: {seconds(day_by_day)[0]:.2f} s")


def main():
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    files_per_day = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with tempfile.TemporaryDirectory() as root:
        took, persons = seconds(lambda: fill(root, n_rows, files_per_day))
        say(f"{n_rows:,} predictions on {N_DAYS} days in {N_DAYS * files_per_day} files, written in {took:.1f} s")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        persons = erase(root, persons.tolist())
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        say(f"largest memory: {before / 1024:.0f} MB before, {after / 1024:.0f} MB after")
        alternatives(root, persons)


if __name__ == "__main__":
    main()
