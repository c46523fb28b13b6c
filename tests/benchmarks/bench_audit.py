"""What the audit log costs: an event beside a bare durable insert, many writers, verifying and exporting a large log.

Run: ``python tests/benchmarks/bench_audit.py``; a minute, two cores. Not a test: it prints figures. PostgreSQL is
measured where its binaries are on the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from postgres import throwaway_postgres
from test_audit import write_concurrently

from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome

EVENT = Event(
    Action.TRAFFIC_CHANGE,
    "endpoint",
    Outcome.SUCCEEDED,
    actor="ada",
    justification="pilot in two departments",
    model_version="1.1.0",
    details={"generation": 7, "shares": {"1.0.0": 0.7, "1.1.0": 0.3}},
)

COMMAND = """
import sys
from pathlib import Path
from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome
with AuditLog.open(sys.argv[1], signing_key=Path(sys.argv[2])) as log:
    for outcome in (Outcome.STARTED, Outcome.SUCCEEDED):
        log.append(Event(Action.TRAIN, "run", outcome))
"""


def milliseconds(call, n):
    """Median and 99th percentile of the time of a call."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return {"p50_ms": round(float(np.median(times)), 3), "p99_ms": round(float(np.quantile(times, 0.99)), 3)}


def bare_inserts(path, n):
    """A row as long as an event, durably, with the same journal: what any log in SQLite costs."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE bare (id INTEGER PRIMARY KEY, text TEXT)")
        return milliseconds(lambda: connection.execute("INSERT INTO bare (text) VALUES (?)", ("x" * 600,)), n)


def process_seconds(url, key):
    """A process that records two events and ends, as a command does, less one that only starts Python."""
    took = []
    for code in ("pass", COMMAND):
        began = time.perf_counter()
        for _ in range(5):
            subprocess.run([sys.executable, "-c", code, url, str(key)], check=True)
        took.append((time.perf_counter() - began) / 5)
    return round(took[1] - took[0], 3)


def whole_log(folder, n):
    """Verify and export a log of n events: events a second, and the memory that it takes."""
    with AuditLog.open(f"sqlite:///{folder / 'large.db'}", signing_key=folder / "audit.pem", head_events=10_000) as log:
        for _ in range(n):
            log.append(EVENT)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        assert log.verify().intact
        verified = time.perf_counter()
        exported = log.export(folder / "out")
        done = time.perf_counter()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "events": n,
        "verified_per_second": round(n / (verified - began)),
        "exported_per_second": round(n / (done - verified)),
        "bytes_per_event": round(exported.n_bytes / n),
        "memory_grown_mib": round(grown / 1024, 1),
    }


def measure(url, key):
    """One database."""
    with AuditLog.open(url, signing_key=key) as log:
        log.append(EVENT)
        figures = {"append": milliseconds(lambda: log.append(EVENT), 2_000)}
    figures["process_with_two_events_seconds"] = process_seconds(url, key)
    return figures


def main():
    """Print all figures as JSON."""
    n_large = int(os.environ.get("BENCH_AUDIT_EVENTS", "100000"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = folder / "audit.pem"
        figures = {"bare_sqlite_insert": bare_inserts(folder / "bare.db", 2_000)}
        figures["sqlite"] = measure(f"sqlite:///{folder / 'a.db'}", key)
        ratio = figures["sqlite"]["append"]["p50_ms"] / figures["bare_sqlite_insert"]["p50_ms"]
        figures["append_to_bare_ratio"] = round(ratio, 2)
        seconds = write_concurrently(f"sqlite:///{folder / 'b.db'}", key, 8, 500)
        figures["sqlite"]["eight_writers_events_per_second"] = round(4_000 / seconds)
        try:
            with throwaway_postgres(durable=True) as server:
                figures["postgresql"] = measure(server.new_database(), key)
                seconds = write_concurrently(server.new_database(), key, 8, 500)
                figures["postgresql"]["eight_writers_events_per_second"] = round(4_000 / seconds)
        except pytest.skip.Exception as reason:
            figures["postgresql"] = str(reason)
        figures["whole_log"] = whole_log(folder, n_large)
    print(json.dumps(figures, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
