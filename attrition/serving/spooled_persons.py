"""The spools of this machine, as a place that holds something about a person until it is committed.

An entry holds a request whole and is never written again. An erasure therefore does not change spools: it has them
committed, and the committer leaves the person out. Spools of other machines are the business of their own committers,
which read the same tombstones within seconds; one that is down commits, without the person, when it comes back.
"""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrition.data.holdings import Holding
from attrition.errors import IntegrityError
from attrition.governance.identity import REPEAT_MARK
from attrition.serving.log_commit import commit_orphans
from attrition.serving.log_entries import Outcomes, decode
from attrition.serving.spool import ACTIVE, SEALED, UNREADABLE, spools, unframe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from attrition.serving.log_entries import Scored

_WAIT_SECONDS = 20.0
"""For a committer that runs: it commits every 5 seconds by default."""

_POLL_SECONDS = 0.5


class SpoolStore:
    """What is answered but not in a table yet.

    Parameters
    ----------
    root
        Folder of the spools of this machine.
    tables
        Folder or URI of the Delta tables that they go to.
    wait_seconds
        For how long :meth:`erase` waits for a committer that runs.
    """

    name = "spools"

    def __init__(self, root: Path, tables: str, *, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._root = root
        self._tables = tables
        self._wait_seconds = wait_seconds

    def holdings(self, pseudonym: str) -> list[Holding]:
        """One for each spool with the person, and one for segments that cannot be read."""
        found = []
        for folder in spools(self._root):
            rows = list(_rows(folder, pseudonym))
            if rows:
                columns = tuple(dict.fromkeys(name for row in rows for name in row))
                found.append(Holding(self.name, folder.name, len(rows), columns, note="waits for the next commit"))
            if n_unreadable := sum(1 for _ in folder.glob(f"*{UNREADABLE}")):
                note = f"{n_unreadable} segments were set aside as unreadable; delete them, or read them elsewhere"
                found.append(Holding(self.name, f"{folder.name}, unreadable", 0, note=note))
        return found

    def values(self, pseudonym: str) -> list[dict[str, Any]]:
        """Entries, with the spool."""
        return [{"spool": folder.name, **row} for folder in spools(self._root) for row in _rows(folder, pseudonym)]

    def fence(self, *, now: datetime) -> None:
        """Nothing: what a spool holds passes the tombstones on its way into a table."""

    def erase(self, pseudonym: str) -> int:
        """Have everything committed without the person; how many rows there were. The tombstone must be set."""
        n_rows = self._n_rows(pseudonym)
        deadline = time.monotonic() + self._wait_seconds
        while self._n_rows(pseudonym) and time.monotonic() < deadline:
            if commit_orphans(self._root, self._tables) is None:
                time.sleep(_POLL_SECONDS)
        return n_rows

    def _n_rows(self, pseudonym: str) -> int:
        return sum(1 for folder in spools(self._root) for _ in _rows(folder, pseudonym))


def _rows(folder: Path, pseudonym: str) -> Iterator[dict[str, Any]]:
    """Predictions and outcomes of a person in a spool, JSON-ready."""
    for path in sorted((*folder.glob(f"*{ACTIVE}"), *folder.glob(f"*{SEALED}"))):
        with contextlib.suppress(FileNotFoundError, IntegrityError):  # committed meanwhile; or counted as unreadable
            for payload in unframe(path.read_bytes()).payloads:
                entry = decode(payload)
                if isinstance(entry, Outcomes):
                    for outcome in entry.outcomes:
                        if _is_person(outcome.employee_id, pseudonym):
                            yield {"employee_id": outcome.employee_id, "left_on": outcome.left_on}
                else:
                    for group in entry.scored:
                        yield from _predictions(entry.time_us, group, pseudonym)


def _predictions(time_us: int, group: Scored, pseudonym: str) -> Iterator[dict[str, Any]]:
    import numpy as np

    probabilities = np.frombuffer(group.probabilities, "<f8")
    matrix = np.frombuffer(group.matrix, "<f8").reshape(-1, len(group.features))
    for index, employee_id in enumerate(group.employee_ids):
        if _is_person(employee_id, pseudonym):
            features = {
                f"feature_{name}": None if np.isnan(value) else float(value)
                for name, value in zip(group.features, matrix[index], strict=True)
            }
            yield {
                "prediction_id": group.prediction_ids[index],
                "time": datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(),
                "version": group.version,
                "employee_id": employee_id,
                "probability": float(probabilities[index]),
                **features,
            }


def _is_person(employee_id: str | None, pseudonym: str) -> bool:
    return employee_id is not None and employee_id.partition(REPEAT_MARK)[0] == pseudonym.partition(REPEAT_MARK)[0]
