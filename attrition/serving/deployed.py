"""What Ray Serve says is deployed: its REST document, read and compared; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from attrition.serving.placement import Placement, application_name, placed_applications, serves_variant_of
from attrition.serving.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.serving.traffic import Variant


@dataclass(frozen=True, slots=True)
class VariantStatus:
    """A served variant.

    Attributes
    ----------
    name, version : str
        Role and semantic version.
    weight : float
        Share of the traffic.
    placement : Placement
        Whether the gateway scores it, or a deployment of its own.
    state : str
        Serve's word for that deployment; empty when there is none.
    replicas : int
        Running replicas of it.
    """

    name: str
    version: str
    weight: float
    placement: Placement = Placement.IN_PROCESS
    state: str = ""
    replicas: int = 0


def serve_options(details: Mapping[str, Any]) -> dict[str, Any]:
    """The options of Serve itself, which a request must repeat."""
    options = {"proxy_location": details.get("proxy_location"), "http_options": details.get("http_options")}
    return {key: value for key, value in options.items() if value}


def other_configs(details: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Configurations of the other applications: one that a request omits would be deleted."""
    return [
        # without its null an application would take a route
        application["deployed_app_config"] | {k: application[k] for k in ("route_prefix",) if k in application}
        for other, application in details.get("applications", {}).items()
        if other != name and not serves_variant_of(name, other) and application.get("deployed_app_config")
    ]


def placed_configs(details: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Configurations of the applications that score placed variants of this one, by name."""
    return {
        # Serve may leave out what is null, and without a value it would take a route
        other: {**application["deployed_app_config"], "route_prefix": None}
        for other, application in details.get("applications", {}).items()
        if serves_variant_of(name, other) and application.get("deployed_app_config")
    }


def relied_on(name: str, traffic: Traffic, deployed: Traffic | None) -> set[str]:
    """Placed applications that do something in a traffic and did nothing before.

    One that is relied on already is not waited for: a change may be the way out of its trouble.
    """
    after, before = (
        {one["name"] for one in placed_applications(name, each, only=each.active)} if each is not None else set()
        for each in (traffic, deployed)
    )
    return after - before


def variant_statuses(details: Mapping[str, Any], name: str) -> tuple[VariantStatus, ...]:
    """The variants of an application's traffic, with what became of the deployments of placed ones."""
    traffic = deployed_traffic(details, name)
    return tuple(_variant_status(details, name, variant) for variant in traffic.variants) if traffic else ()


def _variant_status(details: Mapping[str, Any], name: str, variant: Variant) -> VariantStatus:
    plain = VariantStatus(variant.name, variant.version, variant.weight)
    if not variant.is_placed:
        return plain
    placed = application_name(name, variant)
    state = details.get("applications", {}).get(placed, {}).get("status", "NOT_STARTED")
    return replace(plain, placement=variant.placement, state=state, replicas=len(running_replicas(details, placed)))


def message(details: Mapping[str, Any], name: str) -> str:
    """What Serve says about an application and its deployments; empty when all is well."""
    application = details.get("applications", {}).get(name) or {}
    deployments = application.get("deployments", {}).values()
    found = [application.get("message", ""), *(deployment.get("message", "") for deployment in deployments)]
    return " ".join(each for each in found if each)


def application_config(details: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """The configuration that an application was deployed with; None when it is not deployed."""
    application = details.get("applications", {}).get(name) or {}
    deployed = application.get("deployed_app_config")
    return deployed if isinstance(deployed, dict) else None


def deployed_traffic(details: Mapping[str, Any], name: str) -> Traffic | None:
    """The traffic in an application's configuration, or None when there is none that this version can read."""
    deployed = application_config(details, name) or {}
    found = (traffic_of(deployment) for deployment in deployed.get("deployments", []))
    return next((traffic for traffic in found if traffic is not None), None)


def traffic_of(deployment: Mapping[str, Any]) -> Traffic | None:
    """The traffic in a deployment's configuration, or None when there is none that this version can read."""
    from pydantic import ValidationError

    try:
        return Traffic.model_validate(deployment.get("user_config"))
    except ValidationError:
        return None


def running_replicas(details: Mapping[str, Any], name: str) -> set[str]:
    """Identities of the running replicas that score.

    In an application with traffic those of the deployment that has it; others neither score nor confirm a change.
    """
    application = details.get("applications", {}).get(name) or {}
    configured = (application_config(details, name) or {}).get("deployments", [])
    scoring = {deployment["name"] for deployment in configured if traffic_of(deployment) is not None}
    return {
        replica["replica_id"]
        for deployment_name, deployment in application.get("deployments", {}).items()
        if not scoring or deployment_name in scoring
        for replica in deployment.get("replicas", [])
        if replica.get("state") == "RUNNING"
    }


def readable(message: str) -> str:
    """The end of a message that may hold a whole traceback: its last lines say what happened."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-600:]
