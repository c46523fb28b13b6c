"""The line to a placed variant: who shares a call, in which order, and what becomes of everybody when it fails."""

from __future__ import annotations

import asyncio
import contextvars
import struct

import pytest

from attrition.errors import VariantUnavailable
from attrition.serving import row_batches
from attrition.serving.batcher import MAX_MESSAGE_BYTES, Batcher
from attrition.serving.row_batches import Part


class Deployment:
    """Answers each row by itself, times ten; waits, fails and hangs when told to."""

    def __init__(self):
        self.calls = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = lambda _rows: False

    async def send(self, message):
        (n_parts,) = struct.unpack_from("<q", message)
        rows = [value for (value,) in struct.iter_unpack("<d", message[8 * (1 + n_parts) :])]
        self.calls.append(rows)
        await self.gate.wait()
        if self.fails(rows):
            raise RuntimeError("lost")
        return struct.pack(f"<{len(rows)}d", *(10 * value for value in rows))


def line(deployment, **limits):
    limits = {"max_batch_records": 100, "max_waiting_records": 1_000, "timeout_seconds": 5.0, **limits}
    return Batcher(deployment.send, name="version 1.0.0", **limits)


def alone(value):
    return Part.of([float(value)])


def matrix(*values):
    return Part(struct.pack(f"<{len(values)}d", *values), len(values))


async def outcome(future):
    try:
        return await future
    except VariantUnavailable as error:
        return str(error)


def test_nobody_waits_for_company():
    """A free line carries one record at once; what arrives meanwhile shares the next call, in order."""

    async def run():
        deployment = Deployment()
        batcher = line(deployment)
        deployment.gate.clear()
        first = batcher.submit(alone(1))
        await asyncio.sleep(0.01)
        others = [batcher.submit(part) for part in (alone(2), matrix(3, 4), alone(5))]
        assert batcher.n_waiting == 4
        deployment.gate.set()
        assert [await future for future in (first, *others)] == [[10.0], [20.0], [30.0, 40.0], [50.0]]
        assert deployment.calls == [[1.0], [2.0, 3.0, 4.0, 5.0]]

    asyncio.run(run())


def test_a_full_line_refuses_at_once():
    """What waits already is answered; the call under way does not count as waiting."""

    async def run():
        deployment = Deployment()
        batcher = line(deployment, max_waiting_records=3)
        deployment.gate.clear()
        under_way = batcher.submit(matrix(1, 2, 3, 4, 5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = batcher.submit(matrix(6, 7, 8))
        with pytest.raises(VariantUnavailable, match="3 records wait"):
            batcher.submit(alone(9))
        deployment.gate.set()
        assert [len(await future) for future in (under_way, waiting)] == [5, 3]
        assert await batcher.submit(alone(9)) == [90.0]

    asyncio.run(run())


def test_a_part_beyond_a_message_is_refused():
    """Before it waits, with the number that fits."""

    async def run():
        with pytest.raises(VariantUnavailable, match="records at a time"):
            line(Deployment()).submit(Part(bytes(MAX_MESSAGE_BYTES + 8), (MAX_MESSAGE_BYTES + 8) // 8))

    asyncio.run(run())


def test_nobody_waits_for_ever():
    """A call that hangs is given up; what waited too long behind it is refused unsent; then the line is free again."""

    async def run():
        deployment = Deployment()
        batcher = line(deployment, timeout_seconds=0.1, max_batch_records=1)
        deployment.gate.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await asyncio.gather(*(outcome(batcher.submit(alone(value))) for value in (1, 2, 3)))
        assert all("within 0.1 s" in one for one in found)
        assert loop.time() - began < 0.4
        assert len(deployment.calls) < 3
        deployment.gate.set()
        assert await batcher.submit(alone(4)) == [40.0]

    asyncio.run(run())


def test_a_cancelled_request_leaves_the_line():
    """It is not sent, its room is free, and its neighbours are answered."""

    async def run():
        deployment = Deployment()
        batcher = line(deployment)
        deployment.gate.clear()
        first = batcher.submit(alone(1))
        await asyncio.sleep(0.01)
        gone, kept = batcher.submit(alone(2)), batcher.submit(alone(3))
        first.cancel()
        gone.cancel()
        deployment.gate.set()
        assert await kept == [30.0]
        assert deployment.calls == [[1.0], [3.0]]

    asyncio.run(run())


def test_a_call_that_serve_cancels_fails_its_batch_alone():
    """Ray Serve says so by the exception with which asyncio ends tasks; the line goes on."""

    async def run():
        calls = []

        async def send(message):
            calls.append(message)
            if len(calls) == 1:
                raise asyncio.CancelledError
            return struct.pack("<d", 1.0)

        batcher = Batcher(send, name="v", max_batch_records=9, max_waiting_records=9, timeout_seconds=1)
        assert "gave up a batch" in await outcome(batcher.submit(alone(1)))
        assert await batcher.submit(alone(1)) == [1.0]

    asyncio.run(run())


def test_an_answer_of_another_length_is_none():
    """A deployment of another version cannot shift the probabilities of one person to the next."""

    async def run():
        async def send(_message):
            return struct.pack("<d", 1.0)

        batcher = Batcher(send, name="v", max_batch_records=9, max_waiting_records=9, timeout_seconds=1)
        assert "does not answer" in await outcome(batcher.submit(matrix(1, 2)))

    asyncio.run(run())


def test_calls_are_nobodys():
    """They do not run in the context of the request that came first: Serve would end them with that request."""
    request = contextvars.ContextVar("request", default="nobody")

    async def run():
        seen = []

        async def send(message):
            seen.append(request.get())
            return bytes(8 * (len(message) // 16))

        batcher = Batcher(send, name="v", max_batch_records=9, max_waiting_records=9, timeout_seconds=1)
        request.set("somebody")
        await batcher.submit(alone(1))
        await batcher.probe()
        assert seen == ["nobody", "nobody"]

    asyncio.run(run())


def test_the_end_of_the_process_leaves_nobody_waiting():
    """When the worker is cancelled, everybody who waits is told."""

    async def run():
        deployment = Deployment()
        batcher = line(deployment, max_batch_records=1)
        deployment.gate.clear()
        futures = [batcher.submit(alone(value)) for value in (1, 2)]
        await asyncio.sleep(0.01)
        batcher._worker.cancel()
        done, pending = await asyncio.wait(futures, timeout=1)
        assert not pending
        assert all(isinstance(future.exception(), VariantUnavailable) for future in done)

    asyncio.run(run())


def test_the_failures_of_a_line_are_logged_once(caplog):
    """A deployment that is down for an hour writes one line, and another after it was well in between."""

    async def run():
        deployment = Deployment()
        batcher = line(deployment)
        deployment.fails = lambda rows: rows[0] < 5
        for value in (1, 2, 3, 7, 4):
            await outcome(batcher.submit(alone(value)))

    asyncio.run(run())
    assert [record.message for record in caplog.records] == ["version 1.0.0 fails batches"] * 2


def test_a_probe_needs_no_rows():
    """It says whether the deployment answers."""

    async def run():
        deployment = Deployment()
        await line(deployment).probe()
        assert deployment.calls == [[]]
        deployment.fails = lambda _rows: True
        with pytest.raises(VariantUnavailable):
            await line(deployment).probe()

    asyncio.run(run())
    assert row_batches.encode(()) == bytes(8)
