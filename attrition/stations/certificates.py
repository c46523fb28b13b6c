"""Compliance certificates of model versions: assessed, issued, checked."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.errors import Fault, InputError, UsageError
from attrition.governance.actions import Action
from attrition.release.certificate import Certificate, CertificatePolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrition.governance.guard import Guard
    from attrition.registry.models import ModelRegistry
    from attrition.release.certificate import Assessment
    from attrition.settings import Settings

MAX_BYTES = 1_000_000
"""Largest file that is read as a certificate; genuine ones have some 5,000."""


class Certificates:
    """Certificates of model versions; reached as ``Workspace.certificates``.

    Parameters
    ----------
    settings
        Where the stores and the issuer's key are.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    """

    def __init__(self, settings: Settings, guard: Guard, registry: Callable[[], ModelRegistry]) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry

    def assess(self, ref: str, *, policy: str | Path | None = None) -> Assessment:
        """The eight checks of a version, without a certificate.

        Parameters
        ----------
        policy
            As of :meth:`issue`.

        Raises
        ------
        NotFound
            No such version.
        IntegrityError
            A file of the version is not what was registered.
        """
        with self._guard.acting(Action.AUDIT_VIEW, f"model {ref}") as entry:
            assessment = self._assess(ref, policy)
            entry.model_version = assessment.subject.version
            entry.details["failed"] = [check.name for check in assessment.failed]
            return assessment

    def issue(
        self, ref: str, *, policy: str | Path | None = None, justification: str | None = None
    ) -> tuple[Assessment, Certificate | None]:
        """The checks of a version, and its certificate when nothing stands against it; None otherwise.

        Parameters
        ----------
        policy
            YAML file of a :class:`~attrition.release.certificate.CertificatePolicy`; the default one when None.

        Raises
        ------
        NotFound
            No such version.
        IntegrityError
            A file of the version is not what was registered, or the audit log cannot be signed.
        """
        from attrition.governance.audit_heads import SigningKey

        with self._guard.acting(Action.CERTIFY, f"model {ref}", justification=justification) as entry:
            assessment = self._assess(ref, policy)
            entry.model_version = assessment.subject.version
            entry.data_version = assessment.subject.data_version or None
            entry.details["failed"] = [check.name for check in assessment.failed]
            entry.details["not_checked"] = [check.name for check in assessment.unchecked]
            if not assessment.passed:
                return assessment, None
            head = self._guard.audit.head()
            assert self._settings.audit_key_file is not None  # or there would be no head
            key = SigningKey.load_or_create(self._settings.audit_key_file)
            certificate = Certificate.issue(assessment, key, head, issued_by=entry.actor, now=datetime.now(UTC))
            entry.details["signature"] = certificate.signature
            return assessment, certificate

    def verify(
        self, path: str | Path, *, public_key: str | Path | None = None, folder: str | Path | None = None
    ) -> Certificate:
        """The genuine certificate in a file; needs no database.

        Parameters
        ----------
        public_key
            File of the issuer's public key; None trusts the key of this project.
        folder
            Folder of a downloaded version, or of its exported bundle, every file of which must be the certified one.

        Raises
        ------
        IntegrityError
            Names everything that is wrong.
        UsageError
            Neither a public key is given nor is one here.
        """
        from attrition.governance.audit_heads import public_key_file

        trusted = public_key_file(Path(public_key)) if public_key is not None else self._own_key()
        certificate = Certificate.from_json(_read(Path(path)), str(path))
        certificate.verify({trusted})
        if folder is not None:
            _verify_folder(Path(folder), certificate)
        return certificate

    def _assess(self, ref: str, policy: str | Path | None) -> Assessment:
        from attrition.release.certification import assess
        from attrition.release.dependencies import scan_dependencies

        four_eyes = self._guard.config.policy.four_eyes
        rules = CertificatePolicy.load(None if policy is None else Path(policy))
        return assess(
            self._registry(),
            self._guard.audit,
            self._settings,
            ref,
            four_eyes=four_eyes,
            scan=scan_dependencies,
            policy=rules,
        )

    def _own_key(self) -> str:
        from attrition.governance.audit_heads import SigningKey

        path = self._settings.audit_key_file
        if path is None or not path.is_file():
            remedy = "give --public-key, a file that attrition audit key --out wrote where it was issued"
            raise UsageError(Fault("issuer's key", "is not here", "", remedy))
        return SigningKey.load_or_create(path).public_key


def _verify_folder(folder: Path, certificate: Certificate) -> None:
    """Return when every file of a folder is a certified one."""
    from attrition.registry.bundle import is_bundle
    from attrition.registry.manifest import MANIFEST_FILE, verify_directory

    subject = certificate.subject
    if not (folder / MANIFEST_FILE).is_file():
        found, remedy = f"has no {MANIFEST_FILE}", "give the folder that attrition models export wrote"
        raise UsageError(Fault(str(folder), found, "a version and its bundle have one", remedy))
    if not is_bundle(folder):
        verify_directory(folder, subject.manifest_sha256)
    elif subject.bundle_sha256:
        verify_directory(folder, subject.bundle_sha256)
    else:
        found = "is a bundle, and this certificate was issued before bundles were certified"
        raise UsageError(Fault(str(folder), found, "", "give the folder of the version, or certify it again"))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(Fault(str(path), f"cannot be read ({error.strerror})")) from error
    if len(text) > MAX_BYTES:
        raise InputError(Fault(str(path), "is too large for a certificate", f"at most {MAX_BYTES:,} bytes"))
    return text
