"""Ray on Kubernetes under guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.errors import Fault, UsageError
from attrition.governance.actions import Action

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from attrition.cluster.kuberay import Applied, KubeRay
    from attrition.cluster.ray_objects import RayObject
    from attrition.cluster.traffic import TrafficControl, TrafficState
    from attrition.governance.guard import Guard
    from attrition.registry.bundle import BundleRef
    from attrition.serving.traffic_history import TrafficChange
    from attrition.settings import Settings

UP_TIMEOUT_SECONDS = 1800.0
"""Nodes must be bought and an image of 2 GB pulled."""
DOWN_TIMEOUT_SECONDS = 600.0


class Cluster:
    """KubeRay's objects of one Kubernetes namespace; reached as ``Workspace.cluster``.

    Every method raises ``AccessDenied`` for who may not do it, here or there, ``ConfigError`` without a kubeconfig, and
    ``PlatformError`` when the Kubernetes API does not answer. `namespace` and `context` are those of ``kubectl``; None
    is what it would take. A `service` is the RayService that serves, ``name`` or ``namespace/name``; None is that of
    the settings.
    """

    def __init__(self, settings: Settings, guard: Guard, export: Callable[[str], BundleRef]) -> None:
        self._settings = settings
        self._guard = guard
        self._export = export

    def up(
        self,
        manifests: Sequence[Mapping[str, Any]],
        *,
        namespace: str | None = None,
        context: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        wait: bool = True,
        timeout_seconds: float = UP_TIMEOUT_SECONDS,
        on_change: Callable[[RayObject], None] = lambda _one: None,
        justification: str | None = None,
    ) -> builtins.list[RayObject]:
        """Apply manifests and return once their Ray objects are ready or have failed.

        A served application keeps its traffic.

        Parameters
        ----------
        manifests
            Kubernetes objects of any kind, as ``kubectl kustomize`` prints them.
        force
            Take fields over from other managers.
        dry_run
            Have the API server check everything and store nothing; nothing is waited for.
        wait
            False: return once all is applied.
        on_change
            Is handed each change of an object's state.

        Raises
        ------
        UsageError, ConfigError
            A conflict; an object that the API server refuses.
        """
        from attrition.cluster.ray_objects import RAY_KINDS

        named = f"{len(manifests)} objects" if len(manifests) != 1 else "1 object"
        with self._guard.acting(Action.CLUSTER, f"apply {named}", justification=justification) as entry:
            kuberay = self._connect(namespace, context)
            entry.details |= {"namespace": kuberay.namespace, "dry_run": dry_run}
            applied = kuberay.apply(manifests, force=force, dry_run=dry_run)
            entry.details["objects"] = ", ".join(one.ref for one in applied if one.kind in RAY_KINDS)[:500]
            rays = [one for one in applied if one.kind in RAY_KINDS]
            if dry_run:
                return []
            if not wait:
                return [self._in(one, context).show(one.kind, one.name) for one in rays]
            return [
                self._in(one, context).wait(one.kind, one.name, timeout_seconds=timeout_seconds, on_change=on_change)
                for one in rays
            ]

    def status(self, *, namespace: str | None = None, context: str | None = None) -> builtins.list[RayObject]:
        """Services, clusters and jobs of the namespace, and how they are."""
        self._guard.require(Action.TRAFFIC_VIEW, "cluster")
        return self._connect(namespace, context).objects()

    def deploy(self, ref: str, *, service: str | None = None, justification: str | None = None) -> TrafficChange:
        """Have a RayService answer all requests with a version, which every replica has verified and loaded before.

        Changes ``spec.serveConfigV2`` alone, so no pod is replaced; pins and shadows stay.
        """
        return self._change(lambda control: control.deploy(ref), service, justification)

    def shift(
        self,
        shares: Mapping[str, float],
        *,
        service: str | None = None,
        experiment: str | None = None,
        justification: str | None = None,
    ) -> TrafficChange:
        """Split the traffic of a RayService between versions; as ``Workspace.traffic.set``."""
        return self._change(lambda control: control.set(shares, experiment=experiment), service, justification)

    def traffic(self, *, service: str | None = None) -> TrafficState:
        """What a RayService serves now."""
        from attrition.cluster.traffic import TrafficControl

        settings = self._serving(service)
        self._guard.require(Action.TRAFFIC_VIEW, f"rayservice {settings.ray_service}")
        return TrafficControl(settings, self._export).show()

    def down(
        self,
        kind: str,
        name: str,
        *,
        namespace: str | None = None,
        context: str | None = None,
        timeout_seconds: float = DOWN_TIMEOUT_SECONDS,
        justification: str | None = None,
    ) -> bool:
        """Delete a Ray object with its pods, and return when it is gone; False when there was none.

        Parameters
        ----------
        kind
            ``RayService``, ``RayCluster`` or ``RayJob``; in any case.

        Raises
        ------
        UsageError
            Another kind.
        """
        from attrition.cluster.ray_objects import RAY_KINDS

        known = {each.lower(): each for each in RAY_KINDS}
        if kind.lower() not in known:
            raise UsageError(Fault(f"{kind}/{name}", "is no Ray object", f"one of {', '.join(known)}"))
        with self._guard.acting(Action.CLUSTER, f"delete {kind.lower()}/{name}", justification=justification) as entry:
            kuberay = self._connect(namespace, context)
            entry.details["namespace"] = kuberay.namespace
            return kuberay.delete(known[kind.lower()], name, timeout_seconds=timeout_seconds)

    def _change(
        self, change: Callable[[TrafficControl], TrafficChange], service: str | None, justification: str | None
    ) -> TrafficChange:
        from attrition.cluster.traffic import TrafficControl

        settings = self._serving(service)
        subject = f"rayservice {settings.ray_service}"
        with self._guard.acting(Action.TRAFFIC_CHANGE, subject, justification=justification) as entry:
            made = change(TrafficControl(settings, self._export, actor=entry.actor))
            entry.model_version = ", ".join(variant.version for variant in made.traffic.variants if variant.weight)
            entry.details["generation"] = made.generation
            return made

    def _connect(self, namespace: str | None, context: str | None) -> KubeRay:
        from attrition.cluster.kuberay import KubeRay

        return KubeRay.connect(namespace=namespace, context=context)

    def _in(self, one: Applied, context: str | None) -> KubeRay:
        return self._connect(one.namespace, context)

    def _serving(self, service: str | None) -> Settings:
        wanted = service or self._settings.ray_service
        if wanted is None:
            remedy = "give --service NAMESPACE/NAME, or set ATTRITION_RAY_SERVICE"
            raise UsageError(Fault("cluster", "no RayService is named", "", remedy))
        return self._settings.model_copy(update={"ray_service": wanted})
