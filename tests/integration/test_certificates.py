"""From the import to a signed certificate, by two people under closed access; and what tampering does to it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from vulnerability_service import vulnerability_service

from attrition.data.workforce import simulate, write_extract
from attrition.errors import AccessDenied, IntegrityError, UsageError
from attrition.registry.artifacts import local_folder
from attrition.workspace import Workspace


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Function from a key's name to a workspace of one closed project; Ada trained and registered 1.0.0 in it."""
    home = tmp_path_factory.mktemp("certified")
    founder = Workspace(home=home)
    keys = {
        name: founder.access.create_key(name, role).text
        for name, role in (("ada", "ml_lead"), ("grace", "ml_lead"), ("carol", "compliance_auditor"))
    }
    patch = pytest.MonkeyPatch()

    def workspace(name):
        patch.setenv("ATTRITION_API_KEY", keys[name])
        return Workspace(home=home, access="closed")

    (home / "keys" / "pseudonym.key").unlink(missing_ok=True)
    (home / "keys" / "pseudonym.key").write_text("5a" * 32, encoding="ascii")
    (home / "keys" / "pseudonym.key").chmod(0o600)
    workspace.keys = keys
    ada = workspace("ada")
    extract = write_extract(simulate(6_000, seed=42), home / "workforce.csv.gz")
    ada.data.load(extract, mapping="workforce")
    run = ada.train("hist_gradient_boosting", {"max_iter": 60})
    ada.models.register(run.run_id, waive=None if run.verdict.admits else "a small holdout, for a test")
    yield workspace
    patch.undo()


@pytest.fixture(autouse=True)
def service(monkeypatch, unused_port):
    """Function that chooses whom the real pip-audit asks; at first nobody answers."""
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")

    def choose(url):
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", url)

    choose(f"http://127.0.0.1:{unused_port}/v1/query")
    return choose


def outcomes(assessment):
    """Outcome of each check, those aside that depend on the state of the checkout or the holdout."""
    return {c.name: str(c.outcome) for c in assessment.checks if c.name not in {"metadata", "performance", "fairness"}}


def test_a_version_is_certified_after_somebody_else_approved_it(project, service, tmp_path):
    """Before, the approval is missing and says what to do; the author cannot give it."""
    before = project("grace").certificates.assess("1.0.0")
    assert outcomes(before) == {
        "explainability": "PASS",
        "audit trail": "PASS",
        "security": "NOT CHECKED",
        "privacy": "PASS",
        "approval": "FAIL",
    }
    assert "osv did not answer" in before.unchecked[0].text
    assert "attrition models approve 1.0.0" in before.failed[-1].text
    with pytest.raises(AccessDenied, match="its author may not approve it"):
        project("ada").models.approve("1.0.0", justification="it is mine")
    project.keys["alter"] = project("ada").access.create_key("alter", "ml_lead").text
    project.keys["ego"] = project("alter").access.create_key("ego", "ml_lead").text
    for second_name in ("alter", "ego"):
        with pytest.raises(AccessDenied, match=f"from whom the key of {second_name} comes"):
            project(second_name).models.approve("1.0.0", justification="it is not mine")
    version = project("grace").models.approve("1.0.0", justification="holdout and fairness reviewed")
    assert any(alias.startswith("approved-") for alias in version.aliases)

    with vulnerability_service() as url:
        service(url)
        assessment, certificate = project("grace").certificates.issue("1.0.0")
    assert outcomes(assessment)["approval"] == outcomes(assessment)["security"] == "PASS"
    dirty = ".dirty" in version.lineage.code_version
    if dirty or version.waived:
        assert certificate is None
        pytest.skip("the checkout has changes that are not committed: nothing from it can be certified")
    assert certificate.issued_by == "grace"
    path = tmp_path / "certificate.json"
    path.write_text(certificate.to_json(), encoding="utf-8")
    workspace = project("carol")
    assert workspace.certificates.verify(path) == certificate

    pem = tmp_path / "key.pem"
    pem.write_text(project("carol").guard.audit.public_pem, encoding="ascii")
    elsewhere = Workspace(home=tmp_path / "elsewhere")  # no stores, no database: the file and the key are enough
    assert elsewhere.certificates.verify(path, public_key=pem) == certificate
    registered = workspace.models.show("1.0.0")
    folder = local_folder(workspace.settings, registered.source, registered.manifest_sha256)
    assert elsewhere.certificates.verify(path, public_key=pem, folder=folder) == certificate
    bundle = Path(project("grace").models.export_bundle("1.0.0", tmp_path / "bundles").uri)
    assert elsewhere.certificates.verify(path, public_key=pem, folder=bundle) == certificate
    (bundle / "schema.json").write_bytes((bundle / "schema.json").read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=r"schema\.json: changed"):
        elsewhere.certificates.verify(path, public_key=pem, folder=bundle)
    with pytest.raises(UsageError, match=r"has no manifest\.json"):
        elsewhere.certificates.verify(path, public_key=pem, folder=tmp_path)

    forged = json.loads(path.read_text(encoding="utf-8"))
    forged["subject"]["version"] = "2.0.0"
    path.write_text(json.dumps(forged), encoding="utf-8")
    with pytest.raises(IntegrityError, match="does not fit what it says"):
        elsewhere.certificates.verify(path, public_key=pem)


def test_a_vulnerable_dependency_holds_the_certificate(project, service):
    """The real scanner names it with its cure."""
    with vulnerability_service(numpy="999.1") as url:
        service(url)
        assessment, certificate = project("grace").certificates.issue("1.0.0")
    assert outcomes(assessment)["security"] == "FAIL"
    assert "TEST-1, fixed in 999.1" in next(check.text for check in assessment.failed if check.name == "security")
    assert certificate is None


def test_the_card_is_kept_with_the_run_and_made_again(project):
    """Registration logs it to MLflow; it shows what the model relies on."""
    from attrition.training.connection import connect

    workspace = project("carol")
    card = workspace.models.card("champion")
    run_id = workspace.models.show("champion").run_id
    names = {artifact.path for artifact in connect(workspace.settings).list_artifacts(run_id)}
    assert {"model_card.html", "model_card.md"} <= names
    assert "mean absolute Shapley value" in card.markdown


def test_a_tampered_audit_log_fails_its_check(project):
    """Who rewrites an event loses the certificate; the check names the event."""
    workspace = project("grace")
    path = workspace.settings.home / "governance.db"
    with sqlite3.connect(path) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        (table,) = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%justification%previous%'"
        ).fetchone()
        database.execute(f"UPDATE {table} SET actor = 'mallory' WHERE sequence = 3")
    assessment = workspace.certificates.assess("1.0.0")
    assert outcomes(assessment)["audit trail"] == "FAIL"
    (check,) = [check for check in assessment.checks if check.name == "audit trail"]
    assert "3" in check.text
    assert "attrition audit verify" in check.text
