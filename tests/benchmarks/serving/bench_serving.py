"""Our whole serving path against Flask and against FastAPI, driven by wrk: throughput, latency, start, memory.

    python tests/benchmarks/serving/bench_serving.py                # about six minutes on two cores
    python tests/benchmarks/serving/bench_serving.py --targets Flask lane

Ours is `attrition serve up` with the local configuration: HAProxy, Ray Serve, validation, a 70/30 split of two versions
by hashed employee id, a prediction id, the prediction log with its committer, metrics, the monitor beside it. "lane" is
that with the fast lane, "serve" is that without it, through all of Serve's own work per request; each with one replica,
and with two ("lane x2", "serve x2"), which share two cores with HAProxy, the committer and wrk. Flask is what people do
today (gunicorn, two workers with four threads, a scikit-learn pipeline on a DataFrame); FastAPI is a careful hand-made
service with our compiled scorer and nothing around it (uvicorn, two workers). One target runs at a time, everything
listens on 127.0.0.1, wrk shares the cores with its target. The loop is closed: latency at a concurrency includes
queueing. Trust ratios of one run; small differences are noise, and so is a run in which others used the cores.

Needs wrk (Debian: `apt-get install wrk`). Flask lives in a virtual environment of its own, in the user's cache folder,
with the versions of infra/image/constraints.txt; the first run makes it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import yaml

from attrition import Workspace
from attrition.cluster import processes
from attrition.cluster.environment import LOOPBACK, free_ports
from attrition.cluster.local_head import find_local_head
from attrition.serving.config import APPLICATION
from attrition.settings import Settings

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parents[2] / "infra" / "image" / "constraints.txt"
LOCAL = HERE.parents[2] / "serve_configs" / "local.yaml"
FLASK_PACKAGES = ("flask", "gunicorn", "scikit-learn", "pandas")

SPLIT = (70, 30)
N_SINGLES = 2_000
BATCH = 1_000
N_BATCHES = 4
START_TIMEOUT_SECONDS = 90.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
QUIET_CORES = 0.2
"""What others may take before a run says nothing; the kernel's own work is among them."""


class Load(NamedTuple):
    """How wrk drives a target."""

    concurrency: int
    n_records: int = 1

    def __str__(self):
        return f"{self.n_records:,} record{'s' * (self.n_records > 1)}, c={self.concurrency}"


TARGETS = ("Flask", "FastAPI", "serve", "lane", "serve x2", "lane x2")

LOADS = (Load(1), Load(8), Load(32), Load(64), Load(4, BATCH))


@dataclass
class Project:
    """What all targets serve and are asked."""

    workspace: Workspace
    versions: list
    pipeline: Path
    bodies: dict = field(default_factory=dict)
    """File of bodies, one per line, by number of records."""


@dataclass
class Target:
    """A service that answers."""

    name: str
    url: str
    seconds_to_first_answer: float
    leader: int
    """Process whose family and session the service is."""
    many: str = "/v1/predict"

    def address(self, n_records):
        return self.url + (self.many if n_records > 1 else "/v1/predict")

    @property
    def family(self):
        """Its processes by id."""
        return processes.family(processes.running(), {self.leader}, session=self.leader)

    def pss_mb(self):
        """Proportional set size of all its processes, MB, and their number."""
        family = self.family
        return sum(map(_pss_kb, family)) / 1024, len(family)

    def cpu_seconds(self):
        """CPU time of each of its processes so far."""
        return {pid: _cpu_seconds(pid) for pid in self.family}


