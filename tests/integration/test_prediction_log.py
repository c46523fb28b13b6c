"""The prediction log with real processes that are killed, and a real disk that fills up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from attrition.data.predictions import PredictionTable
from attrition.serving.log_commit import commit_orphans, has_committer, read_status
from attrition.serving.prediction_log import LogConfig
from attrition.serving.spool import spools
from attrition.settings import Settings

REPLICA = """
import sys
from attrition.serving.identifiers import new_prediction_id
from collections import namedtuple
from attrition.serving.prediction_log import LogConfig, PredictionLog
fields = "version variant threshold features prediction_ids employee_ids reasons probabilities matrix"
Scores = namedtuple("Scores", fields + " shadow_of", defaults=[()])
log = PredictionLog(LogConfig.model_validate_json(sys.argv[1])).start()
while True:
    ids = [new_prediction_id() for _ in range(3)]
    who, why = ["E1", 2, None], ["sticky"] * 3
    scores = Scores("1.0.0", "blue", 0.5, ("age", "salary"), ids, who, why, (0.3,) * 3, (1.0, 2.0) * 3)
    if log.append([scores], 120):
        sys.stdout.write("".join(f"{each}\\n" for each in ids))  # the answer
        sys.stdout.flush()
"""

FILL_UP = """
import json, os, time
def answer(n):
    scores = lambda: Scores("1", "b", 0.5, ("a",), [new_prediction_id()], [None], ["sole"], (0.5,), (1.0,))
    return sum(log.append([scores()], 1) for _ in range(n))
first = answer(5000)
time.sleep(0.3)
problems, dropped = log.health().problems, log.n_dropped
os.unlink(sys.argv[2] + "/tables")
os.system("mount -o remount,size=50m " + sys.argv[2])
time.sleep(0.3)
second = answer(100)
print(json.dumps([first, dropped, problems, second, log.close(30)]))
"""


@pytest.fixture
def config(tmp_path):
    settings = Settings.from_environment({}, home=tmp_path)
    return LogConfig.of(settings, seal_seconds=0.05, commit_seconds=0.1, max_segment_bytes=50_000)


def start(config, path):
    """A replica that answers as fast as it can, into the file at `path`."""
    with path.open("wb") as file:
        return subprocess.Popen([sys.executable, "-c", REPLICA, config.model_dump_json()], stdout=file)


def committers(config):
    """Process id of the committer, if one runs."""
    status = read_status(config.spool)
    return [status.pid] if status is not None and has_committer(config.spool) else []


def test_killed_processes_lose_and_double_nothing(config, tmp_path, record_property):
    """Replicas and committers end by ``kill -9`` at random moments; every answer is in the table exactly once."""
    rng = random.Random(4)
    answers = []
    for number in range(6):
        answers += [tmp_path / f"{number}-{part}.txt" for part in range(2)]
        replicas = [start(config, path) for path in answers[-2:]]
        deadline = time.monotonic() + 20
        while min(path.stat().st_size for path in answers[-2:]) < 4_000:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.7))
        if number % 2:
            for pid in committers(config):
                os.kill(pid, signal.SIGKILL)
            time.sleep(rng.uniform(0.0, 0.2))
        for replica in replicas:
            replica.send_signal(signal.SIGKILL)
            replica.wait()
    began = time.monotonic()
    while spools(config.spool) and time.monotonic() < began + 30:
        commit_orphans(config.spool, config.tables)  # what the last committer, when it was killed, could not take
        time.sleep(0.05)
    record_property("recovery_seconds", time.monotonic() - began)
    # a kill may fall between two lines of one answer: the last, incomplete one is no answer yet
    answered = [line for path in answers for line in path.read_text().split("\n")[:-1]]
    logged = PredictionTable(config.tables).between(columns=["prediction_id"])["prediction_id"]
    assert logged.is_unique
    assert set(answered) <= set(logged)
    # at most the one request per replica that was written and not answered any more
    assert len(logged) - len(answered) <= 3 * len(answers)
    assert spools(config.spool) == []


def test_the_committer_takes_what_a_killed_replica_leaves(config, tmp_path):
    """Without any replica that starts after it; then it ends."""
    replica = start(config, tmp_path / "answers.txt")
    deadline = time.monotonic() + 20
    while not committers(config) or (tmp_path / "answers.txt").stat().st_size < 4_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    replica.send_signal(signal.SIGKILL)
    replica.wait()
    while spools(config.spool) or has_committer(config.spool):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    answered = (tmp_path / "answers.txt").read_text().split("\n")[:-1]
    logged = PredictionTable(config.tables).between(columns=["prediction_id"])["prediction_id"]
    assert set(answered) <= set(logged)
    assert logged.is_unique


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(config, tmp_path):
    """Records are dropped and counted while it is full; whatever was taken arrives, once there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a disk")
    try:
        small = config.model_copy(
            update={"spool": disk / "spool", "tables": str(disk / "tables"), "commit_seconds": 9.0}
        )
        (disk / "tables").write_text("in the way")
        code = REPLICA.partition("while True")[0] + FILL_UP
        done = subprocess.run(
            [sys.executable, "-c", code, small.model_dump_json(), str(disk)], check=True, capture_output=True, text=True
        )
        first, dropped, problems, second, closed = json.loads(done.stdout)
        assert 0 < first < 5000
        assert first + dropped == 5000
        assert any("No space left on device" in problem for problem in problems)
        assert any("predictions are dropped" in problem for problem in problems)
        assert (second, closed) == (100, True)
        assert len(PredictionTable(small.tables).between(columns=["version"])) == first + second
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
