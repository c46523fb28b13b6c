"""Ends requests that take too long, by one timer for all of them.

A timer, a task and a wait per request would cost more than most requests do. Here a request costs an entry in a set;
the timer is set to the earliest deadline, and where all have the same timeout it rings once per timeout.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

LONGEST_SECONDS = 86_400.0
"""A longer timeout is none."""


class Watched:
    """A request that has a deadline.

    Attributes
    ----------
    is_late : bool
        Its task was cancelled for that.
    """

    __slots__ = ("deadline", "is_late", "task")

    def __init__(self, task: asyncio.Task[Any], deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.is_late = False


class Deadlines:
    """Those of one event loop; belongs to its thread."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_look = math.inf

    def watch(self, seconds: float) -> Watched | None:
        """Cancel the current task when it is not released within `seconds`; None when it may take for ever."""
        if seconds > LONGEST_SECONDS:
            return None
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        watched = Watched(task, loop.time() + seconds)
        self._watched.add(watched)
        if watched.deadline < self._next_look:
            self._look_at(watched.deadline, loop)
        return watched

    def release(self, watched: Watched | None) -> bool:
        """Whether the request was late; its task has nothing to fear any more, and may go on."""
        if watched is None:
            return False
        self._watched.discard(watched)
        if watched.is_late:
            watched.task.uncancel()
        return watched.is_late

    def _look_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_look = when
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel what is late, and come back when the next one would be."""
        self._timer, self._next_look = None, math.inf
        now = loop.time()
        for watched in self._watched:
            if watched.deadline <= now and not watched.is_late:
                watched.is_late = True
                watched.task.cancel()
        deadline = min((watched.deadline for watched in self._watched if not watched.is_late), default=math.inf)
        if deadline < math.inf:
            self._look_at(deadline, loop)
