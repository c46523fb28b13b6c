"""Once a day a node compacts the tables that its committer writes: thousands of small files a day would slow readers.

It happens in a thread beside the commits, which go on. Nodes do not agree on who does it: whoever comes second finds
nothing to do, and of two at the same time one gives way and tries again later (see
:meth:`attrition.data.delta.AppendOnlyTable.merge_files`). What a node did last stands in a file among its spools, so
that a restart does not repeat it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from attrition.errors import AttritionError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from pathlib import Path
    from typing import Self

    from attrition.data.delta import Compaction

logger = logging.getLogger(__name__)

UPKEEP = "upkeep.json"
"""File among the spools that says what the last upkeep of this node did."""

SETTLING = timedelta(minutes=10)
"""Time after the start of a committer in which it only commits: replicas are starting, too."""

SPREAD = timedelta(hours=1)
"""Nodes begin at a random time within this after midnight, UTC."""

RETRY = timedelta(hours=1)
"""Time between a try that failed and the next."""


@dataclass(frozen=True, slots=True)
class UpkeepRecord:
    """What the last upkeep of a node did.

    Attributes
    ----------
    finished_at : str
        ISO 8601, UTC.
    n_merged : int
        By how many files the tables became fewer.
    n_deleted : int
        Old files deleted.
    error : str
        Why it has to be tried again; empty when all went well.
    """

    finished_at: str
    n_merged: int = 0
    n_deleted: int = 0
    error: str = ""

    @classmethod
    def read(cls, root: Path) -> Self | None:
        """As a node left it among its spools; None when there is none that can be read."""
        try:
            record = cls(**json.loads((root / UPKEEP).read_text(encoding="utf-8")))
            _ = record.moment
        except (OSError, ValueError, TypeError):
            return None
        return record

    def write(self, root: Path) -> None:
        """Leave it among the spools; a full disk must not end the committer."""
        scratch = root / f".{UPKEEP}"
        with contextlib.suppress(OSError):
            scratch.write_text(json.dumps(asdict(self)), encoding="utf-8")
            scratch.replace(root / UPKEEP)

    @property
    def moment(self) -> datetime:
        """When it was finished, with the time zone."""
        return datetime.fromisoformat(self.finished_at).astimezone(UTC)


def is_due(last: UpkeepRecord | None, now: datetime, *, started_at: datetime, delay: timedelta) -> bool:
    """Whether an upkeep should begin.

    Parameters
    ----------
    last
        Of this node; None when it never did one.
    now, started_at
        The moment, and that of the committer's start; with a time zone.
    delay
        After midnight, UTC, until this node begins.
    """
    if now - started_at < SETTLING:
        return False
    if last is None:
        return True
    if last.error:
        return now - last.moment >= RETRY
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return now >= midnight + delay and last.moment < midnight


class Upkeep:
    """The daily upkeep of one committer. For one thread, beside the one it starts.

    Parameters
    ----------
    root
        Folder of the spools.
    compactions
        One for each table; called with today (UTC), before which the files of a day may be merged.
    clock
        The time, with a zone.
    """

    def __init__(
        self,
        root: Path,
        compactions: Sequence[Callable[[date], Compaction]],
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._root = root
        self._compactions = compactions
        self._clock = clock
        self._started_at = clock()
        self._delay = random.uniform(0, 1) * SPREAD  # noqa: S311 - spreads the nodes
        self._last = UpkeepRecord.read(root)
        self._thread: threading.Thread | None = None

    def tick(self) -> bool:
        """Begin when it is time; True when it did. Returns at once."""
        if self._thread is not None and self._thread.is_alive():
            return False
        if not is_due(self._last, self._clock(), started_at=self._started_at, delay=self._delay):
            return False
        # a daemon: an interrupted compaction has changed nothing, and the process may end at any time
        self._thread = threading.Thread(target=self.run, name="upkeep", daemon=True)
        self._thread.start()
        return True

    def run(self) -> UpkeepRecord:
        """Compact every table now."""
        today = self._clock().astimezone(UTC).date()
        n_merged = n_deleted = 0
        errors = []
        for compact in self._compactions:
            try:
                done = compact(today)
                n_merged += done.n_before - done.n_after
                n_deleted += done.n_deleted
            except NotFound:
                pass  # nothing was written yet
            except AttritionError as error:
                errors.append(str(error))
            except Exception as error:  # whatever a storage library raises
                logger.exception("A table could not be compacted")
                errors.append(type(error).__name__)
        record = UpkeepRecord(self._clock().isoformat(), n_merged, n_deleted, " ".join(errors))
        if record.error:
            logger.warning("The upkeep of the tables is tried again later: %s", record.error)
        record.write(self._root)
        self._last = record
        return record
