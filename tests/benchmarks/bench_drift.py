"""Drift: false alarms without drift, what is found in the simulator's scenarios, time and memory on large files.

    python tests/benchmarks/bench_drift.py alarms        # 500 windows without drift
    python tests/benchmarks/bench_drift.py scenarios     # every scenario of the simulator, quarter by quarter
    python tests/benchmarks/bench_drift.py mfg10         # a public extract of ten years against its first one
    python tests/benchmarks/bench_drift.py scale         # 1 and 10 million rows of 9 features in Parquet
    python tests/benchmarks/bench_drift.py against --evidently PYTHON   # Evidently's preset on the same rows

`alarms` draws windows and references from one simulated population of employees, without replacement, and counts how
often the overall verdict is drift. It also prints how often significance alone would have fired, which must keep to its
nominal rate, and the same with the stability index alone.

`scale` measures a fresh process per size: seconds from the planned file to the report, classifier of sides included,
and the peak of its resident memory beyond what it had after its imports and its reference.

`against` needs the interpreter of an environment with `evidently`, `pyarrow`, `psutil` and a pandas below 3. Neither
side's time holds the start of an interpreter, imports, or a page. Evidently's rows are in memory already; ours are read
from Parquet meanwhile. Its preset tests each feature, which is our "tested" (Kolmogorov-Smirnov or chi-square, and the
stability index, distance, mean and missing values beside them); "report" adds the classifier of sides. With `--drifted`
the people of the window are older, and the classifier has something to explain.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

REFERENCE_ROWS = 12_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def compared(reference, columns, policy=None):
    """Every feature of a window in memory."""
    from attrition.monitoring.drift import compare

    sketches = reference.sketch(columns)
    return compare(reference.features, reference.within("", sketches), policy)


def alarms(n_windows, sizes):
    """Rates of false alarms by window size."""
    from attrition.data.schema import FeatureSchema
    from attrition.data.workforce import simulate
    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.drift import DriftPolicy, overall

    schema, alpha = FeatureSchema.default(), DriftPolicy().alpha
    population = simulate(60_000, seed=7)[list(schema.names)].astype(float)
    rng = np.random.default_rng(1)
    sys.stdout.write(f"{n_windows} windows without drift, reference of {REFERENCE_ROWS:,} rows, alpha {alpha}\n")
    sys.stdout.write(f"{'rows':>7} {'verdict':>9} {'significance alone':>19} {'PSI >= 0.1 alone':>17}\n")
    for size in sizes:
        fired = significant = large = 0
        for number in range(n_windows):
            if number % 25 == 0:  # the reference is chance as well
                order = rng.permutation(len(population))
                reference = DriftReference.of(population.iloc[order[:REFERENCE_ROWS]], schema)
                rest = order[REFERENCE_ROWS:]
            window = population.iloc[rng.choice(rest, size, replace=False)]
            drifts = compared(reference, {name: window[name].to_numpy() for name in schema.names})
            fired += overall(drifts).drifted
            significant += any(drift.p_adjusted <= alpha for drift in drifts)
            large += any(drift.psi >= 0.1 for drift in drifts)
        rates = (fired / n_windows, significant / n_windows, large / n_windows)
        sys.stdout.write(f"{size:>7,} {rates[0]:>9.1%} {rates[1]:>19.1%} {rates[2]:>17.1%}\n")
        sys.stdout.flush()


def scenarios(n_employees):
    """What is named in each scenario, two quarters before its start to four after it."""
    from attrition.data.scenarios import BUSINESS_AS_USUAL, SCENARIOS
    from attrition.data.schema import FeatureSchema
    from attrition.data.workforce import simulate
    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.drift import overall

    schema = FeatureSchema.default()
    for scenario in (BUSINESS_AS_USUAL, *SCENARIOS.values()):
        name = None if scenario is BUSINESS_AS_USUAL else scenario.name
        frame = simulate(n_employees, n_quarters=9, seed=11, scenario=name)
        quarters = [rows for _, rows in frame.groupby("snapshot_date")]
        reference = DriftReference.of(quarters[0][list(schema.names)].astype(float), schema)
        expected, allowed = set(scenario.affected), set(scenario.affected) | set(scenario.followed_by)
        sys.stdout.write(f"{scenario.name}: moves {', '.join(scenario.affected) or 'nothing'}")
        sys.stdout.write(f"; may be followed by {', '.join(scenario.followed_by) or 'nothing'}\n")
        for quarter in (2, 3, 4, 5, 6, 8):
            rows = quarters[quarter]
            drifts = compared(reference, {each: rows[each].to_numpy(float) for each in schema.names})
            named = sorted((each for each in drifts if each.level.drifted), key=lambda each: -each.psi)
            names = {each.feature for each in named}
            wrong, missed = names - allowed, (expected - names if quarter >= scenario.start_quarter else set())
            shown = ", ".join(f"{each.feature} {each.psi:.2f}" for each in named) or "-"
            remarks = [f"WRONG {', '.join(sorted(wrong))}"] * bool(wrong)
            remarks += [f"below its band: {', '.join(sorted(missed))}"] * bool(missed)
            sys.stdout.write(f"  quarter {quarter}  {overall(drifts).value:<9} {shown}  {'; '.join(remarks)}\n")


def mfg10():
    """Stability index by year, with the verdict's mark."""
    import pandas as pd

    from attrition.evaluation.sketches import CategoryReference, Reference
    from attrition.monitoring.drift import compare

    path = Path(__file__).parents[2].parent / "shared" / "data" / "MFG10YearTerminationData.csv.gz"
    frame = pd.read_csv(path)
    columns = {
        "tenure": frame["length_of_service"].astype(float),
        "age": frame["age"].astype(float),
        "department": frame["department_name"].astype("category").cat.codes.astype(float),
        "gender": frame["gender_short"].astype("category").cat.codes.astype(float),
        "business unit": frame["BUSINESS_UNIT"].astype("category").cat.codes.astype(float),
    }
    years = dict(iter(pd.DataFrame(columns).groupby(frame["STATUS_YEAR"])))
    kinds = {name: Reference if name in {"tenure", "age"} else CategoryReference for name in columns}
    references = {name: kind.of(years[2006][name]) for name, kind in kinds.items()}
    sys.stdout.write(
        "PSI against 2006; * moderate, ** major drift\nyear    rows" + "".join(f"{n:>16}" for n in columns)
    )
    for year in range(2007, 2016):
        drifts = compare(references, {name: references[name].sketch(years[year][name]) for name in columns})
        marks = {"MODERATE": "*", "MAJOR": "**"}
        cells = "".join(f"{each.psi:>14.3f}{marks.get(each.level.value, ''):<2}" for each in drifts)
        sys.stdout.write(f"\n{year} {len(years[year]):>7,}{cells}")
    sys.stdout.write("\n")


