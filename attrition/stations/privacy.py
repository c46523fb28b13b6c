"""What is held about persons, and its end, under guard."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from attrition.data.erasure import NOBODY
from attrition.errors import Fault, UsageError
from attrition.governance.actions import Action
from attrition.governance.audit_events import person

if TYPE_CHECKING:
    from attrition.data.erasure import Erasure, PersonRecords
    from attrition.data.holdings import PersonReport
    from attrition.data.retention import Retained, RetentionPolicy
    from attrition.data.tables import Tables
    from attrition.governance.guard import Guard
    from attrition.governance.persons import PersonKeys
    from attrition.settings import Settings

RECORDS = "records about persons"


class Privacy:
    """What is held about persons; reached as ``Workspace.privacy``. Raises ``AccessDenied`` for who may not do it.

    A person is named by the HR system's number, or by the pseudonym with ``is_pseudonym=True``; in the audit log by
    the token of the personal key, see :mod:`attrition.governance.persons`.

    Parameters
    ----------
    settings
        Where spools, MLflow and keys are.
    guard
        Of the project.
    tables
        The project's snapshots.
    """

    def __init__(self, settings: Settings, guard: Guard, tables: Tables) -> None:
        self._settings = settings
        self._guard = guard
        self._tables = tables

    def report(self, employee: str, *, is_pseudonym: bool = False, values_to: str | Path | None = None) -> PersonReport:
        """What is held about a person, where, and since when; without the values.

        Parameters
        ----------
        values_to
            File to write the values to as well, as JSON, readable by its owner alone: what the person is entitled to.

        Raises
        ------
        NotFound
            Nothing is held.
        UsageError
            No id, or `values_to` exists or cannot be written.
        PlatformError
            A store does not answer: an incomplete report would be a wrong one.
        """
        from attrition.data.holdings import export_values

        # who may not ask must not learn whether somebody is on record
        self._guard.require(Action.PRIVACY_REPORT, person(NOBODY))
        pseudonym, records = self.pseudonym(employee, is_pseudonym=is_pseudonym), self._records(None)
        details = {"with_values": values_to is not None}
        with self._guard.acting(Action.PRIVACY_REPORT, person(records.subject(pseudonym)), details=details) as entry:
            report = records.report(pseudonym)
            entry.details["n_rows"] = report.n_rows
            if values_to is not None:
                export_values(records.stores, report, Path(values_to))
            return report

    def erase(
        self, employee: str, *, justification: str, is_pseudonym: bool = False, policy: str | Path | None = None
    ) -> Erasure:
        """Remove a person from all stores and destroy the personal key; repeat an interrupted call to finish it.

        Parameters
        ----------
        justification
            Why; for the audit log, so it must not name the person.
        policy
            YAML file of a :class:`~attrition.data.retention.RetentionPolicy`; says for how long old files stay.

        Raises
        ------
        NotFound
            Nothing is held.
        UsageError
            No id, or no justification.
        PlatformError
            A store does not answer; what was removed by then stays removed.
        """
        if not justification.strip():
            raise UsageError(Fault("justification", "is empty", "", "say why, without naming the person"))
        self._guard.require(Action.ERASE, person(NOBODY))
        pseudonym, records = self.pseudonym(employee, is_pseudonym=is_pseudonym), self._records(policy)
        if any(_names(justification, name) for name in (employee.strip(), pseudonym)):
            found = "names the person, and the audit log is kept for years"
            raise UsageError(Fault("justification", found, "", "say why without the id"))
        subject = person(records.subject(pseudonym))
        with self._guard.acting(Action.ERASE, subject, justification=justification) as entry:
            done = records.erase(pseudonym, now=datetime.now(UTC))
            entry.details |= {"n_rows": done.n_rows, "is_finished": done.is_finished}
            return done

    def retain(self, *, policy: str | Path | None = None, dry_run: bool = False) -> Retained:
        """Remove what is past its retention; made for a schedule.

        Parameters
        ----------
        policy
            YAML file of a :class:`~attrition.data.retention.RetentionPolicy`; the default one when None.
        dry_run
            Count, and change nothing.

        Raises
        ------
        ConfigError
            The policy cannot be used.
        PlatformError
            A store does not answer.
        """
        from attrition.data.person_tables import SnapshotStore
        from attrition.data.retention import Retention
        from attrition.training.samples import SampleStore

        rules, tables = _policy(policy), self._tables
        with self._guard.acting(Action.RETENTION, RECORDS, details={"policy": rules.model_dump()}) as entry:
            samples = SampleStore(self._settings)
            retention = Retention(tables, self._settings.tables, rules, SnapshotStore(tables, rules), samples)
            retained = retention.apply(now=datetime.now(UTC), dry_run=dry_run)
            entry.details |= retained.to_dict()
            return retained

    def pseudonym(self, employee: str, *, is_pseudonym: bool = False) -> str:
        """The pseudonym of a person; nothing is looked up.

        Raises
        ------
        UsageError
            No id, or a pseudonym that has not the form of one. The message does not repeat it.
        ConfigError
            There is no pseudonym key yet, so nobody can be on record by a number.
        """
        from attrition.governance.identity import existing_key
        from attrition.governance.identity import is_pseudonym as has_form

        text = employee.strip()
        if not text:
            raise UsageError(Fault("employee", "is empty", "the id of one person is needed"))
        if is_pseudonym:
            if not has_form(text):
                raise UsageError(Fault("employee", "is no pseudonym", "32 hexadecimal digits in lower case"))
            return text
        assert self._settings.key_file is not None  # Settings.from_environment resolves it
        return existing_key(self._settings.key_file).pseudonym(text)

    @cached_property
    def keys(self) -> PersonKeys:
        """The personal keys, for whoever records events about persons; not guarded."""
        from attrition.governance.persons import PersonKeys

        self._settings.prepare_home()
        return PersonKeys.open(self._settings.person_keys_url)

    def _records(self, policy: str | Path | None) -> PersonRecords:
        from attrition.data.erasure import PersonRecords
        from attrition.data.person_tables import person_tables
        from attrition.serving.spooled_persons import SpoolStore
        from attrition.training.samples import SampleStore

        # spools first, as they flow into tables; snapshots last, as models point at them
        stores = [
            SpoolStore(self._settings.home / "spool", self._settings.tables),
            SampleStore(self._settings),
            *person_tables(self._tables, self._settings.tables, _policy(policy)),
        ]
        return PersonRecords(stores, self._tables.tombstones, self.keys)


def _names(text: str, employee: str) -> bool:
    """Whether a text has an id as a word; ids of one or two characters are words of any text."""
    found = re.search(rf"(?<!\w){re.escape(employee)}(?!\w)", text, re.IGNORECASE)
    return len(employee) > 2 and found is not None


def _policy(path: str | Path | None) -> RetentionPolicy:
    from attrition.data.retention import RetentionPolicy

    return RetentionPolicy.load(None if path is None else Path(path))
