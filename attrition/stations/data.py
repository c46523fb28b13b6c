"""Extracts and snapshots under guard."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from attrition.governance.actions import Action
from attrition.stations.subjects import file_subject

if TYPE_CHECKING:
    from pathlib import Path

    from attrition.data.dataset import Dataset
    from attrition.data.extracts import Extract
    from attrition.data.findings import QualityReport
    from attrition.data.tables import SnapshotRef, Tables
    from attrition.governance.guard import Guard
    from attrition.governance.privacy import PseudonymKey
    from attrition.settings import Settings


class Data:
    """Extracts in, snapshots out; reached as ``Workspace.data``."""

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard

    @cached_property
    def tables(self) -> Tables:
        """The Delta tables of this project."""
        from attrition.data.tables import Tables

        self._settings.prepare_home()
        return Tables(self._settings.tables)

    @cached_property
    def key(self) -> PseudonymKey:
        """The key that turns employee ids into pseudonyms; created on first use."""
        from attrition.governance.privacy import PseudonymKey

        self._settings.prepare_home()
        assert self._settings.key_file is not None  # Settings.from_environment resolves it
        return PseudonymKey.load_or_create(self._settings.key_file)

    def extract(
        self, path: str | Path, mapping: str | Path | None = None, *, schema: str | Path | None = None
    ) -> Extract:
        """Read a CSV, CSV.gz or Parquet extract into an employee table; nothing is stored.

        Parameters
        ----------
        path
            File or folder, also of a storage account: ``abfss://container@account.dfs.core.windows.net/hr.parquet``.
        mapping
            Mapping by path or shipped name; None: the extract has canonical names.
        schema
            YAML file of an own :class:`~attrition.data.schema.FeatureSchema`; None: the nine HR features.

        Raises
        ------
        ExtractError, ConfigError, InsufficientData
            With every fault of the file and its mapping.
        PlatformError
            The storage account does not answer.
        """
        from attrition.data.addresses import local_or_address
        from attrition.data.extracts import read_extract
        from attrition.data.folders import fetched
        from attrition.data.schema import FeatureSchema

        features = None if schema is None else FeatureSchema.from_yaml(schema)
        with fetched(local_or_address(path)) as file:
            return read_extract(file, mapping, self.key, features)

    def check(
        self, path: str | Path, mapping: str | Path | None = None, *, schema: str | Path | None = None
    ) -> QualityReport:
        """Every quality finding of an extract, see :meth:`extract`; nothing is stored."""
        from attrition.data.quality import check_quality

        return check_quality(self.extract(path, mapping, schema=schema))

    def load(self, path: str | Path, mapping: str | Path | None = None, *, schema: str | Path | None = None) -> Dataset:
        """Read, check and repair an extract, see :meth:`extract`, and store it as a snapshot.

        The same content with the same findings again yields the existing snapshot. Persons who were erased are left
        out.
        """
        from attrition.data.dataset import Dataset
        from attrition.data.quality import check_quality, repair

        with self._guard.acting(Action.DATA_IMPORT, file_subject("extract", path)) as entry:
            extract = self.extract(path, mapping, schema=schema)
            extract = extract.take(~self.tables.erased_rows(extract.table))
            report = check_quality(extract)
            table = repair(extract.table, report)
            snapshot = self.tables.write_snapshot(table, report)
            if snapshot.n_rows < len(table):  # somebody was erased at this very moment
                table = self.tables.without_erased(table)
            entry.data_version = str(snapshot.version)
            entry.details["content_hash"] = snapshot.content_hash
            return Dataset(table, snapshot, report)

    def read(self, version: int | None = None) -> Dataset:
        """A stored snapshot, the latest when `version` is None.

        Raises
        ------
        NotFound
            Nothing is stored, or not this version.
        """
        with self._guard.acting(Action.DATA_VIEW, "snapshot") as entry:
            dataset = stored_dataset(self.tables, version)
            entry.data_version = str(dataset.snapshot.version)
            return dataset

    def snapshots(self) -> list[SnapshotRef]:
        """Every stored snapshot, oldest first."""
        self._guard.require(Action.DATA_VIEW, "snapshots")
        return self.tables.snapshots()

    def simulate(
        self,
        path: str | Path | None = None,
        *,
        n_employees: int = 15_000,
        n_quarters: int = 1,
        seed: int = 42,
        scenario: str | None = None,
    ) -> Path:
        """Write the extract of a simulated workforce and return its path; not evidence about real people."""
        from pathlib import Path

        from attrition.data.workforce import simulate, write_extract

        frame = simulate(n_employees, n_quarters=n_quarters, seed=seed, scenario=scenario)
        target = Path(path) if path else self._settings.home / "extracts" / f"workforce-{n_employees}-{seed}.csv.gz"
        return write_extract(frame, target)


def stored_dataset(tables: Tables, version: int | None) -> Dataset:
    """A stored snapshot with its findings."""
    from attrition.data.dataset import Dataset
    from attrition.data.quality import check_quality

    table, snapshot = tables.read_snapshot(version)
    return Dataset(table, snapshot, tables.quality(snapshot.version) or check_quality(table))
