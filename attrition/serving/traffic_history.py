"""Every change of traffic, kept in a Delta table beside the data: who changed what, when, and whether it was applied.

The table outlives Serve, so generations keep rising and a rollback finds its way after a restart. Each row holds the
whole traffic. It is about versions, not about employees.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from attrition.errors import Fault, PlatformError
from attrition.governance.credentials import local_user
from attrition.serving.traffic import Traffic

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

TABLE = "traffic_changes"
"""Name of the table, and of its folder under the root."""


class ChangeOutcome(StrEnum):
    """What became of a change."""

    APPLIED = "applied"
    """Every replica confirmed it."""
    TRIAL = "trial"
    """Applied for a smoke test only; a rollback does not stop here."""
    REFUSED = "refused"
    """The traffic stayed what it was."""


@dataclass(frozen=True, slots=True)
class TrafficChange:
    """One change.

    Attributes
    ----------
    time : datetime
        When it was finished, UTC.
    actor : str
        Who asked for it.
    application : str
        Name of the Serve application.
    action : str
        What was asked for, such as ``set 1.0.0=70 1.1.0=30``.
    outcome : ChangeOutcome
    detail : str
        Why it was refused; empty otherwise.
    seconds : float
        From the request to the last replica's confirmation.
    traffic : Traffic
        What was asked for; its generation is the one deployed, or the last one when it was refused.
    """

    time: datetime
    actor: str
    application: str
    action: str
    outcome: ChangeOutcome
    detail: str
    seconds: float
    traffic: Traffic

    @property
    def generation(self) -> int:
        """Of the traffic."""
        return self.traffic.generation

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "time": self.time.isoformat(timespec="milliseconds"),
            "actor": self.actor,
            "application": self.application,
            "generation": self.generation,
            "action": self.action,
            "outcome": str(self.outcome),
            "detail": self.detail,
            "seconds": round(self.seconds, 3),
            "traffic": self.traffic.model_dump(mode="json"),
        }


class TrafficHistory:
    """The table of changes.

    Parameters
    ----------
    root
        Folder or URI of the Delta tables.
    """

    def __init__(self, root: str) -> None:
        self._uri = f"{root.rstrip('/')}/{TABLE}"

    def record(self, change: TrafficChange) -> None:
        """Add a change.

        Raises
        ------
        PlatformError
            The table cannot be written.
        """
        import pyarrow as pa
        from deltalake import write_deltalake
        from deltalake.exceptions import DeltaError

        row = {
            "time": change.time,
            "actor": change.actor,
            "application": change.application,
            "generation": change.generation,
            "action": change.action,
            "outcome": str(change.outcome),
            "detail": change.detail,
            "seconds": change.seconds,
            "traffic": json.dumps(change.traffic.model_dump(mode="json")),
        }
        try:
            write_deltalake(self._uri, pa.Table.from_pylist([row], schema=_schema()), mode="append")
        except (DeltaError, OSError) as error:
            raise PlatformError(
                Fault(self._uri, "the traffic history cannot be written", remedy="check the storage")
            ) from error

    def changes(self, application: str | None = None) -> list[TrafficChange]:
        """All changes of an application, oldest first; empty when there was none.

        Parameters
        ----------
        application
            Its name; None is the one that was changed last.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            rows = DeltaTable(self._uri).to_pyarrow_table().to_pylist()
        except TableNotFoundError:
            return []
        except (DeltaError, OSError) as error:
            raise PlatformError(
                Fault(self._uri, "the traffic history cannot be read", remedy="check the storage")
            ) from error
        if application is None and rows:
            application = max(rows, key=itemgetter("time"))["application"]
        found = [change for change in map(_change, rows) if change is not None and change.application == application]
        return sorted(found, key=lambda change: (change.generation, change.time))


def last_generation(changes: list[TrafficChange]) -> int:
    """Highest generation that was ever used; -1 when there was none."""
    return max((change.generation for change in changes), default=-1)


def applied_before(changes: list[TrafficChange], generation: int) -> TrafficChange | None:
    """The last change that was applied before a generation: where a rollback goes."""
    earlier = [c for c in changes if c.outcome is ChangeOutcome.APPLIED and c.generation < generation]
    return earlier[-1] if earlier else None


def new_change(
    application: str,
    action: str,
    outcome: ChangeOutcome,
    traffic: Traffic,
    *,
    seconds: float,
    detail: str = "",
    actor: str = "",
) -> TrafficChange:
    """A change of this moment; without an actor, by the user that runs this process."""
    actor = actor or local_user().name
    return TrafficChange(datetime.now(UTC), actor, application, action, outcome, detail, seconds, traffic)


def keep(history: TrafficHistory, change: TrafficChange) -> None:
    """Record a change; one that was applied is not undone because the record of it failed."""
    try:
        history.record(change)
    except PlatformError as error:
        logger.warning("%s", error)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("time", pa.timestamp("us", "UTC")),
            ("actor", pa.string()),
            ("application", pa.string()),
            ("generation", pa.int64()),
            ("action", pa.string()),
            ("outcome", pa.string()),
            ("detail", pa.string()),
            ("seconds", pa.float64()),
            ("traffic", pa.string()),
        ]
    )


def _change(row: dict[str, Any]) -> TrafficChange | None:
    """A row, or None when a later version of attrition wrote what this one cannot read."""
    try:
        traffic = Traffic.model_validate_json(row.pop("traffic"))
        del row["generation"]
        return TrafficChange(**{**row, "outcome": ChangeOutcome(row["outcome"])}, traffic=traffic)
    except (ValidationError, ValueError, TypeError):
        return None
