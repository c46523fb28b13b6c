"""Requests and errors of a version from a Prometheus that scrapes Ray, by PromQL.

``increase()`` is not used, for two reasons: it extrapolates to the ends of the period, and it misses what a counter
counted before its first scrape. A replica's error counter appears with its first error, so ``increase()`` misses most
of the rare ones. Here a series counts what it ends with, less what it stood at when the period began: whole numbers. A
series that starts anew under the same labels within the period is counted from its highest value only; Ray
names a restarted replica anew, so that does not happen with its own metrics.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, PlatformError
from attrition.experiments.samples import Errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

REQUESTS, ERRORS = "ray_prediction_requests_total", "ray_prediction_errors_total"
SHADOW_SCORED, SHADOW_FAILED = "ray_shadow_scored_total", "ray_shadow_failed_total"

SOURCE = "Prometheus"
TIMEOUT_SECONDS = 20.0

_BEFORE = "5m"
"""How far back the value at the start of a period may lie; Prometheus's own lookback."""


class Prometheus:
    """A Prometheus server.

    Parameters
    ----------
    url
        Base address; may hold a user and a password.
    labels
        Matchers that every query gets, such as ``namespace="attrition"``, where a server scrapes several clusters.
    """

    def __init__(self, url: str, labels: str = "") -> None:
        self._url = url.rstrip("/")
        self._labels = labels

    def errors(self, version: str, start: datetime, end: datetime, as_shadow: bool = False) -> Errors | None:
        """Requests of a version in a period and how many of them failed; None when it counted none.

        All requests count, also pinned ones and those without a person: the counters do not tell them apart. Of a
        shadow, copies of records count.

        Raises
        ------
        PlatformError
            The server does not answer, or refuses the query.
        """
        good, bad = (SHADOW_SCORED, SHADOW_FAILED) if as_shadow else (REQUESTS, ERRORS)
        answered, failed = self._increase(good, version, start, end), self._increase(bad, version, start, end)
        if not answered and not failed:
            return None
        return Errors(answered + failed, failed, SOURCE)

    def _increase(self, metric: str, version: str, start: datetime, end: datetime) -> int:
        milliseconds = (end - start) // timedelta(milliseconds=1)
        if milliseconds <= 0:
            return 0
        rows = self._query(increase_query(metric, version, milliseconds, self._labels), end)
        return round(sum(float(row["value"][1]) for row in rows))

    def _query(self, query: str, moment: datetime) -> Sequence[Any]:
        import httpx

        remedy = "check ATTRITION_PROMETHEUS_URL"
        try:
            answer = httpx.post(
                f"{self._url}/api/v1/query",
                data={"query": query, "time": f"{moment.timestamp():.3f}"},
                timeout=TIMEOUT_SECONDS,
            )
            document = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # neither the address nor httpx's message: they may hold a password
            found = f"does not answer as one ({type(error).__name__})"
            raise PlatformError(Fault("Prometheus", found, "", remedy)) from error
        if not isinstance(document, dict) or document.get("status") != "success":
            said = str(document.get("error", "no reason given"))[:200] if isinstance(document, dict) else "no document"
            raise PlatformError(Fault("Prometheus", f"refuses the query: {said}", "", remedy))
        rows: Sequence[Any] = document["data"]["result"]
        return rows


def increase_query(metric: str, version: str, milliseconds: int, labels: str = "") -> str:
    """PromQL of what a version's counters counted in the last so many milliseconds, over all replicas.

    Examples
    --------
    >>> query = increase_query("hits", "1.0.0", 60_000)
    >>> for part in query.replace(" - ", " -|").replace(" or ", " or|").split("|"):
    ...     print(part)
    sum((max_over_time(hits{model_version="1.0.0"}[60000ms]) -
    last_over_time(hits{model_version="1.0.0"}[5m] offset 60000ms)) or
    max_over_time(hits{model_version="1.0.0"}[60000ms]))
    """
    quoted = version.replace("\\", "\\\\").replace('"', '\\"')
    series = f'{metric}{{model_version="{quoted}"{"," + labels if labels else ""}}}'
    now = f"max_over_time({series}[{milliseconds}ms])"
    return f"sum(({now} - last_over_time({series}[{_BEFORE}] offset {milliseconds}ms)) or {now})"
