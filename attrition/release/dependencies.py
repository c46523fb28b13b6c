"""Known vulnerabilities of the installed dependencies, as pip-audit finds them where it is installed.

pip-audit asks a vulnerability service over the network: PyPI's, and when that does not answer the one of OSV. Without
it, or without the network, the scan was not done: that is no evidence of safety, and the check says NOT CHECKED.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
"""Asked in this order, until one answers."""
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


def scan_dependencies(command: str = "pip-audit", *, timeout_seconds: float = TIMEOUT_SECONDS) -> Scan:
    """What pip-audit says about the packages of this environment; never raises.

    Parameters
    ----------
    command
        Name or path of pip-audit; looked up beside this Python first.
    """
    beside = shutil.which(command, path=sysconfig.get_path("scripts"))
    found = beside or shutil.which(command)
    if found is None:
        return Scan("Dependencies were not scanned for vulnerabilities: pip-audit is not installed.")
    for service in SERVICES:
        scan = _ask(found, service, timeout_seconds)
        if scan.is_done:
            break
    return scan


def _ask(program: str, service: str, timeout_seconds: float) -> Scan:
    packages = sysconfig.get_path("purelib")
    arguments = ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", service]
    try:
        done = subprocess.run(  # noqa: S603 - a program of the user's own environment
            [program, *arguments, "--path", packages],
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
        return _read(json.loads(done.stdout), service)
    except subprocess.TimeoutExpired:
        why = f"it did not end within {timeout_seconds:g} s"
    except OSError as error:
        why = error.strerror or type(error).__name__
    except (ValueError, KeyError, TypeError, AttributeError):
        why = "its answer was not understood"
    return Scan(f"Dependencies were not scanned for vulnerabilities: {Path(program).name} failed ({why}).")


def _read(document: dict[str, Any], service: str) -> Scan:
    dependencies = document["dependencies"]
    skipped = [dependency for dependency in dependencies if "skip_reason" in dependency]
    n_scanned = len(dependencies) - len(skipped)
    vulnerable = tuple(
        f"{dependency['name']} {dependency['version']} ({vulnerability['id']}, {_fix(vulnerability)})"
        for dependency in dependencies
        for vulnerability in dependency.get("vulns", ())
    )
    if n_scanned == 0:
        summary = "Dependencies were not scanned for vulnerabilities: the service knew none of them."
    else:
        rest = f", {len(skipped)} are unknown to it" if skipped else ""
        found = f"{len(vulnerable)} vulnerabilities" if vulnerable else "no vulnerability"
        summary = f"pip-audit, by {service}, knows of {found} in {n_scanned} dependencies{rest}."
    return Scan(summary, n_scanned, len(skipped), vulnerable)


def _fix(vulnerability: dict[str, Any]) -> str:
    versions = vulnerability.get("fix_versions") or ()
    return f"fixed in {', '.join(versions)}" if versions else "no fixed version yet"
