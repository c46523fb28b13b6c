"""What a scan for vulnerabilities says, by a program that answers like pip-audit."""

from __future__ import annotations

import json
import stat

import pytest

from attrition.release.dependencies import scan_dependencies

CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
SKIPPED = {"name": "attrition", "skip_reason": "not found on PyPI"}
VULNERABLE = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}


@pytest.fixture
def scanner(tmp_path):
    """Function from what the program prints to its path."""

    def write(text, code=0, seconds=0):
        answer = tmp_path / "answer"
        answer.write_text(text, encoding="utf-8")
        script = tmp_path / "pip-audit"
        script.write_text(f"#!/bin/sh\nsleep {seconds}\ncat '{answer}'\nexit {code}\n", encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return str(script)

    return write


def test_vulnerable_packages_are_named_with_their_cure(scanner):
    """The program ends with 1 then; its answer counts."""
    scan = scan_dependencies(scanner(json.dumps({"dependencies": [CLEAN, SKIPPED, VULNERABLE]}), code=1))
    assert scan.vulnerable == ("old 1.0 (PYSEC-1, fixed in 1.1)",)
    assert (scan.n_scanned, scan.n_skipped) == (2, 1)


def test_a_clean_scan_says_how_far_it_looked(scanner):
    """Packages that the service does not know were not looked at."""
    scan = scan_dependencies(scanner(json.dumps({"dependencies": [CLEAN, SKIPPED]})))
    assert scan.summary == "pip-audit, by pypi, knows of no vulnerability in 1 dependency (unknown to it: 1)."
    assert not scan.vulnerable
    assert scan.is_done


def test_another_service_is_asked_when_the_first_does_not_answer(tmp_path):
    """The scan says whom it believes."""
    script = tmp_path / "pip-audit"
    answer = json.dumps({"dependencies": [CLEAN]})
    script.write_text(
        f"#!/bin/sh\ncase \"$*\" in *'service osv'*) echo '{answer}';; *) exit 1;; esac\n", encoding="utf-8"
    )
    script.chmod(0o700)
    assert scan_dependencies(str(script)).summary == "pip-audit, by osv, knows of no vulnerability in 1 dependency."


@pytest.mark.parametrize("text", [json.dumps({"dependencies": [SKIPPED]}), "no network", "[]", "{}"])
def test_a_scan_that_saw_nothing_does_not_claim_safety(scanner, text):
    """Offline, or an answer that is not understood."""
    scan = scan_dependencies(scanner(text))
    assert scan.summary.startswith("Dependencies were not scanned for vulnerabilities")
    assert not scan.vulnerable
    assert not scan.is_done


def test_a_missing_or_hanging_scanner_is_told():
    """Never an error: the check says what it could not do."""
    assert "is not installed" in scan_dependencies("no-such-scanner").summary


def test_a_scanner_that_hangs_is_left(scanner):
    """After the time it was given."""
    assert "pypi did not answer within 0.2 s" in scan_dependencies(scanner("", seconds=5), timeout_seconds=0.2).summary
