"""The Ray Serve application: ``import_path: attrition.serving.app:build`` in the YAML files under ``serve_configs``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from attrition.errors import ConfigError
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.metrics import RayExport
from attrition.settings import config_faults

if TYPE_CHECKING:
    from attrition.serving.gateway import ASGIApp

GATEWAY = "Gateway"
"""Name of the ingress deployment."""


class GatewayReplica:
    """What Serve runs: a :class:`Gateway` with Serve's life cycle.

    Parameters
    ----------
    limits
        Fields of :class:`~attrition.serving.gateway.Limits`.
    """

    def __init__(self, limits: dict[str, Any]) -> None:
        from ray import serve

        from attrition.registry.bundle import load_bundle

        replica = serve.get_replica_context().replica_id.unique_id
        self._gateway = Gateway(Limits.model_validate(limits), load_bundle, replica=replica)
        self._export = RayExport(self._gateway.meter)
        self._exporting: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Serve calls this after the constructor and before the first `reconfigure`."""
        return self._gateway

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve calls this with the traffic, at the start and at every change, while requests go on."""
        await self._gateway.reconfigure(user_config)
        if self._exporting is None:  # the constructor has no event loop of its own
            self._exporting = asyncio.create_task(self._export.run())


def build(args: dict[str, Any]) -> Any:
    """The application, for Serve's declarative deployment.

    Parameters
    ----------
    args
        Optional key ``limits`` with the fields of :class:`~attrition.serving.gateway.Limits`. Weights and versions are
        not here but in ``user_config``: changing `args` restarts every replica, changing ``user_config`` restarts none.

    Raises
    ------
    ConfigError
        An unknown key or a limit out of range.
    """
    from ray import serve

    limits = parse_args(args)
    # Serve's ingress without an argument takes the ASGI application from __serve_build_asgi_app__
    deployment = serve.deployment(name=GATEWAY)(serve.ingress()(GatewayReplica))
    return deployment.bind(limits.model_dump())


def parse_args(args: dict[str, Any]) -> Limits:
    """The limits in the application's arguments.

    Raises
    ------
    ConfigError
        An unknown key or a limit out of range.
    """
    unknown = sorted(set(args) - {"limits"})
    if unknown:
        raise ConfigError(f"args: unknown key {', '.join(unknown)}; allowed: limits.")
    try:
        return Limits.model_validate(args.get("limits") or {})
    except ValidationError as error:
        raise ConfigError(config_faults("args.limits", error, Limits)) from error
