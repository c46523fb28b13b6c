"""The journal of the snapshot table: which commit stands for which snapshot version, and which versions are gone.

Every commit that writes a snapshot carries a description under `SNAPSHOT`. A commit that erased persons from an older
version *stands for* that version; a commit under `STRUCK` takes versions off the list.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attrition.data.employees import EmployeeTable
    from attrition.data.findings import QualityReport

SNAPSHOTS = "snapshots"
"""Name of the table, and of its folder under the root."""

SNAPSHOT = "attrition"
"""Key of a commit's metadata under which a snapshot is described."""

STRUCK = "attrition_struck"
"""Key of a commit's metadata under which versions are struck off, with the reason."""

_ESSENCE = ("content_hash", "schema", "sensitive", "surrogate_ids")


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """Which data: enough to read them again and to notice that they are others.

    Attributes
    ----------
    table : str
        Name of the table.
    version : int
        Delta version.
    content_hash : str
        Of :meth:`~attrition.data.employees.EmployeeTable.content_hash`.
    n_rows : int
    first_date, last_date : str or None
        ISO dates of the earliest and latest snapshot; None when the extract had no date.
    source : str
        File name or simulator run.
    schema_digest : str
        Of the feature schema.
    n_erased : int
        Rows that were erased since the version was imported; 0 for most.
    earlier_hashes : tuple of str
        Content hashes that the version had before each erasure, the oldest first.
    """

    table: str
    version: int
    content_hash: str
    n_rows: int
    first_date: str | None
    last_date: str | None
    source: str
    schema_digest: str
    n_erased: int = 0
    earlier_hashes: tuple[str, ...] = ()

    def held(self, content_hash: str) -> bool:
        """Whether the version has this content, or had it before persons were erased from it."""
        return content_hash == self.content_hash or content_hash in self.earlier_hashes

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**asdict(self), "earlier_hashes": list(self.earlier_hashes)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> SnapshotRef:
        """Inverse of :meth:`to_dict`; also of documents from before erasures were recorded."""
        return cls(**{**document, "earlier_hashes": tuple(document.get("earlier_hashes", ()))})

    def _repr_html_(self) -> str:
        return _snapshots_html("Snapshot", [self])


class Snapshots(list[SnapshotRef]):
    """References to snapshots, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return _snapshots_html("Snapshots", self)


def _snapshots_html(title: str, refs: Sequence[SnapshotRef]) -> str:
    from html import escape

    header = ("version", "rows", "from", "to", "source", "content")
    rows = [
        (str(r.version), f"{r.n_rows:,}", r.first_date or "", r.last_date or "", r.source, r.content_hash[:12])
        for r in refs
    ]
    head = "".join(f"<th>{name}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A snapshot version as it lies in the store.

    Attributes
    ----------
    ref : SnapshotRef
    commit : int
        Delta version that holds its rows; another number than the version's own after an erasure.
    stored_at : datetime
        When it was imported, UTC.
    description : mapping
        What else the commit says: schema, sensitive attributes, quality report.
    """

    ref: SnapshotRef
    commit: int
    stored_at: datetime
    description: Mapping[str, Any] = field(repr=False)

    def rewritten(self, **changes: Any) -> dict[str, Any]:
        """Description of a commit that stands for this version from now on."""
        moment = int(self.stored_at.timestamp() * 1000)
        return {**self.description, "stands_for": self.ref.version, "stored_at": moment, **changes}


@dataclass(frozen=True, slots=True)
class Journal:
    """What the commits of the table say.

    Attributes
    ----------
    versions : tuple of StoredVersion
        The latest first.
    struck : dict of int to str
        Versions that were struck off, and why.
    """

    versions: tuple[StoredVersion, ...] = ()
    struck: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, commits: Sequence[Mapping[str, Any]]) -> Journal:
        """The journal of a Delta history, whose latest commit comes first."""
        struck: dict[int, str] = {}
        versions: dict[int, StoredVersion] = {}
        for commit in commits:
            if STRUCK in commit:
                struck |= {int(version): reason for version, reason in json.loads(commit[STRUCK]).items()}
            if SNAPSHOT in commit:
                stored = _stored(commit)
                versions.setdefault(stored.ref.version, stored)  # of several commits the latest one stands
        numbers = sorted(versions.keys() - struck.keys(), reverse=True)
        return cls(tuple(versions[number] for number in numbers), struck)

    def find(self, version: int | None) -> StoredVersion | None:
        """A version, the latest when `version` is None; None when there is none."""
        return next((stored for stored in self.versions if version in {None, stored.ref.version}), None)


def describe(table: EmployeeTable, report: QualityReport | None) -> dict[str, Any]:
    """Description of a new snapshot, JSON-ready."""
    return facts(table) | {
        "source": table.source,
        "schema_digest": table.schema.digest,
        "schema": table.schema.to_dict(),
        "sensitive": list(table.sensitive),
        "surrogate_ids": table.surrogate_ids,
        "quality": report.to_dict() if report else None,
    }


def facts(table: EmployeeTable) -> dict[str, Any]:
    """What an erasure changes of a description."""
    dates = table.dates.dropna()
    return {
        "content_hash": table.content_hash(),
        "n_rows": len(table),
        "first_date": dates.min().date().isoformat() if len(dates) else None,
        "last_date": dates.max().date().isoformat() if len(dates) else None,
    }


def says_the_same(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a new description adds nothing to a stored one; no report adds nothing to any."""
    reported = new["quality"] is None or stored["quality"] == new["quality"]
    return reported and all(stored[key] == new[key] for key in _ESSENCE)


def _stored(commit: Mapping[str, Any]) -> StoredVersion:
    description = json.loads(commit[SNAPSHOT])
    number = int(commit["version"])
    names = ("content_hash", "n_rows", "first_date", "last_date", "source", "schema_digest")
    ref = SnapshotRef(
        table=SNAPSHOTS,
        version=int(description.get("stands_for", number)),
        **{name: description[name] for name in names},
        n_erased=description.get("n_erased", 0),
        earlier_hashes=tuple(description.get("earlier_hashes", ())),
    )
    moment = description.get("stored_at", commit["timestamp"])
    return StoredVersion(ref, number, datetime.fromtimestamp(moment / 1000, UTC), description)
