"""Known vulnerabilities of the installed dependencies, as pip-audit finds them where it is installed.

pip-audit asks a vulnerability service over the network: PyPI's, and when that knows nothing the one of OSV. Without it,
or without the network, the scan was not done: that is no evidence of safety, and the check says NOT CHECKED. Where only
a mirror can be reached, pip-audit's own variables name it: ``PIP_AUDIT_VULNERABILITY_SERVICE=osv`` and
``PIP_AUDIT_OSV_URL=https://mirror/v1/query``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
"""Asked in this order, until one knows the dependencies; ``PIP_AUDIT_VULNERABILITY_SERVICE`` names another one."""
TIMEOUT_SECONDS = 180
"""For asking the service about some two hundred packages."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan of the dependencies found.

    Attributes
    ----------
    summary : str
        A sentence for readers.
    n_scanned, n_skipped : int
        Packages that the service knew, and those that it did not.
    vulnerable : tuple of str
        ``name version (advisory, fixed in …)`` of each package with a known vulnerability.
    """

    summary: str
    n_scanned: int = 0
    n_skipped: int = 0
    vulnerable: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether any package was looked up."""
        return self.n_scanned > 0


def scan_dependencies(
    command: str = "pip-audit", *, folder: str | Path | None = None, timeout_seconds: float = TIMEOUT_SECONDS
) -> Scan:
    """What pip-audit says about installed packages; never raises.

    Parameters
    ----------
    command
        Name or path of pip-audit; looked up beside this Python first.
    folder
        Where the packages are installed; None: those of this environment.
    timeout_seconds
        For each service.
    """
    beside = shutil.which(command, path=sysconfig.get_path("scripts"))
    found = beside or shutil.which(command)
    if found is None:
        return _not_done("pip-audit is not installed")
    chosen = os.environ.get("PIP_AUDIT_VULNERABILITY_SERVICE")
    reasons = []
    for service in (chosen,) if chosen else SERVICES:
        scan = _ask(found, service, str(folder or sysconfig.get_path("purelib")), timeout_seconds)
        if isinstance(scan, Scan):
            return scan
        reasons.append(scan)
    return _not_done("; ".join(reasons))


def _not_done(why: str) -> Scan:
    return Scan(f"Dependencies were not scanned for vulnerabilities: {why}.")


def _ask(program: str, service: str, folder: str, timeout_seconds: float) -> Scan | str:
    """What a service knows, or why that is not known."""
    arguments = ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", service, "--path", folder]
    try:
        done = subprocess.run(  # noqa: S603 - a program of the user's own environment
            [program, *arguments], capture_output=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{service} did not answer within {timeout_seconds:g} s"
    except OSError as error:
        return f"{Path(program).name} cannot be run ({error.strerror or type(error).__name__})"
    if not done.stdout.strip():  # the program ended with its own error, of the network in most cases
        return f"{service} did not answer"
    try:
        return _read(json.loads(done.stdout), service)
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"the answer of {Path(program).name} by {service} was not understood"


def _read(document: dict[str, Any], service: str) -> Scan | str:
    dependencies = document["dependencies"]
    skipped = [dependency for dependency in dependencies if "skip_reason" in dependency]
    n_scanned = len(dependencies) - len(skipped)
    vulnerable = tuple(
        f"{dependency['name']} {dependency['version']} ({vulnerability['id']}, {_fix(vulnerability)})"
        for dependency in dependencies
        for vulnerability in dependency.get("vulns", ())
    )
    if n_scanned == 0:
        return f"{service} knows none of them"
    rest = f" (unknown to it: {len(skipped)})" if skipped else ""
    found = {0: "no vulnerability", 1: "1 vulnerability"}.get(len(vulnerable), f"{len(vulnerable)} vulnerabilities")
    summary = f"pip-audit, by {service}, knows of {found} in {_counted(n_scanned)}{rest}."
    return Scan(summary, n_scanned, len(skipped), vulnerable)


def _counted(n: int) -> str:
    return "1 dependency" if n == 1 else f"{n} dependencies"


def _fix(vulnerability: dict[str, Any]) -> str:
    versions = vulnerability.get("fix_versions") or ()
    return f"fixed in {', '.join(versions)}" if versions else "no fixed version yet"
