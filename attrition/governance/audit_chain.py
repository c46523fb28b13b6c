"""The chain that makes tampering show: each event's hash covers its content and the hash of the event before it.

::

    hash(k) = SHA-256(domain ‖ hash(k - 1) ‖ canonical JSON of event k)          hash(0) = 32 zero bytes

The JSON is canonical by RFC 8785, so the hash depends on what an event says and not on how a database or a file writes
it. Who changes, removes, inserts or moves an event must recompute every later hash, and then the signed heads
(:mod:`attrition.governance.audit_heads`) no longer fit. Pure: documents in, a finding out.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import rfc8785

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Document: TypeAlias = "Mapping[str, Any]"
"""One event as JSON: the keys of :data:`FIELDS`."""

DOMAIN = b"attrition/audit/event/1\x00"
"""Keeps these hashes apart from all others; the number is that of the format of an event."""
GENESIS = "0" * 64
"""Hash before the first event."""

CONTENT = (
    "sequence",
    "time",
    "action",
    "subject",
    "outcome",
    "actor",
    "justification",
    "model_version",
    "data_version",
    "client_address",
    "correlation",
    "details",
)
"""What the hash of an event covers, beside the previous hash."""
FIELDS = (*CONTENT, "previous", "hash")
"""Every key of a stored event."""

_MAX_EXACT = 2**53 - 1
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch


class Reason(StrEnum):
    """Why a log is broken."""

    MALFORMED = "malformed"
    """It is no event: a field is missing, unknown or of another type."""
    HASH_MISMATCH = "hash mismatch"
    """The content is not what was hashed."""
    BROKEN_LINK = "broken link"
    """The event is whole, but was appended to another predecessor."""
    MISSING = "missing event"
    """A sequence number is absent, and later ones exist."""
    REORDERED = "reordered"
    """A sequence number stands at another place."""
    TRUNCATED = "truncated"
    """The log ends before an event that a signed head vouches for."""
    REWRITTEN = "rewritten"
    """The chain is consistent, but not the one that was signed."""
    UNSIGNED = "unsigned"
    """An event follows the last one that the head of an export covers."""
    FORGED_HEAD = "forged head"
    """The signature of a head does not fit its content."""
    UNKNOWN_KEY = "unknown key"
    """A head is signed by a key that is not trusted."""


@dataclass(frozen=True, slots=True)
class Break:
    """The first event that is not as it was appended.

    Attributes
    ----------
    sequence : int
        Of the event; for a head, of the last event that it covers.
    reason : Reason
    detail : str
        One sentence for people, without a person's values.
    """

    sequence: int
    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"event {self.sequence}: {self.reason}; {self.detail}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a trusted head says: event `sequence` has the hash `hash` (64 hexadecimal digits)."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """How far a chain holds.

    Attributes
    ----------
    last : int
        Sequence of the last event that is as it was appended; one less than the first when there is none.
    last_hash : str
        Its hash.
    covered : int
        Last event that a mark confirms. Later ones are consistent, but could have been rewritten together.
    found : Break or None
        The first break.
    """

    last: int
    last_hash: str
    covered: int
    found: Break | None


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether a log, or an export of it, is what was appended.

    Attributes
    ----------
    first, last : int
        Sequences of the events that are; ``last`` is ``first - 1`` when there are none.
    last_hash : str
        Of the last of them.
    n_heads : int
        Heads with a trusted signature.
    covered : int
        Last event that one of them confirms. Later ones are consistent with each other; whoever can write to the
        database could have replaced them together.
    breaks : tuple of Break
        The first broken event, and every head that cannot be trusted; empty when the log is intact.
    """

    first: int
    last: int
    last_hash: str
    n_heads: int
    covered: int
    breaks: tuple[Break, ...]

    @classmethod
    def of(cls, check: ChainCheck, *, n_heads: int, head_breaks: Iterable[Break], first: int = 1) -> Self:
        """Verdict about a chain and its heads."""
        breaks = (*([check.found] if check.found else []), *head_breaks)
        return cls(first, check.last, check.last_hash, n_heads, check.covered, breaks)

    @property
    def intact(self) -> bool:
        """True when nothing was found."""
        return not self.breaks

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"intact": self.intact, **asdict(self)}


