"""`attrition cluster` against a real Kubernetes API server with KubeRay's CRDs, and a real Ray that serves.

What is not there is KubeRay's operator. A thread takes over the two things of it that matter here: it brings
spec.serveConfigV2 to Ray, and it writes the status.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import yaml
from invented_people import Load, People
from kubernetes_api import throwaway_kubernetes
from registered_versions import register
from typer.testing import CliRunner

from attrition import Workspace
from attrition.cli.main import app
from attrition.cluster.kuberay import KubeRay, read_manifests
from attrition.errors import ConfigError, NotFound, PlatformError, UsageError
from attrition.experiments.plan import ExperimentPlan
from attrition.release.rollout import Status
from attrition.serving.config import ServeConfig
from attrition.serving.prediction_log import LogConfig
from attrition.settings import Settings

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Unverified HTTPS request"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # MLflow's table definitions, at first import
]

NAMESPACE = "hr"
MANIFEST = """
apiVersion: ray.io/v1
kind: RayService
metadata: {name: attrition, labels: {team: hr}}
spec:
  serveConfigV2: ""
  rayClusterConfig:
    rayVersion: 2.60.0
    headGroupSpec:
      rayStartParams: {num-cpus: "0"}
      template: {spec: {containers: [{name: ray-head, image: "rayproject/ray:2.60.0-py311"}]}}
