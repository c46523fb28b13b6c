"""What is held about a person, and where: the answer to a request for access, and the check after an erasure.

Every place that may hold something about a person is a :class:`PersonStore`. What lies behind one (a Delta table, a
spool, MLflow) is its own business; who asks only learns counts, dates and columns. Values leave a store through
:meth:`PersonStore.values` alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

NOT_HELD = (
    "Model versions and bundles hold no rows: fitted parameters, aggregates, and out-of-fold scores by position.",
    "Files that a batch wrote, exports and extracts belong to whoever made them; erase them there.",
    "Backups of the tables and of the key stores follow their own retention.",
)
"""What a report cannot list, for the reader of it."""


@dataclass(frozen=True, slots=True)
class Holding:
    """Rows about one person in one place.

    Attributes
    ----------
    store : str
        Name of the store.
    place : str
        Where in it: a version, a run, a file.
    n_rows : int
    columns : tuple of str
        Names of what is held, the id among them.
    first_date, last_date : str or None
        ISO dates of the earliest and latest row, where rows have one.
    note : str
        What else a reader should know: old files that wait for their deletion, say.
    """

    store: str
    place: str
    n_rows: int
    columns: tuple[str, ...] = ()
    first_date: str | None = None
    last_date: str | None = None
    note: str = ""


class PersonStore(Protocol):
    """A place that may hold something about a person.

    Every method takes a pseudonym, answers for a person it does not know like for one of whom nothing is held, and
    raises PlatformError when the place does not answer.
    """

    name: str

    def holdings(self, pseudonym: str) -> list[Holding]:
        """Where something is held; empty when nothing is."""
        ...

    def values(self, pseudonym: str) -> list[dict[str, Any]]:
        """The rows themselves, JSON-ready."""
        ...

    def fence(self, *, now: datetime) -> None:
        """Make every write fail that was begun without knowledge of the tombstones of `now`."""
        ...

    def erase(self, pseudonym: str) -> int:
        """Remove the person for good; how many rows that were. Harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True)
class PersonReport:
    """What is held about a person.

    Attributes
    ----------
    pseudonym : str
    has_key : bool
        Whether audit events can still be linked with the person.
    holdings : tuple of Holding
        Empty when nothing is held.
    erasure : str
        What is known of an erasure, in words; empty for none.
    """

    pseudonym: str
    has_key: bool
    holdings: tuple[Holding, ...]
    erasure: str = ""
    not_held: tuple[str, ...] = field(default=NOT_HELD)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        return not self.holdings and not self.has_key

    @property
    def n_rows(self) -> int:
        """Rows in all places; old files and rows that are not in a table yet included."""
        return sum(holding.n_rows for holding in self.holdings)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**asdict(self), "n_rows": self.n_rows}


def find_holdings(stores: Sequence[PersonStore], pseudonym: str) -> tuple[Holding, ...]:
    """Everything the stores hold about a person, store after store.

    Raises
    ------
    PlatformError
        A store does not answer: an incomplete list would be a wrong one.
    """
    return tuple(holding for store in stores for holding in store.holdings(pseudonym))


def export_values(stores: Sequence[PersonStore], report: PersonReport, path: Path) -> int:
    """Write the report with every value to a JSON file that only its owner can read; how many rows it holds.

    Parameters
    ----------
    path
        Must not exist: what was given to one person is not overwritten with another's.

    Raises
    ------
    UsageError
        The file exists or cannot be written.
    """
    rows = {store.name: store.values(report.pseudonym) for store in stores}
    document = {"report": report.to_dict(), "rows": rows}
    text = json.dumps(document, indent=1, default=str, allow_nan=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".report-")  # mkstemp: mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.link(name, path)
        finally:
            Path(name).unlink()
    except FileExistsError as error:
        raise UsageError(Fault(str(path), "exists already", "", "name another file")) from error
    except OSError as error:
        raise UsageError(Fault(str(path), f"cannot be written ({error.strerror})", "", "check the path")) from error
    return sum(map(len, rows.values()))


def json_rows(frame: Any) -> list[dict[str, Any]]:
    """Rows of a DataFrame with ISO dates, None for what is missing, and numbers in full precision."""
    text = frame.to_json(orient="records", date_format="iso", date_unit="us", double_precision=15)
    rows: list[dict[str, Any]] = json.loads(text)
    return rows