def say(line=""):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def make_project(folder):
    """Two registered versions of a simulated workforce, the reference's pipeline, and the bodies."""
    (port,) = free_ports(1)
    workspace = Workspace(Settings.from_environment({}, home=folder / "home", serve_host=LOOPBACK, serve_port=port))
    dataset = workspace.data.load(workspace.data.simulate(n_employees=4_000))
    versions = []
    for parameters in ({}, {"C": 0.01}):
        run = workspace.train("logistic_regression", {"class_weight": "balanced", "max_iter": 1000, **parameters})
        versions.append(workspace.models.register(run.run_id, waive="benchmark").version)
    table = dataset.table
    known = table.features.notna().all(axis=1).to_numpy()
    features, target = table.features[known], table.target[known]
    project = Project(workspace, versions, folder / "pipeline.pickle")
    project.pipeline.write_bytes(pickle.dumps(fit_reference(table.schema, features, target)))
    # ids as an HR system has them: ours replaces them by pseudonyms before it logs
    rows = features.to_dict("records")
    records = [{"employee_id": f"E{i:06d}", **rows[i % len(rows)]} for i in range(N_BATCHES * BATCH)]
    batches = [{"records": records[first : first + BATCH]} for first in range(0, len(records), BATCH)]
    documents = {1: records[:N_SINGLES], BATCH: batches}
    for n_records, bodies in documents.items():
        project.bodies[n_records] = folder / f"bodies-{n_records}.txt"
        project.bodies[n_records].write_text("\n".join(map(json.dumps, bodies)))
    return project


