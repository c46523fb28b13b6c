"""The manifests build, every object is valid to the key, and what they say agrees with the code."""

from __future__ import annotations

import functools
import re
import runpy
import shutil
import subprocess
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from manifests import KUBERAY, OVERLAYS, ROOT, SCHEMAS, build, named, of_kind, overlay, pods, ray_cluster, ray_objects

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
    wanted = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert sorted(groups, key=lambda group: group["name"]) == sorted(wanted, key=lambda group: group["name"])
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


def test_the_way_in_is_encrypted(environment):
    """One host, with a certificate, to the Service that KubeRay keeps pointed at the cluster that serves."""
    ingress = named(overlay(environment), "Ingress", "attrition")["spec"]
    (rule,) = ingress["rules"]
    assert [each["hosts"] for each in ingress["tls"]] == [[rule["host"]]]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "attrition-serve-svc", "port": {"name": "serve"}}


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
