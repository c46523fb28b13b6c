"""A certificate can be checked without any store, and nothing in it can be changed."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attrition.errors import IntegrityError
from attrition.governance.audit_chain import Mark, canonical
from attrition.governance.audit_heads import SigningKey
from attrition.release.certificate import (
    Assessment,
    Certificate,
    CertificatePolicy,
    Check,
    CheckOutcome,
    Subject,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUBJECT = Subject("employee-attrition-classifier", "1.2.0", "a" * 64, "snapshots 3", "b" * 64, "c" * 64)
CHECKS = (
    Check("metadata", CheckOutcome.PASS, ("Trained on snapshot 3.",), ("candidate.json sha256 00",)),
    Check("approval", CheckOutcome.PASS, ("Approved by Ada.",), ("event 17",)),
)


@pytest.fixture(scope="module")
def key():
    """Of the issuer."""
    return SigningKey(Ed25519PrivateKey.generate())


@pytest.fixture(scope="module")
def certificate(key):
    """A genuine one."""
    head = key.sign(Mark(17, "d" * 64), "2026-03-01T11:59:00.000000Z")
    return Certificate.issue(Assessment(SUBJECT, CHECKS), key, head, issued_by="Grace", now=NOW)


def test_a_genuine_certificate_is_verified_from_its_text_alone(certificate, key):
    """It survives its file, and is about the version whose manifest it names."""
    again = Certificate.from_json(certificate.to_json())
    assert again == certificate
    again.verify({key.public_key}, manifest_sha256="a" * 64)


def test_the_signature_is_plain_ed25519_over_canonical_json(certificate):
    """Whoever has an Ed25519 and an RFC 8785 implementation can check it without this package."""
    document = json.loads(certificate.to_json())
    signature = bytes.fromhex(document.pop("signature"))
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(document["public_key"]))
    public.verify(signature, b"attrition/certificate/1\x00" + canonical(document))


def test_another_version_another_key_and_a_forger_are_told_apart(certificate, key):
    """Each refusal says which it is."""
    other = SigningKey(Ed25519PrivateKey.generate())
    with pytest.raises(IntegrityError, match="whose manifest is sha256 aaaaaaaaaaaa"):
        certificate.verify({key.public_key}, manifest_sha256="e" * 64)
    with pytest.raises(IntegrityError, match="not among the trusted ones"):
        certificate.verify({other.public_key})
    head = other.sign(Mark(17, "d" * 64), "2026-03-01T11:59:00.000000Z")
    forged = Certificate.issue(Assessment(SUBJECT, CHECKS), other, head, issued_by="Grace", now=NOW)
    with pytest.raises(IntegrityError, match="not among the trusted ones"):
        forged.verify({key.public_key})
    claimed = json.loads(forged.to_json()) | {"public_key": key.public_key}
    with pytest.raises(IntegrityError, match="does not fit what it says"):
        Certificate.from_json(json.dumps(claimed)).verify({key.public_key})


def test_failed_checks_are_not_certified(key):
    """Neither issued, nor accepted when somebody signs them all the same."""
    failed = Assessment(SUBJECT, (*CHECKS, Check("privacy", CheckOutcome.FAIL, ("It reads gender.",), (), "remove it")))
    head = key.sign(Mark(17, "d" * 64), "2026-03-01T11:59:00.000000Z")
    with pytest.raises(ValueError, match="failed checks"):
        Certificate.issue(failed, key, head, issued_by="Grace", now=NOW)
    assert failed.failed[0].text == "It reads gender. To do: remove it."
    assert "2 of 3 checks passed" in str(failed)


UNCHECKED = Check("security", CheckOutcome.NOT_CHECKED, ("pip-audit is not installed.",), (), "install it")


def test_what_was_not_checked_stands_in_the_certificate(key):
    """Where the policy lets it be issued; it is no PASS, and whoever verifies the file sees it."""
    head = key.sign(Mark(17, "d" * 64), "2026-03-01T11:59:00.000000Z")
    assessment = Assessment(SUBJECT, (*CHECKS, UNCHECKED))
    issued = Certificate.from_json(Certificate.issue(assessment, key, head, issued_by="Grace", now=NOW).to_json())
    issued.verify({key.public_key})
    assert issued.checks[-1].outcome is CheckOutcome.NOT_CHECKED
    assert "NOT CHECKED" in str(issued)
    assert "pip-audit is not installed" in str(issued)
    assert "2 of 3 checks passed, 1 NOT CHECKED" in str(assessment)


def test_a_policy_holds_what_was_not_checked(key):
    """Then there is no certificate."""
    head = key.sign(Mark(17, "d" * 64), "2026-03-01T11:59:00.000000Z")
    held = Assessment(SUBJECT, (*CHECKS, UNCHECKED), CertificatePolicy(not_checked="hold"))
    assert held.failed == (UNCHECKED,)
    with pytest.raises(ValueError, match="failed checks"):
        Certificate.issue(held, key, head, issued_by="Grace", now=NOW)


def test_a_certificate_of_before_bundles_were_certified_verifies(key, certificate):
    """Its signature covers no such key, and none is added."""
    assert "bundle_sha256" not in json.loads(certificate.to_json())["subject"]
    head = key.sign(Mark(17, "d" * 64), "2026-03-01T11:59:00.000000Z")
    newer = Assessment(replace(SUBJECT, bundle_sha256="e" * 64), CHECKS)
    again = Certificate.from_json(Certificate.issue(newer, key, head, issued_by="Grace", now=NOW).to_json())
    again.verify({key.public_key})
    assert again.subject.bundle_sha256 == "e" * 64


def _places(document, path=()):
    """Every place of a JSON document."""
    yield path
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from _places(value, (*path, key))


def _changed(document, path, change):
    """The document with the value at `path` changed, removed or doubled."""
    document = deepcopy(document)
    parent = document
    for step in path[:-1]:
        parent = parent[step]
    value = parent[path[-1]]
    if change == "remove":
        del parent[path[-1]]
    elif change == "add":
        target = value if isinstance(value, dict | list) else parent
        if isinstance(target, dict):
            target["extra"] = "x"
        else:
            target.append("x")
    elif isinstance(value, str):
        parent[path[-1]] = value[:-1] + ("0" if value[-1:] != "0" else "1")
    elif isinstance(value, int):
        parent[path[-1]] = value + 1
    else:
        parent[path[-1]] = None
    return document


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_is_refused(certificate, key, data):
    """Whatever place is changed, removed or added to."""
    document = certificate.to_dict()
    path = data.draw(st.sampled_from([place for place in _places(document) if place]))
    change = data.draw(st.sampled_from(["change", "remove", "add"]))
    tampered = _changed(document, path, change)
    with pytest.raises(IntegrityError):
        Certificate.from_json(json.dumps(tampered)).verify({key.public_key})


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '"x"', "{" * 5000, '{"format": "attrition-certificate/2"}'])
def test_what_is_no_certificate_is_said_to_be_none(text):
    """In one sentence, whatever the file holds."""
    with pytest.raises(IntegrityError, match="is no certificate of this format"):
        Certificate.from_json(text)
