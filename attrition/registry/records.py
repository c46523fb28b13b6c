"""One registered version, as the registry's tags describe it, and what a verification of its files found."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrition.evaluation.display import html_table, text_table
from attrition.registry.manifest import checked_digest
from attrition.registry.versions import Bump, VersionFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion

    from attrition.evaluation.intervals import Estimate
    from attrition.registry.package import Package
    from attrition.training.candidate import Lineage

VERSION_TAG = "attrition.version"
BUMP_TAG = "attrition.bump"
MANIFEST_TAG = "attrition.manifest_sha256"
MODEL_TAG = "attrition.model_id"
FACTS_TAG = "attrition.facts"
WAIVED_TAG = "attrition.waived"
PENDING_TAG = "attrition.pending"
AUTHOR_TAG = "attrition.author"
"""Of a run: who trained it."""
AUTHORS_TAG = "attrition.authors"
"""Of a version: who trained and who registered it, as a JSON array."""
APPROVAL_TAG = "attrition.approval"
"""Of a version: who approved it, when and why, as a JSON object."""
DELETED_TAG = "attrition.deleted"
"""Of a version whose files are deleted: by whom, when and why, as a JSON object. It keeps its number for ever."""

_SHOWN = ("auc", "accuracy", "recall", "precision", "brier")


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version.

    Attributes
    ----------
    version : str
        Semantic version.
    number : int
        MLflow's own version number.
    run_id : str
    model_id : str
        MLflow's logged model that holds the package.
    source : str
        Location of the package.
    aliases : tuple of str
    manifest_sha256 : str
    created_at : str
        UTC, ISO 8601.
    bump : str
        Why it has this version, see :mod:`attrition.registry.versions`.
    waived : str
        Reason for which it was registered although the gates held it; empty when they did not.
    facts : mapping
        JSON-ready facts of the package's manifest.
    authors : tuple of str
        Who trained and who registered it; empty for versions from before this was recorded.
    approval : mapping
        ``by``, ``at`` (UTC, ISO 8601) and ``justification`` of its last approval; empty without one.
    deleted : mapping
        The same of its deletion; empty for a version whose files exist.
    """

    version: str
    number: int
    run_id: str
    model_id: str
    source: str
    aliases: tuple[str, ...]
    manifest_sha256: str
    created_at: str
    bump: str
    waived: str
    facts: Mapping[str, Any]
    authors: tuple[str, ...] = ()
    approval: Mapping[str, str] = field(default_factory=dict)
    deleted: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """Model family."""
        return str(self.facts["family"])

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Hyperparameters."""
        parameters: Mapping[str, Any] = self.facts["parameters"]
        return parameters

    @property
    def threshold(self) -> float:
        """Probability from which a person is expected to leave."""
        return float(self.facts["threshold"])

    @property
    def verdict(self) -> str:
        """Outcome of the gates when it was judged."""
        return str(self.facts["verdict"])

    @property
    def fingerprint(self) -> str:
        """Digest of data, split, plan, code and seed."""
        return str(self.facts["fingerprint"])

    @property
    def metrics(self) -> dict[str, float]:
        """Point estimates on the holdout by name; what the holdout does not define is left out."""
        return {name: m["value"] for name, m in self.facts["metrics"].items() if m["value"] is not None}

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The same with their intervals."""
        from attrition.evaluation.intervals import Estimate

        return {name: Estimate.from_dict(document) for name, document in self.facts["metrics"].items()}

    @property
    def lineage(self) -> Lineage:
        """Data, split, code, plan and seed."""
        from attrition.training.candidate import Lineage

        return Lineage.from_dict(self.facts["lineage"])

    @property
    def version_facts(self) -> VersionFacts:
        """What the version rule looks at."""
        names = ("family", "schema_digest", "model_digest", "threshold", "fingerprint")
        return VersionFacts(self.version, **{name: self.facts[name] for name in names})

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "version": self.version,
            "number": self.number,
            "run_id": self.run_id,
            "model_id": self.model_id,
            "aliases": list(self.aliases),
            "manifest_sha256": self.manifest_sha256,
            "created_at": self.created_at,
            "bump": self.bump,
            "waived": self.waived or None,
            "authors": list(self.authors),
            "approval": dict(self.approval) or None,
            **self.facts,
        }

    def __str__(self) -> str:
        return text_table(f"Version {self.version}", ("", ""), self.rows)

    def _repr_html_(self) -> str:
        return html_table(f"Version {self.version}", ("", ""), self.rows)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """What a reader wants to know, name and text."""
        estimates = self.estimates
        snapshot = self.facts["lineage"]["snapshot"]
        data = f"snapshot {snapshot['version']}, sha256 {snapshot['content_hash'][:12]}" if snapshot else "unversioned"
        return [
            ("aliases", ", ".join(self.aliases) or "none"),
            ("family", self.family.replace("_", " ")),
            *((name.replace("_", " "), str(estimates[name])) for name in _SHOWN if name in estimates),
            ("threshold", f"{self.threshold:.3f}"),
            ("gates", f"{self.verdict}, waived: {self.waived}" if self.waived else self.verdict),
            ("data", data),
            ("code", str(self.facts["lineage"]["code_version"])),
            ("run", self.run_id),
            ("manifest", f"sha256 {self.manifest_sha256}"),
            ("created", f"{self.created_at} by {', '.join(self.authors)}" if self.authors else self.created_at),
            *([("approved", f"{self.approval['at']} by {self.approval['by']}")] if self.approval else []),
        ]


