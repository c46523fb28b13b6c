"""The committer seen from a replica: started when the node has none, let go when the replica ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from attrition.serving.log_commit import has_committer
from attrition.serving.spool import spools

if TYPE_CHECKING:
    from pathlib import Path

_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_PAUSE_SECONDS = 60.0


class CommitterProcess:
    """The committer of this node, if this replica started it. For one thread.

    Parameters
    ----------
    root
        Folder of the spools.
    tables
        Folder or URI of the Delta tables.
    commit_seconds
        Between two commits.
    """

    def __init__(self, root: Path, tables: str, commit_seconds: float) -> None:
        self._root = root
        self._arguments = [str(root), tables, str(commit_seconds)]
        self._process: subprocess.Popen[bytes] | None = None
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE_SECONDS

    def ensure(self) -> None:
        """Start a committer unless the node has one; one that ends at once is started less and less often.

        Raises
        ------
        OSError
            No process can be started.
        """
        if self._is_running() or has_committer(self._root) or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        self._start()

    def release(self, timeout_seconds: float) -> bool:
        """Let the committer take what is left and end; False when that takes longer, and then it ends by itself.

        Another replica's committer is left to its work: it adopts this replica's spool.
        """
        if not self._is_running():
            if not spools(self._root) or has_committer(self._root):
                self._let_go()
                return True
            self._start()
        self._let_go()
        assert self._process is not None
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def pid(self) -> int | None:
        """Of the committer that this replica started, while it runs."""
        return self._process.pid if self._process is not None and self._is_running() else None

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _let_go(self) -> None:
        """Close this end of the pipe: a committer that runs does its last commit and ends."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _start(self) -> None:
        self._let_go()
        # a replica's code may come from a Ray runtime environment, which only its module path knows
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "attrition.serving.log_commit", *self._arguments],
            stdin=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
