"""What the prediction log costs: per record, in the event loop's tail latency, and how fast it commits and recovers.

Run: ``python tests/benchmarks/bench_prediction_log.py``; two minutes, two cores. Not a test: it prints figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np

from attrition.data.outcomes import OutcomeTable
from attrition.data.predictions import PredictionTable
from attrition.data.schema import FeatureSchema
from attrition.serving.identifiers import new_prediction_id
from attrition.serving.log_commit import Committer, commit_orphans
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.settings import Settings

Scores = namedtuple(
    "Scores",
    "version variant threshold features prediction_ids employee_ids reasons probabilities matrix shadow_of",
    defaults=[()],
)

NAMES = FeatureSchema.default().names
ROW = tuple(float(number) for number in range(len(NAMES)))
WINDOW_SECONDS = 4.0
PSEUDONYM = "0123456789abcdef" * 2


def config(folder, **fields):
    return LogConfig.of(Settings.from_environment({}, home=Path(folder)), **fields)


def single(employee_id=PSEUDONYM, prediction_id="017f22e2-79b0-7cc3-98c4-dc0c0c07398f"):
    return Scores("1.0.0", "blue", 0.5, NAMES, [prediction_id], [employee_id], ["sticky"], (0.3,), ROW)


def microseconds(call, n, repeat=7):
    """Median over `repeat` runs of the mean time of a call."""
    means = []
    for _ in range(repeat):
        began = time.perf_counter()
        for _ in range(n):
            call()
        means.append((time.perf_counter() - began) / n * 1e6)
    return round(float(np.median(means)), 2)


def append_cost(folder):
    """Microseconds per record; `start` runs, so segments are sealed meanwhile."""
    log = PredictionLog(config(folder, max_spool_bytes=2**34)).start()
    ids, reasons = [new_prediction_id() for _ in range(1000)], ["sticky"] * 1000
    matrix, probabilities = np.random.default_rng(0).uniform(size=(1000, len(NAMES))), np.full(1000, 0.3)
    result = {}
    for name, who in (("raw id", "E004217"), ("pseudonym", PSEUDONYM), ("no id", None)):
        one = single(who)
        batch = Scores("1.0.0", "blue", 0.5, NAMES, ids, [who] * 1000, reasons, probabilities, matrix)
        result[f"one record, {name}"] = microseconds(lambda one=one: log.append([one], 120), 3000)
        result[f"batch of 1,000, per record, {name}"] = microseconds(lambda b=batch: log.append([b], 120), 20) / 1000
    log.close(60)
    return {name: round(value, 3) for name, value in result.items()}


async def lateness(log, seconds, warm_up=1.5, rate=2000):
    """How late (ms) a loop gets to requests that are due at a steady rate, each with 50 microseconds of scoring."""
    loop = asyncio.get_running_loop()
    late = []
    begin = due = loop.time()
    while due < begin + warm_up + seconds:
        due += 1 / rate
        if (wait := due - loop.time()) > 0:
            await asyncio.sleep(wait)
        busy = time.perf_counter() + 50e-6
        while time.perf_counter() < busy:
            pass
        if log is not None:
            log.append([single(prediction_id=new_prediction_id())], 120)
        if due > begin + warm_up:
            late.append(loop.time() - due)
    return [float(np.percentile(late, q)) * 1e3 for q in (50, 95, 99, 99.9)]


def without_log(_folder):
    return asyncio.run(lateness(None, WINDOW_SECONDS))


def in_process(folder):
    log = PredictionLog(config(folder, commit_seconds=1.0)).start()
    result = asyncio.run(lateness(log, WINDOW_SECONDS))
    log.close(30)
    return result


def in_thread(folder):
    """The alternative that was not taken: the committer as a thread of the replica."""
    made = config(folder, commit_seconds=1.0)
    log = PredictionLog(made)
    log._committer.ensure = lambda: None
    log.start()
    stop = threading.Event()

    def commit():
        committer = Committer(made.spool, PredictionTable(made.tables), OutcomeTable(made.tables))
        while not stop.wait(made.commit_seconds):
            committer.run()

    thread = threading.Thread(target=commit)
    thread.start()
    result = asyncio.run(lateness(log, WINDOW_SECONDS))
    stop.set()
    thread.join()
    log.close(30)
    return result


def tail_latency(folder, rounds=6):
    """Percentiles (ms), each the median over rounds in which the variants take turns: the machine is not ours alone."""
    variants = {"no log": without_log, "committer in its process": in_process, "committer in a thread": in_thread}
    found = {name: [] for name in variants}
    for number in range(rounds):
        for name, run in variants.items():
            found[name].append(run(f"{folder}/{number}-{name}"))
    labels = ("p50", "p95", "p99", "p99.9")
    return {
        name: dict(zip(labels, np.median(rows, axis=0).round(2).tolist(), strict=True)) for name, rows in found.items()
    }


def committer_speed(folder, n):
    """Records per second of one committer, single-record entries, and its memory."""
    made = config(folder)
    log = PredictionLog(made)
    for number in range(n):
        log.append([single(prediction_id=f"{number:036d}")], 120)
        if number % 25_000 == 0:
            log._spool.seal()
    log._spool.close()
    began = time.perf_counter()
    status = commit_orphans(made.spool, made.tables)
    seconds = time.perf_counter() - began
    assert status.n_records == n
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"records/s": round(n / seconds), "commits": status.n_commits, "peak MB": round(memory)}


def recovery(folder, n):
    """Seconds from ``kill -9`` of a replica with `n` uncommitted records until they are in the table."""
    made = config(folder, commit_seconds=600.0)
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from bench_prediction_log import *\n"
        "log = PredictionLog(LogConfig.model_validate_json(sys.argv[1])).start()\n"
        "time.sleep(3)\n"
        f"for number in range({n}): log.append([single(prediction_id=f'{{number:036d}}')], 120)\n"
        "print('done', flush=True); time.sleep(60)\n"
    )
    arguments = [sys.executable, "-c", code, made.model_dump_json(), str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as replica:
        replica.stdout.readline()
        os.kill(replica.pid, signal.SIGKILL)
        began = time.perf_counter()
    while any(path.is_dir() for path in made.spool.iterdir()):
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    ids = PredictionTable(made.tables).between(columns=["prediction_id"])["prediction_id"]
    return {"answered": n, "in the table": int(ids.nunique()), "doubled": len(ids) - ids.nunique(), "seconds": seconds}


def main():
    """Print every figure as JSON."""

    def show(name, figures):
        sys.stdout.write(json.dumps({name: figures}) + "\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        show("append, microseconds", append_cost(f"{folder}/append"))
        show("loop lateness at 2,000/s and a commit per second, ms", tail_latency(f"{folder}/tail"))
        show("recovery after kill -9", recovery(f"{folder}/recovery", 20_000))
        show("committer", committer_speed(f"{folder}/speed", 300_000))


if __name__ == "__main__":
    main()
