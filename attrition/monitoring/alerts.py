"""Notifications about what monitoring found: to e-mail, Slack, Teams, a webhook, by Apprise addresses.

An alert has a key (``performance/1.0.0/auc``). The same key is sent once per period, whoever notices it and however
often, unless it became worse; when it is over, one message says so. Addresses hold passwords and tokens: no message,
log line or error repeats more of one than its position in the list.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from attrition.errors import ConfigError, Fault, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from attrition.monitoring.alert_state import AlertState

REPEAT_AFTER = timedelta(hours=24)
"""Period after which an alert that still holds is sent again: a daily reminder is read, an hourly one is filtered."""

VARIABLE = "ATTRITION_ALERT_URLS"


class Severity(StrEnum):
    """How urgent an alert is; ordered."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0, 1 or 2."""
        return list(Severity).index(self)


_KINDS = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "failure"}


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should know.

    Attributes
    ----------
    key : str
        Same for every occurrence of the same thing; no ids of persons.
    title : str
        One line.
    body : str
        What was found, with figures, and what to do.
    severity : Severity
    """

    key: str
    title: str
    body: str
    severity: Severity = Severity.WARNING


@dataclass(frozen=True, slots=True)
class Notice:
    """What became of an alert.

    Attributes
    ----------
    key : str
    sent : bool
        False: it was sent within the period already, or there was nothing to resolve.
    n_delivered, n_failed : int
        Addresses that took it, and that did not.
    """

    key: str
    sent: bool
    n_delivered: int = 0
    n_failed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"key": self.key, "sent": self.sent, "n_delivered": self.n_delivered, "n_failed": self.n_failed}


class Notifier:
    """Sends alerts, each once per period.

    Parameters
    ----------
    deliver
        Sends a title, a body and a kind (``info``, ``warning``, ``failure`` or ``success``); returns how many addresses
        took it and how many did not. See :func:`apprise_delivery`.
    state
        What was sent.
    repeat_after
        Period of one alert.
    """

    def __init__(
        self,
        deliver: Callable[[str, str, str], tuple[int, int]],
        state: AlertState,
        *,
        repeat_after: timedelta = REPEAT_AFTER,
    ) -> None:
        self._deliver = deliver
        self._state = state
        self._repeat_after = repeat_after

    def fire(self, alert: Alert, *, now: datetime) -> Notice:
        """Send an alert unless it was sent within the period.

        Raises
        ------
        PlatformError
            No address took it (it will be tried again next time), or the database does not answer.
        """
        before = self._state.rows(alert.key).get(alert.key)
        if not self._state.claim(alert.key, alert.severity.rank, title=alert.title, now=now, period=self._repeat_after):
            return Notice(alert.key, sent=False)
        missed = (
            f" ({before.n_suppressed:,} more times since the last message)" if before and before.n_suppressed else ""
        )
        title = f"[{alert.severity.upper()}] {alert.title}"
        return self._send(alert.key, title, alert.body + missed, _KINDS[alert.severity], before)

    def resolve(self, key: str, title: str, *, body: str = "") -> Notice:
        """Say that an alert is over, if it was sent and nobody said so yet.

        Raises
        ------
        PlatformError
            As for :meth:`fire`.
        """
        before = self._state.rows(key).get(key)
        if not self._state.resolve(key):
            return Notice(key, sent=False)
        return self._send(key, f"[RESOLVED] {title}", body or "It no longer holds.", "success", before)

    def settle(self, scope: str, alerts: Sequence[Alert], *, now: datetime) -> tuple[Notice, ...]:
        """Send what holds now, and resolve what was firing under the prefix `scope` and does not hold any more.

        Raises
        ------
        PlatformError
            As for :meth:`fire`; the other alerts were dealt with before.
        """
        holding = {alert.key for alert in alerts}
        over = [row for row in self._state.rows(scope).values() if row.state == "firing" and row.key not in holding]
        work: list[Callable[[], Notice]] = [
            *(partial(self.fire, alert, now=now) for alert in alerts),
            *(partial(self.resolve, row.key, row.title) for row in over),
        ]
        notices, failure = [], None
        for each in work:
            try:
                notices.append(each())
            except PlatformError as error:  # one that cannot be sent must not keep the others
                failure = failure or error
        if failure is not None:
            raise failure
        return tuple(notices)

    def _send(self, key: str, title: str, body: str, kind: str, before: Any) -> Notice:
        delivered, failed = self._deliver(title, body, kind)
        if not delivered:
            self._state.restore(key, before)
            found = f"none of {failed} addresses took the message"
            raise PlatformError(Fault(VARIABLE, found, "", "check them with: attrition alerts test"))
        return Notice(key, sent=True, n_delivered=delivered, n_failed=failed)


def apprise_delivery(addresses: Sequence[str]) -> Callable[[str, str, str], tuple[int, int]]:
    """Function that sends a message to every address, for :class:`Notifier`.

    Parameters
    ----------
    addresses
        Apprise URLs (``mailtos://...``, ``slack://...``, ``json://...``).

    Raises
    ------
    ConfigError
        No addresses, Apprise is not installed, or it does not understand some of them: all are named by position.
    """
    if not addresses:
        remedy = f"set {VARIABLE} to Apprise URLs, separated by blanks"
        raise ConfigError(Fault(VARIABLE, "names no address", "", remedy))
    try:
        import apprise
    except ImportError as error:
        remedy = "pip install 'attrition[alerts]'"
        raise ConfigError(Fault("alerts", "need Apprise, which is not installed", remedy=remedy)) from error
    with _silent():
        services = [apprise.Apprise() for _ in addresses]
        understood = [service.add(address) for service, address in zip(services, addresses, strict=True)]
    faults = [
        Fault(f"{VARIABLE}, address {place}", "is no URL that Apprise understands", "", "see the service's page there")
        for place, good in enumerate(understood, 1)
        if not good
    ]
    if faults:
        raise ConfigError(faults)

    def deliver(title: str, body: str, kind: str) -> tuple[int, int]:
        with _silent():
            taken = [bool(service.notify(title=title, body=body, notify_type=kind)) for service in services]
        return sum(taken), len(taken) - sum(taken)

    return deliver


@contextmanager
def _silent() -> Iterator[None]:
    """Keep Apprise's own log lines back: they repeat hosts, users and parts of addresses."""
    logger = logging.getLogger("apprise")
    was = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = was