def fit_reference(schema, features, target):
    """The pipeline of a textbook, lighter than ours: it imputes nothing."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numeric, categorical = list(schema.numeric), list(schema.categorical)
    one_hot = OneHotEncoder(handle_unknown="ignore")
    prepare = ColumnTransformer([("scale", StandardScaler(), numeric), ("one_hot", one_hot, categorical)])
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    return Pipeline([("prepare", prepare), ("model", model)]).fit(features, target)


def flask_python():
    """Interpreter of the reference's virtual environment, which is made when it is not there."""
    lines = CONSTRAINTS.read_text().splitlines()
    pins = "\n".join(line.removesuffix("\\") for line in lines if line[:1].isalnum())
    # another Python or other pins: another environment
    key = hashlib.sha256(f"{sys.version}\n{pins}".encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "attrition-benchmarks" / f"flask-{key}"
    python = folder / "bin" / "python"
    if (folder / "complete").is_file():
        return python
    say(f"Making {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (folder / "pins.txt").write_text(pins)
    arguments = ["-c", folder / "pins.txt", *FLASK_PACKAGES]
    uv = shutil.which("uv")
    install = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    subprocess.run([*install, "--quiet", *arguments], check=True, timeout=180)
    (folder / "complete").touch()
    return python


def configuration(project, name, *, fast_lane, replicas):
    """The local configuration with or without the lane, with a fixed number of replicas."""
    document = yaml.safe_load(LOCAL.read_text())
    application = next(each for each in document["applications"] if each["name"] == APPLICATION)
    application["args"]["fast_lane"] = fast_lane
    gateway = next(each for each in application["deployments"] if each["name"] == "Gateway")
    gateway["autoscaling_config"] |= {"min_replicas": replicas, "max_replicas": replicas}
    path = project.pipeline.with_name(f"{name}.yaml")
    path.write_text(yaml.safe_dump(document))
    return path


@contextlib.contextmanager
def ours(project, name, *, fast_lane, replicas=1):
    """`attrition serve up` as a user runs it, then the split; everything is stopped at the end."""
    workspace, settings = project.workspace, project.workspace.settings
    config = configuration(project, name, fast_lane=fast_lane, replicas=replicas)
    attrition = Path(sys.executable).with_name("attrition")
    command = [attrition, "serve", "up", project.versions[0], "--config", config]
    variables = {"ATTRITION_HOME": str(settings.home), "ATTRITION_SERVE_PORT": str(settings.serve_port)}
    try:
        with _started(command, variables) as process:
            seconds = _await_answer(settings.serve_url, project, process, may_end=True)
            process.wait(START_TIMEOUT_SECONDS)
        workspace.traffic.set(dict(zip(project.versions, SPLIT, strict=True)))
        yield Target(name, settings.serve_url, seconds, find_local_head(settings).pid)
    finally:
        workspace.serving.down()
        _end_with(str(settings.home))


@contextlib.contextmanager
def flask(project, python):
    """Gunicorn with the classic reference."""
    (port,) = free_ports(1)
    command = [python, "-m", "gunicorn", "--chdir", HERE, "--bind", f"{LOOPBACK}:{port}", "--log-level", "warning"]
    command += ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "flask_reference:app"]
    # scikit-learn warns about the threads of gthread, in every request that meets another one
    variables = {"BENCHMARK_PIPELINE": str(project.pipeline), "PYTHONWARNINGS": "ignore::UserWarning"}
    with _started(command, variables) as process:
        url = f"http://{LOOPBACK}:{port}"
        yield Target("Flask", url, _await_answer(url, project, process), process.pid)


@contextlib.contextmanager
def fastapi(project):
    """Uvicorn with the hand-made service, in the project's environment."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", HERE, "--host", LOOPBACK, "--port", str(port)]
    command += ["--workers", "2", "--no-access-log", "--log-level", "warning", "fastapi_reference:app"]
    bundle = project.workspace.models.export_bundle(project.versions[0])
    variables = {"BENCHMARK_BUNDLE": bundle.uri, "BENCHMARK_MANIFEST": bundle.manifest_sha256}
    with _started(command, variables) as process:
        url = f"http://{LOOPBACK}:{port}"
        seconds = _await_answer(url, project, process)
        yield Target("FastAPI", url, seconds, process.pid, many="/v1/predict-many")


@contextlib.contextmanager
def _started(command, variables):
    """A process in a session of its own, which ends with the block."""
    outside = ("ATTRITION_", "RAY_", "MLFLOW_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, env={**clean, **variables}, start_new_session=True
    )
    process.started_at = time.monotonic()
    try:
        yield process
    finally:
        members = processes.family(processes.running(), {process.pid}, session=process.pid)
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        # the head that `serve up` leaves running has a session of its own and is not among them
        processes.send(processes.alive(members), signal.SIGKILL)
        process.wait(STOP_SECONDS)


def _end_with(home):
    """End what still works for a home that is about to be deleted: a committer with a backlog lives on by design."""
    left = {
        pid: process
        for pid, process in processes.running().items()
        if process.user == processes.this_user() and any(part.startswith(home) for part in process.arguments)
    }
    processes.send(left.keys() - {os.getpid()}, signal.SIGTERM)
    if not processes.await_end(left, STOP_SECONDS):
        processes.send(processes.alive(left), signal.SIGKILL)


def _await_answer(url, project, process, *, may_end=False):
    """Seconds from the start of the process to the first prediction."""
    body = project.bodies[1].read_text().splitlines()[0]
    deadline = process.started_at + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None and not (may_end and process.returncode == 0):
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(f"{url}/v1/predict", content=body, headers={"content-type": "application/json"})
            if answer.status_code == 200 and "probability" in answer.json():
                return time.monotonic() - process.started_at
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"{url} did not answer within {START_TIMEOUT_SECONDS:.0f} s")


def check(target, project):
    """Both forms of body are answered in full; shares of the versions that answered."""
    content_type = {"content-type": "application/json"}
    answers = []
    for body in project.bodies[BATCH].read_text().splitlines():
        answer = httpx.post(target.address(BATCH), content=body, headers=content_type, timeout=30).raise_for_status()
        answers += answer.json()["predictions"]
    assert len(answers) == N_BATCHES * BATCH
    assert all(0 < answer["probability"] < 1 for answer in answers)
    seen = [answer["model_version"] for answer in answers]
    return {version: seen.count(version) / len(seen) for version in sorted(set(seen))}


def drive(target, load, project, seconds):
    """What one run of wrk measured."""
    command = ["wrk", "--threads", "1", "--connections", load.concurrency, "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", HERE / "post.lua", target.address(load.n_records)]
    command += ["--", project.bodies[load.n_records]]
    machine, target_before, wrk = _machine_seconds(), target.cpu_seconds(), sum(os.times()[2:4])
    began = time.monotonic()
    output = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True, timeout=seconds + 20
    ).stdout
    passed = time.monotonic() - began
    wrk = sum(os.times()[2:4]) - wrk
    spent = {pid: after - target_before.get(pid, 0.0) for pid, after in target.cpu_seconds().items()}
    own = sum(spent.values())
    others = _machine_seconds() - machine - own - wrk
    found = json.loads(output.splitlines()[-1])
    rps = (found["requests"] - found["refused"]) / found["seconds"]
    by_process = {pid: cpu_seconds / passed for pid, cpu_seconds in spent.items()}
    return {**found, "rps": rps, "cores": own / passed, "others": others / passed, "by_process": by_process}


def measure(target, project, seconds):
    """Every load after a warm-up, and what the target takes before and after."""
    shares = check(target, project)
    drive(target, Load(8), project, 2)
    idle_mb, n_processes = target.pss_mb()
    found = {load: drive(target, load, project, seconds) for load in LOADS}
    after_mb, _ = target.pss_mb()
    say(f"  {target.name}: answered by " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
    facts = {"start": target.seconds_to_first_answer, "idle": idle_mb, "after": after_mb, "processes": n_processes}
    return found, facts


def inside_report(target, workspace, found):
    """Where the CPU goes, and what the prediction log says about itself beside what wrk counted in measured runs."""
    time.sleep(1.5)  # it looks at itself once a second
    log = httpx.get(f"{target.url}/readiness", timeout=30).json().get("prediction_log")
    n_answered = sum(result["requests"] * load.n_records for load, result in found.items())
    cores, family = found[Load(32)]["by_process"], target.family
    busiest = sorted(cores.keys() & family.keys(), key=cores.get, reverse=True)[:6]
    words = {pid: " ".join(family[pid].arguments) for pid in busiest}
    say(f"  cores at {Load(32)}: " + "; ".join(f"{cores[pid]:.2f} {words[pid][:60]}" for pid in busiest))
    say(f"  replicas {workspace.serving.status().replicas}; records in measured answers {n_answered:,}; log: {log}")


def report(results, facts):
    """The tables."""
    columns = "x Flask  p50 ms  p99 ms  max ms  refused  broken  cores  others  x Flask per core"
    say(f"\n{'load':<20}{'target':<9}{'rps':>8} {columns}")
    for load in LOADS:
        for name, found in results.items():
            one, base = found[load], results["Flask"][load]["rps"]
            rate = f"{one['rps']:>8,.0f}{one['rps'] / base:>8.1f}{one['p50_ms']:>8.2f}{one['p99_ms']:>8.2f}"
            per_core = one["rps"] / one["cores"] * results["Flask"][load]["cores"] / base
            rest = f"{one['max_ms']:>8.1f}{one['refused']:>9}{one['broken']:>8}"
            rest += f"{one['cores']:>7.2f}{one['others']:>8.2f}{per_core:>18.1f}"
            say(f"{load!s:<20}{name:<9}{rate}{rest}")
    say("cores: taken by the target; others: by everything but it and wrk, which should be next to nothing")
    say("per core: throughput by the CPU that the target took, which others on the machine distort less")
    busiest = max(one["others"] for found in results.values() for one in found.values())
    if busiest > QUIET_CORES:
        say(f"NOT QUIET: others took up to {busiest:.2f} cores; do not quote these figures, run it again")
    say(f"\n{'target':<10}{'start to first answer':>23}{'PSS before':>13}{'PSS after':>12}{'processes':>11}")
    for name, one in facts.items():
        figures = f"{one['start']:>21.1f} s{one['idle']:>10.0f} MB{one['after']:>9.0f} MB{one['processes']:>11}"
        say(f"{name:<10}{figures}")


def _cpu_seconds(pid):
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    return sum(map(int, line.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def _machine_seconds():
    """CPU time that this machine's processes got, or that its host took from it, so far."""
    user, nice, system, _, _, _, _, steal, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


def _pss_kb(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def main():
    """Measure one target after the other and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=4, help="of each run of wrk")
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS, help="Flask is always measured")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every block below ends what it started
    results, facts = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        python = flask_python()
        say("Making two versions")
        project = make_project(Path(folder))
        with project.workspace:
            services = {
                "Flask": lambda: flask(project, python),
                "FastAPI": lambda: fastapi(project),
                "serve": lambda: ours(project, "serve", fast_lane=False),
                "lane": lambda: ours(project, "lane", fast_lane=True),
                "serve x2": lambda: ours(project, "serve x2", fast_lane=False, replicas=2),
                "lane x2": lambda: ours(project, "lane x2", fast_lane=True, replicas=2),
            }
            for name in TARGETS:
                if name != "Flask" and name not in options.targets:
                    continue
                with services[name]() as target:
                    results[name], facts[name] = measure(target, project, options.seconds)
                    if name not in {"Flask", "FastAPI"}:
                        inside_report(target, project.workspace, results[name])
    report(results, facts)


if __name__ == "__main__":
    main()
