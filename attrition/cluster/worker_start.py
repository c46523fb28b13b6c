"""What each worker process of a local Ray does first, before it imports Serve."""

from __future__ import annotations

from attrition.cluster.haproxy_revival import revive_haproxy
from attrition.cluster.loopback import keep_replicas_inside


def prepare_worker() -> None:
    """Stay on the loopback interface, and revive HAProxy; harmless when repeated.

    Ray calls it through the variable that :mod:`attrition.cluster.environment` sets.
    """
    keep_replicas_inside()
    revive_haproxy()