def write_rows(path, n_rows, *, older=0.0):
    """Nine features in row groups of 250,000, one salary in fifty missing."""
    import pyarrow as pa
    from pyarrow import parquet

    from attrition.data.schema import FeatureSchema

    names = FeatureSchema.default().names
    with parquet.ParquetWriter(path, pa.schema([(name, pa.float64()) for name in names])) as writer:
        for seed in range(0, n_rows, 250_000):
            columns = employees(min(250_000, n_rows - seed), seed)
            columns["age"] += older
            arrays = [pa.array(columns[name], from_pandas=True) for name in names]
            writer.write_table(pa.table(arrays, names=list(names)))


def employees(n_rows, seed):
    """Columns of made-up employees."""
    rng = np.random.default_rng(seed)
    salary = rng.lognormal(11, 0.3, n_rows).round()
    return {
        "tenure": rng.integers(0, 400, n_rows).astype(float),
        "age": np.clip(rng.normal(40, 8, n_rows), 18, 70).round(1),
        "satisfaction_score": rng.uniform(1, 5, n_rows).round(2),
        "performance_rating": rng.uniform(1, 5, n_rows).round(1),
        "work_hours": rng.normal(40, 5, n_rows),
        "projects_count": rng.integers(0, 9, n_rows).astype(float),
        "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
        "salary": np.where(rng.random(n_rows) < 0.02, np.nan, salary),
        "department_code": rng.integers(1, 7, n_rows).astype(float),
    }


def measure(path, *, segments):
    """Seconds and peak memory of one run in this process; prints a line of JSON."""
    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.references import DriftReference
    from attrition.monitoring.baselines import Baseline
    from attrition.monitoring.domain_classifier import separability
    from attrition.monitoring.drift import DriftPolicy, compare
    from attrition.monitoring.drift_run import compare_window
    from attrition.monitoring.run import Sample, in_threads, sketch_window
    from attrition.monitoring.windows import plan_window

    schema = FeatureSchema.default()
    columns = employees(REFERENCE_ROWS, 10**9)
    segment_feature = "department_code" if segments else ""
    reference = DriftReference.of(columns, schema, segment_feature=segment_feature)
    sample = Sample.of([columns[name] for name in schema.names], 0, 0).rows
    importlib.import_module("pyarrow.parquet")  # imports are not what is measured
    compare(reference.features, {name: each.own() for name, each in reference.features.items()})
    separability(sample[:200], sample[200:400], schema.names)

    before, peak, stop = _watched()
    started = time.perf_counter()
    window = plan_window(path, schema.names, tables="", now=NOW)
    found = sketch_window(reference, window, in_threads)
    sketched = time.perf_counter() - started
    compare(reference.features, reference.within("", found.sketches))
    tested = time.perf_counter() - started
    baseline = Baseline("reference", "", reference, sample)
    report = compare_window(baseline, window, found, policy=DriftPolicy(), now=NOW)
    seconds = time.perf_counter() - started - (tested - sketched)  # a report compares once
    stop()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    document = {
        "rows": found.n_rows,
        "parts": len(window.parts),
        "sketch_seconds": sketched,
        "tested_seconds": tested,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "before_mb": before / 2**20,
        "peak_mb": peak[0] / 2**20,
        "level": report.level.value,
    }
    sys.stdout.write(json.dumps(document) + "\n")


