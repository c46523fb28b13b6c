"""Tombstones: who was erased, so that what is still under way does not bring the person back.

An erased person may stand in a spool that nobody has committed yet, in the extract that is imported next week, in a
request of a service that knows nothing. The table ``erasures`` lists the erased by digest, and every writer of a table
about persons leaves their rows out. A pseudonym is a keyed hash of 128 bits: whoever lacks the project's key can
neither invert its digest nor find it by trying employee numbers.

A writer looks at the tombstones *after* it has looked at the table that it commits on top of, and an erasure commits to
every table after it has set its tombstone (see :func:`attrition.data.removal.fence`). So a writer that did not see the
tombstone is refused and looks again.

Tombstones are themselves something held about a person. They end after `suppression_days` of the retention policy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from attrition.data.delta import ProjectTable
from attrition.errors import NotFound
from attrition.governance.identity import REPEAT_MARK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import numpy as np
    import pyarrow as pa
    from deltalake import DeltaTable
    from numpy.typing import NDArray

ERASURES = "erasures"
"""Name of the table, and of its folder under the root."""

_DOMAIN = b"attrition/erased\x00"


class ErasureState(StrEnum):
    """How far the erasure of a person came."""

    BEGUN = "begun"
    """Interrupted or under way; repeating the command finishes it."""
    FINISHED = "finished"
    """Nothing was left."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is known about an erasure.

    Attributes
    ----------
    state : ErasureState
    erased_at : datetime
        When it was first begun, UTC.
    """

    state: ErasureState
    erased_at: datetime


class Erased:
    """The erased persons, as of one look at the table; tells their rows from others.

    Parameters
    ----------
    digests
        Of their pseudonyms, see :func:`digest`.
    """

    __slots__ = ("_digests",)

    def __init__(self, digests: frozenset[str]) -> None:
        self._digests = digests

    def __len__(self) -> int:
        """Number of persons."""
        return len(self._digests)

    def __contains__(self, pseudonym: object) -> bool:
        return isinstance(pseudonym, str) and digest(pseudonym) in self._digests

    def mask(self, pseudonyms: Sequence[str | None]) -> NDArray[np.bool_]:
        """Mask, shape (n,): rows of erased persons; a row without a person is nobody's."""
        import numpy as np

        if not self._digests:
            return np.zeros(len(pseudonyms), dtype=bool)
        known = {pseudonym: pseudonym in self for pseudonym in set(pseudonyms)}
        return np.array([known[pseudonym] for pseudonym in pseudonyms], dtype=bool)

    def without(self, rows: pa.Table) -> pa.Table:
        """The rows of everybody else; `rows` has a column ``employee_id``."""
        import pyarrow as pa

        if not self._digests:
            return rows
        return rows.filter(pa.array(~self.mask(rows["employee_id"].to_pylist())))


def digest(pseudonym: str) -> str:
    """SHA-256 (hex) by which a tombstone names a person; the repetitions of a surrogate id have the same."""
    return hashlib.sha256(_DOMAIN + pseudonym.partition(REPEAT_MARK)[0].encode()).hexdigest()


def tombstone_schema() -> pa.Schema:
    """Columns of the table: digest, time of the erasure, its state."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("digest", pa.string(), nullable=False),
            pa.field("erased_at", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("state", pa.string(), nullable=False),
        ]
    )


class Tombstones(ProjectTable):
    """The table ``erasures``."""

    _NAME = ERASURES
    _columns = staticmethod(tombstone_schema)
    _STATISTICS = ("erased_at",)

    def set(self, pseudonym: str, state: ErasureState, *, now: datetime) -> Tombstone:
        """Say how far an erasure came, unless that is known; the tombstone as it stands then.

        Raises
        ------
        PlatformError
            The table cannot be written.
        """
        name = digest(pseudonym)

        def unless_known(table: DeltaTable) -> tuple[pa.Table, Mapping[str, int]] | None:
            import pyarrow as pa

            known = _tombstones(table.to_pyarrow_table()).get(name)
            if known is not None and (known.state is state or known.state is ErasureState.FINISHED):
                return None
            moment = known.erased_at if known is not None else now
            row = {"digest": [name], "erased_at": [moment], "state": [str(state)]}
            return pa.table(row, schema=tombstone_schema()), {}

        self._table.append(unless_known)
        stone = self.find(pseudonym)
        assert stone is not None
        return stone

    def find(self, pseudonym: str) -> Tombstone | None:
        """The tombstone of a person; None when there is none.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        return _tombstones(self._rows()).get(digest(pseudonym))

    def erased(self) -> Erased:
        """Everybody who was erased, or is being erased.

        Raises
        ------
        PlatformError
            The table cannot be read.
        """
        return Erased(frozenset(self._rows()["digest"].to_pylist()))

    def before(self, moment: datetime) -> list[str]:
        """Digests of the finished erasures that were begun before `moment`."""
        stones = _tombstones(self._rows())
        return [
            name for name, stone in stones.items() if stone.state is ErasureState.FINISHED and stone.erased_at < moment
        ]

    def n_unfinished(self) -> int:
        """Erasures that were begun and not finished."""
        return sum(stone.state is ErasureState.BEGUN for stone in _tombstones(self._rows()).values())

    def _rows(self) -> pa.Table:
        try:
            return self._table.open().to_pyarrow_table()
        except NotFound:
            return tombstone_schema().empty_table()


def _tombstones(rows: pa.Table) -> dict[str, Tombstone]:
    found: dict[str, Tombstone] = {}
    for row in rows.to_pylist():
        state = ErasureState(row["state"])
        if row["digest"] not in found or state is ErasureState.FINISHED:
            found[row["digest"]] = Tombstone(state, row["erased_at"])
    return found
