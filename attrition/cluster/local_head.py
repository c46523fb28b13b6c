"""A Ray head in the background of this machine, which outlives the command that started it.

``attrition serve up`` starts it when no Ray address is configured, ``attrition serve down`` stops it. Its process, its
addresses and its folder are recorded in ``local-ray.json`` under the home. Only processes that provably belong to it
are ever ended, by their ids: those whose command line names its folder, and their descendants.
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

from attrition.cluster.environment import LOOPBACK, free_ports, local_environment, new_folder
from attrition.errors import Fault, PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from attrition.settings import Settings

RECORD = "local-ray.json"

START_TIMEOUT_SECONDS = 90.0
"""A start takes about ten seconds on two cores."""
STOP_TIMEOUT_SECONDS = 20.0
"""After this the remaining processes are killed."""

_POLL_SECONDS = 0.1


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
        Ray's temporary folder, named in the command lines of its processes and deleted with it.
    """

    pid: int
    address: str
    dashboard_url: str
    folder: str


def find_local_head(settings: Settings) -> LocalHead | None:
    """The recorded head if it still runs, else None."""
    try:
        head = LocalHead(**json.loads((settings.home / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    # a process id may have been given to another process since
    return head if head.folder in _processes().get(head.pid, _NOBODY).command else None


def start_local_head(settings: Settings, *, num_cpus: int | None = None) -> LocalHead:
    """Start a head ready for serving, or return the one that runs already.

    Parameters
    ----------
    settings
        ``home`` holds the record and the log ``logs/local-ray.log``.
    num_cpus
        Logical CPUs; None is the number of cores.

    Raises
    ------
    PlatformError
        Ray ends at once, or its dashboard does not answer in time; carries the end of its log. Nothing is left running.
    """
    running = find_local_head(settings)
    if running is not None:
        return running
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
        _await_dashboard(head, process, log)
    except BaseException:
        _end(head)
        (settings.home / RECORD).unlink(missing_ok=True)
        raise
    # it outlives this process: collecting the handle is not a forgotten child
    process.returncode = 0
    return head


def stop_local_head(settings: Settings) -> bool:
    """Stop the recorded head and everything that it started; False when none runs.

    Raises
    ------
    PlatformError
        Processes are left that this user may not end.
    """
    head = find_local_head(settings)
    if head is not None:
        _end(head)
    (settings.home / RECORD).unlink(missing_ok=True)
    return head is not None


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


def _write_record(path: Path, head: LocalHead) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(asdict(head), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)


def _end(head: LocalHead) -> None:
    """Ask the head to stop, then kill by id what is left of it."""
    family = _family(head, _processes())
    _signal({head.pid} & family.keys(), signal.SIGTERM)
    _await_end(family, STOP_TIMEOUT_SECONDS)
    # workers that started in between belong to it too
    left = _family(head, _processes()) | _alive(family)
    _signal(left, signal.SIGKILL)
    if not _await_end(left, STOP_TIMEOUT_SECONDS):
        pids = ", ".join(str(pid) for pid in sorted(_alive(left)))
        raise PlatformError(Fault("local Ray", f"processes are left: {pids}", remedy="end them by id"))
    shutil.rmtree(head.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    command: str


_NOBODY = _Process(0, "")


def _processes() -> dict[int, _Process]:
    """Every process of this machine, without those that have ended and only wait for their parent."""
    listing = subprocess.run(
        ["ps", "-axww", "-o", "pid=,ppid=,stat=,command="],  # noqa: S607 - ps lies elsewhere on each system
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
    )
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, state, *command = line.split(None, 3)
        if not state.startswith("Z"):
            found[int(pid)] = _Process(int(parent), command[0] if command else "")
    return found


def _family(head: LocalHead, processes: Mapping[int, _Process]) -> dict[int, _Process]:
    """Processes of a head: those that name its folder, and all their descendants."""
    members = {pid for pid, process in processes.items() if head.folder in process.command}
    grown = True
    while grown:
        children = {pid for pid, process in processes.items() if process.parent in members} - members
        members |= children
        grown = bool(children)
    return {pid: processes[pid] for pid in members}


def _alive(family: Mapping[int, _Process]) -> dict[int, _Process]:
    """Members that still run; a worker may have changed its title, so its parent or its title must be as it was."""
    now = _processes()
    return {
        pid: process
        for pid, process in family.items()
        if pid in now and (now[pid].command == process.command or now[pid].parent == process.parent)
    }


def _await_end(family: Mapping[int, _Process], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while _alive(family):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
