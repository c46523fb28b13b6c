"""What the prediction log writes into a spool: one entry per scored request or batch of outcomes, as MessagePack.

An entry holds a request whole, its numbers as arrays: a request is logged or it is not, never half, and a thousand
records cost little more than one. Entries are positional; a later version may add fields at the end, so old spools
stay readable. Numbers are float64, little endian; NaN is a missing value.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from attrition.errors import Fault, IntegrityError


class Scored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Predictions that one version made in one request; row i of every array belongs to prediction i."""

    version: str
    """Semantic version."""
    variant: str
    """Name under which it was deployed."""
    threshold: float
    """Its decision threshold: the decision is ``probability >= threshold``."""
    features: tuple[str, ...]
    """Names in the order of the matrix."""
    prediction_ids: list[str]
    """UUIDs version 7."""
    employee_ids: list[str | None]
    """Pseudonyms."""
    reasons: Sequence[str]
    """Why this variant answered."""
    probabilities: bytes
    """float64, shape (n,)."""
    matrix: bytes
    """Feature matrix, float64, shape (n, n_features), row by row."""
    shadow_of: Sequence[str] = ()
    """For a shadow: identifiers of the predictions that were answered instead; otherwise empty."""


class Predictions(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="p"):
    """A scored request."""

    time_us: int
    """Unix time of the answer, microseconds."""
    latency_us: int
    """From the request's first byte in the replica to the log, microseconds."""
    scored: list[Scored]
    """By version."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known about one person at one time."""

    employee_id: str
    """Pseudonym."""
    left_on: str | None
    """ISO date of leaving; None: still employed when observed."""
    observed_at_us: int | None
    """Unix time, microseconds; None when the sender did not say."""


class Outcomes(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="o"):
    """A received batch of outcomes."""

    source: str
    """Where it came from."""
    outcomes: list[Outcome]
    """In the order sent."""


Entry = Predictions | Outcomes

encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Entry)


def decode(payload: bytes) -> Predictions | Outcomes:
    """Inverse of `encode`.

    Raises
    ------
    IntegrityError
        The payload is no entry, or one that a later version of attrition wrote.
    """
    try:
        entry: Predictions | Outcomes = _decoder.decode(payload)
    except msgspec.MsgspecError as error:
        # msgspec's message may quote what it read: not repeated here
        raise IntegrityError(Fault("spool entry", "is none that this version of attrition knows")) from error
    return entry


def doubles(values: Any) -> bytes:
    """Numbers as float64 bytes: a C-contiguous float64 ndarray, or any sequence of numbers and booleans."""
    if isinstance(values, tuple | list):
        packed: bytes = _packer(len(values))(*values)
        return packed
    data: bytes = values.astype("<f8", copy=False).tobytes()
    return data


@lru_cache(maxsize=64)
def _packer(n: int) -> Any:
    return struct.Struct(f"<{n}d").pack


def n_records(scored: Sequence[Scored]) -> int:
    """Predictions in an entry."""
    return sum(len(group.prediction_ids) for group in scored)
