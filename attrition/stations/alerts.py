"""Notifications, for those who may send them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attrition.governance.actions import Action

if TYPE_CHECKING:
    import builtins
    from collections.abc import Sequence

    from attrition.governance.guard import Guard
    from attrition.monitoring.alert_state import AlertRow
    from attrition.monitoring.alerts import Alert, Notice, Notifier
    from attrition.settings import Settings

SUBJECT = "alerts"


class Alerts:
    """Notifications; reached as ``Workspace.alerts``. Raises ``AccessDenied`` for who may not do it.

    Parameters
    ----------
    settings
        Has the addresses, and the database that remembers what was sent.
    guard
        Of the project.
    """

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard

    def test(self) -> Notice:
        """Send a test message to every address; it is never suppressed.

        Raises
        ------
        ConfigError
            No address, an address that is none, or Apprise is not installed.
        PlatformError
            No address took it.
        """
        from attrition.monitoring.alerts import Alert, Severity

        now = datetime.now(UTC)
        alert = Alert(
            f"test/{now.isoformat()}",
            "Test of attrition's alerts",
            "Nothing is wrong; this address works.",
            Severity.INFO,
        )
        with self._guard.acting(Action.ALERT, SUBJECT, details={"test": True}) as entry:
            notice = self._notifier().fire(alert, now=now)
            entry.details |= {"delivered": notice.n_delivered, "failed": notice.n_failed}
            return notice

    def list(self) -> builtins.list[AlertRow]:
        """What was sent, the latest last; without the messages."""
        from attrition.monitoring.alert_state import AlertState

        self._guard.require(Action.ALERT, SUBJECT)
        self._settings.prepare_home()
        rows = AlertState(self._settings.database_url).rows()
        return sorted((row for row in rows.values() if not row.key.startswith("test/")), key=lambda row: row.sent_at)

    def settle(self, scope: str, alerts: Sequence[Alert], *, now: datetime | None = None) -> tuple[Notice, ...]:
        """Send what holds now and resolve what does not any more.

        See :meth:`attrition.monitoring.alerts.Notifier.settle`.

        Raises
        ------
        ConfigError, PlatformError
            As for :meth:`test`.
        """
        with self._guard.acting(Action.ALERT, SUBJECT, details={"scope": scope, "firing": len(alerts)}) as entry:
            notices = self._notifier().settle(scope, alerts, now=now or datetime.now(UTC))
            entry.details["sent"] = sum(notice.sent for notice in notices)
            return notices

    def _notifier(self) -> Notifier:
        from attrition.monitoring.alert_state import AlertState
        from attrition.monitoring.alerts import Notifier, apprise_delivery

        deliver = apprise_delivery(self._settings.alert_urls.split())
        self._settings.prepare_home()
        return Notifier(deliver, AlertState(self._settings.database_url))
