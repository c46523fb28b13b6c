"""Where a candidate comes from: data version, split, code version, plan and seed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.data.splits import SplitSpec
    from attrition.data.tables import SnapshotRef

_GIT_TIMEOUT_SECONDS = 5
_SOURCES = ("*.py", "*.yaml")


@dataclass(frozen=True, slots=True)
class Lineage:
    """What would have to be the same to train the same model again.

    Attributes
    ----------
    snapshot : SnapshotRef or None
        Version and content hash of the data; None for a table that was never written.
    split : SplitSpec or None
        How the holdout was put aside; None when there is none.
    code_version : str
        See :func:`code_version`.
    plan, plan_digest : str
        Name and digest of the search plan, or of the single configuration.
    seed : int
    created_at : str
        UTC, ISO 8601.
    surrogate_ids : bool
        True when the data had no employee ids: its persons cannot be found again in other data.
    """

    snapshot: SnapshotRef | None
    split: SplitSpec | None
    code_version: str
    plan: str
    plan_digest: str
    seed: int
    created_at: str
    surrogate_ids: bool = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of data, split, code, plan and seed; not of the time. Equal: nothing new would be learned."""
        essence = [
            self.snapshot.content_hash if self.snapshot else None,
            self.split.to_dict() if self.split else None,
            self.code_version,
            self.plan_digest,
            self.seed,
        ]
        return hashlib.sha256(json.dumps(essence, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "snapshot": self.snapshot.to_dict() if self.snapshot else None,
            "split": self.split.to_dict() if self.split else None,
            "code_version": self.code_version,
            "plan": self.plan,
            "plan_digest": self.plan_digest,
            "seed": self.seed,
            "created_at": self.created_at,
            "surrogate_ids": self.surrogate_ids,
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Lineage:
        """Inverse of :meth:`to_dict`."""
        from attrition.data.splits import SplitSpec
        from attrition.data.tables import SnapshotRef

        snapshot, split = document["snapshot"], document["split"]
        return cls(
            **{
                **document,
                "snapshot": SnapshotRef.from_dict(snapshot) if snapshot else None,
                "split": SplitSpec.from_dict(split) if split else None,
            }
        )


@cache
def code_version() -> str:
    """Version of the training code, such as ``0.1.0+g1a2b3c4d5e6f`` or ``0.1.0+g1a2b3c4d5e6f.dirty``.

    In a checkout the commit, marked dirty when tracked files of the package differ from it; in an installed package
    (or where git does not answer) ``+src.`` and a digest of the package's sources.
    """
    package = Path(__file__).parents[1]
    return f"{__version__}+{_commit(package) or 'src.' + _source_digest(package)}"


def _commit(package: Path) -> str | None:
    if not (package.parent / ".git").exists():
        return None
    command = ["git", "-C", str(package.parent)]
    try:
        commit = _output([*command, "rev-parse", "--short=12", "HEAD"])
        changed = _output([*command, "status", "--porcelain", "--", package.name, "tune_configs"])
    except (OSError, subprocess.SubprocessError):
        return None
    # a dirty tree is not described by its commit: two different dirty trees must not look alike
    return f"g{commit}.dirty.{_source_digest(package)}" if changed else f"g{commit}"


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=_GIT_TIMEOUT_SECONDS)  # noqa: S603 (fixed arguments)
    return done.stdout.strip()


def _source_digest(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _SOURCES for path in package.rglob(pattern)):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a fit learns."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "pandas", "scikit-learn")}
