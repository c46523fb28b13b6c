"""What the README and the pins say is true: commands exist, set-up commands are those that CI runs."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from attrition.cli.main import app

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
CI = (PROJECT / ".ci" / "run").read_text(encoding="utf-8")


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands():
    lines = "\n".join(_blocks("bash")).replace("\\\n", " ").splitlines()
    return sorted({line.split(" -- ")[-1].split("#")[0].strip() for line in lines if "attrition " in f"{line} "})


@pytest.mark.parametrize("command", [c for c in _commands() if c.startswith("attrition ")])
def test_every_command_in_the_readme_exists(command):
    """Its group, its name and each of its flags are known to the command line."""
    words = shlex.split(command)[1:]
    flags = {word for word in words if word.startswith("--")}
    found = typer.main.get_command(app)
    while hasattr(found, "commands") and words and not words[0].startswith("-"):
        assert words[0] in found.commands, command
        found = found.commands[words.pop(0)]
    assert not hasattr(found, "commands") or found.invoke_without_command, f"{command}: which of its commands?"
    assert flags <= {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_ci_does_what_the_test_command_says():
    """Each step of the README's second command is a step of `.ci/run`."""
    command = next(block for block in _blocks("bash") if "/pytest" in block)
    steps = [step.strip() for step in command.split("&&")]
    assert len(steps) == 5
    assert [line for line in CI.splitlines() if line in steps] == steps


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-dev.txt"])
def test_pins_cover_the_dependencies(name):
    """Every declared dependency is pinned with a hash at an allowed version, and no address stands in the file."""
    text = (PROJECT / "infra" / "image" / name).read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    if name == "constraints-dev.txt":
        declared += [*project["dependency-groups"]["test"], *project["dependency-groups"]["lint"]]
    pinned = {canonicalize_name(package): version for package, version in pins.items()}
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert text.count("--hash=sha256:") > len(pins)
    assert not re.search(r"https?:|--index|--find-links", text)
