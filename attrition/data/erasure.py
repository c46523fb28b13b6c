"""Erasing a person: from every store, in an order that a crash cannot turn into a half-truth.

1. The tombstone is set: from now on no writer brings the person back, and the erasure is known to be begun.
2. Every table is fenced, so that writers which did not see the tombstone fail and look again.
3. Store after store is emptied of the person.
4. What is held is listed again, by the code that answers requests for access; nothing may be left.
5. The personal key is destroyed: events in the audit log cannot be linked with the person any more.
6. The tombstone says that it is finished.

Each step is harmless when repeated, so a crash anywhere is answered by the same command again: the tombstone tells it
that there is something to finish even when no row is left. Personal key and tombstone come last, because what happens
before them must still be recorded about somebody.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from attrition.data.holdings import PersonReport, find_holdings
from attrition.data.tombstones import ErasureState
from attrition.errors import Fault, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from attrition.data.holdings import Holding, PersonStore
    from attrition.data.tombstones import Tombstones
    from attrition.governance.persons import PersonKeys


NOBODY = "0" * 32
"""What stands for a person of whom nothing is held, or who may not be looked up; no token is that."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did.

    Attributes
    ----------
    n_rows : dict of str to int
        Rows removed by this call, by store.
    key_destroyed : bool
        Whether there was a personal key to destroy.
    remaining : tuple of Holding
        What could not be removed yet and why; the erasure is finished when this is empty.
    erased_at : datetime
        When the erasure was first begun, UTC.
    """

    n_rows: dict[str, int]
    key_destroyed: bool
    remaining: tuple[Holding, ...]
    erased_at: datetime

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left."""
        return not self.remaining

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; says nothing about whom."""
        return {**asdict(self), "erased_at": self.erased_at.isoformat(), "is_finished": self.is_finished}


class PersonRecords:
    """Everything that a project holds about persons.

    Parameters
    ----------
    stores
        In the order of an erasure: what writes into another store stands before it.
    tombstones
        Who was erased.
    keys
        The personal keys.
    """

    def __init__(self, stores: Sequence[PersonStore], tombstones: Tombstones, keys: PersonKeys) -> None:
        self.stores = stores
        self._tombstones = tombstones
        self._keys = keys

    def report(self, pseudonym: str) -> PersonReport:
        """What is held about a person.

        Raises
        ------
        NotFound
            Nothing is.
        PlatformError
            A store does not answer.
        """
        report = self._look(pseudonym)
        if report.is_empty:
            raise self._nothing(report)
        return report

    def erase(self, pseudonym: str, *, now: datetime) -> Erasure:
        """Remove a person from every store and destroy the personal key; repeat an interrupted call to finish it.

        Raises
        ------
        NotFound
            Nothing is held, and no erasure is unfinished.
        PlatformError
            A store does not answer. What was removed by then stays removed.
        """
        stone = self._tombstones.find(pseudonym)
        if stone is None or stone.state is ErasureState.FINISHED:
            report = self._look(pseudonym)
            if report.is_empty:
                raise self._nothing(report)
        stone = self._tombstones.set(pseudonym, ErasureState.BEGUN, now=now)
        for store in self.stores:
            store.fence(now=now)
        n_rows = {store.name: store.erase(pseudonym) for store in self.stores}
        remaining = find_holdings(self.stores, pseudonym)
        key_destroyed = False
        if not remaining:
            key_destroyed = self._keys.destroy(pseudonym)
            stone = self._tombstones.set(pseudonym, ErasureState.FINISHED, now=now)
        return Erasure(n_rows, key_destroyed, remaining, stone.erased_at)

    def subject(self, pseudonym: str) -> str:
        """What stands for a person in the audit log: a token, or `NOBODY` when nothing is held.

        Ask before an erasure, for all events about it: afterwards the token is another one.

        Raises
        ------
        PlatformError
            A store does not answer.
        """
        # a key for everybody who is asked about would itself be something that is held
        if not self._keys.knows(pseudonym) and not find_holdings(self.stores, pseudonym):
            return NOBODY
        return self._keys.token(pseudonym)

    def _look(self, pseudonym: str) -> PersonReport:
        stone = self._tombstones.find(pseudonym)
        words = ""
        if stone is not None:
            words = f"erasure {stone.state} on {stone.erased_at:%Y-%m-%d}"
        return PersonReport(pseudonym, self._keys.knows(pseudonym), find_holdings(self.stores, pseudonym), words)

    @staticmethod
    def _nothing(report: PersonReport) -> NotFound:
        found = "nothing is held about this person"
        if report.erasure:  # by the tombstone, so the id and its key are right
            return NotFound(Fault("employee", f"{found} ({report.erasure})", "", "there is nothing left to do"))
        remedy = "check the id, and whether ATTRITION_KEY_FILE is the key of the import; --pseudonym takes a pseudonym"
        return NotFound(Fault("employee", found, "", remedy))
