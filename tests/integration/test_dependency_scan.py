"""The scan for vulnerabilities by the real pip-audit, on two packages, by a service of our own and by PyPI's."""

from __future__ import annotations

import shutil

import pytest
from vulnerability_service import vulnerability_service

from attrition.release.dependencies import scan_dependencies

pytestmark = pytest.mark.skipif(shutil.which("pip-audit") is None, reason="pip-audit is not installed")


@pytest.fixture
def folder(tmp_path):
    """Where an old Jinja2 and a package that nobody publishes are installed, as far as a scanner can see."""
    for name, version in (("Jinja2", "2.4.1"), ("attrition-own", "1.0")):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "RECORD").touch()
    return tmp_path


@pytest.fixture
def service(monkeypatch):
    """Function that chooses the service, as an organisation with a mirror does."""

    def choose(url):
        monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)

    return choose


def test_a_vulnerable_package_is_found(folder, service):
    """With the version to upgrade to; the other one is clean."""
    with vulnerability_service(jinja2="2.11.3") as url:
        service(url)
        scan = scan_dependencies(folder=folder)
    assert scan.vulnerable == ("jinja2 2.4.1 (TEST-1, fixed in 2.11.3)",)
    assert scan.summary == "pip-audit, by osv, knows of 1 vulnerability in 2 dependencies."


def test_nothing_is_found(folder, service):
    """The scan says how far it looked."""
    with vulnerability_service() as url:
        service(url)
        scan = scan_dependencies(folder=folder)
    assert (scan.n_scanned, scan.vulnerable) == (2, ())


def test_a_service_that_is_away_is_no_clean_scan(folder, service, unused_port):
    """pip-audit ends with an error then."""
    service(f"http://127.0.0.1:{unused_port}/v1/query")
    scan = scan_dependencies(folder=folder)
    assert not scan.is_done
    assert scan.summary == "Dependencies were not scanned for vulnerabilities: osv did not answer."


def test_what_pypi_knows(folder, monkeypatch):
    """The shipped order begins with it; an index that serves packages only knows nothing, and that is said."""
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "pypi")
    scan = scan_dependencies(folder=folder, timeout_seconds=30)
    if not scan.is_done:
        assert "pypi knows none of them" in scan.summary or "pypi did not answer" in scan.summary
        pytest.skip(f"PyPI's vulnerability service cannot be asked here: {scan.summary}")
    assert any(vulnerable.startswith("jinja2 2.4.1 (") for vulnerable in scan.vulnerable)
    assert scan.n_skipped == 1
