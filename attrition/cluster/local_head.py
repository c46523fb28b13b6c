"""A Ray head in the background of this machine, which outlives the command that started it.

``attrition serve up`` starts it when no Ray address is configured, ``attrition serve down`` stops it. Its process, its
addresses and its folder are recorded in ``local-ray.json`` under the home. The record alone proves nothing, for files
are copied and process ids are given out again: the process must run, be ours and have been started with the recorded
folder, and the folder must be one that :func:`~attrition.cluster.environment.new_folder` makes. What is ended then, by
process id, is that process, its session and their descendants; nobody else, whatever his command line says.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from attrition.cluster import processes
from attrition.cluster.environment import LOOPBACK, free_ports, is_own_folder, local_environment, new_folder
from attrition.errors import Fault, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attrition.settings import Settings

RECORD = "local-ray.json"

START_TIMEOUT_SECONDS = 90.0
"""A start takes about ten seconds on two cores."""
STOP_TIMEOUT_SECONDS = 20.0
"""After this the remaining processes are killed."""

_POLL_SECONDS = 0.1
"""Between two looks at a head that starts."""


@dataclass(frozen=True, slots=True)
class LocalHead:
    """A background Ray head.

    Attributes
    ----------
    pid : int
        The process that keeps the others: ``ray start --head --block``.
    address : str
        GCS address, ``host:port``.
    dashboard_url : str
        Address of the dashboard and of Serve's REST interface.
    folder : str
        Ray's temporary folder, deleted with it.
    """

    pid: int
    address: str
    dashboard_url: str
    folder: str


def find_local_head(settings: Settings) -> LocalHead | None:
    """The recorded head if it still runs, else None.

    Raises
    ------
    PlatformError
        It runs with a folder that is not below the root of today, so ``RAY_TMPDIR`` was another one; or the system
        does not tell which processes run.
    """
    head = _read_record(settings.home / RECORD)
    process = None if head is None else processes.running().get(head.pid)
    if head is None or process is None or process.user != processes.this_user():
        return None
    # the whole argument: a process id may have been given to a process that only mentions the folder
    if f"--temp-dir={head.folder}" not in process.arguments:
        return None
    if not is_own_folder(head.folder):
        raise PlatformError(
            Fault(
                "local Ray",
                f"process {head.pid} runs in {head.folder}, which is no folder of ours below RAY_TMPDIR or /tmp",
                remedy="set RAY_TMPDIR as it was at the start, or end the process by its id",
            )
        )
    return head


def start_local_head(
    settings: Settings, *, num_cpus: int | None = None, meanwhile: Callable[[], None] = lambda: None
) -> LocalHead:
    """Start a head ready for serving, or return the one that runs already.

    Parameters
    ----------
    settings
        ``home`` holds the record and the log ``logs/local-ray.log``.
    num_cpus
        Logical CPUs; None is the number of cores.
    meanwhile
        Called while a head starts, which takes seconds; what it raises ends that start.

    Raises
    ------
    PlatformError
        Ray ends at once, or its dashboard does not answer in time; carries the end of its log. Nothing is left running.
    """
    running = find_local_head(settings)
    if running is not None:
        return running
    stop_local_head(settings)
    folder = new_folder()
    gcs, dashboard, metrics, agent, agent_grpc, runtime_env = free_ports(6)
    options: dict[str, object] = {
        "--node-ip-address": LOOPBACK,
        "--port": gcs,
        "--dashboard-host": LOOPBACK,
        "--dashboard-port": dashboard,
        "--dashboard-agent-listen-port": agent,
        "--dashboard-agent-grpc-port": agent_grpc,
        "--runtime-env-agent-port": runtime_env,
        "--metrics-export-port": metrics,
        "--temp-dir": folder,
    }
    if num_cpus is not None:
        options["--num-cpus"] = num_cpus
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"{name}={value}" for name, value in options.items()]
    log = settings.home / "logs" / "local-ray.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter with our own arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **local_environment(folder, serving=True)},
        )
    head = LocalHead(process.pid, f"{LOOPBACK}:{gcs}", f"http://{LOOPBACK}:{dashboard}", str(folder))
    try:
        _write_record(settings.home / RECORD, head)
        meanwhile()
        _await_dashboard(head, process, log)
    except BaseException:
        _end(head)
        process.wait()
        (settings.home / RECORD).unlink(missing_ok=True)
        raise
    # it outlives this process: collecting the handle is not a forgotten child
    process.returncode = 0
    return head


def stop_local_head(settings: Settings) -> bool:
    """Stop the recorded head and everything that it started; False when nothing of it runs.

    Also ends what a head that was killed has left behind: its HAProxy would hold the endpoint's port for ever.

    Raises
    ------
    PlatformError
        Processes are left that this user may not end.
    """
    head = find_local_head(settings) or _remains(settings)
    if head is not None:
        _end(head)
    (settings.home / RECORD).unlink(missing_ok=True)
    return head is not None


def has_died(settings: Settings) -> bool:
    """Whether a head is recorded that was not stopped but does not run any more."""
    return find_local_head(settings) is None and _read_record(settings.home / RECORD) is not None


def _remains(settings: Settings) -> LocalHead | None:
    """The recorded head when it is gone and processes of its session are left, else None."""
    head = _read_record(settings.home / RECORD)
    if head is None or not is_own_folder(head.folder):
        return None
    running = processes.running()
    if head.pid in running:
        return None  # the id was given to somebody else, so nothing of the head's session is left
    # the system gives a session's id to no other process while the session has members
    user = processes.this_user()
    left = [process for process in running.values() if process.session == head.pid and process.user == user]
    ours = any(head.folder in argument for process in left for argument in process.arguments)
    if not ours:
        shutil.rmtree(head.folder, ignore_errors=True)
    return head if ours else None


def _await_dashboard(head: LocalHead, process: subprocess.Popen[bytes], log: Path) -> None:
    import httpx

    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{head.dashboard_url}/api/gcs_healthz", timeout=5.0).is_success:
                return
        time.sleep(_POLL_SECONDS)
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    found = "ended at once" if process.poll() is not None else f"did not answer within {START_TIMEOUT_SECONDS:.0f} s"
    raise PlatformError(Fault("local Ray", f"{found} ({' / '.join(lines[-3:])})", remedy=f"see {log}"))


def _read_record(path: Path) -> LocalHead | None:
    """The head as it was recorded; None when there is no record, or one that no head of ours can have written."""
    try:
        head = LocalHead(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    texts = (head.address, head.dashboard_url, head.folder)
    whole = type(head.pid) is int and head.pid > 1 and all(isinstance(text, str) and text for text in texts)
    return head if whole else None


def _write_record(path: Path, head: LocalHead) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(head), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def _end(head: LocalHead) -> None:
    """Ask the head to stop, then kill by id what is left of it."""
    members = processes.family(processes.running(), {head.pid}, session=head.pid)
    processes.send({head.pid} & members.keys(), signal.SIGTERM)
    processes.await_end(members, STOP_TIMEOUT_SECONDS)
    # workers that started in between belong to it too
    left = processes.family(processes.running(), processes.alive(members), session=head.pid)
    processes.send(left, signal.SIGKILL)
    if not processes.await_end(left, STOP_TIMEOUT_SECONDS):
        pids = ", ".join(str(pid) for pid in sorted(processes.alive(left)))
        raise PlatformError(Fault("local Ray", f"processes are left: {pids}", remedy="end them by id"))
    if is_own_folder(head.folder):
        shutil.rmtree(head.folder, ignore_errors=True)
