"""Batch scoring, file to file, against pandas.read_* + predict_proba + to_*; prints ratios, peak memory and the floor.

    python tests/benchmarks/bench_batch.py                      # 200,000 rows
    python tests/benchmarks/bench_batch.py --rows 5000000 --memory-rows 1000000
    python tests/benchmarks/bench_batch.py --rows 5000000 --execution ray

Both sides score the same calibrated model, as it is registered, on the same machine, one after the other, several
times; the fastest run counts. Imports and, with Ray, its start and that of its workers are outside the ratios; the
first batch, which compiles the scorer, is printed beside them. Both write one row per employee with id, probability,
decision and version. Peak memory is the proportional set size (PSS) of all processes that take part, Ray's own
included, sampled ten times a second.

The floor is what no scorer can beat: Arrow reads the same file on all cores and writes columns of the same types. The
line that ends with it says how many times faster than pandas a batch would be that did nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

FAMILIES = ("logistic_regression", "hist_gradient_boosting", "random_forest")
THRESHOLD = 0.5


def employees(n_rows, seed, *, raw_ids=False):
    """An Arrow table in canonical columns with one value in a hundred missing."""
    import numpy as np
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    columns = {
        "tenure": rng.integers(0, 400, n_rows).astype(float),
        "age": np.clip(rng.normal(40, 8, n_rows), 18, 70).round(1),
        "satisfaction_score": rng.uniform(1, 5, n_rows).round(2),
        "performance_rating": rng.uniform(1, 5, n_rows).round(1),
        "work_hours": rng.normal(40, 5, n_rows).round(1),
        "projects_count": rng.integers(0, 9, n_rows).astype(float),
        "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
        "salary": rng.lognormal(11, 0.3, n_rows).round(0),
        "department_code": rng.integers(1, 7, n_rows).astype(float),
    }
    digits = rng.bytes(16 * n_rows).hex()  # a pseudonym's digits do not repeat: compression finds nothing in them
    ids = [f"E{seed * n_rows + i:09d}" if raw_ids else digits[32 * i : 32 * i + 32] for i in range(n_rows)]
    arrays = [pa.array(ids)] + [pa.array(v, mask=rng.random(n_rows) < 0.01) for v in columns.values()]
    return pa.table(arrays, names=["employee_id", *columns])


def write_inputs(folder, n_rows, *, raw_ids):
    """One CSV and one Parquet file of the same employees, written in slices."""
    from pyarrow import csv, parquet

    step = min(n_rows, 250_000)
    slices = range(n_rows // step)
    first = employees(step, 0, raw_ids=raw_ids)
    plain = csv.WriteOptions(quoting_style="none")  # as pandas writes it
    with (
        parquet.ParquetWriter(folder / "in.parquet", first.schema) as as_parquet,
        csv.CSVWriter(folder / "in.csv", first.schema, write_options=plain) as as_csv,
    ):
        for seed in slices:
            table = employees(step, seed, raw_ids=raw_ids)
            as_parquet.write_table(table)
            as_csv.write_table(table)


def fit(family, folder):
    """A calibrated pipeline pickled for the reference, and its compiled bundle."""
    import numpy as np
    from sklearn.calibration import CalibratedClassifierCV

    from attrition.data.schema import FeatureSchema
    from attrition.registry.bundle import CANDIDATE_FILE, FORMAT, SCHEMA_FILE, SCORING_FOLDER, BundleRef
    from attrition.registry.manifest import write_folder
    from attrition.scoring.compile import compile_candidate
    from attrition.training import families

    schema = FeatureSchema.default()
    frame = employees(20_000, 99).to_pandas()[list(schema.names)]
    leaving = 1 / (1 + np.exp(2 * (frame["satisfaction_score"].fillna(3) - 2)))
    y = (np.random.default_rng(1).random(len(frame)) < leaving).astype(int)
    pipeline = families.FAMILIES[family].build(schema, {}, 1)
    pipeline = CalibratedClassifierCV(pipeline, method="sigmoid", cv=3, ensemble=False).fit(frame, y)
    (folder / f"{family}.pickle").write_bytes(pickle.dumps(pipeline))
    files = compile_candidate(SimpleNamespace(classifier=pipeline, schema=schema))
    candidate = {"format": FORMAT, "version": "1.0.0", "family": family, "threshold": THRESHOLD}
    content = {SCORING_FOLDER + name: data for name, data in files.items()}
    content |= {SCHEMA_FILE: json.dumps(schema.to_dict()).encode(), CANDIDATE_FILE: json.dumps(candidate).encode()}
    return BundleRef(str(folder / family), "1.0.0", write_folder(folder / family, content, {}))


def reference(family, folder, kind, repeats):
    """What people do today, in this process; prints seconds of the fastest run."""
    import pandas as pd

    pipeline = pickle.loads((Path(folder) / f"{family}.pickle").read_bytes())
    source, target = Path(folder) / f"in.{kind}", Path(folder) / f"reference.{kind}"
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        frame = pd.read_csv(source) if kind == "csv" else pd.read_parquet(source)
        probability = pipeline.predict_proba(frame[list(pipeline.feature_names_in_)])[:, 1]
        scored = pd.DataFrame({"employee_id": frame["employee_id"], "probability": probability})
        scored = scored.assign(decision=probability >= THRESHOLD, model_version="1.0.0")
        scored.to_csv(target, index=False) if kind == "csv" else scored.to_parquet(target, index=False)
        best = min(best, time.perf_counter() - started)
    sys.stdout.write(f"{best}\n")


def run_reference(family, folder, kind, repeats):
    """Seconds and peak PSS in MB of the reference in a process of its own."""
    command = [sys.executable, __file__, "--reference", family, str(folder), kind, str(repeats)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, peak_memory(process.pid) as peak:
        output, _ = process.communicate()
    return float(output), peak["mb"]


def floor(folder, kind, repeats):
    """Seconds that Arrow takes to read the file and to write columns like those of the output."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv, parquet

    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        table = csv.read_csv(folder / "in.csv") if kind == "csv" else parquet.read_table(folder / "in.parquet")
        n_rows = len(table)
        odd = pa.array(np.linspace(0.0, 1.0, n_rows))
        columns = [table["employee_id"], odd, pa.array(np.zeros(n_rows, bool)), pa.repeat("1.0.0", n_rows)]
        scored = pa.table(columns, names=["employee_id", "probability", "decision", "model_version"])
        if kind == "csv":
            csv.write_csv(scored, folder / "floor.csv")
        else:
            random = dict.fromkeys(("employee_id", "probability"), "none")
            compression = dict.fromkeys(scored.column_names, "snappy") | random
            parquet.write_table(
                scored, folder / "floor.parquet", use_dictionary=["model_version"], compression=compression
            )
        best = min(best, time.perf_counter() - started)
    return best


