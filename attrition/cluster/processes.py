"""Processes of this machine: who descends from whom, and whether a process id still means the same process.

From ``/proc`` where there is one, else from ``ps``; neither needs a library.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.errors import Fault, PlatformError

if TYPE_CHECKING:
    import signal
    from collections.abc import Collection, Iterable, Mapping

_PROC = Path("/proc")
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs.

    Attributes
    ----------
    parent : int
        Process id of the parent; 1 for an orphan.
    session : int
        Id of its session, which is the process id of the session's first process; 0 when that cannot be told.
    user : int
        User id of the owner.
    started : str
        When it started, in the form of the system: with the process id it names the process for good.
    arguments : tuple of str
        Command line. A process may have rewritten it; ``ps`` splits arguments with blanks in them.
    """

    parent: int
    session: int
    user: int
    started: str
    arguments: tuple[str, ...]


def this_user() -> int:
    """User id of this process; -1 where the system has none."""
    return os.getuid() if hasattr(os, "getuid") else -1


def running() -> dict[int, Process]:
    """Every process by its id, without those that have ended and only wait for their parent.

    Raises
    ------
    PlatformError
        The system has neither ``/proc`` nor ``ps``.
    """
    return _from_proc() if (_PROC / "self" / "stat").is_file() else _from_ps()


def family(processes: Mapping[int, Process], first: Collection[int], *, session: int) -> dict[int, Process]:
    """Processes of this user among `first`, in the session `session`, or below either of them."""
    own = {pid: process for pid, process in processes.items() if process.user == this_user()}
    members = {pid for pid, process in own.items() if pid in first or process.session == session}
    grown = True
    while grown:
        children = {pid for pid, process in own.items() if process.parent in members} - members
        members |= children
        grown = bool(children)
    return {pid: own[pid] for pid in members}


def alive(processes: Mapping[int, Process]) -> dict[int, Process]:
    """Those of `processes` that still run; an id that was given to another process since does not count."""
    now = running()
    return {pid: process for pid, process in processes.items() if pid in now and now[pid].started == process.started}


def await_end(processes: Mapping[int, Process], timeout_seconds: float) -> bool:
    """Wait until all have ended; False when some still run after `timeout_seconds`."""
    deadline = time.monotonic() + timeout_seconds
    while alive(processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process; those that are gone or not ours are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _from_proc() -> dict[int, Process]:
    found = {}
    for folder in _PROC.glob("[0-9]*"):
        # it may end while it is looked at
        with contextlib.suppress(OSError):
            # the name in brackets may hold blanks and brackets; proc_pid_stat(5) numbers the fields behind it from 3
            state, parent, _, session, *rest = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
            if state not in {"Z", "X"}:
                arguments = tuple(line.rstrip("\0").split("\0"))
                user = folder.stat().st_uid
                found[int(folder.name)] = Process(int(parent), int(session), user, rest[15], arguments)
    return found


def _from_ps() -> dict[int, Process]:
    command = ["ps", "-axww", "-o", "pid=,ppid=,uid=,stat=,lstart=,command="]
    try:
        listing = subprocess.run(  # noqa: S603 - ps lies elsewhere on each system
            command, check=True, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.CalledProcessError) as error:
        remedy = "install ps (the package procps), or configure a Ray address"
        raise PlatformError(Fault("local Ray", "the processes of this machine cannot be listed", "", remedy)) from error
    found = {}
    for line in listing.stdout.splitlines():
        pid, parent, user, state, *rest = line.split()
        if not state.startswith("Z"):
            started, arguments = " ".join(rest[:5]), tuple(rest[5:])
            found[int(pid)] = Process(int(parent), _session(int(pid)), int(user), started, arguments)
    return found


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0
