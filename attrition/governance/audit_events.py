"""What is recorded: who did what to what, why, and with which outcome; never what is known about a person."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from attrition.errors import Fault, UsageError
from attrition.governance.actions import Action
from attrition.governance.audit_chain import canonical

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

MAX_DETAIL_BYTES = 8_192
"""Size of an event's details as canonical JSON: the log is for what happened, not for data."""
PERSON = "person:"
"""What a subject starts with that is a person: ``person:`` and a pseudonym."""

_LENGTHS = {
    "subject": 256,
    "actor": 128,
    "justification": 2_000,
    "model_version": 128,
    "data_version": 128,
    "client_address": 64,
    "correlation": 64,
}
_ABOUT_A_PERSON = {Action.PRIVACY_REPORT, Action.ERASE}
_PERSONAL_DETAILS = {"employee_id", "employee_ids", "email", "features", "record", "records", "salary", "birth_date"}
_MULTILINE = "justification"
_MAX_DEPTH = 8

_is_pseudonym = re.compile(r"[0-9a-f]{32}(?:-[0-9]{1,9})?").fullmatch


class Outcome(StrEnum):
    """How an action ended."""

    STARTED = "started"
    """It is about to be performed; an event with the same correlation says how it ended."""
    SUCCEEDED = "succeeded"
    """It was performed."""
    FAILED = "failed"
    """It was attempted and ended with an error."""
    DENIED = "denied"
    """It was refused to the actor and not attempted."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something to be recorded.

    Parameters
    ----------
    action : Action
        What is done.
    subject : str
        What it is done to, at most 256 characters: a version, a snapshot, a file's name. A person only as
        ``person:<pseudonym>``, see :func:`person`.
    outcome : Outcome
    actor : str
        Who does it, at most 128 characters; empty means the user of the operating system.
    justification : str, optional
        Why, in the actor's words, at most 2,000 characters; tell people that it is kept for years.
    model_version, data_version : str, optional
        Which ones took part.
    client_address : str, optional
        Where the request came from, when it came over a network.
    details : mapping
        JSON, at most 8,192 bytes: counts, settings, digests. No ids or values of persons.
    correlation : str, optional
        The same for all events of one action; None draws a new one.

    Raises
    ------
    UsageError
        A text is empty, too long or holds control characters; the details are not JSON, too large, or named like a
        person's data. All faults at once, without the values.
    """

    action: Action
    subject: str
    outcome: Outcome
    actor: str = ""
    justification: str | None = None
    model_version: str | None = None
    data_version: str | None = None
    client_address: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    correlation: str | None = None

    def __post_init__(self) -> None:
        faults = [*_enum_faults(self), *_text_faults(self), *_person_faults(self), *_detail_faults(self.details)]
        if faults:
            raise UsageError(faults)


@dataclass(frozen=True, slots=True)
class Record:
    """An event as it was recorded.

    Attributes
    ----------
    sequence : int, >= 1
        Without gaps, in the order of the transactions.
    time : str
        When it was recorded, UTC, ISO 8601 with microseconds: ``2026-01-31T12:00:00.000000Z``.
    previous, hash : str
        Hash of the event before and of this one, 64 hexadecimal digits.
    action, subject, outcome, actor, justification, model_version, data_version, client_address, correlation, details
        As in :class:`Event`, as plain text: a log that was tampered with can still be read.
    """

    sequence: int
    time: str
    action: str
    subject: str
    outcome: str
    actor: str
    justification: str | None
    model_version: str | None
    data_version: str | None
    client_address: str | None
    correlation: str
    details: Mapping[str, Any]
    previous: str
    hash: str

    @property
    def moment(self) -> datetime:
        """When it was recorded, with zone."""
        return datetime.fromisoformat(self.time)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document, the one that exports hold."""
        return asdict(self)


def person(pseudonym: str) -> str:
    """The subject of an event about a person.

    Examples
    --------
    >>> person("9f" * 16)
    'person:9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f'
    """
    return PERSON + pseudonym


def _enum_faults(event: Event) -> list[Fault]:
    faults = []
    action: object = event.action
    outcome: object = event.outcome
    if not isinstance(action, Action):
        faults.append(Fault("audit event", "action is no Action", "use attrition.governance.actions"))
    if not isinstance(outcome, Outcome):
        faults.append(Fault("audit event", "outcome is no Outcome", f"allowed: {', '.join(Outcome)}"))
    return faults


def _text_faults(event: Event) -> list[Fault]:
    faults = []
    for name, length in _LENGTHS.items():
        value = getattr(event, name)
        if value is None and name not in ("subject", "actor"):
            continue
        if not isinstance(value, str):
            faults.append(Fault("audit event", f"{name} is no text"))
        elif not value.strip() and name != "actor":
            faults.append(Fault("audit event", f"{name} is empty"))
        elif len(value) > length:
            faults.append(Fault("audit event", f"{name} has {len(value)} characters", f"at most {length} are kept"))
        elif not _printable(value, lines=name == _MULTILINE):
            faults.append(Fault("audit event", f"{name} holds control characters", "plain text is expected"))
    return faults


def _person_faults(event: Event) -> list[Fault]:
    subject = str(event.subject)
    about_a_person = subject.startswith(PERSON) or event.action in _ABOUT_A_PERSON
    if about_a_person and not _is_pseudonym(subject.removeprefix(PERSON)):
        return [Fault("audit event", "subject is a person, but no pseudonym", f"{PERSON}<32 hexadecimal digits>")]
    return []


def _detail_faults(details: Any) -> list[Fault]:
    if not isinstance(details, Mapping):
        return [Fault("audit event", "details are no mapping")]
    named = sorted(_PERSONAL_DETAILS & {key.lower() for key in details if isinstance(key, str)})
    if named:
        allowed = "counts, settings and digests"
        return [Fault("audit event", f"details hold a person's data: {', '.join(named)}", f"allowed: {allowed}")]
    try:
        if not _plain(dict(details), _MAX_DEPTH):
            return [Fault("audit event", "details hold control characters or are nested too deeply", "plain JSON")]
        size = len(canonical(dict(details)))
    except ValueError:
        return [Fault("audit event", "details are not JSON", "finite numbers, text, lists and mappings of them")]
    if size > MAX_DETAIL_BYTES:
        return [Fault("audit event", f"details have {size} bytes as JSON", f"at most {MAX_DETAIL_BYTES} are kept")]
    return []


def _plain(value: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, str):
        return _printable(value, lines=True)
    if isinstance(value, dict):
        return all(_plain(key, depth) and _plain(inner, depth - 1) for key, inner in value.items())
    return not isinstance(value, list | tuple) or all(_plain(inner, depth - 1) for inner in value)


def _printable(text: str, *, lines: bool) -> bool:
    """No control character (one could forge what a terminal shows), no lone surrogate (no database takes one)."""
    allowed = "\n\t" if lines else ""
    return all(char in allowed or unicodedata.category(char) not in ("Cc", "Cs") for char in text)
