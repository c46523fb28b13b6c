"""The life of the endpoint under guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attrition.governance.guard import Guard
    from attrition.registry.bundle import BundleRef
    from attrition.serving.control import ServeStatus
    from attrition.serving.traffic import Traffic
    from attrition.settings import Settings


class Serving:
    """The served application; reached as ``Workspace.serving``."""

    def __init__(self, settings: Settings, guard: Guard, export: Callable[[str], BundleRef]) -> None:
        self._settings = settings
        self._guard = guard
        self._export = export

    def up(
        self,
        ref: str | None = None,
        *,
        config: str | Path = "local",
        replace: bool = False,
        justification: str | None = None,
    ) -> ServeStatus:
        """Serve a registered version over HTTP and return once it answers.

        Parameters
        ----------
        ref
            Version or alias; verified against its manifest before a replica loads it. None keeps the traffic of an
            endpoint that runs, and serves the champion when none does.
        config
            Serve configuration by path or shipped name.
        replace
            Drop the split, pins and shadows of an endpoint that runs.

        Raises
        ------
        UsageError
            The endpoint runs with a split, pins or shadows, and `ref` would replace them.
        NotFound, IntegrityError
            The version does not exist or its bytes changed.
        PortInUse, ServingError, RayUnreachable
            The endpoint cannot be brought up.
        """
        from attrition.cluster import endpoint

        with self._guard.acting(Action.DEPLOY, "endpoint", justification=justification) as entry:

            def traffic(live: Traffic | None) -> Traffic:
                wanted = endpoint.wanted(live, ref, self._export, replace=replace)
                answering = [variant for variant in wanted.variants if variant.weight]
                entry.model_version = ", ".join(variant.version for variant in answering)
                entry.details["manifest_sha256"] = ", ".join(variant.manifest_sha256 for variant in answering)
                return wanted

            entry.details["config"] = str(config)[-200:]
            return endpoint.up(self._settings, traffic, config, actor=entry.actor)

    def require_free_port(self) -> None:
        """Return when nobody listens on the endpoint's port, so that :meth:`up` can take it.

        Raises
        ------
        PortInUse
            Somebody does.
        """
        from attrition.cluster import endpoint

        endpoint.require_free_port(self._settings)

    def status(self) -> ServeStatus:
        """What is served, by how many replicas, at which addresses."""
        from attrition.cluster import endpoint

        return endpoint.status(self._settings)

    def down(self, *, justification: str | None = None) -> bool:
        """Stop serving, and the local Ray head if :meth:`up` started it; False when nothing was served."""
        from attrition.cluster import endpoint

        with self._guard.acting(Action.DEPLOY, "endpoint", justification=justification) as entry:
            entry.details["stopped"] = stopped = endpoint.down(self._settings)
            return stopped
