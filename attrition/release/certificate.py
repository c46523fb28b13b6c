"""The compliance certificate of a model version: what was checked, on what evidence, bound to exact bytes and signed.

::

    signature = Ed25519(key, domain ‖ canonical JSON of everything else)          RFC 8032, RFC 8785

The certificate names the SHA-256 of the version's manifest (hence of each of its files), of its training data and of
its gate verdict, and the audit log's head at that moment. Whoever has the file and the issuer's public key can check it
without a database, and with the version's files can see that it is about them. Pure: no store is asked here, see
:mod:`attrition.release.checks`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from attrition.errors import Fault, IntegrityError
from attrition.evaluation.display import html_table, text_table
from attrition.settings import load_yaml

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from pathlib import Path

    from attrition.governance.audit_heads import Head, SigningKey

FORMAT = "attrition-certificate/1"
"""First word of a certificate; another number is another format."""

_DOMAIN = b"attrition/certificate/1\x00"


class CertificatePolicy(BaseModel):
    """What a certificate asks beside checks that do not fail."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    not_checked: Literal["hold", "warn"] = "warn"
    """What a check does that could not look at everything, such as ``security`` without a scanner: ``hold`` the
    certificate, or ``warn`` in it. The default warns: a machine without access to a service of advisories could issue
    none otherwise, and the certificate says what was not checked."""

    @classmethod
    def load(cls, path: Path | None) -> Self:
        """The policy of a YAML file; the default one for None.

        Raises
        ------
        ConfigError
            The file cannot be read, or has an unknown key or a value that is not allowed.
        """
        return cls() if path is None else load_yaml(path, cls)


class CheckOutcome(StrEnum):
    """What a check found."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    NOT_CHECKED = "NOT CHECKED"
    """Nothing was found against the version, and something that the check asks could not be looked at."""


@dataclass(frozen=True, slots=True)
class Check:
    """One of the checks.

    Attributes
    ----------
    name : str
    outcome : CheckOutcome
    evidence : tuple of str
        What was looked at and found, a sentence each.
    sources : tuple of str
        Where a reader finds the evidence: a file of the version with its digest, a run, events of the audit log.
    remedy : str
        What to do; empty when it passed.
    """

    name: str
    outcome: CheckOutcome
    evidence: tuple[str, ...]
    sources: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything that the check asks was looked at, and nothing stands against the version."""
        return self.outcome is CheckOutcome.PASS

    @property
    def failed(self) -> bool:
        """Whether something stands against the version."""
        return self.outcome is CheckOutcome.FAIL

    @property
    def text(self) -> str:
        """Evidence, and what to do, as sentences."""
        remedy = f"To do: {self.remedy}." if self.remedy else ""
        return " ".join([*self.evidence, remedy]).rstrip()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        lists = {"evidence": list(self.evidence), "sources": list(self.sources)}
        return {"name": self.name, "outcome": str(self.outcome), **lists, "remedy": self.remedy}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        lists = {name: tuple(document[name]) for name in ("evidence", "sources")}
        return cls(document["name"], CheckOutcome(document["outcome"]), **lists, remedy=document["remedy"])