def measure_evidently(path):
    """Seconds and peak memory of Evidently's drift preset in this process; prints a line of JSON."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    reference = pd.DataFrame(employees(REFERENCE_ROWS, 10**9))
    warm = Report([DataDriftPreset()]).run(reference.head(500), reference.tail(500))  # its lazy imports
    del warm
    before, peak, stop = _watched()
    current = pd.read_parquet(path)
    started = time.perf_counter()
    Report([DataDriftPreset()]).run(current, reference).dict()
    seconds = time.perf_counter() - started
    stop()
    document = {"seconds": seconds, "before_mb": before / 2**20, "peak_mb": peak[0] / 2**20}
    sys.stdout.write(json.dumps(document) + "\n")


def _watched():
    """Resident memory now, its peak (a list of one) until the function beside it is called."""
    before, peak, over = _resident(), [0], threading.Event()

    def watch():
        while not over.is_set():
            peak[0] = max(peak[0], _resident())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()

    def stop():
        over.set()
        watcher.join()

    return before, peak, stop


def against(sizes, python, *, drifted):
    """One line per size."""
    sys.stdout.write("9 features in Parquet; Evidently's DataDriftPreset on the same rows in memory")
    sys.stdout.write("; people are five years older\n" if drifted else "\n")
    heads = ("rows", "Evidently", "tested", "times", "report", "times", "its peak", "our peak")
    sys.stdout.write("".join(f"{head:>11}" for head in heads) + "\n")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "people.parquet"
            write_rows(path, size, older=5.0 if drifted else 0.0)
            own, theirs = (
                json.loads(
                    subprocess.run(
                        [interpreter, __file__, what, "--path", str(path)], check=True, capture_output=True, text=True
                    ).stdout.splitlines()[-1]
                )
                for interpreter, what in ((sys.executable, "measure"), (python, "measure-evidently"))
            )
        cells = (
            f"{size:,}",
            f"{theirs['seconds']:.2f} s",
            f"{own['tested_seconds']:.2f} s",
            f"{theirs['seconds'] / own['tested_seconds']:.0f}x",
            f"{own['seconds']:.2f} s",
            f"{theirs['seconds'] / own['seconds']:.0f}x",
            f"{theirs['peak_mb']:.0f} MB",
            f"{own['peak_mb']:.0f} MB",
        )
        sys.stdout.write("".join(f"{cell:>11}" for cell in cells) + "\n")
        sys.stdout.flush()


def _resident():
    import psutil

    return psutil.Process().memory_info().rss


def scale(sizes, *, segments):
    """One line per size."""
    sys.stdout.write(f"9 features in Parquet, {'with' if segments else 'without'} segments by department\n")
    sys.stdout.write(
        f"{'rows':>11} {'parts':>5} {'sketched':>9} {'report':>8} {'rows/s':>11} {'before':>8} {'peak':>8}\n"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "people.parquet"
            write_rows(path, size)
            flags = ["--segments"] if segments else []
            done = subprocess.run(
                [sys.executable, __file__, "measure", "--path", str(path), *flags],
                check=True,
                capture_output=True,
                text=True,
            )
        found = json.loads(done.stdout)
        sys.stdout.write(
            f"{found['rows']:>11,} {found['parts']:>5} {found['sketch_seconds']:>7.2f} s {found['seconds']:>6.2f} s "
            f"{found['rows'] / found['sketch_seconds']:>11,.0f} "
            f"{found['before_mb']:>5.0f} MB {found['peak_mb']:>5.0f} MB\n"
        )
        sys.stdout.flush()


WHAT = ("alarms", "scenarios", "mfg10", "scale", "against", "measure", "measure-evidently")


def main():
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--windows", type=int, default=500)
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--employees", type=int, default=5_000)
    parser.add_argument("--segments", action="store_true")
    parser.add_argument("--drifted", action="store_true")
    parser.add_argument("--path")
    parser.add_argument("--evidently", metavar="PYTHON", help="Interpreter of an environment with Evidently.")
    options = parser.parse_args()
    if options.what == "alarms":
        alarms(options.windows, options.rows or (200, 1_000, 5_000))
    elif options.what == "scenarios":
        scenarios(options.employees)
    elif options.what == "measure":
        measure(options.path, segments=options.segments)
    elif options.what == "measure-evidently":
        measure_evidently(options.path)
    elif options.what == "against":
        against(options.rows or (1_000_000, 5_000_000), options.evidently, drifted=options.drifted)
    elif options.what == "mfg10":
        mfg10()
    else:
        scale(options.rows or (1_000_000, 10_000_000), segments=options.segments)


if __name__ == "__main__":
    main()
