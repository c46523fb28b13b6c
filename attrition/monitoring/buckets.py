"""Calendar buckets of predictions, spans of time, and which of a person's predictions in a bucket counts."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from attrition.errors import Fault, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd


class Period(StrEnum):
    """Length of a bucket."""

    MONTH = "month"
    QUARTER = "quarter"

    @classmethod
    def parse(cls, text: str) -> Period:
        """The period of this name.

        Raises
        ------
        UsageError
            There is none.
        """
        if text not in set(cls):
            raise UsageError(Fault("period", f"{text[:40]!r} is none", f"one of {', '.join(cls)}"))
        return cls(text)


_SPAN = re.compile(r"(\d{1,5})([dhw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_FORMS = "7d, 24h, 2w, DATE..DATE or a file is expected"
_FREQUENCIES = {Period.MONTH: "M", Period.QUARTER: "Q"}


def bucket_names(times: pd.Series, period: Period) -> pd.Series:
    """Name of each prediction's bucket, UTC: ``2026-04`` or ``2026Q2``, in lexical order of time.

    Parameters
    ----------
    times : Series of datetime64 with zone UTC

    Examples
    --------
    >>> import pandas as pd
    >>> bucket_names(pd.Series(pd.to_datetime(["2026-04-30"], utc=True)), Period.QUARTER).tolist()
    ['2026Q2']
    """
    names: pd.Series = times.dt.tz_convert(None).dt.to_period(_FREQUENCIES[period]).astype(str)
    return names


def first_per_person(predictions: pd.DataFrame) -> pd.DataFrame:
    """The earliest prediction of each person; rows without a person are left out.

    A nightly batch predicts the same person thirty times a month, and all thirty share one outcome. Counted singly
    they would narrow every interval by a factor of five without a single new fact. The person is the cluster, and
    one row per cluster makes the rows independent, which is what the intervals assume. The earliest is taken as it
    matures first and was made with the least hindsight.

    Parameters
    ----------
    predictions : DataFrame
        ``employee_id`` (str or missing) and ``time``, of one version and one bucket.
    """
    known = predictions[predictions["employee_id"].notna()]
    return known.sort_values("time", kind="stable").drop_duplicates("employee_id", keep="first")


def split(predictions: pd.DataFrame, period: Period) -> Iterator[tuple[str, pd.DataFrame]]:
    """Bucket names with their predictions, oldest first."""
    for name, rows in predictions.groupby(bucket_names(predictions["time"], period), sort=True):
        yield str(name), rows


def parse_period(text: str, *, now: datetime) -> tuple[datetime, datetime] | None:
    """Start and end of a period, the end excluded; None when the text is none.

    Raises
    ------
    UsageError
        It ends before it begins, or is empty.

    Examples
    --------
    >>> day = datetime(2026, 1, 31, tzinfo=UTC)
    >>> [f"{moment:%d %b %H:%M}" for moment in parse_period("36h", now=day)]
    ['29 Jan 12:00', '31 Jan 00:00']
    >>> [f"{moment:%d %b}" for moment in parse_period("2026-01-01..2026-01-07", now=day)]
    ['01 Jan', '08 Jan']
    """
    if span := _SPAN.fullmatch(text):
        length = int(span[1]) * _UNITS[span[2]]
        if not length:
            raise UsageError(Fault(text, "is no time at all", _FORMS))
        return now - length, now
    first, separator, last = text.partition("..")
    start, end = _moment(first, is_end=False), _moment(last, is_end=True)
    if not separator or start is None or end is None:
        return None
    if start >= end:
        raise UsageError(Fault(text, "ends before it begins"))
    return start, end


def _moment(text: str, *, is_end: bool) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    whole_day = len(text) <= len("2026-01-01")
    return moment + timedelta(days=1) if is_end and whole_day else moment


def parse_span(text: str, *, now: datetime) -> tuple[datetime, datetime]:
    """As :func:`parse_period`, where nothing but a period will do.

    Raises
    ------
    UsageError
        The text is no period, or the period is empty.
    """
    period = parse_period(text, now=now)
    if period is None:
        raise UsageError(Fault("window", f"{text[:40]!r} is none", "30d, 24h, 2w or DATE..DATE"))
    return period
