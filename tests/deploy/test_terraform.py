"""infra/*.tf without Azure: they parse, hang together, name arguments that the provider has, and pass a scanner.

The provider's types are those of the npm package @cdktf/provider-azurerm, which ``.ci/tools`` fetches;
AZURERM_TYPES names its folder when it is elsewhere. The formatter is ``terraform``, ``tofu`` or ``hclfmt``, the scanner
``checkov``. What is not there is skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import hcl2
import pytest

INFRA = Path(__file__).parents[2] / "infra"
FILES = sorted([*INFRA.rglob("*.tf"), *INFRA.glob("environments/*.tfvars")])
MODULES = [INFRA, *sorted(path for path in (INFRA / "modules").iterdir() if path.is_dir())]
ENVIRONMENTS = sorted((INFRA / "environments").glob("*.tfvars"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
META = {"for_each", "count", "depends_on", "provider"}


@cache
def parsed(path):
    return hcl2.loads(path.read_text())


def unquoted(value):
    return value.strip('"')


def blocks(folder, kind):
    """Blocks of a kind in a module: labels joined by a dot, and their bodies."""
    found = {}
    for path in sorted(folder.glob("*.tf")):
        for block in parsed(path).get(kind, []):
            labels, body = [], block
            while isinstance(body, dict) and not body.get("__is_block__"):
                ((label, body),) = ((k, v) for k, v in body.items() if not k.startswith("__"))
                labels.append(unquoted(label))
            found[".".join(labels)] = body
    return found


def arguments(body):
    return {name: value for name, value in body.items() if not name.startswith("__")}


def local_names(folder):
    names = set()
    for path in folder.glob("*.tf"):
        for block in parsed(path).get("locals", []):
            names |= arguments(block).keys()
    return names


def code(folder):
    """The text of a module without comments."""
    texts = [path.read_text() for path in sorted(folder.glob("*.tf"))]
    return re.sub(r"(^|\s)#.*", "", "\n".join(texts), flags=re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(INFRA)))
def test_every_file_parses(path):
    """And is not empty."""
    assert parsed(path)


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_inputs_and_outputs_are_documented(folder):
    """With a type; an output says what it is."""
    for name, body in blocks(folder, "variable").items():
        assert {"description", "type"} <= body.keys(), name
        assert unquoted(body["description"]).endswith((".", "?")), name
    for name, body in blocks(folder, "output").items():
        assert {"description", "value"} <= body.keys(), name


@pytest.mark.parametrize("folder", MODULES, ids=lambda path: path.name)
def test_everything_that_is_named_exists_and_is_used(folder):
    """Variables, locals, resources, modules and their outputs."""
    text = code(folder)
    variables = blocks(folder, "variable").keys()
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(variables)
    assert set(re.findall(r"\blocal\.(\w+)", text)) == local_names(folder)
    resources = {name for kind in ("resource", "ephemeral") for name in blocks(folder, kind)}
    for kind, name in re.findall(r"(?<![\w\".])(azurerm_\w+|random_\w+)\.(\w+)", text):
        assert f"{kind}.{name}" in resources | {name.removeprefix("data.") for name in blocks(folder, "data")}, kind
    modules = blocks(folder, "module").keys()
    for module, output in re.findall(r"\bmodule\.(\w+)\.(\w+)", text):
        assert module in modules
        assert output in blocks(INFRA / "modules" / module, "output"), (module, output)


def test_modules_get_what_they_ask_for():
    """Every input without a default, and no other."""
    calls = blocks(INFRA, "module")
    assert {INFRA / "modules" / name for name in calls} == set(MODULES[1:])
    for name, body in calls.items():
        given = arguments(body)
        assert unquoted(given.pop("source")) == f"./modules/{name}"
        inputs = blocks(INFRA / "modules" / name, "variable")
        assert given.keys() - META == inputs.keys(), name


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_set_what_has_no_default(path):
    """And nothing that does not exist; two environments never share a name or a network."""
    given = arguments(parsed(path))
    inputs = blocks(INFRA, "variable")
    assert given.keys() <= inputs.keys()
    assert {name for name, body in inputs.items() if "default" not in body} <= given.keys()
    assert unquoted(given["environment"]) == path.stem
    others = [arguments(parsed(other)) for other in ENVIRONMENTS if other != path]
    assert all(other["address_space"] != given["address_space"] for other in others)
    assert (path.parent / f"{path.stem}.backend").is_file()


def test_what_is_secret_never_reaches_the_state():
    """Only write-only arguments take it, and no literal in the files looks like one."""
    for folder in MODULES:
        for name, body in blocks(folder, "resource").items():
            if name.startswith(("azurerm_key_vault_secret.", "azurerm_postgresql_flexible_server.")):
                assert not {"value", "administrator_password"} & body.keys(), name
        assert not any(name.startswith("random_password") for name in blocks(folder, "resource"))
    for path in FILES:
        assert not re.search(r"(password|secret|token)\s*=\s*\"[^\"$]{8,}\"", path.read_text(), re.IGNORECASE), path


def test_the_workloads_mount_the_secrets_that_the_manifests_mount():
    """Each identity may read what its SecretProviderClass names, and nothing else."""
    import yaml

    path = INFRA.parent / "kuberay" / "base" / "secrets.yaml"
    mounted = {}
    for document in yaml.safe_load_all(path.read_text()):
        if document and document["kind"] == "SecretProviderClass":
            objects = yaml.safe_load(document["spec"]["parameters"]["objects"])["array"]
            mounted[document["metadata"]["name"].removeprefix("attrition-")] = {
                yaml.safe_load(each)["objectName"] for each in objects
            }
    (workloads,) = (
        block["workloads"]
        for each in (INFRA / "modules" / "identity").glob("main.tf")
        for block in parsed(each)["locals"]
        if "workloads" in block
    )
    granted = {name: {unquoted(each) for each in work["secrets"]} for name, work in workloads.items()}
    assert granted == mounted


def test_the_printed_files_are_those_of_the_manifests():
    """`terraform output -raw kustomize_...` gives files with the keys that kuberay/environments expects."""
    outputs = blocks(INFRA, "output")
    for environment in (INFRA.parent / "kuberay" / "environments").iterdir():
        for output, name in {"azure_env": "azure", "addresses_env": "addresses", "mlflow_env": "mlflow"}.items():
            lines = (environment / f"{name}.env").read_text().splitlines()
            keys = {line.split("=")[0] for line in lines if "=" in line and not line.startswith("#")}
            assert set(re.findall(r"\"([A-Z_]+)=", outputs[f"kustomize_{output}"]["value"])) == keys


@pytest.fixture(scope="module")
def azurerm():
    """Folder of the provider's published types."""
    candidates = [
        os.environ.get("AZURERM_TYPES"),
        INFRA.parent / "node_modules" / "@cdktf" / "provider-azurerm",
        CACHE / "attrition" / "provider-azurerm",  # where .ci/tools puts it
    ]
    for each in candidates:
        if each and (Path(each) / "lib").is_dir():
            return Path(each) / "lib"
    pytest.skip("@cdktf/provider-azurerm is not installed")


