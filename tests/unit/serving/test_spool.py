"""Spools: what was appended can be read, whatever happened to the process or the disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attrition.errors import IntegrityError
from attrition.serving.spool import MAGIC, Spool, adopt, frame, sealed, spools, unframe

GOLDEN = Path(__file__).parent / "golden" / "segment-1.log"


def contents(folder):
    """Payloads of all sealed segments of a spool."""
    return [payload for segment in sealed(folder) for payload in unframe(segment.path.read_bytes()).payloads]


def abandon(spool):
    """What is left when the process is killed: the lock is free, the active segment as it was."""
    os.close(spool._owner)
    spool._owner = -1
    os.close(spool._fd)


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path, max_bytes=10_000)
    yield made
    made.close()


def test_appended_payloads_are_sealed_in_order(spool):
    """Each seal hands a segment over; an empty one stays."""
    assert spool.append(b"one")
    assert spool.append(b"two")
    assert spool.seal()
    assert not spool.seal()
    assert spool.append(b"three")
    assert spool.seal()
    assert [segment.number for segment in spool.backlog()] == [1, 2]
    assert contents(spool.folder) == [b"one", b"two", b"three"]


def test_files_are_for_their_owner_only(spool):
    """They hold records about persons."""
    spool.append(b"one")
    spool.seal()
    assert {path.stat().st_mode & 0o077 for path in (spool.folder, *spool.folder.iterdir())} == {0}


def test_a_full_spool_refuses_and_recovers_when_segments_go(spool):
    """The bound counts what is sealed as well."""
    while spool.append(b"x" * 1000):
        pass
    spool.seal()
    assert sum(segment.n_bytes for segment in spool.backlog()) <= 10_000
    assert spool.n_bytes <= 10_100
    assert not spool.append(b"x" * 1000)
    for segment in spool.backlog():
        segment.path.unlink()
    spool.backlog()
    assert spool.append(b"x" * 1000)
    assert spool.error is None


def test_a_closed_spool_is_adopted(tmp_path, spool):
    """Its active segment counts as sealed, and the folder goes when it is empty."""
    spool.append(b"one")
    with adopt(spool.folder) as is_ours:
        assert not is_ours
    spool.close()
    spool.close()
    assert not spool.append(b"late")
    with adopt(spool.folder) as is_ours:
        assert is_ours
        assert contents(spool.folder) == [b"one"]
        with adopt(spool.folder) as is_theirs:
            assert not is_theirs
        for segment in sealed(spool.folder):
            segment.path.unlink()
    assert spools(tmp_path) == []
    with adopt(spool.folder) as is_ours:
        assert not is_ours


def test_a_spool_that_held_nothing_leaves_nothing(tmp_path, spool):
    """A replica that never answered needs no committer."""
    assert spools(tmp_path) == [spool.folder]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_loses_nothing_that_was_appended(tmp_path):
    """Only the frame that it was writing is torn, and that is counted."""
    spool = Spool(tmp_path, max_bytes=10_000)
    spool.append(b"one")
    os.write(spool._fd, frame(b"half written")[:-3])
    abandon(spool)
    with adopt(spool.folder) as is_ours:
        assert is_ours
        (segment,) = sealed(spool.folder)
        recovered = unframe(segment.path.read_bytes())
    assert recovered.payloads == [b"one"]
    assert (recovered.n_torn_bytes, recovered.n_damaged) == (8 + len(b"half written") - 3, 0)


def test_an_unwritable_disk_is_survived(tmp_path):
    """A file size limit stands for a full disk: a part of a frame is written, then nothing; the rest stays readable."""
    code = f"""
import resource
from pathlib import Path
from attrition.serving.spool import Spool, sealed, unframe
spool = Spool(Path({str(tmp_path)!r}), max_bytes=10**6)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
taken = [number for number in range(20) if spool.append(bytes([number + 1]) * 700)]
assert taken == list(range(7)), taken
assert spool.error is not None
assert not spool.append(b"y" * 700)
assert spool.seal()
assert spool.append(b"z" * 700) and spool.error is None
spool.seal()
read = [p for s in sealed(spool.folder) for p in unframe(s.path.read_bytes()).payloads]
assert read == [bytes([number + 1]) * 700 for number in taken] + [b"z" * 700]
assert all(unframe(s.path.read_bytes()).n_torn_bytes == 0 for s in sealed(spool.folder))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_disk_that_does_not_confirm_costs_no_descriptor(spool, monkeypatch):
    """Every second another segment is sealed: each must be closed, whatever the disk says."""

    def refuse(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool.append(b"one")
    spool.seal()
    n_open = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fsync", refuse)
    spool.append(b"two")
    with pytest.raises(OSError, match="Input/output"):
        spool.seal()
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


def test_a_segment_that_breaks_is_left_behind(spool):
    """When even cutting off fails, nothing is taken until the next segment."""
    spool.append(b"one")
    os.close(spool._fd)
    assert not spool.append(b"two")
    assert spool.error is not None
    assert not spool.append(b"three")
    assert spool.seal()
    assert spool.append(b"four")
    spool.seal()
    assert contents(spool.folder) == [b"one", b"four"]


def test_a_changed_byte_costs_one_frame():
    """In the middle it is damage, at the end a torn frame."""
    data = bytearray(MAGIC + frame(b"first") + frame(b"second") + frame(b"third"))
    data[len(MAGIC) + len(frame(b"first")) + 9] ^= 1
    recovered = unframe(bytes(data))
    assert recovered.payloads == [b"first", b"third"]
    assert (recovered.n_torn_bytes, recovered.n_damaged) == (0, 1)
    data[-1] ^= 1
    recovered = unframe(bytes(data))
    assert recovered.payloads == [b"first"]
    assert (recovered.n_torn_bytes, recovered.n_damaged) == (len(frame(b"third")), 1)


def test_zeros_after_a_power_failure_are_no_frames():
    """A file may end in a run of zero bytes."""
    recovered = unframe(MAGIC + frame(b"first") + bytes(100))
    assert recovered.payloads == [b"first"]
    assert recovered.n_torn_bytes == 100


def test_another_format_is_refused():
    """A later version's segment must not be taken for an empty one."""
    with pytest.raises(IntegrityError, match="unknown format"):
        unframe(MAGIC.replace(b"1", b"2") + frame(b"first"))
    assert unframe(MAGIC[:5]).n_torn_bytes == 5


def test_the_first_format_stays_readable():
    """A golden segment of two entries."""
    assert unframe(GOLDEN.read_bytes()).payloads[0].startswith(b"\x94\xa1p")
    assert len(unframe(GOLDEN.read_bytes()).payloads) == 2
