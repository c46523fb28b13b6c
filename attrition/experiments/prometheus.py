"""Requests and errors of a version from a Prometheus that scrapes Ray, by PromQL.

``increase()`` is not used, for two reasons: it extrapolates to the ends of the period, and it misses what a counter
counted before its first scrape. A replica's error counter appears with its first error, so ``increase()`` misses most
of the rare ones. Here a series counts what it ends with, less what it stood at when the period began: whole numbers. A
series that starts anew under the same labels within the period is counted from its highest value only; Ray
names a restarted replica anew, so that does not happen with its own metrics.
"""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from attrition.errors import ConfigError, Fault, PlatformError
from attrition.experiments.samples import Errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from attrition.settings import Settings

REQUESTS, ERRORS = "ray_prediction_requests_total", "ray_prediction_errors_total"
SHADOW_SCORED, SHADOW_FAILED = "ray_shadow_scored_total", "ray_shadow_failed_total"

SOURCE = "Prometheus"
TIMEOUT_SECONDS = 20.0
TOKEN = "ATTRITION_PROMETHEUS_TOKEN"  # noqa: S105 - the variable's name

_UNKNOWN = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}

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
    token
        Gives the bearer token of a query; empty where the server wants none.
    """

    def __init__(self, url: str, labels: str = "", token: Callable[[], str] = str) -> None:
        self._url = url.rstrip("/")
        self._labels = labels
        self._token = token

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """The server of the settings; None where they name none."""
        if not settings.prometheus_url:
            return None
        return cls(settings.prometheus_url, settings.prometheus_labels, lambda: _token(settings))

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
        token = self._token()
        try:
            answer = httpx.post(
                f"{self._url}/api/v1/query",
                data={"query": query, "time": f"{moment.timestamp():.3f}"},
                headers={"authorization": f"Bearer {token}"} if token else {},
                timeout=TIMEOUT_SECONDS,
            )
            if answer.status_code in _UNKNOWN:
                credentials = "its token" if token else "a query without a token"
                found = f"refuses {credentials} (HTTP {answer.status_code})"
                raise PlatformError(Fault("Prometheus", found, "", f"check {TOKEN} or {TOKEN}_FILE"))
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


def _token(settings: Settings) -> str:
    """The token as it is now; empty when the settings name none.

    Raises
    ------
    ConfigError
        Its file cannot be read, or what is there cannot be a token.
    """
    token, file = settings.prometheus_token, settings.prometheus_token_file
    if file is not None and not token:
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            found = f"cannot be read ({type(error).__name__})"
            raise ConfigError(Fault(f"{TOKEN}_FILE", found, "", "write the token into it")) from error
    token = token.strip()
    if not all(" " < character <= "~" for character in token):  # would end the header, or never leave this process
        raise ConfigError(Fault(TOKEN, "holds more than a token", "printable ASCII without blanks"))
    return token


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
