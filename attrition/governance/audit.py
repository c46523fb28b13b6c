"""The audit log: what matters is recorded before and after it is done, in a chain on which tampering shows.

::

    with AuditLog.open("sqlite:///governance.db", signing_key=Path("keys/audit.pem")) as log:
        log.append(Event(Action.TRAFFIC_CHANGE, "1.1.0", Outcome.STARTED, justification="pilot in two departments"))
        log.verify().intact

Three layers, each for what the one before cannot show. The database refuses to change a row (``audit_barriers``).
Hashes that cover their predecessor show any change, removal, insertion or move (``audit_chain``). Signed heads, made
every 100 events or 10 minutes and on demand, show truncation and a table that was rewritten as a whole
(``audit_heads``): from then on an event can be denied only by whoever has the key, and not at all once the head lies
somewhere else. The newest one lies beside the key (``audit_anchor``), so an emptied database does not begin anew. What
was appended after the last head is protected by the next one.

Retention is at least 7 years, and there is no call that deletes. Months go to immutable storage with
:meth:`AuditLog.export` and stay verifiable there, offline, by ``python -m attrition.governance.audit_verify``.
"""

from __future__ import annotations

import getpass
import logging
import time as clock
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import Fault, IntegrityError, NotFound, PlatformError, UsageError
from attrition.governance.actions import Action
from attrition.governance.audit_chain import GENESIS, Break, Mark, Reason, Verification, check_chain
from attrition.governance.audit_events import JSON, Event, Outcome, Record, person

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from enum import StrEnum
    from pathlib import Path

    from attrition.governance.audit_anchor import Anchor
    from attrition.governance.audit_export import Exported
    from attrition.governance.audit_heads import Head, SigningKey
    from attrition.governance.audit_store import AuditStore

__all__ = ["JSON", "AuditLog", "Event", "Outcome", "Record", "Verification", "person"]

RETENTION_YEARS = 7
"""How long events are kept at least: longer than the limitation periods of claims from employment in most countries."""
HEAD_EVENTS = 100
"""A head is signed when so many events came after the last one ..."""
HEAD_MINUTES = 10.0
"""... or when an event comes so long after it."""

_HEADS_LOOKED_AT = 5

logger = logging.getLogger(__name__)


