"""Model versions in the MLflow registry: the one module of this package that talks to MLflow.

A package is stored as a logged model of its run. The SHA-256 of its manifest is a tag of the run and of the version, so
that it lies in the tracking database and not beside the files. Every load compares the files with it first. MLflow's
own digests are not used: they are stored with the artifacts they describe.

Two registrations at once must not get the same semantic version, and MLflow has no lock. Its version numbers are unique
and ordered, which is enough: a registration first creates its MLflow version without a semantic one, waits until every
lower-numbered one has got its own, then computes and writes it, sets the alias, and only then takes away the mark that
it is pending. A registration that died before it had its semantic version is waited for `PENDING_SECONDS` and then
passed over; its version stays invisible here. One that died later is completed by the next registration.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from attrition.data.addresses import local_or_address
from attrition.errors import Fault, NotFound, PlatformError, UsageError
from attrition.registry.artifacts import local_folder, remove_folder
from attrition.registry.comparison import Comparison, compare_facts
from attrition.registry.conditions import check_parity, waiver
from attrition.registry.export import remove_bundles, write_bundle
from attrition.registry.manifest import checked_digest
from attrition.registry.package import read_package
from attrition.registry.records import (
    APPROVAL_TAG,
    AUTHOR_TAG,
    BUMP_TAG,
    DELETED_TAG,
    MANIFEST_TAG,
    MODEL_TAG,
    PENDING_TAG,
    VERSION_TAG,
    ModelVersion,
    Verification,
    VersionList,
    from_mlflow,
    version_tags,
)
from attrition.registry.versions import Bump, SemVer, next_version
from attrition.settings import MODEL_NAME

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

    from attrition.registry.bundle import BundleRef
    from attrition.registry.package import Package, PackageRef
    from attrition.settings import Settings
    from attrition.training.connection import TrackingClient

__all__ = ["Comparison", "ModelRegistry", "ModelVersion", "Verification"]

CHAMPION = "champion"
CHALLENGER = "challenger"

PENDING_SECONDS = 30.0
"""A registration takes one or two seconds; one that has not finished by then has died."""

_POLL_SECONDS = 0.1
_RUN_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,60}", re.ASCII)


class _Known(NamedTuple):
    """What the registry holds: versions, registrations under way (or dead), numbers of versions without their alias."""

    complete: tuple[ModelVersion, ...]
    pending: tuple[MlflowModelVersion, ...]
    without_alias: tuple[int, ...]


class ModelRegistry:
    """The registered versions of one project.

    A reference (`ref`) is a version (``1.0.0``), an alias (``champion``), a number of MLflow (``3``) or a run id.

    Parameters
    ----------
    settings
        Says where MLflow is. Nothing is contacted before the first call.
    name
        Of the registered model.
    """

    def __init__(self, settings: Settings, name: str = MODEL_NAME) -> None:
        self._settings = settings
        self._name = name
        self._connected: TrackingClient | None = None

    def log_package(self, run_id: str, package: PackageRef) -> str:
        """Store a package as the logged model of a run; the id of that model.

        Raises
        ------
        IntegrityError
            The folder is not what its manifest says.
        NotFound
            No such run.
        TrackingUnreachable
            MLflow does not answer.
        """
        from mlflow.entities import LoggedModelOutput

        verified = read_package(package.directory, package.manifest_sha256)
        client = self._client()
        run = self._run(run_id)
        model = client.create_logged_model(
            run.info.experiment_id,
            name=self._name,
            source_run_id=run_id,
            tags={MANIFEST_TAG: package.manifest_sha256},
            params={"family": verified.facts["family"]},
            model_type="classifier",
        )
        try:
            client.log_model_artifacts(model.model_id, str(package.directory))
        except BaseException:
            client.finalize_logged_model(model.model_id, "FAILED")
            raise
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        client.set_tag(run_id, MODEL_TAG, model.model_id)
        client.set_tag(run_id, MANIFEST_TAG, package.manifest_sha256)
        return str(model.model_id)

    def set_author(self, run_id: str, author: str) -> None:
        """Record who trained a run; the versions that it becomes keep that name.

        Raises
        ------
        NotFound
            No such run.
        """
        self._client().set_tag(run_id, AUTHOR_TAG, author)

    def register(self, run_id: str, *, waive: str | None = None, author: str = "") -> ModelVersion:
        """The version that a judged run becomes; the existing one when nothing changed.

        The first version becomes ``champion``, every later one ``challenger``.

        Parameters
        ----------
        run_id
            A run with a package.
        waive
            Reason to register although the gates hold the candidate; recorded with the version.
        author
            Who registers; recorded with the version beside who trained the run.

        Raises
        ------
        UsageError
            The gates hold the candidate and no reason is given.
        IntegrityError
            The package differs from its manifest.
        ParityError
            Its scorer was not found equal to its pipeline.
        NotFound
            No such run, or it has no package.
        TrackingUnreachable
            MLflow does not answer.
        """
        package = self.load(run_id)
        check_parity(package)
        waived = waiver(package, waive)
        self._complete_interrupted()
        known = self._read().complete
        again = [version for version in known if version.manifest_sha256 == package.manifest_sha256]
        latest = max(known, key=_semver, default=None)
        if again:
            return self.resolve(again[0].version)
        if latest and next_version(latest.version_facts, package.version_facts)[1] is Bump.UNCHANGED:
            return latest
        created = self._create(run_id, package, waived, author)
        return self._complete(created, package)

    def list(self) -> VersionList:
        """All versions whose files exist, the highest first."""
        return VersionList(sorted((v for v in self._read().complete if not v.deleted), key=_semver, reverse=True))

    def resolve(self, ref: str) -> ModelVersion:
        """The version that `ref` names.

        Raises
        ------
        NotFound
            Nothing is called so; lists what there is.
        """
        known = sorted(self._read().complete, key=_semver, reverse=True)
        versions = [version for version in known if not version.deleted]
        for version in known:
            if ref in {version.version, *version.aliases, str(version.number), version.run_id}:
                if version.deleted:
                    raise NotFound(f"version {version.version} was deleted on {version.deleted['at'][:10]}.")
                return version
        there = ", ".join(f"{v.version} ({', '.join(v.aliases)})" if v.aliases else v.version for v in versions[:10])
        raise NotFound(
            Fault(f"version {ref}", "does not exist", f"there are: {there}", "see attrition models list")
            if versions
            else Fault(f"version {ref}", "does not exist", "none is registered", "make one: attrition tune --register")
        )

    show = resolve

    def by_fingerprint(self, fingerprint: str) -> ModelVersion | None:
        """The highest version learned from the same data, split, plan, code and seed, or None."""
        return next((version for version in self.list() if version.fingerprint == fingerprint), None)

    def manifest_sha256(self, ref: str) -> str:
        """SHA-256 (hex) that the package of a version or run must have.

        Raises
        ------
        NotFound
            No such version or run.
        """
        return self._locate(ref)[2]

    def load(self, ref: str) -> Package:
        """The verified package of a version or of a run that is not registered.

        Raises
        ------
        IntegrityError
            Names every file that differs from what was registered; nothing has been deserialised.
        NotFound
            No such version or run.
        """
        _, location, manifest_sha256 = self._locate(ref)
        return read_package(local_folder(self._settings, location, manifest_sha256), manifest_sha256)

    def verify(self, ref: str) -> Verification:
        """Compare every byte of a version or run with its manifest.

        Raises
        ------
        IntegrityError
            Names every file that differs.
        NotFound
            No such version or run.
        """
        label, location, manifest_sha256 = self._locate(ref)
        files = read_package(local_folder(self._settings, location, manifest_sha256), manifest_sha256).manifest.files
        return Verification(label, len(files), sum(entry.size for entry in files.values()), manifest_sha256)

    def compare(self, first: str, second: str) -> Comparison:
        """Two versions or runs side by side, both verified."""
        labels = [self._locate(ref)[0] for ref in (first, second)]
        return compare_facts(labels[0], self.load(first).facts, labels[1], self.load(second).facts)

    def set_alias(self, alias: str, ref: str) -> ModelVersion:
        """Point an alias at a version.

        Raises
        ------
        UsageError
            The alias is not made of lower-case letters, digits and hyphens.
        NotFound
            No such version.
        """
        if not _ALIAS.fullmatch(alias) or alias == "latest":
            raise UsageError(Fault("alias", repr(alias[:60]), "lower-case letters, digits and hyphens, not latest"))
        version = self.resolve(ref)
        self._client().set_registered_model_alias(self._name, alias, str(version.number))
        return self.resolve(version.version)

    def promote(self, ref: str) -> ModelVersion:
        """Make a version the champion; it is no challenger any more."""
        version = self.set_alias(CHAMPION, ref)
        if CHALLENGER in version.aliases:
            self._client().delete_registered_model_alias(self._name, CHALLENGER)
        return self.resolve(version.version)

    def approve(self, ref: str, *, approver: str, justification: str, now: datetime) -> ModelVersion:
        """Record that somebody approves a version for production; its alias becomes ``approved-YYYY-MM``.

        Who may approve what is decided before, by :mod:`attrition.governance.access`.

        Parameters
        ----------
        now
            Time of the approval, UTC.

        Raises
        ------
        NotFound
            No such version.
        """
        version = self.resolve(ref)
        approval = {"by": approver, "at": now.isoformat(timespec="seconds"), "justification": justification}
        self._client().set_model_version_tag(self._name, str(version.number), APPROVAL_TAG, json.dumps(approval))
        return self.set_alias(f"approved-{now:%Y-%m}", version.version)

    def delete(self, ref: str, *, by: str, justification: str, now: datetime) -> ModelVersion:
        """Delete the files of a version wherever this project keeps them; repeat an interrupted call to finish it.

        The version's record stays, with who deleted it and why, so that its number is never given to other files.

        Raises
        ------
        UsageError
            It is the champion.
        NotFound
            No such version, or it was deleted before.
        PlatformError
            MLflow or the storage of the files does not answer.
        """
        version = self.resolve(ref)
        if CHAMPION in version.aliases:
            remedy = "make another version the champion first"
            raise UsageError(Fault(f"version {version.version}", "is the champion and cannot be deleted", "", remedy))
        client, number = self._client(), str(version.number)
        for alias in version.aliases:
            client.delete_registered_model_alias(self._name, alias)
        remove_folder(self._settings, version.source, version.manifest_sha256)
        remove_bundles(self._bundles(), version.version)
        note = {"by": by, "at": now.isoformat(timespec="seconds"), "justification": justification}
        client.set_model_version_tag(self._name, number, DELETED_TAG, json.dumps(note))
        return replace(version, aliases=(), deleted=note)

    def export_bundle(self, ref: str, directory: str | Path | None = None) -> BundleRef:
        """The lean, verified folder of a version that serving replicas load; made once, verified when reused.

        Parameters
        ----------
        directory
            Folder of bundles, or its address (``abfss://...``); default ``settings.bundles``.

        Raises
        ------
        IntegrityError
            The package differs from its manifest.
        NotFound
            No such version.
        """
        version = self.resolve(ref)
        return write_bundle(self._bundles(directory), self.load(version.version), version)

    def _bundles(self, directory: str | Path | None = None) -> Path | str:
        place = local_or_address(directory or self._settings.bundles or self._settings.home / "bundles")
        return place if isinstance(place, str) else place.absolute()

    def _client(self) -> TrackingClient:
        if self._connected is None:
            from attrition.training.connection import connect

            self._connected = connect(self._settings)
        return self._connected

    def _run(self, run_id: str) -> Any:
        try:
            return self._client().get_run(run_id)
        except NotFound as error:
            raise NotFound(Fault(f"run {run_id[:40]}", "does not exist", "", "see the run ids in MLflow")) from error

    def _locate(self, ref: str) -> tuple[str, str, str]:
        """Label, location and manifest digest of a version, else of a run that has a package."""
        try:
            version = self.resolve(ref)
        except NotFound:
            if not _RUN_ID.fullmatch(ref):
                raise
            tags = self._run(ref).data.tags
            if MODEL_TAG not in tags or MANIFEST_TAG not in tags:
                found = "has no package"
                raise NotFound(Fault(f"run {ref}", found, "", "attrition tune and attrition train log one")) from None
            location = self._client().get_logged_model(tags[MODEL_TAG]).artifact_location
            return f"run {ref[:12]}", location, checked_digest(tags[MANIFEST_TAG], f"run {ref[:12]}")
        return version.version, version.source, version.manifest_sha256

    def _read(self) -> _Known:
        client = self._client()
        try:
            aliases = client.get_registered_model(self._name).aliases
        except NotFound:
            return _Known((), (), ())
        found, token = [], None
        while True:
            page = client.search_model_versions(f"name='{self._name}'", max_results=1000, page_token=token)
            found += list(page)
            token = page.token
            if not token:
                break
        records = [from_mlflow(version, aliases) for version in found]
        pending = [version for version in found if PENDING_TAG in version.tags]
        return _Known(
            complete=tuple(record for record in records if record),
            pending=tuple(version for version in pending if VERSION_TAG not in version.tags),
            without_alias=tuple(int(version.version) for version in pending if VERSION_TAG in version.tags),
        )

    def _create(self, run_id: str, package: Package, waived: str, author: str) -> MlflowModelVersion:
        client = self._client()
        self._ensure_model()
        tags = self._run(run_id).data.tags
        model_id = tags[MODEL_TAG]
        # the location, not models:/<id>: a database registry would look that id up in the global tracking store
        created: MlflowModelVersion = client.create_model_version(
            self._name,
            source=client.get_logged_model(model_id).artifact_location,
            run_id=run_id,
            model_id=model_id,
            tags=version_tags(package, model_id, waived, (tags.get(AUTHOR_TAG, ""), author)),
            await_creation_for=0,
        )
        return created

    def _ensure_model(self) -> None:
        client = self._client()
        try:
            client.get_registered_model(self._name)
        except NotFound:
            try:
                client.create_registered_model(self._name, description="Probability that an employee leaves")
            except PlatformError as error:
                # another process was faster, or MLflow does not take it
                try:
                    client.get_registered_model(self._name)
                except NotFound:
                    raise error from None

    def _complete(self, created: MlflowModelVersion, package: Package) -> ModelVersion:
        """Give a created version its semantic version, in the order of MLflow's numbers."""
        client, number = self._client(), int(created.version)
        known = self._settled_before(number)
        latest = max(known, key=_semver, default=None)
        version, bump = next_version(latest.version_facts if latest else None, package.version_facts)
        if latest and bump is Bump.UNCHANGED:
            client.delete_model_version(self._name, str(number))
            self._complete_interrupted()
            return self.resolve(latest.version)
        client.set_model_version_tag(self._name, str(number), BUMP_TAG, str(bump))
        client.set_model_version_tag(self._name, str(number), VERSION_TAG, version)
        self._ensure_alias(number)
        return self.resolve(version)

    def _complete_interrupted(self) -> None:
        """Give the alias to versions whose registration died between their semantic version and it."""
        for number in self._read().without_alias:
            self._ensure_alias(number)

    def _ensure_alias(self, number: int) -> None:
        """Make a version champion if it is the first, else challenger, unless others took the place; repeatable."""
        client, known = self._client(), self._read().complete
        taken = {alias for version in known for alias in version.aliases}
        version = next((version for version in known if version.number == number), None)
        if version is None:
            return
        if version.bump == Bump.INITIAL:
            alias, free = CHAMPION, CHAMPION not in taken
        else:
            alias, free = CHALLENGER, CHAMPION not in version.aliases and version == max(known, key=_semver)
        if free:
            client.set_registered_model_alias(self._name, alias, str(number))
        client.delete_model_version_tag(self._name, str(number), PENDING_TAG)

    def _settled_before(self, number: int) -> tuple[ModelVersion, ...]:
        """All complete versions, once no lower-numbered registration is under way."""
        while True:
            known = self._read()
            oldest = time.time() - PENDING_SECONDS
            ahead = [v for v in known.pending if int(v.version) < number and v.creation_timestamp / 1000 > oldest]
            if not ahead:
                return known.complete
            time.sleep(_POLL_SECONDS)


def _semver(version: ModelVersion) -> SemVer:
    return SemVer.parse(version.version)
