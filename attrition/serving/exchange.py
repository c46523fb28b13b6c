"""One scoring request between its arrival and its answer: what a protocol gets and what it gives back.

A protocol is a function from an :class:`Exchange` to the bytes of its answer, or to the problem that keeps it from one.
It decodes ``exchange.body``, has the records scored by :meth:`Exchange.score`, and encodes what comes back. Whatever it
does between, assignment, pins, prediction log, metrics, shadows and response headers are the same for all protocols,
because they follow from :attr:`Exchange.scores`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.errors import VariantFailed
from attrition.serving.protocols import native
from attrition.serving.protocols.problems import Problem
from attrition.serving.scoring import score
from attrition.serving.traffic import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attrition.serving.scoring import Scores
    from attrition.serving.snapshot import Lane, Snapshot

    Protocol = Callable[["Exchange"], bytes | Problem]
    Headers = Iterable[tuple[bytes, bytes]]

# by identity: the hash of an enumeration's member is a call of Python code, and a request may have a thousand reasons
_REASONS = {id(reason): reason.value.encode() for reason in Reason}


class Exchange:
    """One scoring request.

    Attributes
    ----------
    snapshot : Snapshot
        The traffic that answers it, whatever changes meanwhile.
    path : str
        Below the application's prefix.
    headers : iterable of (bytes, bytes)
        Names in lower case.
    body : bytes
        Unpacked.
    records : sequence
        Decoded records; empty until they are scored.
    scores : list of Scores
        By variant; empty until records are scored.
    refused_by : Lane or None
        The variant that raised, or was placed and not reached, if that is why nothing was scored.
    """

    __slots__ = ("body", "headers", "path", "records", "refused_by", "scores", "snapshot")

    def __init__(self, snapshot: Snapshot, path: str, headers: Headers, body: bytes) -> None:
        self.snapshot = snapshot
        self.path = path
        self.headers = headers
        self.body = body
        self.records: Sequence[Any] = ()
        self.scores: list[Scores] = []
        self.refused_by: Lane | None = None

    def score(self, records: Sequence[Any]) -> list[Scores]:
        """Score the request's records, once; they are structs of the snapshot's codec.

        Raises
        ------
        VariantFailed
            A version raised.
        """
        split = self.snapshot.split
        self.records = records
        try:
            self.scores = score(self.snapshot, records, split.pinned(self.headers) if split.pins else None)
        except VariantFailed as error:
            self.refused_by = self.snapshot.lanes[error.variant]
            raise
        return self.scores

    def predict(self, snapshot: Snapshot, body: bytes) -> tuple[bytes, str] | Problem:
        """Answer a native body inside this exchange, for protocols that translate to it.

        Parameters
        ----------
        snapshot
            The exchange's own, or one that answers by a version which the caller named.

        Returns
        -------
        tuple of (bytes, str), or Problem
            The native JSON answer and the versions that gave it, comma-separated; or why nothing was scored.
        """
        self.snapshot, self.body = snapshot, body
        answer = answer_native(self)
        return answer if isinstance(answer, Problem) else (answer, self.versions)

    @property
    def versions(self) -> str:
        """Versions that answered, comma-separated."""
        return ", ".join(sorted(self._distinct("version")))

    @property
    def served(self) -> tuple[tuple[bytes, bytes], ...]:
        """Response headers that say which versions answered, under which names, and why."""
        if len(self.scores) == 1 and len(self.scores[0].reasons) == 1:
            only = self.scores[0]
            return (*only.lane.headers, (b"x-assignment-reason", _REASONS[id(only.reasons[0])]))
        reasons = set().union(*(map(id, group.reasons) for group in self.scores))
        return (
            (b"x-model-version", self.versions.encode()),
            (b"x-variant", ", ".join(sorted(self._distinct("variant"))).encode()),
            (b"x-assignment-reason", b", ".join(sorted(_REASONS[reason] for reason in reasons))),
        )

    @property
    def is_smoke_test(self) -> bool:
        """The records are invented."""
        return bool(self.scores) and self.scores[0].reasons[0] is Reason.SMOKE

    def _distinct(self, attribute: str) -> set[str]:
        return {getattr(group, attribute) for group in self.scores}


def answer_native(exchange: Exchange) -> bytes | Problem:
    """The native protocol, ``POST /v1/predict``."""
    batch = exchange.snapshot.codec.decode(exchange.body)
    if isinstance(batch, Problem):
        return batch
    return native.encode(exchange.score(batch.records), single=batch.single)
