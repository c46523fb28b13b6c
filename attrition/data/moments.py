"""Moments: a time without a zone is UTC, here and in every table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def in_utc(moment: datetime) -> datetime: ...


@overload
def in_utc(moment: None) -> None: ...


@overload
def in_utc(moment: datetime | None) -> datetime | None: ...


def in_utc(moment: datetime | None) -> datetime | None:
    """The same moment in UTC; one without a zone is taken as UTC already, None stays None.

    Examples
    --------
    >>> in_utc(datetime(2026, 3, 1, 12))
    datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.timezone.utc)
    """
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
