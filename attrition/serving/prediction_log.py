"""The prediction log of a replica: every answer is on disk before it is sent, and in the table some seconds later.

What is promised:

- *A killed process loses nothing that was answered.* The record is written to a file before the response is sent; what
  a process has written belongs to the kernel. Another process finds the file and commits it.
- *A lost node loses at most the last second.* Each second the active segment is sealed: ``fsync``, then never written
  again, so that the disk's work does not stand in the way of the next record.
- *Exactly once.* A segment's number is committed with its rows (see ``log_commit``). A replica that is killed between
  record and answer leaves a record of its own: when HAProxy repeats the request elsewhere, the answer has another
  `prediction_id`, and the first one stays in the table without anybody who was told it.
- *Scoring goes on.* When the disk is full, the table cannot be reached or the spool has reached its limit, records are
  dropped and counted, never the answer. :meth:`PredictionLog.health` says so, for readiness and metrics.

A record is about a person: neither features nor ids appear in messages of this module. Ids are replaced by pseudonyms
here and nowhere else, so no caller can forget it; see :mod:`attrition.governance.identity` for the rule.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from attrition.governance.identity import IdForm, Pseudonymiser, existing_key
from attrition.serving.committer_process import CommitterProcess
from attrition.serving.log_commit import read_status
from attrition.serving.log_entries import Outcome, Outcomes, Predictions, Scored, doubles, encode
from attrition.serving.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attrition.serving.scoring import Scores
    from attrition.settings import Settings

logger = logging.getLogger(__name__)

_RECENT_SECONDS = 60.0
_LATE_COMMITS = 12
"""Commits that may fail to come, one after the other, before the log counts as unhealthy: a minute by default."""


class LogTuning(BaseModel):
    """How a replica logs its predictions; part of the serve configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    employee_ids: IdForm = "auto"
    """``raw`` when the HR system's own numbers have 32 hexadecimal digits and so look like pseudonyms."""
    seal_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Between two ``fsync``: what a lost node may lose."""
    commit_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Between two commits of the node: longer makes fewer, larger files."""
    max_segment_bytes: Annotated[int, Field(ge=1024)] = 8 * 2**20
    """A segment of this size is sealed before its time, so that a commit can be cut into pieces."""
    max_spool_bytes: Annotated[int, Field(ge=4096)] = 512 * 2**20
    """Per replica, beyond which records are dropped: 1.5 million single records, minutes to hours of a lost table."""


class LogConfig(LogTuning):
    """Where and how a replica logs its predictions."""

    spool: Path
    """Folder of the spools, on a disk of the replica's node; shared by all replicas there and kept when they end."""
    tables: Annotated[str, Field(min_length=1)]
    """Folder or URI of the Delta tables."""
    key_file: Path
    """The pseudonym key, as the node sees it; it must exist."""

    @classmethod
    def of(cls, settings: Settings, **fields: Any) -> Self:
        """The log of a project, for replicas on this machine; makes the key if there is none.

        Raises
        ------
        ConfigError
            The key file is damaged.
        """
        from attrition.governance.privacy import PseudonymKey

        assert settings.key_file is not None  # Settings.from_environment resolves it
        PseudonymKey.load_or_create(settings.key_file)
        addresses = {"spool": settings.home / "spool", "tables": settings.tables, "key_file": settings.key_file}
        return cls.model_validate({**addresses, **fields})


@dataclass(frozen=True, slots=True)
class LogHealth:
    """How the log fares.

    Attributes
    ----------
    problems : tuple of str
        What is wrong now, in words for an operator; empty when all is well.
    n_records : int
        Predictions written since the start.
    n_dropped : int
        Predictions that were answered but not written since the start.
    spool_bytes : int
        On disk, not in the table yet.
    lag_seconds : float
        Age of the oldest sealed segment that is not in the table; 0 when there is none.
    """

    problems: tuple[str, ...] = ()
    n_records: int = 0
    n_dropped: int = 0
    spool_bytes: int = 0
    lag_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"status": "ok" if self.ok else "degraded", **asdict(self), "problems": list(self.problems)}