def provider_types(lib, resource):
    """Interfaces of a resource: {interface: {argument: (required, interface of its block or None)}}."""
    text = (lib / resource.removeprefix("azurerm_").replace("_", "-") / "index.d.ts").read_text()
    interfaces = {}
    for name, body in re.findall(r"export interface (\w+)(?: extends [\w.]+)? \{(.*?)\n\}", text, re.DOTALL):
        interfaces[name] = {
            re.sub(r"(?<!^)(?=[A-Z])", "_", argument).lower(): (optional == "", re.match(r"\w*", kind).group())
            for argument, optional, kind in re.findall(r"readonly (\w+)(\??): ([^;]+);", body)
        }
    camel = "".join(part.capitalize() for part in resource.removeprefix("azurerm_").split("_"))
    (root,) = interfaces.keys() & {f"{camel}Config", f"{camel}AConfig"}  # an A where both names would collide
    return root, interfaces


def nested(body):
    """Argument → list of bodies of blocks; a dynamic block counts as what it makes."""
    found = {}
    for name, value in arguments(body).items():
        if name == "dynamic":
            for each in value:
                for label, dynamic in arguments(each).items():
                    found.setdefault(unquoted(label), []).extend(dynamic["content"])
        elif isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("__is_block__"):
            found.setdefault(name, []).extend(value)
        else:
            found.setdefault(name, None)
    return found


def check(where, body, interfaces, interface):
    known = interfaces[interface]
    given = nested(body)
    for name in given.keys() - META - {"lifecycle", "timeouts"}:
        assert name in known, f"{where}: no argument {name}"
        if given[name] is not None:
            kind = known[name][1]
            assert kind in interfaces, f"{where}: {name} is no block"
            for each in given[name]:
                check(f"{where}.{name}", each, interfaces, kind)
        else:
            assert known[name][1] not in interfaces, f"{where}: {name} is a block"
    missing = {name for name, (required, _) in known.items() if required} - given.keys()
    assert not missing, f"{where}: lacks {missing}"


def test_arguments_are_those_of_the_provider(azurerm):
    """Every resource exists, has no unknown argument or block, and lacks no required one."""
    checked = 0
    for folder in MODULES:
        for name, body in blocks(folder, "resource").items():
            resource = name.split(".")[0]
            if resource.startswith("azurerm_"):
                root, interfaces = provider_types(azurerm, resource)
                check(f"{folder.name}/{name}", body, interfaces, root)
                checked += 1
    assert checked > 50


def test_the_check_of_arguments_can_fail(azurerm):
    """A misspelt argument, one that is missing, a block in the wrong place."""
    root, interfaces = provider_types(azurerm, "azurerm_resource_group")
    good = {"name": "x", "location": "y"}
    check("x", good, interfaces, root)
    for bad in ({**good, "locaton": "z"}, {"name": "x"}, {**good, "tags": [{"__is_block__": True}]}):
        with pytest.raises(AssertionError):
            check("x", bad, interfaces, root)


def test_formatted():
    """As `terraform fmt` would."""
    for command in (["terraform", "fmt", "-check"], ["tofu", "fmt", "-check"], ["hclfmt", "-require-no-change"]):
        if shutil.which(command[0]):
            done = subprocess.run([*command, *FILES], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            return
    pytest.skip("none of terraform, tofu and hclfmt is installed")


@pytest.mark.slow
def test_a_scanner_finds_nothing_that_is_not_explained():
    """Checkov; what is skipped has its reason beside it."""
    checkov = shutil.which("checkov")
    if checkov is None:
        pytest.skip("checkov is not installed")
    command = [checkov, "-d", INFRA, "--framework", "terraform", "--compact", "--quiet", "--skip-download"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for path in FILES:
        for line in path.read_text().splitlines():
            if "checkov:skip" in line:
                assert re.search(r"checkov:skip=CKV2?_AZURE_\d+:\w.{15,}", line), line
