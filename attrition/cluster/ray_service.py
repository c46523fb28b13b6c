"""Traffic of an endpoint on Kubernetes: changed in the RayService's specification, confirmed by the replicas.

KubeRay's operator brings ``spec.serveConfigV2`` to the cluster, again whenever the cluster loses it. A change through
Serve's own interface would last until then, so what is written goes through the Kubernetes API; what is read and
confirmed comes from Serve.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from attrition.cluster.kuberay import KubeRay
from attrition.cluster.ray_token import ray_token
from attrition.errors import ConfigError, Fault, NotFound, ServingError, UsageError
from attrition.serving.config import GATEWAY
from attrition.serving.control import ServeControl, ServeStatus
from attrition.serving.dashboard import DEPLOY_TIMEOUT_SECONDS
from attrition.serving.deployed import application_config, deployed_traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.serving.traffic import Traffic
    from attrition.settings import Settings

_ATTEMPTS = 10
"""At a change that the operator's reports come in between."""

OPERATOR_SECONDS = 60.0
"""How much longer a change may take than on a Ray of one's own: the operator looks at its objects now and then."""


class RayServiceControl(ServeControl):
    """Serve on the cluster of a RayService.

    Parameters
    ----------
    kuberay
        The namespace of the service.
    service
        Its name.
    dashboard_url, url, token
        As of :class:`~attrition.serving.control.ServeControl`.
    """

    def __init__(self, kuberay: KubeRay, service: str, dashboard_url: str, url: str, *, token: str = "") -> None:
        super().__init__(dashboard_url, url, token=token)
        self._kuberay = kuberay
        self._service = service

    def deploy(self, *_: Any, **__: Any) -> ServeStatus:
        """Refused: how a RayService serves stands in its manifest."""
        remedy = "attrition cluster deploy VERSION; the configuration comes with attrition cluster up"
        raise UsageError(Fault(f"rayservice/{self._service}", "is not deployed by serve up", "", remedy))

    def change(
        self,
        name: str,
        traffic: Traffic,
        *,
        after_generation: int = -1,
        timeout_seconds: float = DEPLOY_TIMEOUT_SECONDS + OPERATOR_SECONDS,
    ) -> ServeStatus:
        """As of ``ServeControl``; an application without traffic, as manifests leave it, gets its first."""
        details = self._details()
        known = application_config(details, name)
        if known is None or deployed_traffic(details, name) is not None:
            return super().change(name, traffic, after_generation=after_generation, timeout_seconds=timeout_seconds)
        traffic = traffic.model_copy(update={"generation": after_generation + 1})
        others = [one for one in known.get("deployments", []) if one["name"] != GATEWAY]
        gateway = next((one for one in known.get("deployments", []) if one["name"] == GATEWAY), {"name": GATEWAY})
        gateway = {**gateway, "user_config": traffic.model_dump(mode="json")}
        request = {"applications": [{**known, "deployments": [gateway, *others]}]}
        return self._apply(details, name, request, traffic, timeout_seconds)

    def remove(self, *_: Any, **__: Any) -> bool:
        """Refused: what the operator keeps alive is removed from Kubernetes."""
        remedy = f"attrition cluster down rayservice/{self._service}"
        raise UsageError(Fault(f"rayservice/{self._service}", "is not stopped by serve down", "", remedy))

    def _put(self, document: Mapping[str, Any]) -> None:
        try:
            found, version = self._kuberay.serve_config(self._service)
            # Serve's own options stay as the manifest has them
            wanted = {**found, "applications": document["applications"]}
            for left in reversed(range(_ATTEMPTS)):
                try:
                    self._kuberay.set_serve_config(self._service, wanted, version)
                except UsageError:  # what the operator reports changes the object, too
                    config, version = self._kuberay.serve_config(self._service)
                    if config != found or not left:
                        raise
                else:
                    return
        except (NotFound, UsageError) as error:
            raise ServingError(error.faults) from error


def service_control(settings: Settings) -> RayServiceControl:
    """Serve on the cluster of the settings' RayService.

    Inside the cluster its Services are found by name. From outside their ports have to be forwarded, and the settings
    say where: the Ray address is the dashboard's, ``http://127.0.0.1:8265``, and the endpoint has its host and port.

    Raises
    ------
    ConfigError
        Outside of the cluster, and the Ray address is no dashboard's.
    PlatformError
        The Kubernetes API does not answer.
    """
    assert settings.ray_service is not None
    namespace, _, service = settings.ray_service.rpartition("/")
    kuberay = KubeRay.connect(namespace=namespace or None)
    inside = f"{service}-head-svc.{kuberay.namespace}", f"{service}-serve-svc.{kuberay.namespace}"
    dashboard, endpoint = settings.ray_address or "", settings.serve_url
    if not dashboard.startswith(("http://", "https://")):
        if "KUBERNETES_SERVICE_HOST" not in os.environ:
            remedy = (
                f"kubectl -n {kuberay.namespace} port-forward service/{service}-head-svc 8265, the same for "
                f"{service}-serve-svc 8000, and --ray-address http://127.0.0.1:8265"
            )
            raise ConfigError(Fault(f"rayservice/{service}", "its dashboard cannot be reached from here", "", remedy))
        dashboard, endpoint = f"http://{inside[0]}:8265", f"http://{inside[1]}:{settings.serve_port}"
    return RayServiceControl(kuberay, service, dashboard, endpoint, token=ray_token())
