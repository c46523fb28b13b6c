"""The manifests as kustomize builds them, and the pods in them."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "kuberay"
OVERLAYS = ("staging", "production", "staging/tuning", "production/tuning")
SCHEMAS = ROOT.parent / "shared" / "schemas" / "kuberay-v1.7.0"

_OLDEST = 5
"""Major version of kustomize that knows components, replacements and anchors as they are used."""


@functools.cache
def _kustomize() -> list[str] | None:
    for command, version in (("kustomize", ["version"]), ("kubectl", ["version", "--client"])):
        path = shutil.which(command)
        if path is None:
            continue
        said = subprocess.run([path, *version], capture_output=True, text=True, check=False).stdout
        found = re.search(r"(?:^|Kustomize Version: )v(\d+)\.", said)
        if found and int(found[1]) >= _OLDEST:
            return [path, "build"] if command == "kustomize" else [path, "kustomize"]
    return None


@functools.cache
def build_text(folder: Path) -> str:
    """What kustomize makes of a folder; skips the test where there is none."""
    command = _kustomize()
    if command is None:
        pytest.skip(
            allow_module_level=True,
            reason="kustomize 5 is missing: go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1, or kubectl 1.27",
        )
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def build(folder: Path) -> tuple[dict[str, Any], ...]:
    """Every object that kustomize makes of a folder."""
    return tuple(yaml.load_all(build_text(folder), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def overlay(name: str) -> tuple[dict[str, Any], ...]:
    """Every object of an overlay."""
    return build(KUBERAY / "overlays" / name)


def of_kind(objects: Any, *kinds: str) -> list[dict[str, Any]]:
    """Those of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: Any, kind: str, name: str) -> dict[str, Any]:
    """The one of a kind and a name."""
    (found,) = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


@dataclass(frozen=True)
class Pod:
    """A pod template and where it stands."""

    where: str
    template: dict[str, Any]
    replicas: int = 1

    @property
    def spec(self) -> dict[str, Any]:
        return self.template["spec"]

    @property
    def labels(self) -> dict[str, str]:
        return self.template["metadata"]["labels"]

    @property
    def containers(self) -> list[dict[str, Any]]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def is_head(self) -> bool:
        return self.labels["app.kubernetes.io/component"] == "ray-head"

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for each in self.containers for port in each.get("ports", [])}


def pods(objects: Any) -> list[Pod]:
    """Every pod template, those inside Ray's objects included."""
    found = []
    for each in objects:
        kind, spec = each["kind"], each.get("spec", {})
        where = f"{kind} {each['metadata']['name']}"
        if kind in {"Deployment", "StatefulSet"}:
            found.append(Pod(where, spec["template"], spec["replicas"]))
        elif kind == "CronJob":
            found.append(Pod(where, spec["jobTemplate"]["spec"]["template"]))
        elif kind in {"RayService", "RayJob"}:
            cluster = ray_cluster(each)
            found.append(Pod(f"{where} head", cluster["headGroupSpec"]["template"]))
            found += [
                Pod(f"{where} {g['groupName']}", g["template"], g["replicas"]) for g in cluster["workerGroupSpecs"]
            ]
            if "submitterPodTemplate" in spec:
                found.append(Pod(f"{where} submitter", spec["submitterPodTemplate"]))
    return found


def ray_cluster(ray_object: dict[str, Any]) -> dict[str, Any]:
    """The RayCluster inside a RayService or a RayJob."""
    spec = ray_object["spec"]
    return spec["rayClusterConfig" if ray_object["kind"] == "RayService" else "rayClusterSpec"]


def ray_objects(objects: Any) -> list[dict[str, Any]]:
    """RayServices and RayJobs."""
    return of_kind(objects, "RayService", "RayJob")
