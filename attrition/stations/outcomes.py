"""Outcomes under guard."""

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
    from attrition.data.outcomes import Recorded
    from attrition.governance.guard import Guard
    from attrition.settings import Settings
    from attrition.stations.data import Data
    from attrition.stations.predictions import Predictions


class Outcomes:
    """Who left, and when; reached as ``Workspace.outcomes``."""

    def __init__(self, settings: Settings, guard: Guard, data: Data, predictions: Predictions) -> None:
        from attrition.data.outcomes import OutcomeTable

        self._guard = guard
        self._data = data
        self._predictions = predictions
        self.table = OutcomeTable(settings.tables)

    def load(self, path: str | Path) -> Recorded:
        """Record the outcomes in a CSV or Parquet file; the same file again changes nothing.

        Raises
        ------
        ExtractError
            The file cannot be used; all faults at once.
        """
        from datetime import UTC, datetime

        from attrition.data.outcome_files import read_outcomes
        from attrition.governance.identity import Pseudonymiser

        now = datetime.now(UTC)
        with self._guard.acting(Action.OUTCOME_IMPORT, file_subject("outcomes", path)) as entry:
            outcomes = read_outcomes(path, Pseudonymiser(self._data.key), now=now)
            recorded = self.table.record(outcomes, now=now)
            entry.details |= {"rows": recorded.n_rows, "new": recorded.n_new}
            return recorded

    def compact(self) -> Compaction:
        """Merge the small files of the table into few, see :meth:`Predictions.compact`."""
        return self.table.compact()

    def labels(self, horizon_days: int, *, as_of: datetime) -> pd.DataFrame:
        """Every logged prediction with what became of it; see :func:`attrition.data.maturity.matured_labels`.

        Parameters
        ----------
        horizon_days
            Of the versions that predicted.
        as_of
            Moment up to which outcomes are complete; without a zone it is UTC.
        """
        from attrition.data.maturity import matured_labels

        moment = in_utc(as_of)
        predictions = self._predictions.between(end=moment)
        known = self.table.current(moment)
        return predictions.join(matured_labels(predictions, known, horizon_days=horizon_days, as_of=moment))
