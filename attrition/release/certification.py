"""Certifying a version: the evidence from registry, MLflow and audit log, the checks, the signed certificate."""

from __future__ import annotations

import csv
import hashlib
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.errors import NotFound, PlatformError
from attrition.governance.actions import Action
from attrition.governance.key_files import is_mounted
from attrition.registry.export import bundle_sha256
from attrition.release.certificate import Assessment, CertificatePolicy, Subject
from attrition.release.checks import CHECKS, Evidence
from attrition.settings import MODEL_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from attrition.governance.audit import AuditLog
    from attrition.governance.audit_events import Record
    from attrition.registry.models import ModelRegistry
    from attrition.registry.package import Package
    from attrition.registry.records import ModelVersion
    from attrition.release.dependencies import Scan
    from attrition.settings import Settings

_TRAIL = (Action.DATA_IMPORT, Action.TRAIN, Action.VALIDATE, Action.REGISTER, Action.APPROVE)
_MAX_EVENTS = 100_000


def assess(
    registry: ModelRegistry,
    audit: AuditLog,
    settings: Settings,
    ref: str,
    *,
    four_eyes: bool,
    scan: Callable[[], Scan],
    policy: CertificatePolicy | None = None,
) -> Assessment:
    """Every check of a version.

    Parameters
    ----------
    ref
        Version or alias.
    four_eyes
        Whether the approver must not be an author of the version.
    scan
        Looks at the dependencies, which takes a minute or two, so only once the version was found:
        :func:`attrition.release.dependencies.scan_dependencies`.
    policy
        Says what a check that could not look at everything does.

    Raises
    ------
    NotFound
        No such version.
    IntegrityError
        A file of the version is not what was registered.
    TrackingUnreachable, AuditUnavailable
        MLflow or the audit log does not answer.
    """
    version = registry.resolve(ref)
    files = registry.verify(version.version)
    package = registry.load(version.version)
    evidence = Evidence(
        version=version,
        package=package,
        files=files,
        trail=_trail(audit, version),
        log=audit.verify(),
        sample=_sample(settings, version.run_id),
        sensitive=_sensitive(package),
        key_exposed=_exposed(settings.key_file, settings.audit_key_file),
        four_eyes=four_eyes,
        scan=scan(),
    )
    checks = tuple(check(evidence) for check in CHECKS)
    return Assessment(_subject(version, package), checks, policy or CertificatePolicy())


def _subject(version: ModelVersion, package: Package) -> Subject:
    snapshot = package.lineage.snapshot
    return Subject(
        model=MODEL_NAME,
        version=version.version,
        manifest_sha256=version.manifest_sha256,
        data_version=f"{snapshot.table} {snapshot.version}" if snapshot else "",
        data_sha256=snapshot.content_hash if snapshot else "",
        verdict_sha256=hashlib.sha256(package.read("verdict.json")).hexdigest(),
        bundle_sha256=bundle_sha256(package, version),
    )


def _trail(audit: AuditLog, version: ModelVersion) -> list[Record]:
    """Events about the version, its run and its data, in order."""
    snapshot = version.lineage.snapshot

    def concerns(event: Record) -> bool:
        match event.action:
            case Action.DATA_IMPORT:
                return snapshot is not None and event.details.get("content_hash") == snapshot.content_hash
            case Action.TRAIN:
                return event.details.get("run") == version.run_id
            case _:
                return event.model_version == version.version

    events = [e for action in _TRAIL for e in audit.records(action=action, limit=_MAX_EVENTS) if concerns(e)]
    return sorted(events, key=lambda event: event.sequence)


def _sample(settings: Settings, run_id: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Columns and ids of the sample that was logged with the run."""
    from attrition.data.schema import EMPLOYEE_ID
    from attrition.training.connection import connect

    client = connect(settings)
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run_id, "sample.csv", folder)
        except (NotFound, PlatformError, OSError):
            if any(artifact.path == "sample.csv" for artifact in client.list_artifacts(run_id)):
                raise
            return None
        with Path(path).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            ids = tuple(row[EMPLOYEE_ID] for row in reader)
            return tuple(reader.fieldnames or ()), ids


def _sensitive(package: Package) -> frozenset[str]:
    """Sensitive attributes among those that fairness was judged by; the others derive from features."""
    from attrition.evaluation.groups import AGE_BAND

    derived = {AGE_BAND, *(name.removesuffix("_code") for name in package.schema.categorical)}
    return frozenset(report.attribute for report in package.fairness) - derived


def _exposed(*paths: Path | None) -> bool | None:
    """Whether anybody but its owner may read or write one of the key files; None when none is a file of this machine.

    What a cluster mounts is none.
    """
    here = [path for path in paths if path is not None and path.is_file() and not is_mounted(path)]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in here]
    return any(mode & (stat.S_IRWXG | stat.S_IRWXO) for mode in modes) if modes else None
