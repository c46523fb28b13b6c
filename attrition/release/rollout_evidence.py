"""The evidence of a rollout's step: its experiment's samples from the project's tables, judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attrition.data.outcomes import OutcomeTable, complete_until
from attrition.experiments.collection import Outcomes, collect
from attrition.experiments.epochs import find_spans
from attrition.experiments.verdict import judge
from attrition.release.rollout import Look
from attrition.serving.traffic_history import TrafficHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from attrition.experiments.plan import ExperimentPlan
    from attrition.experiments.samples import Errors, Samples


@dataclass(frozen=True)
class Evidence:
    """Judges steps by what is in the tables.

    Attributes
    ----------
    tables : str
        Folder or URI of the Delta tables.
    horizon_days : callable
        From a version to the horizon of what it predicts.
    application : str or None
        Name of the Serve application; None: the one that was changed last.
    labels_until : callable
        From the history of outcomes and now to the moment up to which they are complete, None when they never are. The
        default trusts the latest observation; a replay in compressed time knows better.
    """

    tables: str
    horizon_days: Callable[[str], int]
    application: str | None = None
    labels_until: Callable[[pd.DataFrame, datetime], datetime | None] = complete_until

    def look(self, plan: ExperimentPlan, since: datetime, errors: Mapping[str, Errors]) -> Look:
        """The analysis of what happened since a step's traffic was confirmed.

        Parameters
        ----------
        errors
            Requests by version, as the replicas counted them.

        Raises
        ------
        NotFound
            Nothing is logged yet.
        PlatformError
            The tables cannot be read.
        """
        now = datetime.now(UTC)
        changes = TrafficHistory(self.tables).changes(self.application)
        samples = collect(
            plan,
            find_spans(changes, plan, since=since, until=now),
            self.tables,
            as_of=now,
            outcomes=self._outcomes(plan.control, now),
            count_errors=lambda version, _start, _end, _shadow: errors.get(version),
        )
        n_champion, n_challenger = _employees(samples)
        return Look(judge(plan, samples), n_champion, n_challenger)

    def _outcomes(self, version: str, now: datetime) -> Outcomes | None:
        table = OutcomeTable(self.tables)
        until = self.labels_until(table.history(), now)
        return None if until is None else Outcomes(table.current(until), until, self.horizon_days(version))


def _employees(samples: Samples) -> tuple[int, int]:
    if not samples.epochs:
        return 0, 0
    epoch = samples.epochs[-1]
    if epoch.pairs is not None:
        return len(epoch.pairs), len(epoch.pairs)
    return epoch.control.employees, epoch.challenger.employees
