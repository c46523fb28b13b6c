"""The manifests build, every object is valid to the key, and what they say agrees with the code."""

from __future__ import annotations

import functools
import importlib
import re
import runpy
import shutil
import subprocess
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from manifests import KUBERAY, OVERLAYS, ROOT, SCHEMAS, build, named, of_kind, overlay, pods, ray_cluster, ray_objects

from attrition.cli.main import app
from attrition.cluster.environment import MARKER, RETRY_ON, local_environment
from attrition.governance.access import RolePolicy
from attrition.governance.access_config import AccessConfig
from attrition.governance.actions import Action
from attrition.serving.app import parse_args
from attrition.settings import Settings

KUBERNETES = "1.34"
ENVIRONMENTS = ("staging", "production")
OF_OTHERS = {
    "secrets-store.csi.x-k8s.io/v1",
    "monitoring.coreos.com/v1",
    "azmonitoring.coreos.com/v1",
}
"""Kinds of operators whose schemas are in no package registry; their fields are checked by hand below."""


@pytest.fixture(params=OVERLAYS)
def objects(request):
    """Every object of one overlay."""
    return overlay(request.param)


@pytest.fixture(params=ENVIRONMENTS)
def environment(request):
    """Name of an environment."""
    return request.param


@functools.cache
def schema(kind):
    """OpenAPI schema of a kind of KubeRay's."""
    path = SCHEMAS / f"ray.io_{kind.lower()}s.yaml"
    if not path.is_file():
        pytest.skip(f"KubeRay's definitions are not beside the project (shared/schemas/{SCHEMAS.name})")
    definition = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
    return version["schema"]["openAPIV3Schema"]


def unknown_keys(value, schema, where=""):
    """Paths of keys that a structural schema does not have; Kubernetes would drop them without a word."""
    if isinstance(value, list):
        return [
            key for n, each in enumerate(value) for key in unknown_keys(each, schema.get("items", {}), f"{where}[{n}]")
        ]
    if not isinstance(value, dict) or schema.get("x-kubernetes-preserve-unknown-fields"):
        return []
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    found = []
    for key, each in value.items():
        if key in known:
            found += unknown_keys(each, known[key], f"{where}.{key}")
        elif isinstance(others, dict):
            found += unknown_keys(each, others, f"{where}.{key}")
        elif known or schema.get("type") == "object":
            found.append(f"{where}.{key}")
    return found


def test_ray_objects_are_valid(objects):
    """Against KubeRay 1.7's own definitions, and without a key that they do not have."""
    found = ray_objects(objects)
    assert found
    for each in found:
        jsonschema.Draft7Validator(schema(each["kind"])).validate(each)
        # the definitions leave metadata open
        assert unknown_keys({**each, "metadata": {}}, schema(each["kind"])) == []


@pytest.mark.parametrize("key", ["spec.rayClusterConfig.enableInTreeAutoscalling", "spec.serveConfig"])
def test_a_misspelt_key_is_found(key):
    """The check itself can fail."""
    document: dict[str, Any] = {}
    place = document
    *parents, last = key.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = True
    assert unknown_keys(document, schema("RayService")) == [f".{key}"]


def test_objects_of_kubernetes_are_valid(objects):
    """Against Kubernetes' schemas, unknown keys rejected."""
    checked = 0
    for each in objects:
        if each["apiVersion"] not in {"ray.io/v1", *OF_OTHERS}:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
            checked += 1
    assert checked


def test_objects_of_others_are_of_the_known_kinds():
    """A kind that nobody validates must not slip in."""
    kinds = {(each["apiVersion"], each["kind"]) for each in build(KUBERAY / "base") if each["apiVersion"] in OF_OTHERS}
    assert kinds == {
        ("secrets-store.csi.x-k8s.io/v1", "SecretProviderClass"),
        ("monitoring.coreos.com/v1", "PodMonitor"),
        ("monitoring.coreos.com/v1", "PrometheusRule"),
    }
    for each in of_kind(build(KUBERAY / "base"), "PodMonitor"):
        assert set(each["spec"]) == {"selector", "podMetricsEndpoints"}
        for endpoint in each["spec"]["podMetricsEndpoints"]:
            assert set(endpoint) == {"port", "interval", "relabelings", "metricRelabelings"}
            for rule in endpoint["relabelings"] + endpoint["metricRelabelings"]:
                assert set(rule) <= {"sourceLabels", "targetLabel", "regex", "action"}
                re.compile(rule.get("regex", ""))


