"""Model versions under guard: the registry's operations, each authorised and recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from attrition.errors import Fault, UsageError
from attrition.governance.actions import Action
from attrition.registry.models import CHAMPION
from attrition.release.model_card import log_card, model_card
from attrition.settings import MODEL_NAME

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from pathlib import Path

    from attrition.evaluation.gates import Verdict
    from attrition.governance.guard import Guard
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import Comparison, ModelRegistry, ModelVersion, Verification
    from attrition.registry.package import Package
    from attrition.release.model_card import ModelCard
    from attrition.settings import Settings


class Models:
    """Model versions; reached as ``Workspace.models``.

    A reference (`ref`) is a version (``1.0.0``), an alias (``champion``), a number of MLflow (``3``) or a run id. Every
    method raises ``AccessDenied`` for who may not do it, and what the method of the same name of
    :class:`~attrition.registry.models.ModelRegistry` raises.

    Parameters
    ----------
    settings
        Say where MLflow keeps the cards.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    """

    def __init__(self, settings: Settings, guard: Guard, registry: Callable[[], ModelRegistry]) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry

    def list(self) -> builtins.list[ModelVersion]:
        """All versions, the highest first."""
        self._guard.require(Action.MODEL_VIEW, "models")
        return self._registry().list()

    def show(self, ref: str) -> ModelVersion:
        """The version that `ref` names."""
        with self._guard.acting(Action.MODEL_VIEW, f"model {ref}") as entry:
            version = self._registry().resolve(ref)
            entry.model_version = version.version
            return version

    resolve = show

    def by_fingerprint(self, fingerprint: str) -> ModelVersion | None:
        """The highest version learned from the same data, split, plan, code and seed, or None."""
        self._guard.require(Action.MODEL_VIEW, "models")
        return self._registry().by_fingerprint(fingerprint)

    def verdict(self, ref: str) -> Verdict:
        """What the gates said about a version or run; its package is verified before."""
        with self._guard.acting(Action.MODEL_VIEW, f"model {ref}"):
            return self._registry().load(ref).verdict

    def verify(self, ref: str) -> Verification:
        """Compare every byte of a version or run with its manifest."""
        with self._guard.acting(Action.MODEL_VIEW, f"model {ref}"):
            return self._registry().verify(ref)

    def compare(self, first: str, second: str) -> Comparison:
        """Two versions or runs side by side, both verified."""
        with self._guard.acting(Action.MODEL_VIEW, f"model {first} and {second}"):
            return self._registry().compare(first, second)

    def load(self, ref: str) -> Package:
        """The verified package of a version or of a run that is not registered; it holds the model itself."""
        with self._guard.acting(Action.MODEL_DOWNLOAD, f"model {ref}") as entry:
            package = self._registry().load(ref)
            entry.details["manifest_sha256"] = package.manifest_sha256
            return package

    def export_bundle(self, ref: str, directory: str | Path | None = None) -> BundleRef:
        """The lean, verified folder of a version that serving replicas load; made once, verified when reused.

        Parameters
        ----------
        directory
            Folder of bundles, or its address (``abfss://...``); default ``settings.bundles``.
        """
        with self._guard.acting(Action.MODEL_DOWNLOAD, f"model {ref}") as entry:
            bundle = self._registry().export_bundle(ref, directory)
            entry.model_version = bundle.version
            entry.details["manifest_sha256"] = bundle.manifest_sha256
            return bundle

    def register(self, run_id: str, *, waive: str | None = None) -> ModelVersion:
        """The version that a judged run becomes; the existing one when nothing changed.

        Parameters
        ----------
        run_id
            A run with a package.
        waive
            Reason to register although the gates hold the candidate; recorded with the version and in the audit log.
            Needs a permission of its own.
        """
        if waive is not None:
            self._guard.require(Action.REGISTER, f"run {run_id}")
            if not self._registry().load(run_id).verdict.admits:
                self._guard.require(Action.WAIVE, f"run {run_id}")
        with self._guard.acting(Action.REGISTER, f"run {run_id}", justification=waive) as entry:
            version = self._registry().register(run_id, waive=waive, author=entry.actor)
            entry.model_version = version.version
            entry.data_version = _data_version(version)
            entry.details |= {"verdict": version.verdict, "manifest_sha256": version.manifest_sha256}
            log_card(self._settings, version.run_id, self._card(version))
            return version

    def card(self, ref: str) -> ModelCard:
        """The model card of a version: purpose, data, quality, fairness, what it relies on, limits."""
        with self._guard.acting(Action.MODEL_VIEW, f"model {ref}") as entry:
            version = self._registry().resolve(ref)
            entry.model_version = version.version
            return self._card(version)

    def _card(self, version: ModelVersion) -> ModelCard:
        return model_card(MODEL_NAME, version, self._registry().load(version.version))

    def set_alias(self, alias: str, ref: str, *, justification: str | None = None) -> ModelVersion:
        """Point an alias at a version; ``champion`` is a promotion, and only :meth:`approve` gives ``approved-...``.

        Raises
        ------
        UsageError
            The alias says that a version was approved.
        """
        if alias.startswith("approved-"):
            remedy = "attrition models approve VERSION --justification TEXT"
            raise UsageError(Fault(f"alias {alias[:60]}", "stands for an approval", "", remedy))
        action = Action.PROMOTE if alias == CHAMPION else Action.ALIAS
        with self._guard.acting(action, f"alias {alias}", justification=justification) as entry:
            version = self._registry().set_alias(alias, ref)
            entry.model_version = version.version
            return version

    def promote(self, ref: str, *, justification: str | None = None) -> ModelVersion:
        """Make a version the champion; it is no challenger any more."""
        with self._guard.acting(Action.PROMOTE, f"model {ref}", justification=justification) as entry:
            version = self._registry().promote(ref)
            entry.model_version = version.version
            return version

    def approve(self, ref: str, *, justification: str) -> ModelVersion:
        """Approve a version for production: recorded with it and in the audit log, alias ``approved-YYYY-MM``.

        Parameters
        ----------
        justification
            Why it is fit for its purpose, in the approver's words.

        Raises
        ------
        AccessDenied
            The approver may not; or the policy wants four eyes, and the approver made the version or has the key from
            somebody who did.
        UsageError
            No justification.
        """
        if not justification.strip():
            raise UsageError(Fault("approval", "has no justification", "say why the version is fit for its purpose"))
        with self._guard.acting(Action.APPROVE, f"model {ref}", justification=justification) as entry:
            registry = self._registry()
            version = registry.resolve(ref)
            entry.model_version, entry.data_version = version.version, _data_version(version)
            entry.details["manifest_sha256"] = version.manifest_sha256
            vouched_by = self._guard.vouchers(entry.principal)
            entry.details["key_from"] = list(vouched_by)
            self._guard.config.policy.require_other_eyes(
                entry.principal, version.authors, f"version {version.version}", vouched_by=vouched_by
            )
            return registry.approve(
                version.version, approver=entry.actor, justification=justification, now=datetime.now(UTC)
            )

    def delete(self, ref: str, *, justification: str) -> ModelVersion:
        """Delete the files of a version that is neither champion nor served; its record stays.

        Raises
        ------
        UsageError
            It is the champion, it is served, or there is no justification.
        PlatformError
            MLflow, the storage, or the Ray that may serve it does not answer.
        """
        if not justification.strip():
            raise UsageError(Fault("deletion", "has no justification", "say why the files may go"))
        with self._guard.acting(Action.MODEL_DELETE, f"model {ref}", justification=justification) as entry:
            registry = self._registry()
            version = registry.resolve(ref)
            entry.model_version, entry.data_version = version.version, _data_version(version)
            entry.details["manifest_sha256"] = version.manifest_sha256
            if version.version in self._served():
                remedy = "take it out of the traffic first"
                raise UsageError(Fault(f"version {version.version}", "is served", "", remedy))
            return registry.delete(version.version, by=entry.actor, justification=justification, now=datetime.now(UTC))

    def _served(self) -> set[str]:
        """Versions of the running endpoint, shadows among them; none when there is no endpoint.

        Raises
        ------
        PlatformError
            There may be one, and it cannot be asked.
        """
        from attrition.cluster import endpoint

        control = endpoint.find(self._settings)
        traffic = None if control is None else control.traffic(endpoint.application(self._settings, control))
        return set() if traffic is None else {variant.version for variant in traffic.variants}


def _data_version(version: ModelVersion) -> str | None:
    snapshot = version.facts["lineage"]["snapshot"]
    return None if snapshot is None else str(snapshot["version"])
