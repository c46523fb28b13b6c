"""What holds for every pod of the manifests, Ray's included: nobody is root, nothing is writable that need not be."""

from __future__ import annotations

import re

import pytest
from manifests import KUBERAY, OVERLAYS, ROOT, named, of_kind, overlay, pods, ray_cluster, ray_objects

from attrition import __version__

EVERY = [pytest.param(pod, id=f"{name}: {pod.where}") for name in OVERLAYS for pod in pods(overlay(name))]
"""Every pod of every overlay."""


@pytest.mark.parametrize("pod", EVERY)
def test_pod_is_restricted(pod):
    """As the pod security standard `restricted` asks, which the namespace enforces, with read-only roots on top."""
    context = pod.spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()
    for container in pod.containers:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not {"runAsUser", "privileged"} & own.keys()
    for volume in pod.spec["volumes"]:
        (kind,) = volume.keys() - {"name"}
        assert kind in {"emptyDir", "configMap", "csi"}
        assert kind != "emptyDir" or "sizeLimit" in volume["emptyDir"]


@pytest.mark.parametrize("pod", EVERY)
def test_pod_writes_only_to_its_volumes(pod):
    """Mounts name volumes; configuration and secrets are read-only; there is a /tmp."""
    kinds = {volume["name"]: next(iter(volume.keys() - {"name"})) for volume in pod.spec["volumes"]}
    for container in pod.containers:
        mounts = {each["name"]: each for each in container["volumeMounts"]}
        claims = {"data"} if pod.where.startswith("StatefulSet") else set()
        assert mounts.keys() - claims <= kinds.keys()
        assert mounts["tmp"]["mountPath"] == "/tmp"
        for name, mount in mounts.items():
            assert mount.get("readOnly", False) == (kinds.get(name) in {"configMap", "csi"}), name


@pytest.mark.parametrize("pod", EVERY)
def test_pod_is_itself_and_nobody_else(pod):
    """An account of its own, federated with Azure; Kubernetes' token only in heads, which ask its API for workers."""
    assert pod.spec["serviceAccountName"].startswith("attrition-")
    assert pod.labels["azure.workload.identity/use"] == "true"
    assert pod.labels["app.kubernetes.io/part-of"] == "attrition"
    assert pod.spec.get("automountServiceAccountToken", True) is pod.is_head


@pytest.mark.parametrize("pod", EVERY)
def test_pod_has_limits_and_a_place(pod):
    """Memory that is asked for is what there is; CPUs are, too, where requests are answered."""
    assert pod.spec["nodeSelector"].keys() == {"attrition/pool"}
    for container in pod.containers:
        resources = container["resources"]
        assert resources["requests"]["memory"] == resources["limits"]["memory"]
        if container["name"].startswith("ray-") and "submitter" not in pod.where:
            assert resources["requests"] == resources["limits"]


@pytest.mark.parametrize("pod", EVERY)
def test_image_is_pinned(pod):
    """From the environment's own registry, with a version."""
    for container in pod.containers:
        registry, _, rest = container["image"].partition("/")
        assert re.fullmatch(r"attrition(staging|production)\.azurecr\.io", registry)
        assert re.fullmatch(rf"attrition:{re.escape(__version__)}|redis:\d+\.\d+\.\d+-bookworm", rest)


@pytest.mark.parametrize(
    "pod", [each for each in EVERY if not each.values[0].where.startswith(("CronJob", "RayJob attrition-tuning sub"))]
)
def test_server_has_probes(pod):
    """Whatever runs on is asked whether it lives, and whether it is ready."""
    for container in pod.containers:
        for probe in ("readinessProbe", "livenessProbe"):
            (how,) = container[probe].keys() & {"httpGet", "tcpSocket"}
            port = container[probe][how]["port"]
            assert port in pod.ports or port == 52365  # of Ray's agent, on every node


def test_autoscaler_is_restricted():
    """KubeRay adds it to the head, with the rights that it is given here."""
    for name in OVERLAYS:
        for each in ray_objects(overlay(name)):
            options = ray_cluster(each)["autoscalerOptions"]
            assert options["securityContext"]["readOnlyRootFilesystem"] is True
            assert options["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert options["resources"]["requests"] == options["resources"]["limits"]
            assert {"name": "tmp", "mountPath": "/tmp"} in options["volumeMounts"]


def test_namespace_enforces_it():
    """So that what KubeRay or somebody's kubectl makes is held to it as well."""
    for name in ("staging", "production"):
        labels = named(overlay(name), "Namespace", f"attrition-{name}")["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_everything_is_in_the_namespace_of_its_environment():
    """Or has none because it cannot."""
    for name in OVERLAYS:
        for each in overlay(name):
            expected = None if each["kind"] in {"Namespace", "StorageClass"} else f"attrition-{name.split('/')[0]}"
            assert each["metadata"].get("namespace") == expected
            for subject in each.get("subjects", []):
                assert subject.get("namespace", expected) == expected


def test_rights_are_few():
    """No wildcard, no secrets, no exec, no roles over the whole cluster; a pod may change one RayService."""
    objects = overlay("production")
    assert not of_kind(objects, "ClusterRole", "ClusterRoleBinding")
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            assert not {"*", "secrets", "pods/exec", "serviceaccounts/token"} & {
                *rule["resources"],
                *rule["verbs"],
                *rule["apiGroups"],
            }
    accounts = {
        s["name"] for b in of_kind(objects, "RoleBinding") for s in b["subjects"] if s["kind"] == "ServiceAccount"
    }
    assert accounts == {"attrition-ray"}
    (rule,) = named(objects, "Role", "attrition-traffic")["rules"]
    assert rule == {
        "apiGroups": ["ray.io"],
        "resources": ["rayservices"],
        "resourceNames": ["attrition"],
        "verbs": ["get", "patch"],
    }


SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    re.compile(r"(?i)\b(?:account|shared|access)_?key\s*[=:]\s*[\"']?[A-Za-z0-9+/]{20,}"),
    re.compile(r"\b[A-Za-z0-9+]{48,}={0,2}"),
    re.compile(
        r"(?i)(?:password|token|secret)\"?\s*[:=]\s*[\"']?(?!\$|\{|file|name)[A-Za-z0-9_\-]{12,}[\"']?\s*$",
        re.MULTILINE,
    ),
    re.compile(r"://[^/\s:@]+:[^/\s@$<]+@"),
)


def test_no_secret_is_in_the_tree():
    """Secrets have names here and values in Key Vault."""
    assert not any(of_kind(overlay(name), "Secret") for name in OVERLAYS)
    files = [path for folder in (KUBERAY, ROOT / "infra") for path in folder.rglob("*") if path.is_file()]
    texts = {
        path: path.read_text(errors="replace")
        for path in files
        if not path.name.startswith("constraints") and "__pycache__" not in path.parts
    }
    found = [
        (str(path.relative_to(ROOT)), hit[0][:30])
        for path, text in texts.items()
        for each in SECRETS
        for hit in each.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN EC PRIVATE KEY-----",
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1",
        "  password: correct-horse-battery",
        "value: postgresql://attrition:s3cr3t@host/database",
    ],
)
def test_a_secret_would_be_found(text):
    """The check itself can fail."""
    assert any(each.search(text) for each in SECRETS)
