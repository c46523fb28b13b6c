"""The log of a replica: what is written, what is dropped, and what it says about itself."""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest

from attrition.data.predictions import PredictionTable
from attrition.errors import ConfigError
from attrition.governance.privacy import PseudonymKey
from attrition.serving.committer_process import CommitterProcess
from attrition.serving.log_commit import exclusive
from attrition.serving.log_entries import Outcome
from attrition.serving.prediction_log import LogConfig, PredictionLog
from attrition.serving.spool import spools
from attrition.settings import Settings

Scores = namedtuple(
    "Scores",
    "version variant threshold features prediction_ids employee_ids reasons probabilities matrix shadow_of",
    defaults=[()],
)


@pytest.fixture
def config(tmp_path):
    settings = Settings.from_environment({}, home=tmp_path)
    return LogConfig.of(settings, seal_seconds=0.02, commit_seconds=0.05)


@pytest.fixture
def open_log(config):
    """Function that opens a log, closed at the end of the test."""
    logs = []

    def make(**fields):
        logs.append(PredictionLog(config.model_copy(update=fields)))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


def scores(*employee_ids, values=(40.0, math.nan)):
    """Predictions of one version, one per employee."""
    n = len(employee_ids)
    ids = [f"id-{number}" for number in range(n)]
    return Scores("1.0.0", "blue", 0.5, ("age", "salary"), ids, employee_ids, ["sticky"] * n, [0.75] * n, values * n)


def until(condition, timeout_seconds=20.0):
    """Wait for something that another thread or process does."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_answer_is_on_disk_at_once(open_log, config):
    """Before anything else of the log runs."""
    log = open_log()
    assert log.append([scores("E1")], 120)
    (segment,) = spools(config.spool)[0].glob("*.open")
    assert b"id-0" in segment.read_bytes()


def test_ids_are_pseudonyms_everywhere(open_log, config):
    """A raw id is neither in the spool nor in the table; a pseudonym stays what it is."""
    key = PseudonymKey.load_or_create(config.key_file)
    log = open_log().start()
    log.append([scores("EMPLOYEE-4217", 4218, 4219.0, key.pseudonym("E5"), None)], 120)
    content = b"".join(path.read_bytes() for path in config.spool.rglob("*") if path.is_file())
    assert b"EMPLOYEE-4217" not in content
    assert log.close()
    assert PredictionTable(config.tables).between()["employee_id"].fillna("").tolist() == [
        *map(key.pseudonym, ["EMPLOYEE-4217", "4218", "4219", "E5"]),
        "",
    ]


def test_everything_is_in_the_table_some_moments_later(open_log, config):
    """Without closing; and the spool is empty again."""
    log = open_log().start()
    for number in range(50):
        log.append([scores(f"E{number}")], 120)
    table = PredictionTable(config.tables)
    until(lambda: table.committed(["x"]) and log.health().n_records == 50 and not log._spool.backlog())
    log.append([scores("late")], 120)
    assert log.close()
    assert len(table.between()) == 51
    assert spools(config.spool) == []


def test_versions_of_one_request_are_one_record(open_log, config):
    """All of a request or nothing."""
    log = open_log().start()
    matrix = np.array([[1.0, 2.0, math.nan]] * 2)
    second = Scores("2.0.0", "green", 0.5, ("a", "b", "c"), ["x", "y"], [None] * 2, ["random"] * 2, np.ones(2), matrix)
    log.append([scores("E1"), second], 120)
    assert log.close()
    rows = PredictionTable(config.tables).between()
    assert sorted(rows["version"]) == ["1.0.0", "2.0.0", "2.0.0"]
    assert rows["feature_c"].isna().all()
    assert rows["feature_b"].sum() == 4.0


def test_a_full_spool_drops_counts_and_says_so(open_log):
    """Scoring goes on; readiness knows."""
    log = open_log(max_spool_bytes=4096)
    written = [log.append([scores("E1", "E2")], 120) for _ in range(40)]
    assert 0 < sum(written) < 40
    assert (log.n_records, log.n_dropped) == (2 * sum(written), 2 * (40 - sum(written)))
    assert not log.append_outcomes([Outcome("p", None, None)] * 10, "api")
    log._tick()
    assert not log.health().ok
    assert f"predictions are dropped ({log.n_dropped} since the start)" in log.health().problems


def test_a_table_that_cannot_be_reached_is_reported(open_log, config, tmp_path):
    """Records wait in the spool and arrive when it can."""
    (tmp_path / "tables").write_text("in the way")
    log = open_log().start()
    log.append([scores("E1")], 120)
    until(lambda: any("predictions: the table cannot be" in problem for problem in log.health().problems))
    assert log.health().spool_bytes > 0
    (tmp_path / "tables").unlink()
    until(lambda: log.health().ok)
    log.close()
    assert len(PredictionTable(config.tables).between()) == 1


def test_a_committer_that_does_not_come_is_reported(open_log, config):
    """For instance because another process holds its lock and hangs."""
    with exclusive(config.spool):
        log = open_log().start()
        log.append([scores("E1")], 120)
        until(lambda: any("nothing was committed" in problem for problem in log.health().problems))


def test_a_disk_that_refuses_does_not_keep_a_replica_from_starting(open_log, config):
    """It scores, drops, and tries again."""
    config.spool.write_text("in the way")
    log = open_log()
    assert not log.append([scores("E1")], 120)
    with pytest.raises(OSError, match="exists"):
        CommitterProcess(config.spool, config.tables, 1.0).ensure()
    log._tick()
    assert any("the spool cannot be written" in problem for problem in log.health().problems)
    config.spool.unlink()
    log._tick()
    assert log.append([scores("E1")], 120)


def test_a_missing_key_is_a_mistake_of_the_deployment(config):
    """A replica does not start without it, and makes none."""
    config.key_file.unlink()
    with pytest.raises(ConfigError, match="there is no pseudonym key"):
        PredictionLog(config)


def test_troubles_are_logged_once_and_without_values(open_log, caplog):
    """When they begin and when they end."""
    log = open_log(max_spool_bytes=4096)
    with caplog.at_level(logging.WARNING):
        for _ in range(60):
            log.append([scores("SECRET", values=(123456.0, 654321.0))], 120)
        for _ in range(3):
            log._tick()
        log._dropped_at = -math.inf
        log._tick()
    assert [record.message.split(":")[0].split(";")[0] for record in caplog.records] == [
        "The prediction log is degraded",
        "The prediction log is well again",
    ]
    assert not any(value in caplog.text for value in ("SECRET", "123456", "654321"))


def test_gauges_hear_of_every_tick(config):
    """From the log's own thread."""
    heard = []
    log = PredictionLog(config, on_health=heard.append).start()
    log.append([scores("E1", "E2")], 120)
    until(lambda: any(health.n_records == 2 for health in heard))
    log.close()
    log.close()
    assert heard[-1].to_dict()["status"] == "ok"