@dataclass(frozen=True, slots=True)
class Subject:
    """What a certificate is about.

    Attributes
    ----------
    model, version : str
        Name of the registered model, semantic version.
    manifest_sha256 : str
        Of the version's manifest, which has the SHA-256 of every file.
    data_version : str
        Name and version of the training data's table.
    data_sha256 : str
        Content hash of the training data.
    verdict_sha256 : str
        Of the gates' verdict as it is stored with the version.
    bundle_sha256 : str
        Of the manifest of the version's bundle, the folder that replicas load; empty in certificates that were issued
        before it was kept.
    """

    model: str
    version: str
    manifest_sha256: str
    data_version: str
    data_sha256: str
    verdict_sha256: str
    bundle_sha256: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-ready document."""
        return {name: value for name, value in asdict(self).items() if value or name != "bundle_sha256"}


@dataclass(frozen=True, slots=True)
class Assessment:
    """All checks of a version; what a certificate is issued on."""

    subject: Subject
    checks: tuple[Check, ...]
    policy: CertificatePolicy = field(default_factory=CertificatePolicy)

    @property
    def passed(self) -> bool:
        """Whether a certificate can be issued."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that stand against a certificate: those that failed, and by policy those that were not checked."""
        holds = self.policy.not_checked == "hold"
        return tuple(check for check in self.checks if check.failed or (holds and not check.passed))

    @property
    def unchecked(self) -> tuple[Check, ...]:
        """Checks that could not look at everything."""
        return tuple(check for check in self.checks if check.outcome is CheckOutcome.NOT_CHECKED)

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Check, outcome and evidence (with what to do), as text."""
        return [
            (
                check.name,
                str(check.outcome),
                " ".join([*check.evidence, *([f"{check.remedy}."] if check.remedy else [])]),
            )
            for check in self.checks
        ]

    @property
    def _title(self) -> str:
        passed = sum(check.passed for check in self.checks)
        unchecked = f", {len(self.unchecked)} NOT CHECKED" if self.unchecked else ""
        return f"Version {self.subject.version}: {passed} of {len(self.checks)} checks passed{unchecked}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "subject": self.subject.to_dict(),
            "checks": [check.to_dict() for check in self.checks],
            "policy": self.policy.model_dump(),
            "passed": self.passed,
        }

    def __str__(self) -> str:
        return text_table(self._title, ("check", "outcome", "evidence"), self.rows)

    def _repr_html_(self) -> str:
        return html_table(self._title, ("check", "outcome", "evidence"), self.rows)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A signed assessment.

    Attributes
    ----------
    subject : Subject
    checks : tuple of Check
        None failed: there is no certificate otherwise. One that was not checked says so, and is for the reader to
        judge.
    audit_head : mapping
        Document of the audit log's signed head when the certificate was issued.
    issued_at : str
        UTC, ISO 8601.
    issued_by : str
        Who asked for it.
    public_key : str
        Of the issuer, 64 hexadecimal digits. Says who claims to have signed; whom to trust is up to whoever verifies.
    signature : str
        Ed25519, 128 hexadecimal digits, over everything else.
    """

    subject: Subject
    checks: tuple[Check, ...]
    audit_head: Mapping[str, Any]
    issued_at: str
    issued_by: str
    public_key: str
    signature: str = ""

    @classmethod
    def issue(cls, assessment: Assessment, key: SigningKey, head: Head, *, issued_by: str, now: datetime) -> Self:
        """A certificate for an assessment against which nothing stands.

        Raises
        ------
        ValueError
            A check failed, or was not checked and the policy holds that.
        """
        if not assessment.passed:
            raise ValueError("a version with failed checks cannot be certified")
        moment = now.isoformat(timespec="seconds")
        facts = (assessment.subject, assessment.checks, head.to_dict(), moment, issued_by, key.public_key)
        return cls(*facts, signature=key.signature(_message(cls(*facts))))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document, the one that certificate files hold."""
        return {
            "format": FORMAT,
            "subject": self.subject.to_dict(),
            "checks": [check.to_dict() for check in self.checks],
            "audit_head": dict(self.audit_head),
            "issued_at": self.issued_at,
            "issued_by": self.issued_by,
            "public_key": self.public_key,
            "signature": self.signature,
        }

    def to_json(self) -> str:
        """Text of a certificate file."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "certificate") -> Self:
        """Certificate of a file's text; its signature is not checked yet.

        Raises
        ------
        IntegrityError
            No certificate of this format, or one with other keys: what is not covered by the signature is refused.
        """
        from attrition.governance.audit_chain import parse

        fault = Fault(where, "is no certificate of this format", FORMAT, "give a file that attrition certify wrote")
        try:
            document = parse(text)
            subject, checks = Subject(**document["subject"]), tuple(map(Check.from_dict, document["checks"]))
            scalars = {name: document[name] for name in ("issued_at", "issued_by", "public_key", "signature")}
            certificate = cls(subject, checks, document["audit_head"], **scalars)
            same = certificate.to_dict() == document
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IntegrityError(fault) from error
        if not same or not all(isinstance(value, str) for value in (*scalars.values(), *asdict(subject).values())):
            raise IntegrityError(fault)
        return certificate

    def verify(self, trusted: Collection[str], *, manifest_sha256: str | None = None) -> None:
        """Return when the certificate is genuine.

        Parameters
        ----------
        trusted
            Public keys, 64 hexadecimal digits each.
        manifest_sha256
            Of the version that it should be about; None checks the certificate alone.

        Raises
        ------
        IntegrityError
            Names everything that is wrong with it.
        """
        from attrition.governance.audit_heads import Head, examine, is_signed, key_id

        where = f"certificate of {self.subject.model} {self.subject.version}"
        faults = []
        if not is_signed(self.public_key, _message(self), self.signature):
            faults.append(Fault(where, "its signature does not fit what it says", remedy="do not rely on it"))
        elif self.public_key not in trusted:
            found = f"is signed by key {key_id(self.public_key)}"
            faults.append(
                Fault(where, found, "which is not among the trusted ones", "give its public key if you trust it")
            )
        if not self.checks or any(check.failed for check in self.checks):
            faults.append(Fault(where, "has a check that failed", "a certificate has none"))
        if manifest_sha256 is not None and manifest_sha256 != self.subject.manifest_sha256:
            found = f"is about a version whose manifest is sha256 {self.subject.manifest_sha256[:12]}"
            faults.append(Fault(where, found, f"these files have sha256 {manifest_sha256[:12]}"))
        try:
            _, breaks = examine([Head.from_dict(dict(self.audit_head))], {self.public_key})
        except ValueError:
            faults.append(Fault(where, "names no head of an audit log"))
        else:
            faults += [Fault(where, f"its audit head is not genuine: {found}") for found in breaks]
        if faults:
            raise IntegrityError(faults)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What it says, name and text."""
        head = self.audit_head
        unchecked = [check for check in self.checks if not check.passed]
        return [
            ("model", f"{self.subject.model} {self.subject.version}"),
            ("manifest", f"sha256 {self.subject.manifest_sha256}"),
            ("data", f"{self.subject.data_version}, sha256 {self.subject.data_sha256}"),
            ("gates", f"sha256 {self.subject.verdict_sha256}"),
            ("checks", ", ".join(check.name for check in self.checks if check.passed)),
            *([("NOT CHECKED", "; ".join(f"{check.name}: {check.text}" for check in unchecked))] if unchecked else []),
            ("audit log", f"{head.get('sequence', '?')} events, last hash {str(head.get('hash', ''))[:12]}"),
            ("issued", f"{self.issued_at} by {self.issued_by}"),
            ("key", self.public_key),
        ]

    def __str__(self) -> str:
        return text_table(f"Certificate of version {self.subject.version}", ("", ""), self.rows)

    def _repr_html_(self) -> str:
        return html_table(f"Certificate of version {self.subject.version}", ("", ""), self.rows)


def _message(certificate: Certificate) -> bytes:
    from attrition.governance.audit_chain import canonical

    document = certificate.to_dict()
    del document["signature"]
    return _DOMAIN + canonical(document)
