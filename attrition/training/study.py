"""The study: trials and the file that survives a killed search.

A study is a folder with ``study.json`` (what is being searched, and the MLflow run) and ``trials.jsonl`` (one line for
each trial that ended, written and synced before anything else learns of it). A resumed search replays these lines into
the optimiser and goes on. Ray Tune's own snapshot is not used: it is written every ten seconds at best, and short
trials that ended in between are lost with a killed driver.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import ConfigError, Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import IO

    from attrition.training.families import Value


class TrialStatus(StrEnum):
    """How far a trial is, or how it ended."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration that was tried.

    Attributes
    ----------
    number : int
        From 0, in the order of suggestion.
    family, parameters
        The configuration.
    fold_scores : tuple of float
        The plan's metric on each fold that was run.
    status : TrialStatus
        ``pruned``: stopped before the last fold because others were better on the same folds.
    seconds : float
        Fitting and scoring, without the wait for a worker.
    """

    number: int
    family: str
    parameters: Mapping[str, Value]
    fold_scores: tuple[float, ...] = ()
    status: TrialStatus = TrialStatus.RUNNING
    seconds: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of the fold scores so far; NaN before the first."""
        return sum(self.fold_scores) / len(self.fold_scores) if self.fold_scores else float("nan")

    def with_fold(self, score: float, seconds: float) -> Trial:
        """The trial after one more fold."""
        return replace(self, fold_scores=(*self.fold_scores, score), seconds=seconds)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**asdict(self), "status": str(self.status)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Trial:
        """Inverse of :meth:`to_dict`."""
        return cls(
            **{
                **document,
                "fold_scores": tuple(document["fold_scores"]),
                "status": TrialStatus(document["status"]),
            }
        )


@dataclass(frozen=True, slots=True)
class TrialUpdate:
    """Progress of a search, after every fold and at the end of every trial.

    Attributes
    ----------
    number, family, status
        Of the trial that moved.
    folds_done : int
    mean_score : float or None
        Of its folds so far; None before the first.
    best_so_far : float or None
        Highest mean of a trial that ran all folds; None before the first.
    n_done, n_total : int
        Trials that ended, of the plan's budget.
    """

    number: int
    family: str
    status: TrialStatus
    folds_done: int
    mean_score: float | None
    best_so_far: float | None
    n_done: int
    n_total: int


def best_trial(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest mean among those that ran all folds, the earliest among equals; None without any."""
    complete = [trial for trial in trials if trial.status is TrialStatus.COMPLETE]
    return max(complete, key=lambda trial: (trial.mean, -trial.number), default=None)


_HEADER = "study.json"


def was_begun(directory: Path) -> bool:
    """Whether there is a study in a folder that could be resumed."""
    return (directory / _HEADER).is_file()


class Study:
    """The trials of one search, on disk. Use as a context manager; one process writes at a time.

    Parameters
    ----------
    directory
        Folder of the study, created when missing.
    identity
        What is searched on what, as flat text values; a study is only continued with the same.
    resume
        True continues what is there, if anything is; False starts over.

    Raises
    ------
    UsageError
        Another process is searching in this folder.
    ConfigError
        `resume`, but the folder holds a study of something else: names what differs.
    """

    def __init__(self, directory: Path, identity: Mapping[str, str], *, resume: bool = False) -> None:
        self.directory = directory
        self.trials: list[Trial] = []
        self.run_id = ""
        self._identity = dict(identity)
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = self._acquire()
        try:
            self._journal = self._open(resume=resume)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        self._lock.close()

    @property
    def _header_path(self) -> Path:
        return self.directory / _HEADER

    @property
    def _journal_path(self) -> Path:
        return self.directory / "trials.jsonl"

    def bind_run(self, run_id: str) -> None:
        """Remember the MLflow run that this study is logged to."""
        self.run_id = run_id
        temporary = self._header_path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"identity": self._identity, "run_id": run_id}, indent=1), encoding="utf-8")
        temporary.replace(self._header_path)

    def append(self, trial: Trial) -> None:
        """Record an ended trial; on disk when this returns."""
        self._journal.write(json.dumps(trial.to_dict()) + "\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self.trials.append(trial)

    def _acquire(self) -> IO[str]:
        lock = (self.directory / "lock").open("w", encoding="utf-8")
        try:
            # the kernel lets go of it when the process dies, however it dies
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            fault = Fault(str(self.directory), "another search is running in this study", remedy="wait for it to end")
            raise UsageError(fault) from error
        return lock

    def _open(self, *, resume: bool) -> IO[str]:
        if resume and self._header_path.is_file():
            header = json.loads(self._header_path.read_text(encoding="utf-8"))
            self._check_same(header["identity"])
            self.run_id = header["run_id"]
            self.trials = self._replay()
        else:
            self._header_path.unlink(missing_ok=True)
            self._journal_path.unlink(missing_ok=True)
        return self._journal_path.open("a", encoding="utf-8")

    def _check_same(self, stored: Mapping[str, str]) -> None:
        faults = [
            Fault(
                str(self.directory),
                f"the study to resume was started with another {name} ({stored.get(name, 'unknown')[:12]})",
                f"this search has {value[:12]}",
                "resume with the same, or start a new search",
            )
            for name, value in self._identity.items()
            if stored.get(name) != value
        ]
        if faults:
            raise ConfigError(faults)

    def _replay(self) -> list[Trial]:
        """The recorded trials; a last line that was cut off by a kill is removed from the file."""
        if not self._journal_path.is_file():
            return []
        content = self._journal_path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(self._journal_path, len(whole))
        return [Trial.from_dict(json.loads(line)) for line in whole.splitlines()]
