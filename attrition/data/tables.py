"""Snapshots in Delta Lake: what a model was trained on, immutable, numbered and hashed.

The table ``snapshots`` holds one snapshot at a time; each write replaces the content and thereby makes a version. The
Delta version is the data version, and with the content hash it is the lineage of a model. What a frame cannot say
(schema, labels, sensitive attributes, quality report) stands in the metadata of the commit, so that a version is
complete in itself and written in one atomic step.

Erasing a person from a version means to write its remaining rows again and to delete the old files. The new commit
*stands for* the version: it keeps its number, and tells the content hashes that it had before, so that a model which
was trained on it still finds its data and learns why they differ. A version past its retention is struck off by a note
in the metadata of a later commit.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.delta import STATISTICS
from attrition.data.employees import EmployeeTable
from attrition.data.findings import QualityReport
from attrition.data.removal import rewritten
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE, FeatureSchema
from attrition.data.tombstones import Tombstones
from attrition.errors import Fault, IntegrityError, NotFound, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from deltalake import CommitProperties, DeltaTable
    from numpy.typing import NDArray

SNAPSHOTS = "snapshots"
"""Name of the table, and of its folder under the root."""

_METADATA = "attrition"
_STRUCK = "attrition_struck"
_POSITION = "row_number"
_ATTEMPTS = 8
_ESSENCE = ("content_hash", "schema", "sensitive", "surrogate_ids")

# Delta forgets old versions after 30 days unless told otherwise; a data version must outlive its models
_KEEP = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
    STATISTICS: SNAPSHOT_DATE,
}


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
    """

    ref: SnapshotRef
    commit: int
    stored_at: datetime


