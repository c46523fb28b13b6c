"""What KubeRay's objects say about themselves, and how a new Serve configuration keeps the live traffic; pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import yaml

from attrition.errors import ConfigError, Fault
from attrition.serving.deployed import traffic_of
from attrition.serving.placement import serves_variant_of

if TYPE_CHECKING:
    from collections.abc import Mapping

RAY_KINDS = ("RayService", "RayCluster", "RayJob")

_JOB_ENDED = {"Complete", "Failed", "ValidationFailed"}


@dataclass(frozen=True, slots=True)
class RayObject:
    """An object of KubeRay, as its status describes it.

    Attributes
    ----------
    kind, name, namespace : str
    state : str
        KubeRay's word for it.
    ready : bool
        It does what it is for: the service answers, the cluster has its pods, the job succeeded.
    failed : bool
        It will not become ready without a change.
    message : str
        Why it is not ready; empty when nothing is said.
    facts : tuple of (str, str)
        What a reader wants to know besides: workers, applications, clusters.
    """

    kind: str
    name: str
    namespace: str
    state: str
    ready: bool
    failed: bool = False
    message: str = ""
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def ref(self) -> str:
        """Kind and name as ``kubectl`` writes them."""
        return f"{self.kind.lower()}/{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**asdict(self), "facts": dict(self.facts)}


def assess(document: Mapping[str, Any]) -> RayObject:
    """The state of a RayService, RayCluster or RayJob from its Kubernetes document."""
    status: Mapping[str, Any] = document.get("status") or {}
    metadata = document["metadata"]
    kind = document["kind"]
    state, ready, failed, message, facts = _READERS[kind](status)
    if status.get("observedGeneration", 0) < metadata.get("generation", 0):
        # the status is that of the specification before
        ready, failed, message = False, False, message or "the operator has not looked at the change yet"
    return RayObject(
        kind, metadata["name"], metadata.get("namespace", ""), state, ready, failed, message, tuple(facts.items())
    )


_Reading = tuple[str, bool, bool, str, dict[str, str]]


def _service(status: Mapping[str, Any]) -> _Reading:
    conditions = _conditions(status)
    is_ready = _is_true(conditions, "Ready")
    active = status.get("activeServiceStatus") or {}
    pending = (status.get("pendingServiceStatus") or {}).get("rayClusterName", "")
    applications = active.get("applicationStatuses") or {}
    facts = {
        "endpoints": str(status.get("numServeEndpoints", 0)),
        "cluster": active.get("rayClusterName", ""),
        "next cluster": pending,
        "applications": ", ".join(f"{name}: {one.get('status', '?')}" for name, one in sorted(applications.items())),
    }
    said = [one.get("message", "") for one in applications.values()]
    message = "" if is_ready else " ".join(filter(None, [_reason(conditions.get("Ready")), *said]))
    if _is_true(conditions, "UpgradeInProgress"):
        state = "Upgrading"
    else:
        state = "Running" if is_ready else status.get("serviceStatus") or "Starting"
    return state, is_ready and state != "Upgrading", False, message, _filled(facts)


def _cluster(status: Mapping[str, Any]) -> _Reading:
    conditions = _conditions(status)
    ready = _is_true(conditions, "HeadPodReady") and _is_true(conditions, "RayClusterProvisioned")
    failed = status.get("state") == "failed" or _is_true(conditions, "ReplicaFailure")
    facts = {
        "workers": f"{status.get('readyWorkerReplicas', 0)} of {status.get('desiredWorkerReplicas', 0)}",
        "at most": str(status.get("maxWorkerReplicas", "")),
    }
    blamed = "ReplicaFailure" if failed else "RayClusterProvisioned"
    message = "" if ready and not failed else status.get("reason") or _reason(conditions.get(blamed))
    state = "Failed" if failed else "Ready" if ready else "Starting"
    return state, ready and not failed, failed, message, _filled(facts)


def _job(status: Mapping[str, Any]) -> _Reading:
    deployment, job = status.get("jobDeploymentStatus") or "Waiting", status.get("jobStatus") or ""
    ready = job == "SUCCEEDED"
    failed = not ready and (deployment in _JOB_ENDED or job in {"FAILED", "STOPPED"})
    facts = {"job": status.get("jobId", ""), "cluster": status.get("rayClusterName", "")}
    message = "" if ready else status.get("message") or status.get("reason") or ""
    return job.capitalize() or deployment, ready, failed, message, _filled(facts)


_READERS = {"RayService": _service, "RayCluster": _cluster, "RayJob": _job}


def _conditions(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions") or []}


def _is_true(conditions: Mapping[str, Mapping[str, Any]], name: str) -> bool:
    return conditions.get(name, {}).get("status") == "True"


def _reason(condition: Mapping[str, Any] | None) -> str:
    return "" if not condition else condition.get("message") or condition.get("reason") or ""


def _filled(facts: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if value}


def parse_serve_config(text: str, where: str) -> dict[str, Any]:
    """The Serve configuration in a RayService's ``spec.serveConfigV2``.

    Raises
    ------
    ConfigError
        It is not YAML, or none with a list of applications.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(Fault(where, "spec.serveConfigV2 is not valid YAML")) from error
    if not isinstance(document, dict) or not isinstance(document.get("applications"), list):
        raise ConfigError(Fault(where, "spec.serveConfigV2 has no list of applications"))
    return document


def dump_serve_config(document: Mapping[str, Any]) -> str:
    """The text for ``spec.serveConfigV2``."""
    return yaml.safe_dump(dict(document), sort_keys=False)


def with_live_traffic(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any]:
    """A Serve configuration in which each application that is served already keeps its traffic.

    The traffic is state that people and rollouts change, and that no manifest knows; the rest comes from `wanted`. The
    deployments of placed variants belong to the traffic.
    """
    served = {application["name"]: application for application in live["applications"]}
    applications = []
    for application in wanted["applications"]:
        name = application["name"]
        before = served.get(name, {}).get("deployments", [])
        traffic = {one["name"]: one["user_config"] for one in before if traffic_of(one) is not None}
        deployments = [
            {**one, "user_config": traffic.pop(one["name"])} if one["name"] in traffic else one
            for one in application.get("deployments", [])
        ]
        deployments += [{"name": missing, "user_config": config} for missing, config in traffic.items()]
        applications.append({**application, "deployments": deployments} if deployments else application)
        applications += [other for key, other in served.items() if serves_variant_of(name, key)]
    return {**wanted, "applications": applications}
