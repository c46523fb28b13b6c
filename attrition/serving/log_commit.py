"""From spools to tables: the committer, a small process beside the replicas of a node.

It reads sealed segments, adds their predictions to the Delta table and their outcomes to the other one, and only then
deletes them. One commit holds the segments of all spools, with one application transaction per spool: its name is the
spool's identity, its number that of the last segment. A committer that dies between commit and deletion leaves
segments whose number the table knows already; the next one only deletes them. So a segment is committed exactly once.

Why a process of its own: building columns and writing Parquet would take the interpreter lock from the replica's event
loop for milliseconds at a time, loading the libraries for tenths of a second, and each replica would hold them in
memory. One per node is enough, whoever gets the lock `COMMITTING` is it. It lives as long as its standard input stays
open: when the replica that started it ends, even by ``kill -9``, it commits what that one left and ends, too. Once a
day it compacts the tables (:mod:`attrition.serving.log_upkeep`).

::

    python -m attrition.serving.log_commit SPOOLS TABLES COMMIT_SECONDS
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.errors import AttritionError, IntegrityError
from attrition.governance.traces import log_to_stderr, report_without_values
from attrition.serving.log_entries import Outcomes, Predictions, decode
from attrition.serving.log_upkeep import Upkeep
from attrition.serving.spool import UNREADABLE, Segment, adopt, sealed, spools, unframe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attrition.data.outcomes import OutcomeTable
    from attrition.data.predictions import PredictionTable

logger = logging.getLogger(__name__)

COMMITTING = "committer.lock"
"""File among the spools that the one committer of the node holds locked."""

STATUS = "committer.json"
"""File among the spools in which the committer says how it fares."""

MAX_COMMIT_BYTES = 16 * 2**20
"""Spool bytes in one commit, some 50,000 single records: keeps the committer's memory near 300 MB in a backlog."""

_POLL_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 60.0
_FAREWELL_SECONDS = 2.0


@dataclass(slots=True)
class CommitStatus:
    """How a committer fares; counts since its start.

    Attributes
    ----------
    pid : int
        Of the committer.
    n_records : int
        Predictions committed; those about erased persons are counted, and left out of the table.
    n_commits : int
        Commits that held them.
    n_outcomes : int
        Outcomes that were new.
    n_adopted : int
        Spools taken over from processes that are gone.
    n_torn_bytes : int
        Bytes of entries that a kill cut short; nobody was answered from them.
    n_damaged : int
        Entries that the disk changed, which are lost.
    n_unreadable : int
        Segments set aside because this version cannot read them.
    error : str
        Why the last try failed; empty when it did not.
    """

    pid: int = field(default_factory=os.getpid)
    n_records: int = 0
    n_commits: int = 0
    n_outcomes: int = 0
    n_adopted: int = 0
    n_torn_bytes: int = 0
    n_damaged: int = 0
    n_unreadable: int = 0
    error: str = ""


class Committer:
    """Commits the spools of a node. One at a time: see :func:`exclusive`.

    Parameters
    ----------
    root
        Folder of the spools.
    predictions, outcomes
        Tables that they go to.
    max_bytes
        Spool bytes in one commit.
    """

    def __init__(
        self,
        root: Path,
        predictions: PredictionTable,
        outcomes: OutcomeTable,
        *,
        max_bytes: int = MAX_COMMIT_BYTES,
    ) -> None:
        self.status = CommitStatus()
        self._root = root
        self._predictions = predictions
        self._outcomes = outcomes
        self._max_bytes = max_bytes

    def pending(self) -> list[Segment]:
        """Sealed segments, spool after spool, each in order."""
        return [segment for folder in spools(self._root) for segment in sealed(folder)]

    def run(self) -> int:
        """Commit everything that is sealed, also by processes that are gone; the number of predictions.

        Raises
        ------
        PlatformError
            A table cannot be read or written. What was not committed stays in the spools.
        """
        before = self.status.n_records
        with contextlib.ExitStack() as adopted:
            for folder in spools(self._root):
                is_ours = adopted.enter_context(adopt(folder))
                self.status.n_adopted += bool(is_ours and sealed(folder))
            pending = self._uncommitted(self.pending())
            while pending:
                chunk = self._chunk(pending)
                self._commit(chunk)
                pending = pending[len(chunk) :]
        return self.status.n_records - before

    def _uncommitted(self, segments: Sequence[Segment]) -> list[Segment]:
        """Segments whose rows are not in the table; the others are deleted."""
        if not segments:
            return []
        done = self._predictions.committed(sorted({segment.spool for segment in segments}))
        for segment in segments:
            if segment.number <= done[segment.spool]:
                segment.path.unlink()
        return [segment for segment in segments if segment.number > done[segment.spool]]

    def _chunk(self, pending: Sequence[Segment]) -> list[Segment]:
        chunk: list[Segment] = []
        n_bytes = 0
        for segment in pending:
            n_bytes += segment.n_bytes
            if chunk and n_bytes > self._max_bytes:
                break
            chunk.append(segment)
        return chunk

    def _commit(self, segments: Sequence[Segment]) -> None:
        from attrition.serving.log_rows import prediction_rows

        predictions: list[Predictions] = []
        outcomes: list[Outcomes] = []
        numbers: dict[str, int] = {}
        for segment in segments:
            entries = self._read(segment)
            if entries is None:
                continue
            numbers[segment.spool] = segment.number
            for entry in entries:
                if isinstance(entry, Outcomes):
                    outcomes.append(entry)
                else:
                    predictions.append(entry)
        self._record(outcomes)  # first, since they may be recorded twice without harm
        if predictions:
            rows = prediction_rows(predictions)
            self._predictions.append(rows, numbers)
            self.status.n_commits += 1
            self.status.n_records += rows.num_rows
        for segment in segments:
            segment.path.unlink(missing_ok=True)

    def _read(self, segment: Segment) -> list[Predictions | Outcomes] | None:
        """Entries of a segment; None when it had to be set aside."""
        try:
            recovered = unframe(segment.path.read_bytes())
            entries = [decode(payload) for payload in recovered.payloads]
        except IntegrityError:
            segment.path.rename(segment.path.with_suffix(UNREADABLE))
            self.status.n_unreadable += 1
            logger.exception("Spool %s: segment %s was set aside", segment.spool, segment.number)
            return None
        self.status.n_torn_bytes += recovered.n_torn_bytes
        self.status.n_damaged += recovered.n_damaged
        if recovered.n_damaged:
            logger.error("Spool %s: %s entries were damaged by the disk", segment.spool, recovered.n_damaged)
        return entries

    def _record(self, batches: Sequence[Outcomes]) -> None:
        if batches:
            from datetime import UTC, datetime

            from attrition.serving.log_rows import outcome_rows

            recorded = self._outcomes.record(outcome_rows(batches), now=datetime.now(UTC))
            self.status.n_outcomes += recorded.n_new