class Tables:
    """The Delta tables of a project.

    Parameters
    ----------
    root
        Folder or URI (``abfss://...``) that holds one folder per table.
    storage_options
        Credentials and options of the object store; by default they come from the environment.

    Notes
    -----
    Safe to use from several threads and processes at once: a writer that another one overtook tries again.
    """

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = f"{root.rstrip('/')}/{SNAPSHOTS}"
        self.options = dict(storage_options or {})
        self.tombstones = Tombstones(root, storage_options)

    def without_erased(self, table: EmployeeTable) -> EmployeeTable:
        """The rows of everybody who was not erased; `table` itself when that is all of them.

        Raises
        ------
        PlatformError
            The tombstones cannot be read.
        """
        erased = self.erased_rows(table)
        return table.take(~erased) if erased.any() else table

    def erased_rows(self, table: EmployeeTable) -> NDArray[np.bool_]:
        """Mask, shape (n_rows,): rows of persons who were erased.

        Raises
        ------
        PlatformError
            The tombstones cannot be read.
        """
        return self.tombstones.erased().mask(table.frame[EMPLOYEE_ID].to_list())

    def write_snapshot(self, table: EmployeeTable, report: QualityReport | None = None) -> SnapshotRef:
        """Reference to `table` in the store; written unless it is the latest snapshot already, with the same report.

        Rows of erased persons are left out.

        Equal rows with another report (of newer checks, say) make a new version with the same content hash; without a
        report the latest snapshot keeps the one that it has. An older snapshot of the same content is written again:
        the latest one is always what was imported last. The content hash says that both are the same data.

        Raises
        ------
        PlatformError
            The store cannot be written, or other writers came first `_ATTEMPTS` times.
        """
        from deltalake.exceptions import CommitFailedError, DeltaError

        for attempt in range(_ATTEMPTS):
            store, history = self._look()
            # looked at after the store: an erasure in between makes the commit fail, and the next look sees it
            table = self.without_erased(table)
            description = _description(table, report) | {"write_id": uuid.uuid4().hex}
            if history and _says_the_same(history[0][_METADATA], description):
                return _ref(history[0])
            try:
                self._commit(store, table, {_METADATA: description})
            except CommitFailedError:
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 (spreads the writers, hides nothing)
                continue
            except (DeltaError, OSError) as error:
                raise self._unwritable() from error
            # not simply the latest one: another writer may have followed already
            return next(_ref(e) for e in self._history() if e[_METADATA]["write_id"] == description["write_id"])
        raise PlatformError(Fault(self.uri, f"other writers came first {_ATTEMPTS} times", "", "try again"))

    def erase_rows(self, version: int, persons: frozenset[str]) -> int:
        """Write a version again without the rows of `persons` (by pseudonym); how many rows that were.

        The version keeps its number and becomes the latest commit of the table: write the latest version last.

        Raises
        ------
        NotFound, IntegrityError
            As in :meth:`read_snapshot`.
        PlatformError
            The store cannot be written.
        """

        def rewrite(store: DeltaTable, history: list[dict[str, Any]]) -> int:
            entry = _find(history, version)
            if entry is None:
                return 0
            table, description = self._read(entry), entry[_METADATA]
            gone = table.frame[EMPLOYEE_ID].isin(persons).to_numpy(bool)
            kept = table.take(~gone)
            n_erased = int(gone.sum())
            ref = _ref(entry)
            earlier = [*ref.earlier_hashes, ref.content_hash] if n_erased else list(ref.earlier_hashes)
            stands = {
                **description,
                **_facts(kept),
                "write_id": uuid.uuid4().hex,
                "stands_for": ref.version,
                "stored_at": _stored_at(entry),
                "n_erased": ref.n_erased + n_erased,
                "earlier_hashes": earlier,
            }
            self._commit(store, kept, {_METADATA: stands})
            return n_erased

        return int(self._changed(rewrite) or 0)

    def strike(self, versions: Sequence[int], reason: str) -> None:
        """Take versions off the list; their rows stay until the files are deleted.

        Parameters
        ----------
        reason
            A few words that :meth:`read_snapshot` gives when somebody asks for one of them.

        Raises
        ------
        PlatformError
            The store cannot be written.
        """

        def note(store: DeltaTable, history: list[dict[str, Any]]) -> None:
            struck = {_STRUCK: {str(version): reason for version in versions}}
            latest = next((entry for entry in history if entry["version"] not in versions), None)
            if latest is None:
                self._empty(store, struck)
                return
            stands = {**latest[_METADATA], "stands_for": latest["version"], "stored_at": _stored_at(latest)}
            self._commit(store, self._read(latest), {_METADATA: stands, **struck})

        if versions:
            self._changed(note)

    def _changed(self, change: Callable[[DeltaTable, list[dict[str, Any]]], Any]) -> Any:
        """What `change` returns for the store and its history; again when another writer came first."""

        def look_and_change(_: DeltaTable) -> Any:
            store, history = self._look()
            assert store is not None
            return change(store, history)

        return rewritten(self.uri, self.options, look_and_change)

    def _commit(self, store: DeltaTable | None, table: EmployeeTable, metadata: Mapping[str, Any]) -> None:
        """Make `table` the content, on top of the very version that `store` is."""
        import pyarrow as pa
        from deltalake import write_deltalake

        data = pa.Table.from_pandas(table.frame, preserve_index=False).replace_schema_metadata(None)
        write_deltalake(
            store if store is not None else self.uri,
            data.append_column(_POSITION, pa.array(np.arange(len(table)))),
            mode="overwrite",
            schema_mode="overwrite",
            name=SNAPSHOTS,
            configuration=_KEEP,
            commit_properties=_properties(metadata),
            storage_options=self.options or None,
        )

    def _empty(self, store: DeltaTable, metadata: Mapping[str, Any]) -> None:
        import pyarrow as pa
        from deltalake import write_deltalake

        nothing = pa.schema(store.schema().to_arrow()).empty_table()
        write_deltalake(store, nothing, mode="overwrite", commit_properties=_properties(metadata))

    def read_snapshot(self, version: int | None = None) -> tuple[EmployeeTable, SnapshotRef]:
        """Table and reference of a version, the latest when `version` is None; rows in the order they were written.

        Raises
        ------
        NotFound
            There is no snapshot, or none of that version; the existing versions are named.
        IntegrityError
            The stored rows are damaged, or not those that were written.
        """
        entry = self._entry(version)
        return self._read(entry), _ref(entry)

    def _read(self, entry: Mapping[str, Any]) -> EmployeeTable:
        ref, description = _ref(entry), entry[_METADATA]
        schema = FeatureSchema.from_dict(description["schema"])
        table = EmployeeTable.of(
            self._rows(entry["commit"], ref.version),
            schema,
            sensitive=tuple(description["sensitive"]),
            surrogate_ids=description["surrogate_ids"],
            source=description["source"],
        )
        if table.content_hash() != ref.content_hash:
            raise IntegrityError(
                Fault(
                    f"{self.uri}, version {ref.version}",
                    "the rows are not those that were written",
                    "",
                    "import the extract again",
                )
            )
        return table

    def quality(self, version: int | None = None) -> QualityReport | None:
        """Quality report that was stored with a version; None when it was written without one.

        Raises
        ------
        NotFound
            As in :meth:`read_snapshot`.
        """
        document = self._entry(version)[_METADATA]["quality"]
        return None if document is None else QualityReport.from_dict(document)

    def snapshots(self) -> list[SnapshotRef]:
        """Every snapshot, the oldest first; empty when there is none."""
        return [version.ref for version in self.stored()]

    def stored(self) -> list[StoredVersion]:
        """Every snapshot and where its rows lie, the oldest first."""
        return [
            StoredVersion(_ref(entry), entry["commit"], datetime.fromtimestamp(_stored_at(entry) / 1000, UTC))
            for entry in reversed(self._history())
        ]

    def open_commit(self, commit: int) -> DeltaTable:
        """The Delta table as of a commit, see :attr:`StoredVersion.commit`.

        Raises
        ------
        PlatformError
            The store does not answer.
        """
        return self._open(commit)

    def _rows(self, commit: int, version: int) -> pd.DataFrame:
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            data = self._open(commit).to_pyarrow_table()
        except (pa.ArrowException, DeltaError, OSError) as error:
            remedy = "import the extract again"
            raise IntegrityError(
                Fault(f"{self.uri}, version {version}", "files of it are missing or damaged", "", remedy)
            ) from error
        frame: pd.DataFrame = data.sort_by(_POSITION).drop_columns(_POSITION).to_pandas()
        return frame

    def _entry(self, version: int | None) -> dict[str, Any]:
        history = self._history()
        entry = _find(history, version)
        if entry is not None:
            return entry
        reason = self._struck().get(str(version))
        if reason is not None:
            raise NotFound(Fault(f"{self.uri}, version {version}", reason, "", "import an extract of today"))
        if not history:
            raise NotFound(Fault(self.uri, "holds no snapshot yet", "", "attrition data import FILE stores one"))
        versions = ", ".join(str(entry["version"]) for entry in history[:10])
        raise NotFound(Fault(self.uri, f"has no snapshot version {version}", f"the latest versions are {versions}"))

    def _history(self) -> list[dict[str, Any]]:
        """One entry per version, the latest first: the commit that stands for it, its metadata decoded.

        ``version`` is the snapshot's own number, ``commit`` that of the Delta version.
        """
        return self._look()[1]

    def _look(self) -> tuple[DeltaTable | None, list[dict[str, Any]]]:
        """The table as it is, and its history; both of the same version."""
        table, commits = self._commits()
        struck = _struck(commits)
        entries: dict[int, dict[str, Any]] = {}
        for commit in commits:
            if _METADATA in commit:
                description = json.loads(commit[_METADATA])
                version = int(description.get("stands_for", commit["version"]))
                entry = {**commit, _METADATA: description, "commit": int(commit["version"]), "version": version}
                entries.setdefault(version, entry)
        kept = [entries[version] for version in sorted(entries, reverse=True) if str(version) not in struck]
        return table, kept

    def _struck(self) -> dict[str, str]:
        return _struck(self._commits()[1])

    def _commits(self) -> tuple[DeltaTable | None, list[dict[str, Any]]]:
        """The table as it is, and its commits, the latest first."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(self.uri, storage_options=self.options):
            return None, []
        table = self._open()
        while True:
            history = table.history()
            latest = self._open()
            if latest.version() == table.version():
                return table, history
            table = latest  # a commit in between shifts the numbers that history() counts down from the version

    def _open(self, version: int | None = None) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return DeltaTable(self.uri, version=version, storage_options=self.options)
        except DeltaError as error:
            raise PlatformError(
                Fault(self.uri, "the table cannot be read", "", "check the address and the storage")
            ) from error

    def _unwritable(self) -> PlatformError:
        remedy = "check that the folder exists and may be written"
        return PlatformError(Fault(self.uri, "the snapshot cannot be written", "", remedy))


def _properties(metadata: Mapping[str, Any]) -> CommitProperties:
    from deltalake import CommitProperties

    return CommitProperties({key: json.dumps(value) for key, value in metadata.items()}, max_commit_retries=0)


def _find(history: Sequence[dict[str, Any]], version: int | None) -> dict[str, Any] | None:
    return next((entry for entry in history if version is None or entry["version"] == version), None)


def _struck(commits: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Version → why it was struck off."""
    reasons: dict[str, str] = {}
    for commit in commits:
        if _STRUCK in commit:
            reasons |= json.loads(commit[_STRUCK])
    return reasons


