"""The controller of a rollout as a detached Ray actor: it outlives the command that started it, and its own death.

Ray starts the actor again when its process dies. Whatever it knows is in the database, so it goes on where the other
one stopped, once the other's lease has expired. When the rollout is over the actor ends itself.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from attrition.errors import AttritionError, Fault, RayUnreachable
from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attrition.cluster.session import RaySession
    from attrition.settings import Settings

logger = logging.getLogger(__name__)

NAME = "attrition-rollout"

HEAD = "node:__internal_head__"
"""Resource that Ray gives the head node alone."""

_PAUSE_SECONDS = 5.0


class RolloutActor:
    """Drives the rollout in a thread of its own.

    Parameters
    ----------
    settings : str
        JSON of the project's settings.
    """

    def __init__(self, settings: str) -> None:
        import ray

        from attrition.governance.guard import Guard
        from attrition.registry.models import ModelRegistry
        from attrition.settings import Settings
        from attrition.stations.alerts import Alerts
        from attrition.stations.models import Models
        from attrition.stations.release import Release

        project = Settings.model_validate_json(settings)
        self._guard = Guard(project)
        registry = cache(lambda: ModelRegistry(project))
        models, alerts = Models(project, self._guard, registry), Alerts(project, self._guard)
        self._release = Release(
            project, self._guard, registry, lambda ref: registry().export_bundle(ref), models, alerts
        )
        self._myself = ray.get_runtime_context().current_actor
        threading.Thread(target=self._drive, name="rollout", daemon=True).start()

    def who(self) -> str:
        """Who this process is for the guard, if that may drive a rollout; raises what the guard raises."""
        return self._guard.require(Action.PROMOTE, "rollout").name

    def pid(self) -> int:
        """Of this process."""
        return os.getpid()

    def _drive(self) -> None:
        import ray

        while True:
            try:
                self._release.run()
                break
            except Exception as error:  # a thread that ended would leave an actor that does nothing
                logger.warning("%s", error, exc_info=not isinstance(error, AttritionError))
                time.sleep(_PAUSE_SECONDS)
        ray.kill(self._myself, no_restart=True)


def start_actor(settings: Settings) -> str:
    """Start the actor on the cluster that serves, unless it is there; its name.

    Raises
    ------
    RayUnreachable
        There is no cluster that outlives this process.
    NotAuthenticated, AccessDenied
        Access is closed, and the cluster's processes have no key, or one that may not promote.
    """
    import ray

    from attrition.cluster.session import NAMESPACE

    with _cluster(settings) as session:
        options: dict[str, Any] = {
            "name": NAME,
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "max_restarts": -1,
            "num_cpus": 0,
            "get_if_exists": True,
        }
        # a worker cannot ask its own Ray for the dashboard
        there = settings.model_copy(update={"ray_address": session.dashboard_url})
        if settings.ray_service is not None:
            # the head's pod may change the RayService's specification, and finds the dashboard by its Service
            options["resources"] = {HEAD: 0.001}
            there = settings.model_copy(update={"ray_address": None})
        actor = ray.remote(RolloutActor).options(**options).remote(there.model_dump_json())
        try:
            ray.get(actor.who.remote(), timeout=60)
        except ray.exceptions.RayTaskError as error:
            ray.kill(actor, no_restart=True)
            if isinstance(error.cause, AttritionError):
                raise error.cause from error
            raise
    return NAME


@contextmanager
def _cluster(settings: Settings) -> Iterator[RaySession]:
    """A connection to the cluster that serves."""
    from attrition.cluster.local_head import find_local_head
    from attrition.cluster.session import active_session, connect, join_local_head

    session = active_session()
    if session is not None:
        yield session
        return
    if settings.ray_address is not None and "://" not in settings.ray_address:
        with connect(settings) as joined:
            yield joined
        return
    head = None if settings.ray_address else find_local_head(settings)
    if head is None:
        remedy = "run the command there: attrition jobs submit -- attrition release run"
        raise RayUnreachable(Fault("Ray", "is not reached as an actor's cluster must be (host:port)", remedy=remedy))
    with join_local_head(settings, head) as joined:
        yield joined
