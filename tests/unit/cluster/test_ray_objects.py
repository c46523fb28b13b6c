"""What KubeRay's objects say, and how a new Serve configuration keeps the live traffic."""

from __future__ import annotations

import pytest

from attrition.cluster.kuberay import read_manifests
from attrition.cluster.ray_objects import assess, dump_serve_config, parse_serve_config, with_live_traffic
from attrition.errors import ConfigError
from attrition.registry.bundle import BundleRef
from attrition.serving.deployed import traffic_of
from attrition.serving.placement import application_name
from attrition.serving.traffic import single_variant

TRAFFIC = single_variant(BundleRef("/bundles/1.0.0", "1.0.0", "a" * 64))


def document(kind, status, *, generation=1):
    return {"kind": kind, "metadata": {"name": "x", "namespace": "hr", "generation": generation}, "status": status}


def conditions(**values):
    return [{"type": name, "status": str(value), "message": f"about {name}"} for name, value in values.items()]


def service(observed=1, **values):
    return {
        "observedGeneration": observed,
        "conditions": conditions(**values),
        "numServeEndpoints": 3,
        "serviceStatus": "Running" if values.get("Ready") else "",
        "activeServiceStatus": {
            "rayClusterName": "x-1",
            "applicationStatuses": {"attrition": {"status": "RUNNING", "message": ""}},
        },
    }


def test_a_service_that_answers():
    """Ready, with its applications."""
    one = assess(document("RayService", service(Ready=True)))
    assert (one.state, one.ready, one.failed, one.message) == ("Running", True, False, "")
    assert dict(one.facts) == {"endpoints": "3", "cluster": "x-1", "applications": "attrition: RUNNING"}
    assert one.ref == "rayservice/x"


@pytest.mark.parametrize(
    ("status", "state", "message"),
    [
        ({}, "Starting", ""),
        (service(Ready=False), "Starting", "about Ready"),
        (service(Ready=True, UpgradeInProgress=True), "Upgrading", ""),
        (service(observed=1, Ready=True), "Running", "the operator has not looked at the change yet"),
    ],
)
def test_a_service_that_is_not_there_yet(status, state, message):
    """Nor failed: KubeRay goes on trying. A status of the specification before proves nothing."""
    one = assess(document("RayService", status, generation=2 if message.startswith("the operator") else 0))
    assert (one.state, one.ready, one.failed, one.message) == (state, False, False, message)


@pytest.mark.parametrize(
    ("status", "state", "ready", "failed"),
    [
        ({"conditions": conditions(HeadPodReady=True, RayClusterProvisioned=True)}, "Ready", True, False),
        ({"conditions": conditions(HeadPodReady=True, RayClusterProvisioned=False)}, "Starting", False, False),
        ({"conditions": conditions(HeadPodReady=True, ReplicaFailure=True)}, "Failed", False, True),
        ({"state": "failed", "reason": "no quota"}, "Failed", False, True),
    ],
)
def test_clusters(status, state, ready, failed):
    """By their conditions; workers are counted."""
    one = assess(document("RayCluster", {"readyWorkerReplicas": 2, "desiredWorkerReplicas": 3, **status}, generation=0))
    assert (one.state, one.ready, one.failed) == (state, ready, failed)
    assert ("workers", "2 of 3") in one.facts


@pytest.mark.parametrize(
    ("status", "state", "ready", "failed"),
    [
        ({}, "Waiting", False, False),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, "Running", False, False),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, "Succeeded", True, False),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "message": "exit 3"}, "Failed", False, True),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, "Failed", False, True),
    ],
)
def test_jobs(status, state, ready, failed):
    """A job is ready when it has succeeded."""
    one = assess(document("RayJob", status, generation=0))
    assert (one.state, one.ready, one.failed) == (state, ready, failed)
    assert one.message == status.get("message", status.get("reason", ""))


def config(*deployments, **options):
    return {**options, "applications": [{"name": "attrition", "import_path": "a:b", "deployments": [*deployments]}]}


def test_new_configuration_keeps_the_live_traffic():
    """Everything else comes from the manifest; placed variants go with the traffic."""
    served = {"name": "Gateway", "num_replicas": 3, "user_config": TRAFFIC.model_dump(mode="json")}
    live = config(served, {"name": "Other", "user_config": {"a": 1}})
    placed = {"name": application_name("attrition", TRAFFIC.variants[0]), "import_path": "c:d", "route_prefix": None}
    live["applications"] += [placed, {"name": "gone", "import_path": "e:f"}]
    wanted = config({"name": "Gateway", "num_replicas": 5}, {"name": "Other"}, http_options={"port": 8000})
    merged = with_live_traffic(wanted, live)
    gateway, other = merged["applications"][0]["deployments"]
    assert gateway == {"name": "Gateway", "num_replicas": 5, "user_config": served["user_config"]}
    assert other == {"name": "Other"}
    assert merged["http_options"] == {"port": 8000}
    assert traffic_of(gateway) == TRAFFIC
    assert merged["applications"][1:] == [placed]
    bare = with_live_traffic(config(), live)
    assert bare["applications"][0]["deployments"] == [{"name": "Gateway", "user_config": served["user_config"]}]


def test_nothing_is_served_yet():
    """Then the manifest counts as it is."""
    wanted = config({"name": "Gateway"})
    assert with_live_traffic(wanted, {"applications": []}) == wanted
    assert parse_serve_config(dump_serve_config(wanted), "x") == wanted


@pytest.mark.parametrize("text", ["a: [", "- 1", "applications: 3"])
def test_a_serve_configuration_that_is_none(text):
    """Is refused with its place."""
    with pytest.raises(ConfigError, match=r"rayservice/x: spec\.serveConfigV2"):
        parse_serve_config(text, "rayservice/x")


def test_manifests_are_read_in_order_and_faults_all_named():
    """As kustomize prints them."""
    text = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: hr}\n---\n---\n"
    assert [one["kind"] for one in read_manifests(text, "f")] == ["Namespace"]
    with pytest.raises(ConfigError) as caught:
        read_manifests("kind: X\n---\n- 1\n---\n" + text, "f.yaml")
    assert [fault.where for fault in caught.value.faults] == ["f.yaml, document 1", "f.yaml, document 2"]
    with pytest.raises(ConfigError, match="f, line 2: not valid YAML"):
        read_manifests("a: 1\n b: 2", "f")
    with pytest.raises(ConfigError, match="holds no Kubernetes object"):
        read_manifests("", "f")