class AuditLog:
    """The audit log of a project. Safe to use from several threads, processes and machines at once.

    Parameters
    ----------
    store
        Where the events lie; see :meth:`open`.
    key
        Signs the heads; None: this process signs none.
    anchor
        Keeps the newest head outside the database; None: nothing does.
    head_events, head_minutes
        How often a head is signed, see :data:`HEAD_EVENTS` and :data:`HEAD_MINUTES`.
    """

    def __init__(
        self,
        store: AuditStore,
        key: SigningKey | None = None,
        *,
        anchor: Anchor | None = None,
        head_events: int = HEAD_EVENTS,
        head_minutes: float = HEAD_MINUTES,
    ) -> None:
        self._store = store
        self._key = key
        self._anchor = anchor
        self._is_anchored = anchor is None
        self._head_events = head_events
        self._head_minutes = head_minutes
        self._last_head: tuple[int, float] | None = None  # sequence, and monotonic time in seconds

    @classmethod
    def open(
        cls,
        url: str,
        *,
        signing_key: Path | None = None,
        head_events: int = HEAD_EVENTS,
        head_minutes: float = HEAD_MINUTES,
    ) -> Self:
        """The log in the database at `url`, which is connected on first use; its tables are made when they are absent.

        Parameters
        ----------
        url
            ``sqlite:///path`` or ``postgresql://user:password@host/database``.
        signing_key
            PEM file of the key that signs heads; made when there is none. None: this process signs none.

        Raises
        ------
        ConfigError
            `url` is no such address, or the key file cannot be used.
        """
        from attrition.governance.audit_anchor import Anchor
        from attrition.governance.audit_heads import SigningKey
        from attrition.governance.audit_store import AuditStore

        store = AuditStore(url)
        if signing_key is None:
            return cls(store, head_events=head_events, head_minutes=head_minutes)
        key, anchor = SigningKey.load_or_create(signing_key), Anchor(signing_key, store.address)
        return cls(store, key, anchor=anchor, head_events=head_events, head_minutes=head_minutes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database. Harmless when repeated."""
        self._store.close()

    def append(self, event: Event, *, now: datetime | None = None) -> Record:
        """Record an event durably, after all others; returns when it is stored.

        Parameters
        ----------
        now
            Time to record, with a zone; the clock of this machine when None.

        Raises
        ------
        AuditUnavailable
            The database does not answer: what was to be recorded must not be done.
        IntegrityError
            The log is shorter than it was when it was last signed here; see :mod:`attrition.governance.audit_anchor`.
        """
        self._require_anchored()
        correlation = event.correlation or uuid.uuid4().hex
        actor = event.actor or _os_user()

        def content(sequence: int) -> Mapping[str, Any]:
            return {
                "sequence": sequence,
                "time": _text(now),
                "action": event.action.value,
                "subject": event.subject,
                "outcome": event.outcome.value,
                "actor": actor,
                "justification": event.justification,
                "model_version": event.model_version,
                "data_version": event.data_version,
                "client_address": event.client_address,
                "correlation": correlation,
                "details": dict(event.details),
            }

        record = Record(**self._store.append(content))
        if self._key is not None:
            self._sign_when_due(record)
        return record

    def records(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        actor: str | None = None,
        action: Action | str | None = None,
        subject: str | None = None,
        outcome: Outcome | str | None = None,
        correlation: str | None = None,
        unfinished: bool = False,
        limit: int = 1_000,
    ) -> list[Record]:
        """The newest `limit` events that fit all conditions, the oldest of them first.

        Parameters
        ----------
        since, until
            Time with a zone; ``since <= time < until``.
        unfinished
            Only starts of actions whose end was not recorded: they still run, or their process was killed.

        Raises
        ------
        UsageError
            A time without a zone, a limit below 1, an unknown action or outcome.
        AuditUnavailable
            The database does not answer.
        """
        if limit < 1:
            raise UsageError(Fault("limit", f"is {limit}", "1 or more"))
        conditions = {
            "since": None if since is None else _text(since),
            "until": None if until is None else _text(until),
            "actor": actor,
            "action": None if action is None else _word(Action, "action", action),
            "subject": subject,
            "outcome": None if outcome is None else _word(Outcome, "outcome", outcome),
            "correlation": correlation,
            "unfinished": Outcome.STARTED if unfinished else None,
        }
        given = {name: str(value) for name, value in conditions.items() if value is not None}
        return [Record(**document) for document in self._store.newest(given, limit)]

    def record(self, sequence: int) -> Record:
        """One event.

        Raises
        ------
        NotFound
            There is none with this sequence.
        """
        with closing(self._store.documents(first=sequence, last=sequence)) as documents:
            for document in documents:
                return Record(**document)
        last = self._store.end().sequence
        raise NotFound(Fault(f"event {sequence}", "is not in the audit log", f"it holds the events 1 to {last}"))

    def verify(self, *, heads: Iterable[Head] = (), public_keys: Collection[str] = ()) -> Verification:
        """Whether the log is what was appended; reads it once, in constant memory.

        Parameters
        ----------
        heads
            Heads that were kept elsewhere; the log must extend each of them.
        public_keys
            Keys, 64 hexadecimal digits each, whose heads are trusted beside those of this log's own key.
        """
        from attrition.governance.audit_heads import examine

        trusted = {*public_keys, *({self._key.public_key} if self._key else ())}
        kept = None if self._anchor is None else self._anchor.read()
        own = [kept] if kept is not None and kept.public_key in trusted else []
        believed, breaks = examine([*self._store.heads(), *own, *heads], trusted)
        with closing(self._store.documents()) as documents:
            check = check_chain(documents, [head.mark for head in believed])
        return Verification.of(check, n_heads=len(set(believed)), head_breaks=breaks)

    def head(self, *, now: datetime | None = None) -> Head:
        """A signed head for the log as it is, which is stored, too.

        What came since the last head is verified first, so that no signature vouches for tampered events.

        Raises
        ------
        UsageError
            The log was opened without a signing key.
        IntegrityError
            An event since the last head is not what was appended.
        """
        self._require_anchored()
        head, found = self._sign(self._store.end(), _text(now))
        if found is not None:
            remedy = "keep a copy of the database and run attrition audit verify"
            raise IntegrityError(Fault("audit log", f"cannot be signed: {found}", "", remedy))
        assert head is not None
        return head

    def export(self, target: str | Path, *, first: int | None = None) -> Exported | None:
        """Write events with a signed head as JSON Lines, for storage that forgets nothing.

        Parameters
        ----------
        target
            A folder or its address (``abfss://...``), in which the file is named by its range,
            ``audit-000000000001-000000004711.jsonl``; or a new file that ends in ``.jsonl``.
        first
            Sequence of the first event; None: what came since the newest export in the folder, which is checked to be
            of this log. Everything to the last event is written.

        Returns
        -------
        Exported or None
            None when there is nothing to write.

        Raises
        ------
        IntegrityError
            The log is not what was appended or exported before; no file appears.
        UsageError
            The file exists, or the log was opened without a signing key.
        PlatformError
            The storage cannot be written, or the database does not answer.
        """
        from attrition.governance import audit_export

        if first is not None and first < 1:
            raise UsageError(Fault("first event", f"is {first}", "1 or more"))
        self._signer()
        return audit_export.export(self._store, audit_export.Archive(target), self.head, first)

    @property
    def public_key(self) -> str:
        """What verifies this log's heads, 64 hexadecimal digits.

        Raises
        ------
        UsageError
            The log was opened without a signing key.
        """
        return self._signer().public_key

    @property
    def public_pem(self) -> str:
        """The same as PEM."""
        return self._signer().public_pem

    def _signer(self) -> SigningKey:
        if self._key is None:
            raise UsageError(Fault("audit log", "was opened without a signing key", "", "name its file"))
        return self._key

    def _sign(self, end: Mark, time: str) -> tuple[Head | None, Break | None]:
        key = self._signer()
        newest = self._believed()
        base = Mark(0, GENESIS) if newest is None else newest.mark
        with closing(self._store.documents(first=base.sequence + 1, last=end.sequence)) as documents:
            check = check_chain(documents, [base, end], first=base.sequence + 1, previous=base.hash)
        if check.found is not None:
            return None, check.found
        if end.sequence < base.sequence:
            return None, Break(end.sequence + 1, Reason.TRUNCATED, f"a signed head covers {base.sequence} events")
        head = key.sign(end, time)
        self._store.add_head(head)
        if self._anchor is not None:
            self._anchor.keep(head)
        return head, None

    def _require_anchored(self) -> None:
        """Look once in the life of this object, before the first event: later ones only make the log longer."""
        if self._anchor is not None and not self._is_anchored:
            self._anchor.require(self._store.end(), self.public_key)
            self._is_anchored = True

    def _sign_when_due(self, record: Record) -> None:
        """Sign when the policy says so; a failure leaves it to a later event, because this one is recorded already."""
        try:
            if not self._due(record.sequence):
                return
            _, found = self._sign(Mark(record.sequence, record.hash), _text(None))
        except PlatformError as error:
            logger.warning("no head was signed: %s", error)
            return
        self._last_head = (record.sequence, clock.monotonic())
        if found is not None:
            logger.error("the audit log was tampered with, no head was signed: %s", found)

    def _due(self, sequence: int) -> bool:
        if self._last_head is not None and not self._overdue(sequence, *self._last_head):
            return False
        newest = self._believed()  # another process may have signed meanwhile
        if newest is None:
            return True
        age = datetime.now(UTC) - datetime.fromisoformat(newest.time)
        self._last_head = (newest.sequence, clock.monotonic() - age.total_seconds())
        return self._overdue(sequence, *self._last_head)

    def _believed(self) -> Head | None:
        """The stored head of this log's key that covers most; a forged one must not stand for it."""
        from attrition.governance.audit_heads import examine

        believed, _ = examine(self._store.heads(newest=_HEADS_LOOKED_AT), {self.public_key})
        return max(believed, key=lambda head: head.sequence, default=None)

    def _overdue(self, sequence: int, last: int, moment: float) -> bool:
        late = clock.monotonic() - moment >= 60 * self._head_minutes
        return late or sequence - last >= self._head_events


def _text(moment: datetime | None) -> str:
    """A time as it is stored: of fixed length, so that texts sort as times do."""
    if moment is None:
        moment = datetime.now(UTC)
    if moment.tzinfo is None:
        raise UsageError(Fault("audit log", "a time has no zone", "", "use datetime.now(UTC)"))
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _word(kind: type[StrEnum], name: str, word: str) -> str:
    if word not in list(kind):
        raise UsageError(Fault(name, f"{word!r} is unknown", f"allowed: {', '.join(kind)}"))
    return str(word)


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