def test_components_build(tmp_path):
    """The option that production has not switched on is valid, too."""
    for name in ("kuberay", "infra"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("constraints*"))
    path = tmp_path / "kuberay" / "overlays" / "production" / "kustomization.yaml"
    text = path.read_text()
    assert "  # - ../../components/incremental-upgrade" in text
    path.write_text(
        text.replace("  # - ../../components/incremental-upgrade", "  - ../../components/incremental-upgrade")
    )
    service = named(build(path.parent), "RayService", "attrition")
    upgrade = service["spec"]["upgradeStrategy"]
    assert upgrade["type"] == "NewClusterWithIncrementalUpgrade"
    options = upgrade["clusterUpgradeOptions"]
    assert options["stepSizePercent"] <= options["maxSurgePercent"]
    jsonschema.Draft7Validator(schema("RayService")).validate(service)
    assert unknown_keys({**service, "metadata": {}}, schema("RayService")) == []


def test_generated_files_are_up_to_date():
    """`python kuberay/generate.py` would change nothing."""
    generated = runpy.run_path(str(KUBERAY / "generate.py"))["generated"]()
    stale = [str(path.relative_to(ROOT)) for path, text in generated.items() if path.read_text() != text]
    assert stale == []


def test_prometheus_operator_gets_the_rules_of_infra():
    """Whole, and once."""
    objects = of_kind(build(KUBERAY / "base"), "PrometheusRule")
    groups = [group for each in objects for group in each["spec"]["groups"]]
    files = sorted((ROOT / "infra" / "alerts").glob("*.rules.yaml"))
    assert groups == [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert not of_kind(overlay("production"), "PrometheusRule")  # nobody would read them there


def test_every_dashboard_is_a_config_map():
    """Labelled as Grafana's sidecar looks for it, and small enough for one."""
    maps = [
        each
        for each in of_kind(overlay("production"), "ConfigMap")
        if "grafana_dashboard" in each["metadata"].get("labels", {})
    ]
    files = {path.name: path.read_text() for path in (ROOT / "infra" / "dashboards").glob("*.json")}
    assert {name: text for each in maps for name, text in each["data"].items()} == files
    assert all(len(text) < 2**20 for text in files.values())


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own models
def test_serve_configuration_is_serves(environment):
    """Ray parses it, the import path imports, our builder accepts its arguments, and no access is open."""
    from ray.serve.schema import ServeDeploySchema

    text = named(overlay(environment), "RayService", "attrition")["spec"]["serveConfigV2"]
    document = yaml.safe_load(text)
    parsed = ServeDeploySchema.model_validate(document)
    (application,) = parsed.applications
    assert parsed.proxy_location == "EveryNode"
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


def test_scheduled_jobs_may_do_what_they_do():
    """The automation's role has every action that a schedule needs."""
    role = RolePolicy.default().roles["operator"]
    needed = {Action.DRIFT_VERDICT, Action.RETENTION, Action.AUDIT_EXPORT, Action.RETRAINING_DECISION}
    assert needed <= set(role.actions)


def schedules():
    """Command of each CronJob, by its name."""
    found = of_kind(overlay("production"), "CronJob")
    return {each["metadata"]["name"]: pods([each])[0].containers[0] for each in found}


def parses(arguments):
    """Whether our command line accepts arguments; runs nothing."""
    command, context, rest = typer.main.get_command(app), None, list(arguments)
    name = "attrition"
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return True
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)


def groups():
    """Names of our commands."""
    return typer.main.get_command(app).commands


COMMANDS = {
    "attrition-drift": ["drift", "run", "--window", "7d", "--reference", "champion"],
    "attrition-retraining": ["retrain", "--check"],
    "attrition-retention": ["privacy", "retain"],
    "attrition-audit-export": ["audit", "export", "$(ATTRITION_AUDIT_EXPORT)"],
    "attrition-compaction": ["predictions", "compact"],
}


