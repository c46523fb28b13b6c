"""Calendar buckets of predictions, spans of time, and which of a person's predictions in a bucket counts."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
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


def parse_span(text: str, *, now: datetime) -> tuple[datetime, datetime]:
    """Start and end, the end excluded, of ``30d``, ``24h``, ``2w`` until now, or of ``2026-01-01..2026-01-31``.

    Days are those of UTC, and both days of a span belong to it.

    Raises
    ------
    UsageError
        The text is none of these, or the span is empty.

    Examples
    --------
    >>> [f"{day:%d %b}" for day in parse_span("2026-01-01..2026-01-07", now=datetime(2026, 2, 1, tzinfo=UTC))]
    ['01 Jan', '08 Jan']
    """
    if found := _SPAN.fullmatch(text):
        start, end = now - int(found[1]) * _UNITS[found[2]], now
    else:
        first, _, last = text.partition("..")
        try:
            start = datetime.combine(date.fromisoformat(first), time(), UTC)
            end = datetime.combine(date.fromisoformat(last), time(), UTC) + timedelta(days=1)
        except ValueError as error:
            raise UsageError(Fault("window", f"{text[:40]!r} is none", "30d, 24h, 2w or DATE..DATE")) from error
    if start >= end:
        raise UsageError(Fault("window", f"{text[:40]!r} holds no time", "it must end after it begins"))
    return start, end
