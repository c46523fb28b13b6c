"""Shadow scoring: copies of answered records, scored by variants that never answer, when there is time for it.

The response is sent first. Copies then wait in a bounded queue; when it is full they are dropped and counted, so a slow
shadow costs the answered requests nothing but the slices of the event loop between them, each of at most `SLICE`
records. Records of several requests share a slice, because a scorer is cheapest by the matrix.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from attrition.errors import VariantUnavailable
from attrition.serving.placed_scoring import score_lane_placed
from attrition.serving.scoring import score_lane
from attrition.serving.traffic import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attrition.serving.exchange import Exchange
    from attrition.serving.metrics import Meter
    from attrition.serving.scoring import Scores
    from attrition.serving.snapshot import Lane

logger = logging.getLogger(__name__)

SLICE = 128
"""Records scored without a pause; about 1 ms of a boosted ensemble of a hundred trees."""


class _Copy(NamedTuple):
    record: Any
    prediction_id: str
    decision: bool


class ShadowQueue:
    """The queue of one replica; belongs to the event loop's thread.

    Parameters
    ----------
    max_records
        Copies that may wait.
    meter
        Counts what was scored, dropped and failed.
    log
        Called with the scores of a slice; None logs nothing.
    """

    def __init__(
        self, max_records: int, meter: Meter, *, log: Callable[[Sequence[Scores], int], object] | None = None
    ) -> None:
        self.max_records = max_records
        self._meter = meter
        self._log = log
        self._waiting: deque[tuple[Lane, list[_Copy]]] = deque()
        self._n_waiting = 0
        self._worker: asyncio.Task[None] | None = None

    def offer(self, exchange: Exchange) -> None:
        """Take copies of an answered exchange, or drop and count them when there is no room."""
        shadows = exchange.snapshot.shadows
        n = len(exchange.records)
        copies: list[_Copy] = []
        for lane in shadows:
            if self._n_waiting + n > self.max_records:
                self._meter.shadow("dropped", lane, n)
                continue
            copies = copies or _copies(exchange)
            self._waiting.append((lane, copies))
            self._n_waiting += n
        if self._waiting and (self._worker is None or self._worker.done()):
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # requests first
            lane, copies = self._next_slice()
            self._n_waiting -= len(copies)
            try:
                await self._score(lane, copies)
            except VariantUnavailable:  # its own line logs that, once
                self._meter.shadow("failed", lane, len(copies))
            except Exception:
                self._meter.shadow("failed", lane, len(copies))
                logger.exception("Shadow variant %s could not score", lane.variant.name)

    def _next_slice(self) -> tuple[Lane, list[_Copy]]:
        """Copies for one lane, from as many exchanges as a slice holds."""
        lane, copies = self._waiting.popleft()
        if len(copies) > SLICE:
            self._waiting.appendleft((lane, copies[SLICE:]))
            return lane, copies[:SLICE]
        gathered = list(copies)
        others: list[tuple[Lane, list[_Copy]]] = []
        while self._waiting and len(gathered) + len(self._waiting[0][1]) <= SLICE and len(others) < SLICE:
            other, more = self._waiting.popleft()
            if other is lane:
                gathered.extend(more)
            else:
                others.append((other, more))
        self._waiting.extendleft(reversed(others))
        return lane, gathered

    async def _score(self, lane: Lane, copies: list[_Copy]) -> None:
        n = len(copies)
        records, rows, reasons = [copy.record for copy in copies], range(n), [Reason.SHADOW] * n
        shadow_of = [copy.prediction_id for copy in copies]
        if lane.batcher is None:
            scores = score_lane(lane, records, rows, reasons, shadow_of)
        else:
            scores = await score_lane_placed(lane, lane.batcher, records, rows, reasons, shadow_of)
        pairs = zip(copies, scores.probabilities, strict=True)
        differing = sum((probability >= scores.threshold) != copy.decision for copy, probability in pairs)
        self._meter.shadow("scored", lane, n)
        if differing:
            self._meter.shadow("disagreements", lane, differing)
        if self._log is not None:
            self._log([scores], 0)


def _copies(exchange: Exchange) -> list[_Copy]:
    return [
        _Copy(exchange.records[row], prediction_id, probability >= group.threshold)
        for group in exchange.scores
        for row, prediction_id, probability in zip(group.rows, group.prediction_ids, group.probabilities, strict=True)
    ]
