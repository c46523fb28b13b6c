"""The newest head, kept beside the signing key: what shows a database that was emptied or replaced by an older one.

A wiped database is an empty log, which is intact by itself, and its heads are gone with it. The file says how long the
log was when it was last signed from here, so the next process does not silently begin anew. There is one file for each
database, so another address begins its own log. A folder that cannot be written (a mounted secret) keeps no head: there
``attrition audit export`` and ``audit head --out`` are what remembers.
"""

from __future__ import annotations

import logging
from hashlib import sha256
from typing import TYPE_CHECKING

from attrition.errors import ConfigError, Fault, IntegrityError
from attrition.governance.audit_heads import Head
from attrition.governance.key_files import replace

if TYPE_CHECKING:
    from pathlib import Path

    from attrition.governance.audit_chain import Mark

logger = logging.getLogger(__name__)


class Anchor:
    """The file of one log's newest head.

    Parameters
    ----------
    signing_key
        File of the key that signs; the head lies beside it.
    address
        Of the database, without its password.
    """

    def __init__(self, signing_key: Path, address: str) -> None:
        self.path = signing_key.with_name(f"{signing_key.stem}-{sha256(address.encode()).hexdigest()[:8]}.head")

    def read(self) -> Head | None:
        """The head; None when there is no file.

        Raises
        ------
        ConfigError
            The file is none of a head.
        """
        return Head.from_file(self.path) if self.path.exists() else None

    def keep(self, head: Head) -> None:
        """Keep a head unless an older one of the same key; a failure is no reason to stop."""
        try:
            kept = self.read()
            if kept is None or kept.public_key != head.public_key or kept.sequence < head.sequence:
                replace(self.path, head.to_json().encode())
        except (OSError, ConfigError) as error:
            logger.debug("no head is kept beside the key: %s", error)

    def require(self, end: Mark, public_key: str) -> None:
        """Return unless the log is shorter than it was when this key signed it last.

        Raises
        ------
        IntegrityError
            It is: the database was emptied, or replaced by an older one.
        ConfigError
            The file is none of a head.
        """
        kept = self.read()
        if kept is not None and kept.public_key == public_key and end.sequence < kept.sequence:
            found = f"holds {end.sequence:,} events, and {kept.sequence:,} were signed on {kept.time[:10]}"
            remedy = f"restore the database; to begin anew all the same, move {self.path} to a safe place"
            raise IntegrityError(Fault("audit log", found, "a log never becomes shorter", remedy))