def test_schedules_are_these():
    """By name, with drift on Monday at two."""
    assert {name: each["args"][each["args"].index("attrition") + 1 :] for name, each in schedules().items()} == COMMANDS
    drift = named(overlay("production"), "CronJob", "attrition-drift")["spec"]
    assert (drift["schedule"], drift["timeZone"], drift["concurrencyPolicy"]) == ("0 2 * * 1", "Etc/UTC", "Forbid")


@pytest.mark.parametrize("name", COMMANDS)
def test_scheduled_command_exists(name):
    """What Ray is to run is a command of ours with its options."""
    if COMMANDS[name][0] not in groups():
        pytest.skip(f"there is no `attrition {COMMANDS[name][0]}` yet")
    assert parses(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_submitting_command_exists(name):
    """So is what the pod itself runs, with an id that is the same in every try."""
    container = schedules()[name]
    assert container["command"] == ["attrition"]
    assert "--submission-id=$(JOB_NAME)" in container["args"]
    (job_name,) = [each for each in container["env"] if each["name"] == "JOB_NAME"]
    assert "batch.kubernetes.io/job-name" in job_name["valueFrom"]["fieldRef"]["fieldPath"]
    assert "--address=http://attrition-head-svc:8265" in container["args"]
    if "jobs" not in groups():
        pytest.skip("there is no `attrition jobs` yet")
    assert parses(container["args"])


def test_a_wrong_command_is_found():
    """The check itself can fail."""
    with pytest.raises(Exception, match="No such option"):
        parses(["drift", "run", "--windows", "7d"])
    with pytest.raises(Exception, match="No such command"):
        parses(["drift", "walk"])


def test_tuning_is_a_search_on_spot_nodes():
    """Its command exists, its workers are nobody's for long, its head is."""
    (job,) = of_kind(overlay("production/tuning"), "RayJob")
    program, *arguments = job["spec"]["entrypoint"].split()
    assert program == "attrition"
    assert parses(arguments)
    head, workers, submitter = pods([job])
    assert workers.spec["tolerations"][0]["key"] == "kubernetes.azure.com/scalesetpriority"
    assert workers.spec["nodeSelector"] == {"attrition/pool": "tuning"}
    assert "tolerations" not in head.spec
    assert "tolerations" not in submitter.spec
    rules = job["spec"]["deletionStrategy"]["deletionRules"]
    # KubeRay refuses a job with both ways of cleaning up, and suspension with rules
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "suspend"} & set(job["spec"])
    for status in ("SUCCEEDED", "FAILED"):
        steps = [
            (r["policy"], r["condition"]["ttlSeconds"]) for r in rules if r["condition"].get("jobStatus") == status
        ]
        assert [policy for policy, _ in steps] == ["DeleteWorkers", "DeleteCluster", "DeleteSelf"]
        assert [seconds for _, seconds in steps] == sorted(seconds for _, seconds in steps)


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


def test_nothing_is_left_to_fill_in(objects):
    """Every placeholder of the base was replaced by a value of the environment."""
    text = yaml.safe_dump_all(each for each in objects if not each["metadata"]["name"].startswith("attrition-azure"))
    assert re.findall(r"\b[A-Z]+_(?:CLIENT_ID|GROUP_ID|CIDR)\b|: (?:KEY_VAULT|TENANT_ID|HOST)\b", text) == []


def referenced(pod):
    """What a pod names: (kind, name) of configuration, secrets and secret providers."""
    found = {("ServiceAccount", pod.spec["serviceAccountName"])}
    for volume in pod.spec.get("volumes", []):
        if "configMap" in volume:
            found.add(("ConfigMap", volume["configMap"]["name"]))
        if "csi" in volume:
            found.add(("SecretProviderClass", volume["csi"]["volumeAttributes"]["secretProviderClass"]))
    for container in pod.containers:
        found |= {("ConfigMap", each["configMapRef"]["name"]) for each in container.get("envFrom", [])}
        for each in container.get("env", []):
            if "secretKeyRef" in each.get("valueFrom", {}):
                reference = each["valueFrom"]["secretKeyRef"]
                found.add(("Secret", f"{reference['name']}/{reference['key']}"))
    return found


