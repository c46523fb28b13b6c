"""The RayService: Ray accepts what it asks Serve for, and its pods have the environment that the code relies on."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from manifests import KUBERAY, named, of_kind, overlay, pods, ray_cluster

from attrition.cluster.environment import MARKER, RETRY_ON, local_environment
from attrition.governance.access_config import AccessConfig
from attrition.serving.app import parse_args
from attrition.settings import Settings

ENVIRONMENTS = ("staging", "production")


@pytest.fixture(params=ENVIRONMENTS)
def environment(request):
    """Name of an environment."""
    return request.param


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own models
def test_serve_configuration_is_serves(environment):
    """Ray parses it, the import paths import, our builder accepts its arguments, and no access is open."""
    from ray.serve.schema import ServeDeploySchema

    text = named(overlay(environment), "RayService", "attrition")["spec"]["serveConfigV2"]
    document = yaml.safe_load(text)
    parsed = ServeDeploySchema.model_validate(document)
    assert [application.name for application in parsed.applications] == ["attrition", "attrition-monitor"]
    assert parsed.proxy_location == "EveryNode"
    for application in parsed.applications:
        module, name = application.import_path.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    for deployment in document["applications"][0]["deployments"]:
        function = deployment.get("autoscaling_config", {}).get("policy", {}).get("policy_function")
        if function:
            assert callable(getattr(importlib.import_module(function.split(":")[0]), function.split(":")[1]))
    arguments = parse_args(document["applications"][0]["args"])
    assert arguments.access.mode == "closed"
    assert arguments.access.database_url == ""  # its password would stand in Ray's dashboard
    assert not any("user_config" in each for each in document["applications"][0]["deployments"])


def test_serve_configuration_fits_the_cluster():
    """Replicas at their maximum find CPUs on the workers at theirs, and production spreads them."""
    for environment in ENVIRONMENTS:
        service = named(overlay(environment), "RayService", "attrition")
        document = yaml.safe_load(service["spec"]["serveConfigV2"])
        (group,) = ray_cluster(service)["workerGroupSpecs"]
        cpus = int(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        wanted = sum(
            each["autoscaling_config"]["max_replicas"] * each["ray_actor_options"]["num_cpus"]
            for each in document["applications"][0]["deployments"]
        )
        assert wanted <= cpus * group["maxReplicas"]
    (gateway,) = [each for each in document["applications"][0]["deployments"] if each["name"] == "Gateway"]
    assert gateway["max_replicas_per_node"] * group["minReplicas"] > gateway["autoscaling_config"]["min_replicas"]
    assert gateway["max_replicas_per_node"] < gateway["autoscaling_config"]["min_replicas"]
    assert (group["minReplicas"], group["maxReplicas"]) == (3, 10)


LOCAL_ONLY = {
    MARKER: "says whose folder it is",
    "RAY_AUTH_MODE": "KubeRay sets it from authOptions",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "would bind to the loopback interface",
    "RAY_enable_worker_prestart": "spares the few cores of a laptop",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "a node of a cluster takes its time",
    "AUTOSCALER_METRIC_PORT": "a pod has its ports for itself",
    "DASHBOARD_METRIC_PORT": "as above",
    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "a pod has its /tmp for itself",
    "RAY_SERVE_HAPROXY_SOCKET_PATH": "as above",
    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "as above",
    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "as above",
    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "as above",
    "RAY_SERVE_HAPROXY_STATS_PORT": "a pod has its ports for itself",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "as above",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "as above",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": "as above",
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": "as above",
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": "as above",
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": "as above",
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": "as above",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "a load balancer must notice first: Ray's 30 s stay",
    "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "another hook: replicas must be reached from other pods",
}
"""Variables of a Ray on one machine that are not, or are otherwise, in the cluster's pods, and why."""


def variables(pod):
    """Plain environment variables of a pod's first container."""
    return {each["name"]: each["value"] for each in pod.spec["containers"][0]["env"] if "value" in each}


def test_pods_have_the_environment_of_the_local_ray(tmp_path, environment, monkeypatch):
    """What makes serving fast and steady on a laptop is set on each node, with the same values."""
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", MARKER):
        monkeypatch.delenv(name, raising=False)
    local = local_environment(tmp_path, serving=True)
    assert LOCAL_ONLY.keys() <= local.keys(), "a reason without a variable"
    shared = {name: value for name, value in local.items() if name not in LOCAL_ONLY}
    service = [each for each in pods(overlay(environment)) if each.where.startswith("RayService")]
    assert len(service) == 2
    for pod in service:
        assert shared.items() <= variables(pod).items(), pod.where
        assert variables(pod)["RAY_SERVE_HAPROXY_RETRY_ON"] == RETRY_ON
        module, name = variables(pod)["__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"].rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name))
    assert variables(service[0]) == variables(service[1])
    assert variables(service[0])["ATTRITION_ACCESS"] == "closed"


def test_settings_understand_the_environment(environment):
    """Each variable is one of ours, and nothing is left to a default on the pod's own disk but its home."""
    objects = overlay(environment)
    addresses = next(each["data"] for each in of_kind(objects, "ConfigMap") if "ATTRITION_TABLES" in each["data"])
    head = next(each for each in pods(objects) if each.is_head)
    given = {**variables(head), **addresses}
    given |= {
        each["name"]: "postgresql://host/database" for each in head.spec["containers"][0]["env"] if "valueFrom" in each
    }
    settings = Settings.from_environment(given)
    assert settings.access == "closed"
    assert settings.tables.startswith("abfss://")
    assert settings.bundles.startswith("abfss://")
    assert settings.tracking_uri == "http://attrition-mlflow:5000"
    assert "sqlite" not in repr(settings) + settings.database_url + settings.person_keys_url
    mounts = [each["mountPath"] for each in head.spec["containers"][0]["volumeMounts"]]
    for path in (settings.key_file, settings.audit_key_file, settings.access_config, settings.home / "x"):
        assert str(path.parent) in mounts
    config = AccessConfig.load(KUBERAY / "environments" / environment / "access.yaml")
    assert config.oidc is not None


def test_one_key_signs_the_audit_log(environment):
    """Whoever writes to the log has the key from the vault, or signs nothing: heads by another are not believed."""
    objects = [*overlay(environment), *overlay(f"{environment}/tuning")]
    writers = [pod for pod in pods(objects) if "name: ATTRITION_DATABASE_URL" in yaml.safe_dump(pod.spec["containers"])]
    assert len(writers) == 4
    for pod in writers:
        settings = Settings.from_environment(variables(pod))
        serves = pod.where.startswith("RayService")
        assert settings.audit_key_file == (Path("/mnt/secrets/audit-key") if serves else None), pod.where


def test_cluster_is_made_to_survive():
    """Head without work, state in Redis, token on, requests past the head, the autoscaler of today."""
    for environment in ENVIRONMENTS:
        service = named(overlay(environment), "RayService", "attrition")
        cluster = ray_cluster(service)
        assert service["spec"]["excludeHeadPodFromServeSvc"] is True
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert cluster["authOptions"]["mode"] == "token"
        assert cluster["gcsFaultToleranceOptions"]["redisAddress"].startswith("redis://attrition-redis:")
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        (workers,) = [each for each in pods([service]) if not each.is_head]
        keys = [each["topologyKey"] for each in workers.spec["topologySpreadConstraints"]]
        assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for each in workers.spec["topologySpreadConstraints"]:
            assert each["labelSelector"]["matchLabels"].items() <= workers.labels.items()