def _stored_at(entry: Mapping[str, Any]) -> int:
    """When a version was imported, Unix milliseconds."""
    return int(entry[_METADATA].get("stored_at", entry["timestamp"]))


def _facts(table: EmployeeTable) -> dict[str, Any]:
    """What an erasure changes of a description."""
    dates = table.dates.dropna()
    return {
        "content_hash": table.content_hash(),
        "n_rows": len(table),
        "first_date": dates.min().date().isoformat() if len(dates) else None,
        "last_date": dates.max().date().isoformat() if len(dates) else None,
    }


def _description(table: EmployeeTable, report: QualityReport | None) -> dict[str, Any]:
    return _facts(table) | {
        "source": table.source,
        "schema_digest": table.schema.digest,
        "schema": table.schema.to_dict(),
        "sensitive": list(table.sensitive),
        "surrogate_ids": table.surrogate_ids,
        "quality": report.to_dict() if report else None,
    }


def _says_the_same(stored: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    reported = new["quality"] is None or stored["quality"] == new["quality"]
    return reported and all(stored[key] == new[key] for key in _ESSENCE)


def _ref(entry: Mapping[str, Any]) -> SnapshotRef:
    names = ("content_hash", "n_rows", "first_date", "last_date", "source", "schema_digest")
    description = entry[_METADATA]
    return SnapshotRef(
        table=SNAPSHOTS,
        version=entry["version"],
        **{name: description[name] for name in names},
        n_erased=description.get("n_erased", 0),
        earlier_hashes=tuple(description.get("earlier_hashes", ())),
    )
