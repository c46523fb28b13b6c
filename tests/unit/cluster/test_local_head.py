"""Which processes and folders belong to a background Ray, told without starting one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attrition.cluster import processes
from attrition.cluster.environment import is_own_folder, new_folder
from attrition.cluster.local_head import RECORD, find_local_head, start_local_head, stop_local_head
from attrition.errors import PlatformError
from attrition.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups")

WAIT = "import sys; sys.stdin.read()"
WITH_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {WAIT!r}])"
WITH_ORPHAN = f"""
import subprocess, sys
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAIT!r}])"
subprocess.run([sys.executable, '-c', middle])
sys.stdin.read()
"""


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({}, home=tmp_path)


@pytest.fixture
def folder(monkeypatch):
    """A folder as a head has it, and a file in it."""
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    path = new_folder()
    (path / "file").write_text("")
    yield path
    (path / "file").unlink(missing_ok=True)
    if path.exists():
        path.rmdir()


@pytest.fixture
def start():
    """Starts Python programs that wait, in sessions of their own, and ends what the test has left of them."""
    started = []

    def start_program(*arguments, program=WAIT):
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        # for a moment after its start the system does not know its command line
        until(lambda: processes.running()[process.pid].arguments[3:] == arguments)
        return process

    yield start_program
    for process in started:
        process.kill()
        process.communicate()


def record(settings, **fields):
    settings.home.mkdir(parents=True, exist_ok=True)
    document = {"address": "127.0.0.1:1", "dashboard_url": "http://127.0.0.1:2", **fields}
    (settings.home / RECORD).write_text(json.dumps(document))


def until(holds, timeout_seconds=10.0):
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + timeout_seconds
    while not (held := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return held


def members(session, n):
    """The processes of a session, as soon as there are `n` with their command lines."""

    def all_there():
        found = processes.family(processes.running(), (), session=session)
        return found if len(found) == n and all(len(process.arguments) > 2 for process in found.values()) else None

    return until(all_there)


@pytest.mark.parametrize("program", [WITH_CHILD, WITH_ORPHAN], ids=["child", "orphan"])
def test_a_head_ends_with_its_family_and_its_folder(settings, folder, start, program, monkeypatch):
    """Its children, and those whose parent went before: they keep the session."""
    monkeypatch.setattr("attrition.cluster.local_head.STOP_TIMEOUT_SECONDS", 1.0)  # these do not end by themselves
    head = start(f"--temp-dir={folder}", program=program)
    family = members(head.pid, 2)
    record(settings, pid=head.pid, folder=str(folder))
    assert find_local_head(settings).pid == head.pid
    assert stop_local_head(settings)
    assert processes.alive(family) == {}
    assert not folder.exists()
    assert not (settings.home / RECORD).exists()


def test_what_fails_meanwhile_ends_the_start(settings):
    """Whoever starts a head and then finds out that there is nothing to serve leaves none behind."""
    begun = []

    def meanwhile():
        begun.append(find_local_head(settings))
        raise LookupError

    with pytest.raises(LookupError):
        start_local_head(settings, meanwhile=meanwhile)
    (head,) = begun
    assert head.pid not in processes.running()
    assert not Path(head.folder).exists()
    assert not (settings.home / RECORD).exists()


def test_an_innocent_process_that_names_the_folder_is_left_alone(settings, folder, start):
    """Neither as the recorded process, nor beside the real head: an editor, a search, a backup of the folder."""
    innocents = [
        start(str(folder / "file")),
        start(f"--exclude=--temp-dir={folder}"),
        start(f"--temp-dir={folder}/logs"),
        start(f"--temp-dir={folder}"),
    ]
    for innocent in innocents[:3]:
        record(settings, pid=innocent.pid, folder=str(folder))
        assert find_local_head(settings) is None
        assert not stop_local_head(settings)
    head = start(f"--temp-dir={folder}")
    record(settings, pid=head.pid, folder=str(folder))
    assert stop_local_head(settings)
    assert head.wait(5) is not None
    assert [innocent.poll() for innocent in innocents] == [None] * 4


@pytest.mark.parametrize(
    "fields",
    [{"folder": ""}, {}, {"folder": None}, {"folder": "/tmp/attrition-x", "pid": "1"}, {"folder": "/", "pid": -1}],
    ids=["empty folder", "no folder", "null folder", "text as id", "negative id"],
)
def test_a_record_that_lacks_something_is_no_head(settings, start, fields):
    """An empty folder is named by every command line."""
    bystander = start("--temp-dir=")
    record(settings, **{"pid": bystander.pid, **fields})
    assert find_local_head(settings) is None
    assert not stop_local_head(settings)
    assert bystander.poll() is None


def test_a_folder_of_another_kind_is_never_touched(settings, start, tmp_path):
    """The record names a folder with somebody's work in it, and even a process that was started with it."""
    work = tmp_path / "attrition-thesis"
    work.mkdir()
    (work / "chapter").write_text("")
    process = start(f"--temp-dir={work}")
    record(settings, pid=process.pid, folder=str(work))
    with pytest.raises(PlatformError, match="RAY_TMPDIR as it was at the start"):
        stop_local_head(settings)
    assert process.poll() is None
    assert (work / "chapter").exists()


def test_own_folders(folder, monkeypatch, tmp_path):
    """Named and placed as they are made, this user's, and no link to somewhere else."""
    assert is_own_folder(str(folder))
    assert is_own_folder("/tmp/attrition-gone")
    for path in ("", "/", "/tmp", "/tmp/other", "/tmp/attrition-x/y", "/tmp/attrition-x/../../home", "attrition-x"):
        assert not is_own_folder(path), path
    link = Path(f"{folder}-link")
    link.symlink_to(tmp_path)
    try:
        assert not is_own_folder(str(link))
    finally:
        link.unlink()
    monkeypatch.setenv("RAY_TMPDIR", f"{tmp_path}/")
    assert is_own_folder(str(tmp_path / "attrition-x"))
    monkeypatch.setattr("attrition.cluster.environment.this_user", lambda: os.getuid() + 1)
    assert not is_own_folder(str(folder))


def test_processes_are_told_alike_by_proc_and_by_ps(start):
    """macOS has no /proc."""
    program = start("--temp-dir=/tmp/attrition-x")
    by_proc, by_ps = processes._from_proc()[program.pid], processes._from_ps()[program.pid]
    assert by_proc.parent == by_ps.parent == os.getpid()
    assert by_proc.session == by_ps.session == program.pid
    assert by_proc.user == by_ps.user == os.getuid()
    assert by_proc.arguments[-1] == by_ps.arguments[-1] == "--temp-dir=/tmp/attrition-x"


def test_without_ps_a_linux_does_not_notice(settings, folder, start, monkeypatch, tmp_path):
    """Slim images have none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    head = start(f"--temp-dir={folder}")
    record(settings, pid=head.pid, folder=str(folder))
    assert find_local_head(settings) is not None
    assert stop_local_head(settings)


def test_neither_proc_nor_ps(monkeypatch, tmp_path):
    """One sentence instead of a traceback."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    with pytest.raises(PlatformError, match="install ps"):
        processes.running()


def test_an_ended_process_that_nobody_has_collected_counts_as_ended(start):
    """A zombie runs no more."""
    program = start()
    (me,) = members(program.pid, 1).values()
    program.stdin.close()
    until(lambda: program.pid not in processes.running())
    assert processes.alive({program.pid: me}) == {}
