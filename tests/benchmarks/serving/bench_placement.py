"""What a variant costs in a deployment of its own: in process, placed, and a plain hop, against Flask in one run.

    python tests/benchmarks/serving/bench_placement.py              # about two minutes on two cores

All are the product's whole path: `attrition serve up`, a 70/30 split, validation, prediction log, metrics. *In process*
is the default; *placed 30 %* has the challenger alone in a deployment of its own; *placed 100 %* has both versions
there, so that every record goes over the line; *plain hop* is that with one handle call per request instead of
micro-batches (plain_hop.py). How it is measured and what the figures mean: see bench_serving.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import httpx
from bench_serving import (
    HERE,
    QUIET_CORES,
    SPLIT,
    START_TIMEOUT_SECONDS,
    Load,
    Target,
    _await_answer,
    _end_with,
    _started,
    drive,
    flask,
    flask_python,
    make_project,
    say,
)

from attrition.cluster.local_head import find_local_head
from attrition.serving.placement import Placement

LOADS = (Load(1), Load(32))


@contextlib.contextmanager
def serving(project):
    """`attrition serve up`, with this folder where its replicas find plain_hop."""
    workspace, settings = project.workspace, project.workspace.settings
    command = [Path(sys.executable).with_name("attrition"), "serve", "up", project.versions[0]]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(HERE)]))
    variables = {"ATTRITION_HOME": str(settings.home), "ATTRITION_SERVE_PORT": str(settings.serve_port)}
    try:
        with _started(command, {**variables, "PYTHONPATH": paths}) as process:
            seconds = _await_answer(settings.serve_url, project, process, may_end=True)
            process.wait(START_TIMEOUT_SECONDS)
        yield Target("ours", settings.serve_url, seconds, find_local_head(settings).pid)
    finally:
        workspace.serving.down()
        _end_with(str(settings.home))


def without_batches(workspace):
    """Give the gateway another import path; returns when a replica of it answers."""
    url = find_local_head(workspace.settings).dashboard_url.rstrip("/") + "/api/serve/applications/"
    found = httpx.get(url).json()
    documents = [one["deployed_app_config"] for one in found["applications"].values()]
    for document in documents:
        if document["name"] == "attrition":
            document["import_path"] = "plain_hop:build"
        else:
            document["route_prefix"] = None
    kept = {"proxy_location": found["proxy_location"], "http_options": found["http_options"]}
    httpx.put(url, json={**kept, "applications": documents}, timeout=60).raise_for_status()
    deadline = time.monotonic() + 60
    time.sleep(1)
    while httpx.get(url).json()["applications"]["attrition"]["status"] != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def measure(name, target, project, seconds):
    """Every load after a warm-up."""
    drive(target, Load(8), project, 2)
    found = {load: drive(target, load, project, seconds) for load in LOADS}
    say(f"  {name}: " + ", ".join(f"{load}: {one['rps']:,.0f} rps" for load, one in found.items()))
    return found


def report(results):
    """The table."""
    columns = "x Flask  p50 ms  p99 ms  refused  broken  cores  others  x Flask per core"
    say(f"\n{'load':<20}{'target':<14}{'rps':>8} {columns}")
    for load in LOADS:
        for name, found in results.items():
            one, base = found[load], results["Flask"][load]["rps"]
            figures = f"{one['rps']:>8,.0f}{one['rps'] / base:>8.1f}{one['p50_ms']:>8.2f}{one['p99_ms']:>8.2f}"
            per_core = one["rps"] / one["cores"] * results["Flask"][load]["cores"] / base
            rest = f"{one['refused']:>9}{one['broken']:>8}{one['cores']:>7.2f}{one['others']:>8.2f}{per_core:>18.1f}"
            say(f"{load!s:<20}{name:<14}{figures}{rest}")
    say("per core: throughput by the CPU that the target took, which others on the machine distort less")
    busiest = max(one["others"] for found in results.values() for one in found.values())
    if busiest > QUIET_CORES:
        say(f"NOT QUIET: others took up to {busiest:.2f} cores; do not quote these figures, run it again")


def main():
    """Measure one target after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4, help="of each run of wrk")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every block below ends what it started
    results = {}
    with tempfile.TemporaryDirectory() as name:
        python = flask_python()
        say("Making two versions")
        project = make_project(Path(name))
        with project.workspace as workspace:
            with flask(project, python) as target:
                results["Flask"] = measure("Flask", target, project, options.seconds)
            with serving(project) as target:
                traffic, (champion, challenger) = workspace.traffic, project.versions
                traffic.set(dict(zip(project.versions, SPLIT, strict=True)))
                results["in process"] = measure("in process", target, project, options.seconds)
                traffic.place(challenger, Placement.DEPLOYMENT)
                results["placed 30 %"] = measure("placed 30 %", target, project, options.seconds)
                traffic.place(champion, Placement.DEPLOYMENT)
                results["placed 100 %"] = measure("placed 100 %", target, project, options.seconds)
                without_batches(workspace)
                results["plain hop"] = measure("plain hop", target, project, options.seconds)
    report(results)


if __name__ == "__main__":
    main()