class VersionList(list[ModelVersion]):
    """Registered versions, which a terminal and a notebook show as a table."""

    _HEADER = ("version", "aliases", "family", "AUC", "accuracy", "gates", "created")

    def __str__(self) -> str:
        return text_table("Model versions", self._HEADER, self._rows)

    def _repr_html_(self) -> str:
        return html_table("Model versions", self._HEADER, self._rows)

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        def figure(version: ModelVersion, name: str) -> str:
            value = version.metrics.get(name)
            return "" if value is None else f"{value:.3f}"

        return [
            (
                version.version,
                ", ".join(version.aliases),
                version.family.replace("_", " "),
                figure(version, "auc"),
                figure(version, "accuracy"),
                f"{version.verdict}, waived" if version.waived else version.verdict,
                version.created_at,
            )
            for version in self
        ]


@dataclass(frozen=True, slots=True)
class Verification:
    """A package whose every byte is the registered one.

    Attributes
    ----------
    ref : str
        Version, or run.
    n_files, n_bytes : int
        Compared, the manifest aside.
    manifest_sha256 : str
    """

    ref: str
    n_files: int
    n_bytes: int
    manifest_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)

    def __str__(self) -> str:
        size = f"{self.n_files} files, {self.n_bytes:,} bytes"
        return f"{self.ref}: {size}, all as registered (manifest sha256 {self.manifest_sha256})"


def version_tags(package: Package, model_id: str, waived: str, authors: Iterable[str] = ()) -> dict[str, str]:
    """Tags with which a version is created; it becomes visible when :data:`VERSION_TAG` is added."""
    tags = {
        MANIFEST_TAG: package.manifest_sha256,
        MODEL_TAG: model_id,
        FACTS_TAG: json.dumps(dict(package.facts), sort_keys=True, allow_nan=False),
        PENDING_TAG: "true",
        "attrition.family": package.facts["family"],
        "attrition.verdict": package.facts["verdict"],
        "attrition.fingerprint": package.facts["fingerprint"],
    }
    known = list(dict.fromkeys(author for author in authors if author))
    return tags | ({WAIVED_TAG: waived} if waived else {}) | ({AUTHORS_TAG: json.dumps(known)} if known else {})


def from_mlflow(version: MlflowModelVersion, aliases: Mapping[str, str]) -> ModelVersion | None:
    """The record of one of MLflow's versions; None for one that is not ours or not complete.

    Parameters
    ----------
    aliases
        MLflow version number by alias.

    Raises
    ------
    IntegrityError
        Its manifest's digest is no digest.
    """
    tags = version.tags
    if VERSION_TAG not in tags or FACTS_TAG not in tags:
        return None
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return ModelVersion(
        version=tags[VERSION_TAG],
        number=int(version.version),
        run_id=version.run_id or "",
        model_id=tags.get(MODEL_TAG, ""),
        source=version.source,
        aliases=tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))),
        manifest_sha256=checked_digest(tags.get(MANIFEST_TAG, ""), f"version {tags[VERSION_TAG][:40]}"),
        created_at=created.isoformat(timespec="seconds"),
        bump=tags.get(BUMP_TAG, Bump.UNCHANGED),
        waived=tags.get(WAIVED_TAG, ""),
        facts=json.loads(tags[FACTS_TAG]),
        authors=tuple(json.loads(tags.get(AUTHORS_TAG, "[]"))),
        approval=json.loads(tags.get(APPROVAL_TAG, "{}")),
        deleted=json.loads(tags.get(DELETED_TAG, "{}")),
    )