def canonical(document: Any) -> bytes:
    """The one JSON text of a document, by RFC 8785.

    Raises
    ------
    ValueError
        Not JSON: another type, a NaN, an integer beyond ±(2⁵³ - 1), a lone surrogate, or nested without end.

    Examples
    --------
    >>> canonical({"b": 1.0, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    try:
        return rfc8785.dumps(document)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse(text: str | bytes) -> Any:
    """The document of a JSON text, with numbers such that its canonical text is the same again.

    Raises
    ------
    ValueError
        `text` is not JSON, or nested without end.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int | float:
    number = float(digits)  # a float of 1e20 is written as an integer by RFC 8785
    return int(digits) if abs(number) <= _MAX_EXACT else number


def event_hash(previous: str, document: Document) -> str:
    """Hash of an event, 64 hexadecimal digits.

    Parameters
    ----------
    previous
        Hash of the event before, or :data:`GENESIS`.
    document
        Its keys :data:`CONTENT` are hashed.

    Raises
    ------
    ValueError
        `document` is not JSON, or `previous` no hash.
    """
    content = {name: document[name] for name in CONTENT}
    return sha256(DOMAIN + bytes.fromhex(previous) + canonical(content)).hexdigest()


def seal(previous: str, content: Document) -> dict[str, Any]:
    """`content` as a stored event: with the previous hash and its own."""
    return {**content, "previous": previous, "hash": event_hash(previous, content)}


def check_chain(
    documents: Iterable[Document], marks: Iterable[Mark] = (), *, first: int = 1, previous: str = GENESIS
) -> ChainCheck:
    """Where a sequence of events stops to be what was appended.

    Parameters
    ----------
    documents
        Events in the order of the log; read once, not kept.
    marks
        What trusted heads say about them. Marks before ``first - 1`` say nothing about these events.
    first, previous
        Sequence of the first event and the hash before it.
    """
    expected_hashes: dict[int, set[str]] = defaultdict(set)
    for mark in marks:
        expected_hashes[mark.sequence].add(mark.hash)
    last, last_hash, covered = first - 1, previous, first - 1
    found = _against_marks(last, last_hash, covered, expected_hashes)
    iterator = iter(documents)
    if found is None:
        for document in iterator:
            found = _fault(document, last + 1, last_hash, iterator)
            found = found or _against_marks(last + 1, document["hash"], covered, expected_hashes)
            if found is not None:
                break
            last, last_hash = last + 1, document["hash"]
            if last in expected_hashes:
                covered = last
    if found is None and expected_hashes and max(expected_hashes) > last:
        promised = max(expected_hashes)
        found = Break(last + 1, Reason.TRUNCATED, f"a signed head covers {promised} events, the log ends with {last}")
    return ChainCheck(last, last_hash, covered, found)


def _against_marks(sequence: int, found: str, covered: int, expected: Mapping[int, set[str]]) -> Break | None:
    if sequence not in expected or expected[sequence] == {found}:
        return None
    since = f"one or more of the events {covered + 1} to {sequence}" if sequence > covered else "an event before it"
    return Break(sequence, Reason.REWRITTEN, f"{since} are not those that a signed head covers")


def _fault(document: Document, expected: int, previous: str, rest: Iterator[Document]) -> Break | None:
    """What is wrong with one event, apart from heads; reads `rest` only to tell a moved event from a missing one."""
    if not _well_formed(document):
        return Break(expected, Reason.MALFORMED, "it lacks a field or has one of another type")
    sequence = document["sequence"]
    if sequence < expected:
        return Break(sequence, Reason.REORDERED, f"it stands where event {expected} belongs")
    if sequence > expected:
        moved = any(isinstance(later, dict) and later.get("sequence") == expected for later in rest)
        reason = Reason.REORDERED if moved else Reason.MISSING
        return Break(expected, reason, f"event {sequence} stands in its place")
    if _rehashed(document) != document["hash"]:
        return Break(expected, Reason.HASH_MISMATCH, "its content is not what was recorded")
    if document["previous"] != previous:
        return Break(expected, Reason.BROKEN_LINK, "it was appended to another event than the one before it")
    return None


def _rehashed(document: Document) -> str | None:
    try:
        return event_hash(document["previous"], document)
    except ValueError:  # not JSON that could ever have been hashed
        return None


def _well_formed(document: Document) -> bool:
    return (
        isinstance(document, dict)
        and set(document) == set(FIELDS)
        and type(document["sequence"]) is int
        and all(isinstance(document[name], str) and _is_hash(document[name]) for name in ("previous", "hash"))
    )
