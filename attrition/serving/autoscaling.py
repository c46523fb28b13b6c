"""How many replicas the load wants: Serve's own rule, with the requests of the fast lane counted in.

Serve calls :func:`by_load` in its controller, several times a second, and applies the configured minimum, maximum and
delays to what it returns. This module is imported there, so it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

IMPORT_PATH = "attrition.serving.autoscaling:by_load"
"""Value of ``autoscaling_config.policy.policy_function``."""

IN_FLIGHT = "fast_lane_in_flight"
"""Key under which a replica reports the mean number of requests in its lane."""


def by_load(ctx: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Replicas that bring the requests in flight per replica to ``target_ongoing_requests``.

    Parameters
    ----------
    ctx
        Serve's view of the deployment: the requests that it counts itself, and what replicas report.

    Returns
    -------
    float
        Replicas wanted, >= 0, not rounded.
    dict
        State to keep; none is needed.
    """
    if ctx.current_num_replicas == 0:
        return ctx.target_num_replicas, {}
    assert ctx.config is not None
    in_lane = sum((ctx.aggregated_metrics or {}).get(IN_FLIGHT, {}).values())
    return (ctx.total_num_requests + in_lane) / ctx.config.get_target_ongoing_requests(), {}