def test_replicas_of_a_node_share_one_committer(open_log, config):
    """And the one that did not start it may end first or last."""
    first, second = open_log().start(), open_log().start()
    first.append([scores("E1")], 120)
    second.append([scores("E2")], 120)
    until(lambda: (first._committer.pid is None) != (second._committer.pid is None))
    assert first.close()
    second.append([scores("E3")], 120)
    assert second.close()
    assert len(PredictionTable(config.tables).between()) == 3
    assert spools(config.spool) == []


def test_a_committer_that_is_killed_is_replaced(open_log, config):
    """With nothing lost and nothing doubled."""
    log = open_log().start()
    log.append([scores("E1")], 120)
    until(lambda: log._committer.pid is not None)
    killed = log._committer.pid
    os.kill(killed, 9)
    until(lambda: log._committer.pid not in {None, killed})
    log.append([scores("E2")], 120)
    assert log.close()
    assert len(PredictionTable(config.tables).between()) == 2


def test_a_replica_loads_no_table_library(config):
    """Its start and its memory do not pay for the commits."""
    code = (
        "import sys, pathlib\n"
        "from collections import namedtuple\n"
        "from attrition.serving.prediction_log import LogConfig, PredictionLog\n"
        f"Scores = namedtuple('Scores', {Scores._fields!r}, defaults=[()])\n"
        f"log = PredictionLog(LogConfig.model_validate_json({config.model_dump_json()!r})).start()\n"
        "log.append([Scores('1', 'b', .5, ('a',), ['i'], ['E1'], ['sole'], (.5,), (1.,))], 1)\n"
        "assert log.close()\n"
        "print([name for name in ('deltalake', 'pyarrow', 'pandas', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert len(PredictionTable(config.tables).between()) == 1
    shutil.rmtree(config.tables)