def test_everything_named_exists(environment):
    """Configuration, accounts and secrets that pods name, tuning's included, are there under these names."""
    objects = [*overlay(environment), *overlay(f"{environment}/tuning")]
    exist = {(each["kind"], each["metadata"]["name"]) for each in objects}
    for provider in of_kind(objects, "SecretProviderClass"):
        vault = re.findall(r"objectName: (\S+)", provider["spec"]["parameters"]["objects"])
        for secret in provider["spec"].get("secretObjects", []):
            for item in secret["data"]:
                assert item["objectName"] in vault
                exist.add(("Secret", f"{secret['secretName']}/{item['key']}"))
    named_by = {(pod.where, *each) for pod in pods(objects) for each in referenced(pod)}
    for each in ray_objects(objects):
        cluster = ray_cluster(each)
        named_by.add((each["kind"], "Secret", f"{cluster['authOptions']['secretName']}/auth_token"))
        password = cluster.get("gcsFaultToleranceOptions", {}).get("redisPassword", {}).get("valueFrom", {})
        if password:
            reference = password["secretKeyRef"]
            named_by.add((each["kind"], "Secret", f"{reference['name']}/{reference['key']}"))
    assert [each for each in sorted(named_by) if each[1:] not in exist] == []


def test_services_are_the_ones_that_are_asked(environment):
    """Host names in addresses are Services of ours, or those that KubeRay makes for the RayService, on their ports."""
    objects = overlay(environment)
    known = {"attrition-head-svc": {6379, 8265, 8000, 10001, 8080}, "attrition-serve-svc": {8000}}
    known |= {e["metadata"]["name"]: {p["port"] for p in e["spec"]["ports"]} for e in of_kind(objects, "Service")}
    text = yaml.safe_dump_all(objects, width=10_000)
    asked = set(re.findall(r"(?:https?|redis)://(attrition-[a-z-]+):(\d+)", text))
    assert {host for host, _ in asked} == {"attrition-head-svc", "attrition-mlflow", "attrition-redis"}
    assert all(int(port) in known[host] for host, port in asked)
    for service in of_kind(objects, "Service"):
        (pod,) = [p for p in pods(objects) if service["spec"]["selector"].items() <= p.labels.items()]
        assert all(port["targetPort"] in pod.ports for port in service["spec"]["ports"])


def test_monitors_read_ports_that_exist():
    """And every Ray pod is read."""
    objects = [*overlay("production"), *overlay("production/tuning")]
    read = set()
    for monitor in of_kind(objects, "PodMonitor"):
        selected = [p for p in pods(objects) if monitor["spec"]["selector"]["matchLabels"].items() <= p.labels.items()]
        assert selected
        for pod in selected:
            assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} <= pod.ports.keys()
            read.add(pod.where)
    assert read == {p.where for p in pods(objects) if "metrics" in p.ports}


def test_monitors_keep_what_rules_and_dashboards_ask_for():
    """No metric of a rule is dropped on the way."""
    asked = set(re.findall(r"\bray_[a-z0-9_]+", (KUBERAY / "base" / "monitoring" / "rules.yaml").read_text()))
    for path in (ROOT / "infra" / "dashboards").glob("*.json"):
        asked |= set(re.findall(r"\bray_[a-z0-9_]+", path.read_text()))
    for monitor in of_kind(overlay("production"), "PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            for rule in endpoint["metricRelabelings"]:
                if rule["action"] == "drop":
                    assert [name for name in sorted(asked) if re.fullmatch(rule["regex"], name)] == []


def test_disruption_budgets_let_nodes_be_drained(environment):
    """Each selects pods, and allows at least one of them to go."""
    objects = overlay(environment)
    for budget in of_kind(objects, "PodDisruptionBudget"):
        (pod,) = [p for p in pods(objects) if budget["spec"]["selector"]["matchLabels"].items() <= p.labels.items()]
        assert budget["spec"]["minAvailable"] < pod.replicas


def test_prometheus_accepts_the_rules_of_the_operator(tmp_path):
    """As they stand in the object."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    for n, rule in enumerate(of_kind(build(KUBERAY / "base"), "PrometheusRule")):
        path = tmp_path / f"{n}.yaml"
        path.write_text(yaml.safe_dump(rule["spec"]))
        done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