class PredictionLog:
    """Writes what a replica answers.

    :meth:`gather`, :meth:`write` and :meth:`append_outcomes` belong to the event loop's thread; they take microseconds
    and never raise for the disk's sake. Everything slow happens in a thread of this object and in the
    committer's process.

    Parameters
    ----------
    config
        Where and how.
    on_health
        Called each `seal_seconds` from the log's thread, to set gauges.

    Raises
    ------
    ConfigError
        There is no pseudonym key: a replica without it could not log a single person.
    """

    def __init__(self, config: LogConfig, *, on_health: Callable[[LogHealth], None] | None = None) -> None:
        self.config = config
        self.pseudonym = Pseudonymiser(existing_key(config.key_file), config.employee_ids)
        self.n_records = 0
        self.n_dropped = 0
        self._gathered: list[bytes] = []
        self._n_gathered = 0
        self._dropped_at = float("-inf")
        self._on_health = on_health
        self._health = LogHealth()
        self._error: OSError | None = None
        self._spool: Spool | None = None
        self._committer = CommitterProcess(config.spool, config.tables, config.commit_seconds)
        self._wake = threading.Event()
        self._closing = False
        self._make_spool()
        self._thread = threading.Thread(target=self._tend, name="prediction-log", daemon=True)

    def start(self) -> Self:
        """Begin to seal and commit; until then records only gather in the spool."""
        self._thread.start()
        return self

    def append(self, scores: Sequence[Scores], latency_us: int) -> bool:
        """Write the predictions of one request, all or none; see :meth:`gather` and :meth:`write`."""
        self.gather(scores, latency_us)
        return self.write()

    def gather(self, scores: Sequence[Scores], latency_us: int) -> None:
        """Take the predictions of one request, for the next :meth:`write`.

        Parameters
        ----------
        scores
            One item per version that answered.
        latency_us
            From the request's arrival to now, microseconds.
        """
        pseudonyms = self.pseudonym.many
        entry = Predictions(
            time.time_ns() // 1000,
            latency_us,
            [
                Scored(
                    group.version,
                    group.variant,
                    group.threshold,
                    group.features,
                    group.prediction_ids,
                    pseudonyms(group.employee_ids),
                    group.reasons,
                    doubles(group.probabilities),
                    doubles(group.matrix),
                    group.shadow_of,
                )
                for group in scores
            ],
        )
        self._gathered.append(encode(entry))
        self._n_gathered += sum(len(group.prediction_ids) for group in scores)

    def write(self) -> bool:
        """Write what was gathered, all or none; False when it had to be dropped.

        To be called before any of these predictions is sent.
        """
        if not self._gathered:
            return True
        entries, n = self._gathered, self._n_gathered
        self._gathered, self._n_gathered = [], 0
        if self._write(entries):
            self.n_records += n
            return True
        self.n_dropped += n
        self._dropped_at = time.monotonic()
        return False

    def append_outcomes(self, outcomes: list[Outcome], source: str) -> bool:
        """Write received outcomes, whose ids are pseudonyms; False when there is no room, and the sender must know."""
        return self._write([encode(Outcomes(source, outcomes))])

    def health(self) -> LogHealth:
        """As of the last `seal_seconds`."""
        return self._health

    def close(self, timeout_seconds: float = 10.0) -> bool:
        """Stop, and have everything committed; False when that takes longer, and then it goes on by itself.

        To be called when the last response was sent. Harmless when repeated.
        """
        if self._closing:
            return True
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._spool is not None:
            self._spool.close()
        return self._committer.release(timeout_seconds)

    def _write(self, entries: Sequence[bytes]) -> bool:
        spool = self._spool
        if spool is None or not spool.append(*entries):
            return False
        if spool.n_active_bytes > self.config.max_segment_bytes and not self._wake.is_set():
            self._wake.set()
        return True

    def _make_spool(self) -> None:
        try:
            self._spool = Spool(self.config.spool, max_bytes=self.config.max_spool_bytes)
        except OSError as error:  # a full disk must not keep a replica from scoring; tried again each second
            self._error = error

    def _tend(self) -> None:
        while not self._closing:
            self._wake.wait(self.config.seal_seconds)
            self._wake.clear()
            try:
                self._tick()
            except Exception:  # the thread must outlive whatever it meets
                logger.exception("The prediction log could not be tended")

    def _tick(self) -> None:
        self._error = None
        if self._spool is None:
            self._make_spool()
        try:
            if self._spool is not None:
                self._spool.seal()
            self._committer.ensure()
        except OSError as error:
            self._error = error
        before, self._health = self._health, self._examine()
        if self._health.problems and not before.problems:
            logger.warning("The prediction log is degraded: %s", "; ".join(self._health.problems))
        elif before.problems and not self._health.problems:
            logger.warning("The prediction log is well again; %s predictions were dropped", self.n_dropped)
        if self._on_health is not None:
            self._on_health(self._health)

    def _examine(self) -> LogHealth:
        backlog = self._spool.backlog() if self._spool is not None else []
        lag_seconds = max(0.0, time.time() - backlog[0].sealed_at) if backlog else 0.0
        problems = []
        error = self._error or (self._spool.error if self._spool is not None else None)
        if error is not None:
            problems.append(f"the spool cannot be written ({error.strerror})")
        if time.monotonic() - self._dropped_at < _RECENT_SECONDS:
            problems.append(f"predictions are dropped ({self.n_dropped} since the start)")
        if lag_seconds > _LATE_COMMITS * self.config.commit_seconds:
            problems.append(f"nothing was committed for {lag_seconds:.0f} s")
        status = read_status(self.config.spool)
        if backlog and status is not None and status.error:
            problems.append(status.error)
        spool_bytes = self._spool.n_bytes if self._spool is not None else 0
        return LogHealth(tuple(problems), self.n_records, self.n_dropped, spool_bytes, lag_seconds)