def read_status(root: Path) -> CommitStatus | None:
    """What the committer of a node last said; None when there was none, or an unreadable word."""
    try:
        return CommitStatus(**json.loads((root / STATUS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_status(root: Path, status: CommitStatus) -> None:
    """Say how the committer fares; a full disk must not end it."""
    scratch = root / f".{STATUS}"
    with contextlib.suppress(OSError):
        scratch.write_text(json.dumps(asdict(status)), encoding="utf-8")
        scratch.replace(root / STATUS)


@contextlib.contextmanager
def exclusive(root: Path, *, timeout_seconds: float = 1.0) -> Iterator[bool]:
    """Be the committer of a node while the block runs; yields False when another process is it."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(root / COMMITTING, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                yield False
                return
            break
        yield True
    finally:
        os.close(fd)


def has_committer(root: Path) -> bool:
    """Whether a process is the committer of a node right now."""
    with exclusive(root, timeout_seconds=0.0) as is_free:
        return not is_free


def commit_orphans(root: Path, tables: str) -> CommitStatus | None:
    """Commit once what is in the spools of a node; None when a running committer does that anyway.

    Raises
    ------
    PlatformError
        A table cannot be read or written.
    """
    with exclusive(root) as is_ours:
        if not is_ours:
            return None
        committer = _committer(root, tables)
        committer.run()
        return committer.status


def serve(root: Path, tables: str, commit_seconds: float) -> None:
    """Commit every `commit_seconds`, or earlier when a commit is full, until standard input is closed."""
    with exclusive(root) as is_ours:
        if not is_ours:
            return
        committer = _committer(root, tables)
        upkeep = _upkeep(root, tables)
        write_status(root, committer.status)
        parent, due, pause = os.getppid(), 0.0, commit_seconds
        while not _is_closed(parent, _POLL_SECONDS):
            upkeep.tick()
            is_full = sum(segment.n_bytes for segment in committer.pending()) >= MAX_COMMIT_BYTES
            now = time.monotonic()
            if now < due and (committer.status.error or not is_full):
                continue
            ok = _try(committer, root)
            # a table that does not answer is asked less and less often
            pause = commit_seconds if ok else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            due = now + pause
        _say_farewell(committer, root)


def _say_farewell(committer: Committer, root: Path) -> None:
    """Commit what the process that is gone left: its lock is free some moments after its end of the pipe is closed."""
    deadline = time.monotonic() + _FAREWELL_SECONDS
    while _try(committer, root) and spools(root) and time.monotonic() < deadline:
        time.sleep(0.1)


def _try(committer: Committer, root: Path) -> bool:
    """Commit; False, and the reason in the status, when that failed."""
    before = asdict(committer.status)
    try:
        committer.run()
        committer.status.error = ""
    except AttritionError as error:
        committer.status.error = str(error)
    except Exception as error:  # whatever a storage library raises: it must be told and tried again
        logger.exception("The prediction log could not be committed")
        committer.status.error = type(error).__name__
    if asdict(committer.status) != before:
        write_status(root, committer.status)
    return not committer.status.error


def _committer(root: Path, tables: str) -> Committer:
    from attrition.data.outcomes import OutcomeTable
    from attrition.data.predictions import PredictionTable

    return Committer(root, PredictionTable(tables), OutcomeTable(tables))


def _upkeep(root: Path, tables: str) -> Upkeep:
    from attrition.data.outcomes import OutcomeTable
    from attrition.data.predictions import PredictionTable

    predictions, outcomes = PredictionTable(tables), OutcomeTable(tables)
    return Upkeep(root, (predictions.compact, lambda _today: outcomes.compact()))


def _is_closed(parent: int, timeout_seconds: float) -> bool:
    """Whether the process that started this one is gone, or has let go of it; waits for that."""
    ready, _, _ = select.select([sys.stdin], [], [], timeout_seconds)
    return bool(ready) or os.getppid() != parent


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process."""
    root, tables, commit_seconds = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the replica, which closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.nice(10)  # scoring comes first
    log_to_stderr()
    report_without_values()
    serve(Path(root), tables, float(commit_seconds))
    # an upkeep that is under way may be dropped, but the end of the interpreter would abort in its library's threads
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
