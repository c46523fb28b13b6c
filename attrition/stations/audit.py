"""The audit log, for those who may read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrition.governance.actions import Action

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attrition.governance.audit import AuditLog
    from attrition.governance.audit_chain import Verification
    from attrition.governance.audit_events import Record
    from attrition.governance.audit_export import Exported
    from attrition.governance.audit_heads import Head
    from attrition.governance.guard import Guard
    from attrition.settings import Settings

SUBJECT = "audit log"


class Audit:
    """The audit log; reached as ``Workspace.audit``. Every method raises ``AccessDenied`` for who may not do it.

    Reading and exporting leave no event unless they are refused: the log would grow by being looked at, and a schedule
    that exports it would always find something new.

    Parameters
    ----------
    settings
        Where the signing key is.
    guard
        Of the project; it has the log.
    """

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard

    @property
    def log(self) -> AuditLog:
        """The log in the project's database, with the project's signing key; not guarded."""
        return self._guard.audit

    def records(self, **conditions: Any) -> list[Record]:
        """Events that fit all conditions, the newest last; see :meth:`attrition.governance.audit.AuditLog.records`."""
        self._guard.require(Action.AUDIT_VIEW, SUBJECT)
        return self.log.records(**conditions)

    def record(self, sequence: int) -> Record:
        """One event.

        Raises
        ------
        NotFound
            There is none with this sequence.
        """
        self._guard.require(Action.AUDIT_VIEW, SUBJECT)
        return self.log.record(sequence)

    def verify(self, *, heads: Sequence[Path] = (), public_keys: Sequence[Path] = ()) -> Verification:
        """Whether the log is what was recorded, and extends each of the heads that were kept elsewhere.

        Parameters
        ----------
        heads
            Files that :meth:`head` wrote, or exports.
        public_keys
            Files of keys that are trusted beside the log's own, as :meth:`key` writes them.
        """
        from attrition.governance.audit_heads import Head, public_key_file

        self._guard.require(Action.AUDIT_VIEW, SUBJECT)
        kept = [Head.from_file(path) for path in heads]
        return self.log.verify(heads=kept, public_keys=[public_key_file(path) for path in public_keys])

    def verify_exports(
        self, exports: Sequence[Path], *, heads: Sequence[Path] = (), public_keys: Sequence[Path] = ()
    ) -> list[Verification]:
        """Whether exported files, given in the order of the log, are what was recorded; the database is not asked."""
        from attrition.governance.audit_heads import Head, public_key_file
        from attrition.governance.audit_verify import verify_exports

        trusted = set(map(public_key_file, public_keys))
        own = self._settings.audit_key_file
        if own is not None and own.exists():  # an auditor's machine has none, and needs none
            trusted.add(self.log.public_key)
        return verify_exports(exports, trusted, [Head.from_file(path) for path in heads])

    def export(self, target: str | Path, *, first: int | None = None) -> Exported | None:
        """Write events with a signed head; see :meth:`attrition.governance.audit.AuditLog.export`."""
        self._guard.require(Action.AUDIT_EXPORT, SUBJECT)
        return self.log.export(target, first=first)

    def head(self, out: Path | None = None) -> Head:
        """Sign the log as it is, and write the head to the new file `out`, to be kept elsewhere.

        Raises
        ------
        IntegrityError
            An event since the last head is not what was recorded.
        UsageError
            `out` exists or cannot be written.
        """
        from attrition.governance.key_files import write_new

        self._guard.require(Action.AUDIT_VIEW, SUBJECT)
        head = self.log.head()
        if out is not None:
            write_new(out, head.to_json())
        return head

    def key(self, out: Path | None = None) -> dict[str, str]:
        """The public key that verifies heads and exports: ``key_id``, ``public_key`` (hexadecimal), ``pem``.

        Parameters
        ----------
        out
            New file that gets the PEM.
        """
        from attrition.governance.audit_heads import key_id
        from attrition.governance.key_files import write_new

        if out is not None:
            write_new(out, self.log.public_pem)
        return {"key_id": key_id(self.log.public_key), "public_key": self.log.public_key, "pem": self.log.public_pem}
