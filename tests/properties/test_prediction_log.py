"""The prediction log under every order of appends, seals, commits, crashes and adoptions."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.serving.log_commit import Committer
from attrition.serving.log_entries import Predictions, Scored, doubles, encode
from attrition.serving.spool import MAGIC, Spool, frame, spools, unframe

payloads = st.lists(st.binary(min_size=1, max_size=50), max_size=8)


class Crash(Exception):
    """The process dies here."""


class FakeTable:
    """Rows and transactions in memory, changed together; can die before or after."""

    def __init__(self):
        self.ids = []
        self.numbers = {}
        self.crash = ""

    def committed(self, names):
        return {name: self.numbers.get(name, -1) for name in names}

    def append(self, rows, segments):
        self._die("before")
        assert all(number > self.numbers.get(spool, -1) for spool, number in segments.items())
        self.ids += rows["prediction_id"].to_pylist()
        self.numbers |= segments
        self._die("after")
        return True

    def _die(self, moment):
        if self.crash == moment:
            self.crash = ""
            raise Crash


def entry(prediction_id):
    group = Scored("1.0.0", "blue", 0.5, ("age",), [prediction_id], [None], ["sole"], doubles([0.3]), doubles([40.0]))
    return encode(Predictions(1, 1, [group]))


def kill(spool, n_torn):
    """End a process in the middle of writing one more entry, of which `n_torn` bytes arrived."""
    if n_torn:
        os.write(spool._fd, frame(entry("never answered"))[:n_torn])
    os.close(spool._fd)
    os.close(spool._owner)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 1)),
        st.tuples(st.just("seal"), st.integers(0, 1)),
        st.tuples(st.just("kill"), st.integers(0, 1), st.sampled_from([0, 1, 8, 40, 80])),
        st.tuples(st.just("commit"), st.sampled_from(["", "", "before", "after"])),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_every_answered_prediction_is_committed_exactly_once(plan):
    """Two replicas and a committer, any of which may die at any time."""
    with tempfile.TemporaryDirectory() as folder:
        root, table, answered = Path(folder), FakeTable(), []
        replicas = [Spool(root, max_bytes=10**6) for _ in range(2)]
        for step in plan:
            if step[0] == "append":
                answered.append(f"id-{len(answered)}")
                assert replicas[step[1]].append(entry(answered[-1]))
            elif step[0] == "seal":
                replicas[step[1]].seal()
            elif step[0] == "kill":
                kill(replicas[step[1]], step[2])
                replicas[step[1]] = Spool(root, max_bytes=10**6)
            else:
                table.crash = step[1]
                with contextlib.suppress(Crash):
                    Committer(root, table, None, max_bytes=600).run()
                table.crash = ""
            assert len(table.ids) == len(set(table.ids))
        for replica in replicas:
            replica.close()
        Committer(root, table, None).run()
        assert sorted(table.ids) == sorted(answered)
        assert spools(root) == []


@given(payloads, st.integers(0, 500))
def test_a_cut_segment_keeps_its_whole_entries(entries, length):
    """In order, and nothing that was not written."""
    data = MAGIC + b"".join(map(frame, entries))
    recovered = unframe(data[:length])
    assert recovered.payloads == entries[: len(recovered.payloads)]
    assert recovered.n_damaged == 0
    whole = len(MAGIC) + sum(len(frame(payload)) for payload in recovered.payloads)
    assert recovered.n_torn_bytes == max(0, min(length, len(data)) - whole) or length < len(MAGIC)


@given(payloads, st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_never_yields_another_entry(entries, position, change):
    """What is read was written."""
    data = bytearray(MAGIC + b"".join(map(frame, entries)))
    position = len(MAGIC) + position % max(1, len(data) - len(MAGIC))
    if position < len(data):
        data[position] ^= change
    assert set(unframe(bytes(data)).payloads) <= set(entries)
