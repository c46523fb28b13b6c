"""Adaptive micro-batches: one call under way, and what arrives meanwhile is the next one.

A call to another process costs the same for one record as for hundreds. So nobody waits for company when the line is
free, and under load batches grow by themselves until a call is as long as what it carries. There is nothing to tune but
limits: a batch, the records that wait, and the time of a call are bounded, and a request that is too much is refused
before it waits.

A request waits for the call under way at most and then for its own, so it is answered or refused within twice the time
of a call; what has waited longer, because others filled batches before it, is refused unsent. A batch that fails
fails its own requests and no other.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from attrition.errors import Fault, VariantUnavailable
from attrition.serving import row_batches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from attrition.serving.row_batches import Part

    Send = Callable[[bytes], Awaitable[bytes]]

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 3 * 1024 * 1024
"""Ray Serve's own limit between deployments is 4 MB."""


class _Request(NamedTuple):
    part: Part
    future: asyncio.Future[list[float]]
    deadline: float


class Batcher:
    """The line to one deployment, of one replica of the gateway; belongs to the event loop's thread.

    Parameters
    ----------
    send
        Sends a message of :mod:`~attrition.serving.row_batches` and returns the answer. Cancelled when it takes too
        long. Whatever it raises fails the batch.
    name
        What it leads to, for messages.
    max_batch_records
        Records in one call; a request that holds more goes alone.
    max_waiting_records
        Records that may wait.
    timeout_seconds
        Of a call.
    observe
        Called after each call with whether it was answered, and its number of records.

    Attributes
    ----------
    is_failing : bool
        The last call was not answered.
    """

    def __init__(
        self,
        send: Send,
        *,
        name: str,
        max_batch_records: int,
        max_waiting_records: int,
        timeout_seconds: float,
        observe: Callable[[bool, int], None] = lambda _answered, _n_records: None,
    ) -> None:
        self.name = name
        self._send = send
        self._max_batch = max_batch_records
        self._max_waiting = max_waiting_records
        self._timeout = timeout_seconds
        self._observe = observe
        self._waiting: deque[_Request] = deque()
        self._n_waiting = 0
        self._worker: asyncio.Task[None] | None = None
        self.is_failing = False

    @property
    def n_waiting(self) -> int:
        """Records that wait for the next call, without those under way."""
        return self._n_waiting

    def submit(self, part: Part) -> asyncio.Future[list[float]]:
        """The probabilities of a part's rows, to be awaited; cancelling it takes the part out of the line.

        Raises
        ------
        VariantUnavailable
            Too many records wait, or the part does not fit in a message. The future raises it when the deployment does
            not answer, or not in time.
        """
        if len(part.rows) > MAX_MESSAGE_BYTES:
            n = part.n_rows * MAX_MESSAGE_BYTES // len(part.rows)
            raise VariantUnavailable(Fault(self.name, f"takes {n} records at a time", remedy="send several requests"))
        if self._n_waiting and self._n_waiting + part.n_rows > self._max_waiting:
            raise VariantUnavailable(
                Fault(self.name, f"{self._n_waiting} records wait for it already", remedy="ask again later")
            )
        loop = asyncio.get_running_loop()
        request = _Request(part, loop.create_future(), loop.time() + self._timeout)
        self._waiting.append(request)
        self._n_waiting += part.n_rows
        if self._worker is None or self._worker.done():
            # not in the context of the request that happens to be first: Ray Serve would cancel everybody's batch when
            # that client leaves, and take the answer for an HTTP response
            self._worker = loop.create_task(self._work(), context=contextvars.Context())
        return request.future

    async def probe(self) -> None:
        """Return when the deployment answers.

        Raises
        ------
        VariantUnavailable
            It does not.
        """
        nobody = row_batches.encode(())
        loop = asyncio.get_running_loop()
        error = await loop.create_task(self._call(nobody, ()), context=contextvars.Context())
        if isinstance(error, VariantUnavailable):
            raise error

    async def drained(self) -> None:
        """Return when nothing waits and nothing is under way."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait((self._worker,))

    async def _work(self) -> None:
        batch: list[_Request] = []
        try:
            while self._waiting:
                batch = self._next_batch()
                if not batch:
                    continue
                parts = [request.part for request in batch]
                found = await self._call(row_batches.encode(parts), parts)
                self.is_failing = isinstance(found, VariantUnavailable)
                self._observe(not self.is_failing, sum(part.n_rows for part in parts))
                if isinstance(found, VariantUnavailable):
                    _refuse(batch, found)
                else:
                    for request, probabilities in zip(batch, found, strict=True):
                        if not request.future.done():
                            request.future.set_result(probabilities)
        finally:
            # only an end of the whole process gets here with requests left; nobody may wait for ever even then
            _refuse((*batch, *self._waiting), VariantUnavailable(Fault(self.name, "the replica stops")))
            self._waiting.clear()
            self._n_waiting = 0

    async def _call(self, message: bytes, parts: Sequence[Part]) -> list[list[float]] | VariantUnavailable:
        """Probabilities of each part, or why there are none."""
        try:
            async with asyncio.timeout(self._timeout):
                return row_batches.decode(await self._send(message), parts)
        except TimeoutError:
            return VariantUnavailable(
                Fault(self.name, f"did not answer within {self._timeout:g} s", remedy="ask again later")
            )
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Ray Serve's word for a call that was cancelled on the other side
            return VariantUnavailable(Fault(self.name, "gave up a batch", remedy="ask again"))
        except Exception as error:
            if not self.is_failing:  # once, not once for each batch of an hour
                logger.warning("%s fails batches", self.name, exc_info=error)
            return VariantUnavailable(Fault(self.name, "does not answer", remedy="ask again later"))

    def _next_batch(self) -> list[_Request]:
        """Requests of the next call, in the order of their arrival; without those that nobody waits for any more."""
        now = asyncio.get_running_loop().time()
        batch: list[_Request] = []
        n_records = n_bytes = 0
        while self._waiting:
            request = self._waiting[0]
            n, size = request.part.n_rows, len(request.part.rows)
            if batch and (n_records + n > self._max_batch or n_bytes + size > MAX_MESSAGE_BYTES):
                break
            self._waiting.popleft()
            self._n_waiting -= n
            if request.future.done():
                continue
            if request.deadline < now:
                late = Fault(self.name, f"did not come to it within {self._timeout:g} s", remedy="ask again later")
                _refuse((request,), VariantUnavailable(late))
                continue
            batch.append(request)
            n_records += n
            n_bytes += size
        return batch


def _refuse(requests: Iterable[_Request], error: VariantUnavailable) -> None:
    for request in requests:
        if not request.future.done():
            # each its own: raising one in many tasks would chain their traces
            request.future.set_exception(VariantUnavailable(error.faults))
