"""Deploy, inspect and remove the served application through Ray Serve's declarative REST interface.

The same interface serves an embedded Ray, a background head and a cluster, needs no Ray in this process, and changes
traffic without restarting a replica, which a second ``serve.run`` would. A change counts as applied when every running
replica reports its generation.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, ServingError
from attrition.evaluation.display import html_table
from attrition.serving.config import IMPORT_PATH, monitor_name
from attrition.serving.dashboard import DEPLOY_TIMEOUT_SECONDS, Dashboard
from attrition.serving.deployed import (
    VariantStatus,
    application_config,
    deployed_traffic,
    message,
    other_configs,
    placed_configs,
    readable,
    relied_on,
    running_replicas,
    serve_options,
    traffic_of,
    variant_statuses,
)
from attrition.serving.placement import placed_applications

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from attrition.serving.access_options import AccessOptions
    from attrition.serving.config import ServeConfig
    from attrition.serving.prediction_log import LogConfig
    from attrition.serving.traffic import Traffic

_FAILED = {"DEPLOY_FAILED", "UNHEALTHY"}
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ServeStatus:
    """What is served and where.

    Attributes
    ----------
    running : bool
        The application answers with at least one healthy replica.
    state : str
        Serve's word for the application: ``RUNNING``, ``DEPLOYING``, ``DEPLOY_FAILED``, ``NOT_STARTED``...
    url, docs_url : str
        Base address and documentation page of the endpoint.
    dashboard_url : str
        Ray dashboard; empty when no Ray was found.
    variants : tuple of VariantStatus
        As deployed.
    generation : int
        Traffic generation as deployed; -1 when nothing is.
    replicas : int
        Running replicas that score.
    message : str
        Serve's explanation when something is wrong.
    """

    running: bool
    state: str
    url: str
    docs_url: str = ""
    dashboard_url: str = ""
    variants: tuple[VariantStatus, ...] = ()
    generation: int = -1
    replicas: int = 0
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What a reader wants to know, name and text."""
        if not self.running:
            return [("state", self.state), ("endpoint", self.url), ("message", self.message or "nothing is served")]
        versions = ", ".join(map(_served, self.variants))
        return [
            ("endpoint", f"{self.url}/v1/predict"),
            ("documentation", self.docs_url),
            ("Ray dashboard", self.dashboard_url or "off"),
            ("versions", versions),
            ("generation", str(self.generation)),
            ("replicas", str(self.replicas)),
        ]

    def _repr_html_(self) -> str:
        return html_table("Serving", ("", ""), self.rows)


def _served(variant: VariantStatus) -> str:
    placed = f", own deployment: {variant.state}" if variant.state else ""
    return f"{variant.name}: {variant.version} ({variant.weight:.0%}{placed})"


