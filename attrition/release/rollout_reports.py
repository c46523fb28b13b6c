"""Tells others how a rollout goes, beside its controller, which neither waits for them nor fails with them."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attrition.errors import AttritionError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Future

    from attrition.release.rollout import Rollout

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""Between two attempts at a listener that does not answer."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody who is told how a rollout goes.

    Attributes
    ----------
    news : callable
        What there is to tell of a rollout; the listener is told when that has changed.
    tell : callable
        Tells it, in a thread; may be called twice for the same.
    """

    news: Callable[[Rollout], Hashable]
    tell: Callable[[Rollout], object]


class Reports:
    """The lines to all listeners; one that does not answer keeps nothing from the others.

    Parameters
    ----------
    *listeners
        Who is told.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._lines = [_Line(each) for each in listeners]

    def take(self, rollout: Rollout) -> None:
        """Have everybody told what is new; returns at once."""
        for line in self._lines:
            line.take(rollout)

    def close(self) -> None:
        """Return when everybody was told the newest, or did not answer."""
        for line in self._lines:
            line.close()


class _Line:
    """The line to one listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rollout report")
        self._under_way: Future[None] | None = None
        self._newest: Rollout | None = None
        self._told: Hashable = object()
        self._retry_at = 0.0

    def take(self, rollout: Rollout) -> None:
        self._newest = rollout
        is_free = self._under_way is None or self._under_way.done()
        if is_free and time.monotonic() >= self._retry_at and self._listener.news(rollout) != self._told:
            self._under_way = self._thread.submit(self._tell, rollout)

    def close(self) -> None:
        if self._newest is not None:
            self._thread.submit(self._tell, self._newest)
        self._thread.shutdown()

    def _tell(self, rollout: Rollout) -> None:
        news = self._listener.news(rollout)
        if news == self._told:
            return
        try:
            self._listener.tell(rollout)
        except AttritionError as error:
            logger.warning("%s", error)
            self._retry_at = time.monotonic() + RETRY_SECONDS
        except Exception:
            logger.exception("The rollout could not be reported")
            self._retry_at = time.monotonic() + RETRY_SECONDS
        else:
            self._told = news