def run_ours(ref, folder, kind, repeats, ids, execute):
    """Seconds and peak PSS in MB of a batch."""
    from attrition.governance.privacy import PseudonymKey
    from attrition.serving.batch import plan_batch, run_batch

    key = PseudonymKey.from_hex("00" * 32)
    target = folder / ("ours.csv" if kind == "csv" else "ours")
    best = float("inf")
    with peak_memory(os.getpid()) as peak:
        for _ in range(repeats):
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            started = time.perf_counter()
            run_batch(plan_batch(folder / f"in.{kind}", target, ref, key, ids=ids), execute)
            best = min(best, time.perf_counter() - started)
    return best, peak["mb"]


@contextmanager
def peak_memory(pid):
    """Samples the PSS of a process and its descendants; the highest sum ends in ``mb``."""
    peak = {"mb": 0.0}
    stop = threading.Event()

    def sample():
        while not stop.wait(0.1):
            peak["mb"] = max(peak["mb"], sum(map(_pss, _family(pid))) / 1024)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def _family(pid):
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting += children.get(each, [])
    return found


def _pss(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def say(line):
    """One line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def compare(n_rows, folder, refs, options, execute):
    """Print one line per family and format."""
    write_inputs(folder, n_rows, raw_ids=options.raw_ids)
    ids = "raw" if options.raw_ids else "pseudonyms"
    say(f"\n{n_rows:,} rows, ids {ids}: CSV {_mb(folder / 'in.csv')} MB, Parquet {_mb(folder / 'in.parquet')} MB")
    floors = {kind: floor(folder, kind, options.repeats) for kind in ("csv", "parquet")}
    for family, ref in refs.items():
        for kind in ("csv", "parquet"):
            ours, our_peak = run_ours(ref, folder, kind, options.repeats, ids, execute)
            theirs, their_peak = run_reference(family, folder, kind, options.repeats)
            say(
                f"{family:24s} {kind:8s} pandas {theirs:7.2f} s {their_peak:6.0f} MB   "
                f"batch {ours:6.2f} s {our_peak:6.0f} MB   {theirs / ours:5.1f} times, {n_rows / ours:,.0f} rows/s; "
                f"floor {floors[kind]:5.2f} s, {theirs / floors[kind]:5.1f} times"
            )


def _mb(path):
    return round(path.stat().st_size / 2**20)


def main():
    """Run what the command line asks for."""
    if sys.argv[1:2] == ["--reference"]:
        family, folder, kind, repeats = sys.argv[2:]
        reference(family, folder, kind, int(repeats))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--memory-rows", type=int, help="also run this many rows, to see whether memory grows")
    parser.add_argument("--raw-ids", action="store_true", help="raw ids, which the batch replaces by pseudonyms")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--execution", default="threads", choices=("threads", "ray"))
    parser.add_argument("--folder", type=Path, help="where the files lie; the system's folder for them when not given")
    options = parser.parse_args()
    from attrition.serving import batch_execution

    execute = batch_execution.on_ray if options.execution == "ray" else batch_execution.in_threads
    with tempfile.TemporaryDirectory(dir=options.folder) as name, ExitStack() as stack:
        folder = Path(name)
        refs = {family: fit(family, folder) for family in options.families}
        if options.execution == "ray":
            from attrition.cluster.session import connect
            from attrition.settings import Settings

            started = time.perf_counter()
            stack.enter_context(connect(Settings.from_environment({}, home=folder / "home")))
            say(f"Ray started in {time.perf_counter() - started:.1f} s")
        for n_rows in filter(None, (options.memory_rows, options.rows)):
            write_inputs(folder, min(n_rows, 2_000_000), raw_ids=False)
            for family, ref in refs.items():
                first, _ = run_ours(ref, folder, "parquet", 1, "pseudonyms", execute)
                say(f"{family:24s} first batch of {min(n_rows, 2_000_000):,} rows in this session: {first:.1f} s")
            compare(n_rows, folder, refs, options, execute)


if __name__ == "__main__":
    main()