class ServeControl:
    """Serve on one Ray cluster, reached by its dashboard address.

    Parameters
    ----------
    dashboard_url
        Address of the Ray dashboard, such as ``http://127.0.0.1:8265``.
    url
        Base address under which clients reach Serve; that of an application has its route prefix behind it.
    token
        Ray authentication token; empty when the cluster asks for none.
    """

    def __init__(self, dashboard_url: str, url: str, *, token: str = "") -> None:
        self.dashboard_url = dashboard_url.rstrip("/")
        self.url = url.rstrip("/")
        self._dashboard = Dashboard(self.dashboard_url, token)

    def deploy(
        self,
        traffic: Traffic,
        config: ServeConfig,
        *,
        host: str,
        port: int,
        log: LogConfig | None = None,
        access: AccessOptions | None = None,
        addresses: Mapping[str, str] | None = None,
        after_generation: int = -1,
        timeout_seconds: float = DEPLOY_TIMEOUT_SECONDS,
    ) -> ServeStatus:
        """Serve `traffic`; returns when every replica does. The monitor, where the file has one, starts after that.

        Other applications of the cluster stay as they are. The generation becomes one more than what is deployed and
        than `after_generation`, so that the change can be told from every state before it. When the new versions cannot
        be loaded, the previous traffic is put back (replicas never stopped serving it) and the reason is raised.

        Raises
        ------
        ServingError
            Serve refuses the configuration, a version cannot be loaded, or the application does not become healthy.
        RayUnreachable
            The dashboard does not answer.
        """
        before = self._details()
        name = config.application.name
        deployed = deployed_traffic(before, name)
        generation = max(after_generation, deployed.generation if deployed else -1) + 1
        traffic = traffic.model_copy(update={"generation": generation})
        request = config.request(traffic, log, access, host=host, port=port, addresses=addresses)
        if monitor_name(name) in before.get("applications", {}):
            return self._apply(before, name, request, traffic, timeout_seconds)
        # on few cores the first answer would wait for a monitor that starts at the same time
        scoring, *monitor = request["applications"]
        status = self._apply(before, name, {**request, "applications": [scoring]}, traffic, timeout_seconds)
        if monitor:
            now = self._details()
            known = [application_config(now, name), *placed_configs(now, name).values(), *other_configs(now, name)]
            self._put({**request, "applications": [*monitor, *known]})
        return status

    def change(
        self,
        name: str,
        traffic: Traffic,
        *,
        after_generation: int = -1,
        timeout_seconds: float = DEPLOY_TIMEOUT_SECONDS,
    ) -> ServeStatus:
        """Give a running application other traffic and leave everything else of it as it is.

        The same promises as of :meth:`deploy`, and no replica is restarted.

        Raises
        ------
        ServingError
            The application does not run, or a version cannot be loaded; the traffic is what it was then.
        RayUnreachable
            The dashboard does not answer.
        """
        before = self._details()
        known, deployed = application_config(before, name), deployed_traffic(before, name)
        if known is None or deployed is None:
            raise ServingError(
                Fault(f"Serve application {name}", "does not run", remedy="start it: attrition serve up")
            )
        traffic = traffic.model_copy(update={"generation": max(after_generation, deployed.generation) + 1})
        document = traffic.model_dump(mode="json")
        application = {
            **known,
            "deployments": [
                {**deployment, "user_config": document} if traffic_of(deployment) else deployment
                for deployment in known["deployments"]
            ],
        }
        return self._apply(
            before, name, {**serve_options(before), "applications": [application]}, traffic, timeout_seconds
        )

    def applications(self) -> list[str]:
        """Names of the attrition applications that are deployed, in order.

        Raises
        ------
        RayUnreachable
            The dashboard does not answer.
        """
        details = self._details()
        ours = ((name, application_config(details, name) or {}) for name in details.get("applications", {}))
        return sorted(name for name, config in ours if config.get("import_path") == IMPORT_PATH)

    def traffic(self, name: str) -> Traffic | None:
        """The traffic that an application is configured with; None when it is not deployed.

        Raises
        ------
        RayUnreachable
            The dashboard does not answer.
        """
        return deployed_traffic(self._details(), name)

    def _apply(
        self,
        before: Mapping[str, Any],
        name: str,
        request: Mapping[str, Any],
        traffic: Traffic,
        timeout_seconds: float,
    ) -> ServeStatus:
        """Deploy a request for one application beside the others; put back what was there when it cannot be loaded.

        Deployments of placed variants start before the gateway gets the traffic that needs them, and those of the
        traffic before stop after it.
        """
        deadline = time.monotonic() + timeout_seconds
        known, deployed = application_config(before, name), deployed_traffic(before, name)
        others, there = other_configs(before, name), placed_configs(before, name)
        wanted = {application["name"]: application for application in placed_applications(name, traffic)}
        missing = wanted.keys() - there.keys()
        asked = {application["name"] for application in request["applications"]}
        unasked = [each for each in others if each["name"] not in asked]
        placed = {**wanted, **there}.values()
        running = [] if known is None else [known]
        try:
            if missing:
                self._put({**request, "applications": [*running, *placed, *others]})
            for each in sorted(missing | relied_on(name, traffic, deployed)):
                self._await_running(each, deadline)
            self._put({**request, "applications": [*request["applications"], *placed, *unasked]})
            self._await_traffic(name, traffic, deadline)
        except ServingError:
            current = self.traffic(name)
            if current is None or (known is not None and current in (traffic, deployed)):
                # a replica that Serve starts later must find the traffic that the others still serve
                self._put({**request, "applications": [*running, *there.values(), *others]})
                if deployed is not None and current == traffic:
                    with contextlib.suppress(ServingError):
                        self._await_traffic(name, deployed, time.monotonic() + timeout_seconds)
            raise
        if there.keys() - wanted.keys():
            self._put({**request, "applications": [*request["applications"], *wanted.values(), *unasked]})
        return self.status(name)

    def _await_running(self, name: str, deadline: float) -> None:
        """Return when Serve calls the deployment of a placed variant healthy: it has verified its bundle then.

        Raises
        ------
        ServingError
            It does not become healthy.
        """
        while True:
            details = self._details()
            state = details.get("applications", {}).get(name, {}).get("status", "NOT_STARTED")
            if state == "RUNNING":
                return
            if state in _FAILED or time.monotonic() > deadline:
                remedy = readable(message(details, name)) or f"see {self.dashboard_url}"
                raise ServingError(Fault(f"Serve application {name}", state, remedy=remedy))
            time.sleep(_POLL_SECONDS)

    def port(self) -> int | None:
        """HTTP port on which Serve listens on this Ray; None while Serve has not been started.

        Raises
        ------
        RayUnreachable
            The dashboard does not answer.
        """
        details = self._details()
        return details["http_options"]["port"] if details.get("proxies") and details.get("http_options") else None

    def status(self, name: str) -> ServeStatus:
        """What is served now under an application name.

        Raises
        ------
        RayUnreachable
            The dashboard does not answer.
        """
        return self._status(self._details(), name)

    def remove(self, name: str, *, timeout_seconds: float = 60.0) -> bool:
        """Remove the application and the deployments of its variants, and Serve itself when nothing else is left.

        Returns
        -------
        bool
            False when there was none.

        Raises
        ------
        RayUnreachable
            The dashboard does not answer.
        ServingError
            The application is still there after `timeout_seconds`.
        """
        details = self._details()
        applications = details.get("applications", {})
        if name not in applications:
            return False
        others = [each for each in other_configs(details, name) if each["name"] != monitor_name(name)]
        if others:
            self._put({**serve_options(details), "applications": others})
        else:
            self._dashboard.delete(timeout_seconds)
        deadline = time.monotonic() + timeout_seconds
        own = {name, monitor_name(name), *placed_configs(details, name)}
        while own & self._details().get("applications", {}).keys():
            if time.monotonic() > deadline:
                raise ServingError(f"The application {name} is still there after {timeout_seconds:.0f} s.")
            time.sleep(_POLL_SECONDS)
        return True

    def _await_traffic(self, name: str, traffic: Traffic, deadline: float) -> None:
        """Return when Serve calls the application healthy and every running replica shows the traffic's generation."""
        import httpx

        confirmed: set[str] = set()
        status = ServeStatus(running=False, state="NOT_STARTED", url=self.url)
        with httpx.Client(timeout=5.0) as http:
            while time.monotonic() < deadline:
                details = self._details()
                status = self._status(details, name)
                if status.state in _FAILED:
                    raise ServingError(
                        Fault(f"Serve application {name}", status.state, remedy=readable(status.message))
                    )
                found = deployed_traffic(details, name)
                if found is not None and found.generation >= traffic.generation and found != traffic:
                    raise ServingError(
                        Fault(f"Serve application {name}", "another change came at the same time", remedy="look at it")
                    )
                replicas = running_replicas(details, name)
                # the balancer decides who answers: more questions than replicas, so that each is met soon
                for _ in range(2 * max(1, len(replicas - confirmed))):
                    confirmed |= _confirmation(http, status.url, name, traffic.generation)
                if status.running and replicas and replicas <= confirmed:
                    return
                time.sleep(_POLL_SECONDS)
        raise ServingError(
            Fault(
                f"Serve application {name}",
                f"state {status.state} with {status.replicas} running replicas after the time allowed",
                remedy=readable(status.message) or f"see {self.dashboard_url}",
            )
        )

    def _status(self, details: Mapping[str, Any], name: str) -> ServeStatus:
        application = details.get("applications", {}).get(name)
        if application is None:
            return ServeStatus(running=False, state="NOT_STARTED", url=self.url, dashboard_url=self.dashboard_url)
        traffic = deployed_traffic(details, name)
        said = [message(details, each) for each in (name, *placed_configs(details, name))]
        replicas = len(running_replicas(details, name))
        url = self.url + (application.get("route_prefix") or "").rstrip("/")
        return ServeStatus(
            running=application["status"] == "RUNNING" and replicas > 0,
            state=application["status"],
            url=url,
            docs_url=f"{url}/docs",
            dashboard_url=self.dashboard_url,
            variants=variant_statuses(details, name),
            generation=traffic.generation if traffic else -1,
            replicas=replicas,
            message=" ".join(each for each in said if each),
        )

    def _details(self) -> dict[str, Any]:
        return self._dashboard.details()

    def _put(self, document: Mapping[str, Any]) -> None:
        self._dashboard.put(document)


def not_running(url: str, message: str = "") -> ServeStatus:
    """Status when there is no Ray to ask."""
    return replace(ServeStatus(running=False, state="NOT_STARTED", url=url), message=message)


def _confirmation(http: httpx.Client, url: str, name: str, generation: int) -> set[str]:
    """The replica that answers, if it shows the generation; empty when it does not or nobody answers.

    Raises
    ------
    ServingError
        The replica refused the generation.
    """
    import httpx

    try:
        shown = http.get(f"{url}/readiness")
    except httpx.TransportError:
        return set()
    answer = shown.json() if shown.headers.get("content-type") == "application/json" else {}
    rejected = answer.get("rejected")
    if rejected and rejected["generation"] == generation:
        raise ServingError(
            Fault(f"Serve application {name}", "the change was not applied", remedy=str(rejected["reason"]))
        )
    return {str(answer.get("replica"))} if answer.get("generation") == generation else set()
