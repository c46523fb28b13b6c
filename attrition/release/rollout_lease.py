"""The right to drive the rollout, held by one process at a time and renewed in the background while it works."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

from attrition.errors import AttritionError, Fault, LeaseLost, UsageError
from attrition.release import rollout_store

if TYPE_CHECKING:
    from attrition.release.rollout_store import RolloutStore

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = rollout_store.LEASE_SECONDS + 5.0
"""How long a controller waits for the lease: that of one that was killed has expired by then."""


class Lease:
    """The lease as a context; within it, :attr:`token` is good until :meth:`check` says otherwise.

    Parameters
    ----------
    store
        Has the lease.
    patience_seconds
        How long to wait for it.

    Raises
    ------
    UsageError
        On entry: another controller has it, and it is alive.
    """

    def __init__(self, store: RolloutStore, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._store = store
        self._patience = patience_seconds
        self._over = threading.Event()
        self._lost = False
        self.token = -1
        self.holder = f"{socket.gethostname()} process {os.getpid()} {secrets.token_hex(3)}"

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._patience
        while (token := self._store.acquire(self.holder)) is None:
            if time.monotonic() > deadline:
                other = self._store.holder() or "another controller"
                raise UsageError(Fault("rollout", f"is driven by {other}", "one controller at a time"))
            time.sleep(0.2)
        self.token = token
        self._heart = threading.Thread(target=self._beat, name="rollout lease", daemon=True)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._heart.join()
        try:
            self._store.release(self.token)
        except AttritionError as error:  # it expires by itself
            logger.warning("%s", error)

    def check(self) -> None:
        """Return when the lease is held, for another `LEASE_SECONDS`.

        Raises
        ------
        LeaseLost
            Somebody else may have it: nothing must be done any more.
        PlatformError
            The database does not answer.
        """
        if self._lost:
            raise LeaseLost(Fault("rollout", "another controller has taken over", remedy="leave it to that one"))
        self._store.renew(self.token)

    def _beat(self) -> None:
        while not self._over.wait(rollout_store.LEASE_SECONDS / 4):
            try:
                self._store.renew(self.token)
            except LeaseLost:
                self._lost = True
                return
            except AttritionError as error:  # it may answer again before the lease expires
                logger.warning("%s", error)