"""


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory, shared_data):
    """An API server that knows KubeRay's objects, with a namespace."""
    crds = shared_data.parent / "schemas" / "kuberay-v1.7.0"
    if not crds.is_dir():
        pytest.skip("KubeRay's CRDs are not in ../shared/schemas")
    with (
        throwaway_kubernetes(tmp_path_factory.mktemp("kubernetes")) as kubeconfig,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("KUBECONFIG", str(kubeconfig))
        kuberay = KubeRay.connect()
        definitions = [yaml.safe_load(path.read_text()) for path in sorted(crds.glob("*.yaml"))]
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        assert len(kuberay.apply([*definitions, namespace])) == len(definitions) + 1
        deadline = time.monotonic() + 30
        while True:  # until the API server serves the new kinds
            try:
                KubeRay.connect(namespace=NAMESPACE).objects()
                break
            except PlatformError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield KubeRay.connect(namespace=NAMESPACE)


@pytest.fixture
def attrition(tmp_path):
    def run(*arguments, **options):
        return CliRunner().invoke(app, ["--home", str(tmp_path), "cluster", *map(str, arguments)], **options)

    return run


class Operator:
    """Brings the Serve configuration of a RayService to Ray and reports."""

    def __init__(self, kuberay, dashboard_url):
        self._kuberay, self._url = kuberay, f"{dashboard_url}/api/serve/applications/"
        self._stop, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def bring_again(self):
        """As when the cluster has lost its configuration; returns when it has been brought."""
        self._lost.set()
        deadline = time.monotonic() + 60
        while self._lost.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _run(self):
        brought = None
        while not self._stop.wait(0.5):
            try:
                document = self._kuberay.read("RayService", "attrition")
            except NotFound:
                continue
            text = document["spec"].get("serveConfigV2")
            if text and (text != brought or self._lost.is_set()):
                httpx.put(self._url, json=yaml.safe_load(text), timeout=120).raise_for_status()
                brought = text
                self._lost.clear()
            applications = httpx.get(self._url, timeout=10).json()["applications"]
            is_up = bool(applications) and all(one["status"] == "RUNNING" for one in applications.values())
            report(self._kuberay, "RayService", "attrition", Ready=is_up)


def report(kuberay, kind, name, **conditions):
    """Write a status, as the operator does."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    document = kuberay.read(kind, name)
    status = {
        "observedGeneration": document["metadata"]["generation"],
        "conditions": [
            {"type": key, "status": str(value), "reason": "Test", "message": "", "lastTransitionTime": now}
            for key, value in conditions.items()
        ],
    }
    kuberay._client.resources.get(api_version="ray.io/v1", kind=kind).status.patch(
        body={"status": status}, name=name, namespace=NAMESPACE, content_type="application/merge-patch+json"
    )


def specified(kuberay):
    """Share of each version in the specification of the RayService, and its shadows."""
    written, _ = kuberay.serve_config("attrition")
    (traffic,) = [each["user_config"] for each in written["applications"][0]["deployments"] if "user_config" in each]
    versions = {variant["name"]: variant for variant in traffic["variants"]}
    shares = {each["version"]: round(each["weight"], 6) for each in versions.values() if each["weight"]}
    return shares, [versions[name]["version"] for name in traffic["shadows"]]


@contextmanager
def garbage_collected(kuberay, kind, name):
    """What the controller does that ends a deletion in the foreground: no dependents are left."""
    resource = kuberay._client.resources.get(api_version="ray.io/v1", kind=kind)

    def collect():
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if kuberay.read(kind, name)["metadata"].get("deletionTimestamp"):
                options = {"name": name, "namespace": NAMESPACE, "content_type": "application/merge-patch+json"}
                resource.patch(body={"metadata": {"finalizers": None}}, **options)
                return
            time.sleep(0.2)

    thread = threading.Thread(target=collect)
    thread.start()
    yield
    thread.join()


def test_manifests_that_the_server_refuses(kubernetes, attrition, tmp_path):
    """A misspelt field, a value out of range and an unknown kind: named, nothing stored; other errors are readable."""
    (service,) = read_manifests(MANIFEST, "x")
    wrong = {**service, "spec": {**service["spec"], "excludeHeadPodFromServeSvcs": True}}
    with pytest.raises(ConfigError, match="excludeHeadPodFromServeSvcs"):
        kubernetes.apply([wrong])
    (tmp_path / "x.yaml").write_text("apiVersion: ray.io/v1\nkind: RayTrain\nmetadata: {name: x}\n")
    refused = attrition("up", tmp_path / "x.yaml")
    assert refused.exit_code == 5
    assert "RayTrain: is unknown to this cluster" in refused.stderr
    assert attrition("up", tmp_path / "missing.yaml").exit_code == 2
    assert kubernetes.objects() == []
    with pytest.raises(NotFound, match=r"rayservice/nobody in hr: does not exist"):
        kubernetes.show("RayService", "nobody")
    with pytest.raises(ConfigError, match="kubeconfig"):
        KubeRay.connect(context="nowhere")


def test_a_cluster_is_applied_watched_and_deleted(kubernetes, attrition, tmp_path):
    """The command waits, says what happens, and fails when the cluster does."""
    (service,) = read_manifests(MANIFEST, "x")
    cluster = {**service, "kind": "RayCluster", "spec": service["spec"]["rayClusterConfig"]}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump({**cluster, "metadata": {"name": "tuning"}}))

    def later():
        time.sleep(2)
        report(kubernetes, "RayCluster", "tuning", HeadPodReady=True, RayClusterProvisioned=False)
        time.sleep(1)
        report(kubernetes, "RayCluster", "tuning", HeadPodReady=True, RayClusterProvisioned=True)

    checked = attrition("up", tmp_path / "cluster.yaml", "-n", NAMESPACE, "--dry-run")
    assert (checked.exit_code, kubernetes.objects()) == (0, []), checked.output
    thread = threading.Thread(target=later)
    thread.start()
    up = attrition("up", tmp_path / "cluster.yaml", "-n", NAMESPACE, "--timeout", "60")
    thread.join()
    assert up.exit_code == 0, up.output
    assert [line for line in up.stderr.splitlines() if line.startswith("raycluster/tuning")] == [
        "raycluster/tuning: Starting (the operator has not looked at the change yet)",
        "raycluster/tuning: Starting (Test)",
        "raycluster/tuning: Ready",
    ]
    report(kubernetes, "RayCluster", "tuning", HeadPodReady=True, ReplicaFailure=True)
    status = attrition("status", "-n", NAMESPACE, "--json")
    assert (status.exit_code, json.loads(status.stdout)[0]["state"]) == (5, "Failed")
    report(kubernetes, "RayCluster", "tuning", HeadPodReady=False)
    with pytest.raises(PlatformError, match="is Starting after 1 s"):
        kubernetes.wait("RayCluster", "tuning", timeout_seconds=1)
    kept = attrition("down", "raycluster/tuning", "-n", NAMESPACE, input="n\n")
    assert (kept.exit_code, len(kubernetes.objects())) == (1, 1)
    with garbage_collected(kubernetes, "RayCluster", "tuning"):
        assert attrition("down", "raycluster/tuning", "-n", NAMESPACE, "--yes").exit_code == 0
    assert "There is no raycluster/tuning" in attrition("down", "raycluster/tuning", "-n", NAMESPACE, "--yes").stderr
    assert attrition("down", "pod/x", "--yes").exit_code == 2


def test_traffic_changes_through_the_specification_alone(kubernetes, ray_cluster, make_bundle, tmp_path_factory):
    """First version, split, new manifest, conflict: Serve has what the specification says, and keeps its traffic."""
    bundles = {version: make_bundle(version, intercept) for version, intercept in {"1.0.0": 1.0, "1.1.0": 0.2}.items()}
    home = tmp_path_factory.mktemp("cluster")
    config = ServeConfig.load("local").model_copy(update={"monitor": None})
    port = Settings.from_environment().serve_port
    text = yaml.safe_dump(config.request(None, None, None, host="127.0.0.1", port=port), sort_keys=False)
    (service,) = read_manifests(MANIFEST, "x")
    service["spec"]["serveConfigV2"] = text
    dashboard = ray_cluster.dashboard_url
    with (
        Operator(kubernetes, dashboard),
        Workspace(home=home, ray_address=dashboard, ray_service=f"{NAMESPACE}/attrition") as ws,
    ):
        ws.cluster._export = bundles.__getitem__
        (up,) = ws.cluster.up([service], namespace=NAMESPACE, timeout_seconds=120)
        assert up.ready
        url = f"{ws.settings.serve_url}/v1/predict"
        assert httpx.post(url, json={"age": 40}).status_code == 503
        pods = kubernetes.read("RayService", "attrition")["spec"]["rayClusterConfig"]
        first = ws.cluster.deploy("1.0.0")
        assert httpx.post(url, json={"age": 40}).json()["model_version"] == "1.0.0"
        second = ws.cluster.shift({"1.0.0": 70, "1.1.0": 30})
        assert second.generation == first.generation + 1
        assert {v.version: v.weight for v in ws.cluster.traffic().traffic.variants} == {"1.0.0": 0.7, "1.1.0": 0.3}
        written, _ = kubernetes.serve_config("attrition")
        assert "user_config" in written["applications"][0]["deployments"][0]
        assert kubernetes.read("RayService", "attrition")["spec"]["rayClusterConfig"] == pods
        # the manifest again, with another limit: the limit comes, the split stays
        changed = yaml.safe_load(text)
        changed["applications"][0]["args"]["limits"]["max_records"] = 77
        service["spec"]["serveConfigV2"] = yaml.safe_dump(changed)
        ws.cluster.up([service], namespace=NAMESPACE, timeout_seconds=120)
        written, _ = kubernetes.serve_config("attrition")
        assert written["applications"][0]["args"]["limits"]["max_records"] == 77
        assert {v.version: v.weight for v in ws.cluster.traffic().traffic.variants} == {"1.0.0": 0.7, "1.1.0": 0.3}
        # somebody else holds a field
        kubernetes._client.resources.get(api_version="ray.io/v1", kind="RayService").patch(
            body={"metadata": {"labels": {"team": "it"}}},
            name="attrition",
            namespace=NAMESPACE,
            content_type="application/merge-patch+json",
            field_manager="somebody",
        )
        with pytest.raises(UsageError, match=r"labels\.team.*somebody"):
            ws.cluster.up([service], namespace=NAMESPACE)
        with pytest.raises(UsageError, match="attrition cluster deploy"):
            ws.serving.up()
        with pytest.raises(UsageError, match="was changed by somebody else"):
            kubernetes.set_serve_config("attrition", written, "1")
        with garbage_collected(kubernetes, "RayService", "attrition"):
            assert ws.cluster.down("RayService", "attrition", namespace=NAMESPACE, timeout_seconds=60)
        httpx.delete(f"{dashboard}/api/serve/applications/", timeout=60)
        records = [record.action for record in ws.audit.records()]
        assert records.count("cluster.change") == 8


ROLLOUT = """
look: 1s
guard: {max_error_rate: 0.05, max_latency_ms: 5000, window: 5s, poll: 0.5s}
analysis:
  metrics: [{metric: error_rate, role: guardrail, margin: 0.05, min_units: 50}]
steps:
  - {shadow: true, min_samples: 30, dwell: 1s, limit: 60s}
  - {champion: 60, challenger: 40, min_samples: 30, dwell: 1s, limit: 60s}
  - {champion: 0, challenger: 100, dwell: 1s}
"""


def test_rollouts_and_experiments_change_the_specification(kubernetes, ray_cluster, tmp_path):
    """What they set is what the operator brings back, at every step and at the end; no request fails."""
    settings = Settings.from_environment(home=tmp_path / "home")
    settings.prepare_home()
    (settings.home / "keys").mkdir(mode=0o700)
    settings.key_file.write_text("5a" * 32)
    settings.key_file.chmod(0o600)
    old, new, other = register(settings, tmp_path / "packages", [0.3, 0.4, 0.5])
    config = ServeConfig.load("local").model_copy(update={"monitor": None})
    log = LogConfig.of(settings, **config.application.args.prediction_log.model_dump() | {"commit_seconds": 1.0})
    request = config.request(None, log, None, host="127.0.0.1", port=settings.serve_port)
    (service,) = read_manifests(MANIFEST, "x")
    service["spec"]["serveConfigV2"] = yaml.safe_dump(request, sort_keys=False)
    dashboard = ray_cluster.dashboard_url
    settings = settings.model_copy(update={"ray_address": dashboard, "ray_service": f"{NAMESPACE}/attrition"})
    plan = tmp_path / "plan.yaml"
    plan.write_text(ROLLOUT)
    seen = []
    with Operator(kubernetes, dashboard) as operator, Workspace(settings) as ws:

        def changed(rollout):
            if rollout.intent is None and rollout.step >= len(seen):
                operator.bring_again()
                seen.append(specified(kubernetes))

        ws.cluster.up([service], namespace=NAMESPACE, timeout_seconds=120)
        ws.cluster.deploy(old)
        ws.experiments.start(
            ExperimentPlan(name="split", control=old, challenger=new, weights={"control": 70, "challenger": 30})
        )
        assert specified(kubernetes) == ({old: 0.7, new: 0.3}, [])
        ws.experiments.stop()
        ws.traffic.set({old: 100})
        staged = ws.release.stage(new)
        assert staged.passed, str(staged.report)
        ws.release.start(new, plan)
        with Load(ws.settings.serve_url, People()) as load:
            ended = ws.release.run(changed).rollout
        assert (ended.status, load.failures) == (Status.PROMOTED, []), ended.reason
        assert seen == [({old: 1.0}, [new]), ({old: 0.6, new: 0.4}, []), ({new: 1.0}, [])]
        operator.bring_again()
        assert [v.version for v in ws.traffic.show().traffic.variants if v.weight] == [new]
        # withdrawn by a person, without a controller
        ws.release.stage(other)
        ws.release.start(other, plan)
        assert ws.release.rollback(justification="complaints").rollout.status is Status.ROLLED_BACK
        assert specified(kubernetes) == ({new: 1.0}, [])
        with garbage_collected(kubernetes, "RayService", "attrition"):
            assert ws.cluster.down("RayService", "attrition", namespace=NAMESPACE, timeout_seconds=60)
        httpx.delete(f"{dashboard}/api/serve/applications/", timeout=60)
