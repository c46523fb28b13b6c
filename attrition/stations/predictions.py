"""The log of predictions under guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.data.moments import in_utc
from attrition.governance.actions import Action
from attrition.stations.subjects import file_subject

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import pandas as pd

    from attrition.data.delta import Compaction
    from attrition.governance.guard import Guard
    from attrition.serving.log_commit import CommitStatus
    from attrition.settings import Settings


class Predictions:
    """The log of predictions; reached as ``Workspace.predictions``."""

    def __init__(self, settings: Settings, guard: Guard) -> None:
        from attrition.data.predictions import PredictionTable

        self._settings = settings
        self._guard = guard
        self.table = PredictionTable(settings.tables)

    def tail(self, n: int = 20) -> pd.DataFrame:
        """The last `n` predictions, the oldest of them first; columns as in :mod:`attrition.data.predictions`.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        """
        with self._guard.acting(Action.PREDICTION_VIEW, "predictions", details={"rows": n}):
            return self.table.tail(n)

    def between(self, start: datetime | None = None, end: datetime | None = None) -> pd.DataFrame:
        """Predictions with ``start <= time < end``, in the order of time; a time without a zone is UTC."""
        with self._guard.acting(Action.PREDICTION_VIEW, "predictions") as entry:
            frame = self.table.between(in_utc(start), in_utc(end))
            entry.details["rows"] = len(frame)
            return frame

    def export(self, path: str | Path, start: datetime | None = None, end: datetime | None = None) -> int:
        """Write the predictions of a period to a ``.parquet`` or ``.csv`` file; how many they are.

        Raises
        ------
        UsageError
            Another suffix, or a place that cannot be written.
        NotFound
            Nothing was logged yet.
        """
        with self._guard.acting(Action.PREDICTION_VIEW, file_subject("predictions to", path)) as entry:
            entry.details["rows"] = n_rows = self.table.export(path, in_utc(start), in_utc(end))
            return n_rows

    def recover(self) -> CommitStatus | None:
        """Commit what killed replicas left on this machine; None when the endpoint runs, which does that itself."""
        from attrition.serving.log_commit import commit_orphans

        return commit_orphans(self._settings.home / "spool", self._settings.tables)

    def compact(self, *, today: bool = False) -> Compaction:
        """Merge the small files of the log into few; a node that serves does so each day by itself.

        Parameters
        ----------
        today
            Also those of the current day, UTC. While the endpoint answers, that usually fails: the day still grows.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            Another process wrote to the same day, or the storage does not answer.
        """
        from datetime import UTC, datetime

        return self.table.compact(None if today else datetime.now(UTC).date())
