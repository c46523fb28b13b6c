"""What a rollout's controller works with in this project: Ray, endpoint, registry, tables, MLflow, people."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from attrition.cluster.traffic import TrafficControl
    from attrition.governance.guard import Guard
    from attrition.registry.models import ModelRegistry
    from attrition.release.rollout import Rollout
    from attrition.release.rollout_controller import Controller
    from attrition.release.rollout_evidence import Evidence
    from attrition.release.rollout_reports import Reports
    from attrition.release.rollout_store import RolloutStore
    from attrition.release.rollout_traffic import Served
    from attrition.serving.vitals import Reading
    from attrition.settings import Settings
    from attrition.stations.alerts import Alerts

REMINDER_SECONDS = 3_600.0
"""How often it is considered whether an alert that holds is due again; once a day it is."""


@dataclass(frozen=True)
class RolloutDriver:
    """Makes controllers.

    Attributes
    ----------
    settings : Settings
    guard : Guard
    registry : callable
        Gives the registry.
    control : callable
        From the name of who acts to the control of the traffic.
    evidence : Evidence
    alerts : Alerts
    store : RolloutStore
    """

    settings: Settings
    guard: Guard
    registry: Callable[[], ModelRegistry]
    control: Callable[[str], TrafficControl]
    evidence: Evidence
    alerts: Alerts
    store: RolloutStore

    @contextlib.contextmanager
    def controller(self, **options: float) -> Iterator[Controller]:
        """A controller with the lease, connected to Ray and to the endpoint.

        Parameters
        ----------
        **options
            Of :class:`~attrition.release.rollout_lease.Lease`.

        Raises
        ------
        NotFound
            There is no rollout.
        UsageError
            Another controller has the lease.
        """
        import httpx

        from attrition.release.rollout_controller import Controller, World
        from attrition.release.rollout_lease import Lease
        from attrition.serving.vitals import read

        self.store.latest()  # without a rollout there is nothing to wait for
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._connected())
            http = stack.enter_context(httpx.Client())

            def vitals(served: Served) -> list[Reading]:
                return read(http, served.status.url, served.status.replicas)

            reports = self._reports()
            stack.callback(reports.close)
            world = World(self.control, self.registry, vitals, self.evidence.look, self.guard, reports.take)
            lease = stack.enter_context(Lease(self.store, **options))
            controller = Controller(world, self.store, lease)
            stack.callback(controller.close)
            yield controller

    def _reports(self) -> Reports:
        """The lines to MLflow, and to people where there are addresses."""
        from attrition.release.rollout_reports import Listener, Reports
        from attrition.release.rollout_tracking import chapter, log_rollout

        listeners = [Listener(chapter, lambda rollout: log_rollout(self.settings, rollout))]
        if self.settings.alert_urls:
            listeners.append(Listener(_news, self._alert))
        return Reports(*listeners)

    def _alert(self, rollout: Rollout) -> None:
        from attrition.monitoring.alerts import REPEAT_AFTER
        from attrition.release.rollout_alerts import alerts_of, scope

        # an end is told once: who drives the last rollout again tells nothing new
        if not rollout.status.is_final or datetime.now(UTC) - rollout.log[-1].at < REPEAT_AFTER:
            self.alerts.settle(scope(rollout), alerts_of(rollout))

    def _connected(self) -> contextlib.AbstractContextManager[object]:
        """One connection to a cluster that is reached by its GCS, instead of one for each look at the traffic."""
        from attrition.cluster.session import connect

        address = self.settings.ray_address
        if address is None or "://" in address:
            return contextlib.nullcontext()
        return connect(self.settings)


def _news(rollout: Rollout) -> Hashable:
    """The alerts that hold, told again after a while; the notifier decides whether they are sent again."""
    from attrition.release.rollout_alerts import alerts_of

    alerts = alerts_of(rollout)
    return alerts, int(time.time() // REMINDER_SECONDS) if alerts else 0
