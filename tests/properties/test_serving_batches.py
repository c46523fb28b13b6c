"""Micro-batches of placed variants: nobody is lost, and nobody's probability depends on who shares the call."""

from __future__ import annotations

import asyncio
import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attrition.errors import VariantUnavailable
from attrition.scoring.format import FORMAT, LinearDocument, Logistic, NumericTerm
from attrition.scoring.linear import LinearScorer
from attrition.serving import row_batches
from attrition.serving.batcher import Batcher
from attrition.serving.row_batches import Part

N_FEATURES = 5
SCORER = LinearScorer(
    LinearDocument(
        format=FORMAT,
        features=tuple("abcde"),
        output=Logistic(slope=1.0, intercept=0.0),
        intercept=0.1,
        numeric=tuple(NumericTerm(feature=i, weight=0.3 / (i + 1), missing=0.05 * i) for i in range(N_FEATURES)),
        tables=(),
    )
)
NUMBER = st.floats(-1e6, 1e6) | st.just(float("nan"))
ROW = st.tuples(*[NUMBER] * N_FEATURES)


@given(st.lists(ROW | st.lists(ROW, min_size=1, max_size=20), max_size=12))
def test_the_bits_are_those_of_the_request_alone(requests):
    """A record alone as by score_one, several as by one matrix, whatever shares the message."""
    parts, expected = [], []
    for request in requests:
        if isinstance(request, tuple):
            parts.append(Part.of(request))
            expected.append([SCORER.score_one(request)])
        else:
            parts.append(Part.of(np.array(request, dtype=np.float64)))
            expected.append(SCORER.score(np.array(request, dtype=np.float64)).tolist())
    assert row_batches.decode(row_batches.score(SCORER, row_batches.encode(parts)), parts) == expected


class Deployment:
    """Answers each row by itself, times ten, or fails the batch that holds certain ones."""

    def __init__(self, failing):
        self.failing, self.calls = failing, []

    def fails(self, rows):
        return bool(self.failing & set(map(int, rows)))

    async def send(self, message):
        (n_parts,) = struct.unpack_from("<q", message)
        rows = [value for (value,) in struct.iter_unpack("<d", message[8 * (1 + n_parts) :])]
        self.calls.append(rows)
        await asyncio.sleep(0)
        if self.fails(rows):
            raise RuntimeError("lost")
        return struct.pack(f"<{len(rows)}d", *(10 * value for value in rows))


@given(
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=40),
    limit=st.integers(1, 10),
    cancelled=st.sets(st.integers(0, 39), max_size=10),
    failing=st.sets(st.integers(0, 60), max_size=3),
    pauses=st.sets(st.integers(0, 39), max_size=10),
)
def test_no_record_is_lost(sizes, limit, cancelled, failing, pauses):
    """Every request gets its own answers or one refusal; calls are bounded and in order; only failed ones refuse."""

    async def run():
        deployment = Deployment(failing)
        calls = deployment.calls
        batcher = Batcher(
            deployment.send, name="v", max_batch_records=limit, max_waiting_records=1_000, timeout_seconds=5
        )
        futures, values, sent = [], [], 0
        for number, size in enumerate(sizes):
            rows = [float(sent + k) for k in range(size or 1)]
            sent += len(rows)
            values.append(rows)
            futures.append(batcher.submit(Part(struct.pack(f"<{len(rows)}d", *rows), size)))
            if number in pauses:
                await asyncio.sleep(0)
        for number in cancelled & set(range(len(futures))):
            futures[number].cancel()
        await batcher.drained()
        assert batcher.n_waiting == 0
        broken = [rows for rows in calls if deployment.fails(rows)]
        for future, rows in zip(futures, values, strict=True):
            if future.cancelled():
                continue
            if any(set(rows) <= set(call) for call in broken):
                assert isinstance(future.exception(), VariantUnavailable)
            else:
                assert future.result() == [10 * value for value in rows]
        called = [value for rows in calls for value in rows]
        assert called == sorted(set(called))
        starts = {rows[0]: len(rows) for rows in values}
        assert all(len(rows) <= max(limit, starts[rows[0]]) for rows in calls)

    asyncio.run(run())
