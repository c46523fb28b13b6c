"""The study on disk."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from attrition.errors import ConfigError, UsageError
from attrition.training.study import Study, Trial, TrialStatus, best_trial

IDENTITY = {"plan": "a" * 64, "data": "b" * 64}


def trial(number, *scores, status=TrialStatus.COMPLETE):
    return Trial(number, "logistic_regression", {"C": 0.1 + number, "class_weight": None}, scores, status, 1.5)


def test_a_resumed_study_has_the_trials_and_the_run(tmp_path):
    """Exactly as they were recorded."""
    with Study(tmp_path, IDENTITY) as study:
        study.bind_run("run-1")
        study.append(trial(0, 0.7, 0.8))
        study.append(trial(1, 0.1 + 0.2, status=TrialStatus.PRUNED))
    with Study(tmp_path, IDENTITY, resume=True) as resumed:
        assert resumed.trials == [trial(0, 0.7, 0.8), trial(1, 0.1 + 0.2, status=TrialStatus.PRUNED)]
        assert resumed.run_id == "run-1"


def test_a_new_study_starts_over(tmp_path):
    """Without resume nothing is left of the former one."""
    with Study(tmp_path, IDENTITY) as study:
        study.bind_run("run-1")
        study.append(trial(0, 0.7))
    with Study(tmp_path, IDENTITY) as fresh:
        assert fresh.trials == []
        assert fresh.run_id == ""
    with Study(tmp_path, IDENTITY, resume=True) as resumed:
        assert resumed.trials == []


def test_resume_without_a_study_starts_one(tmp_path):
    """A job that is restarted may always ask to resume."""
    with Study(tmp_path / "new", IDENTITY, resume=True) as study:
        assert study.trials == []


def test_a_line_cut_off_by_a_kill_is_dropped_and_the_next_one_is_whole(tmp_path):
    """The rest of the journal stays."""
    with Study(tmp_path, IDENTITY) as study:
        study.bind_run("run-1")
        study.append(trial(0, 0.7))
    with (tmp_path / "trials.jsonl").open("a") as journal:
        journal.write('{"number": 1, "fam')
    with Study(tmp_path, IDENTITY, resume=True) as resumed:
        assert [t.number for t in resumed.trials] == [0]
        resumed.append(trial(2, 0.9))
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 2]


def test_a_study_of_something_else_is_not_resumed(tmp_path):
    """It names what differs, and leaves the study alone."""
    with Study(tmp_path, IDENTITY) as study:
        study.bind_run("run-1")
        study.append(trial(0, 0.7))
    with pytest.raises(ConfigError, match=r"another data .bbbbbbbbbbbb.") as caught:
        Study(tmp_path, {**IDENTITY, "data": "c" * 64}, resume=True)
    assert len(caught.value.faults) == 1
    with Study(tmp_path, IDENTITY, resume=True) as resumed:
        assert len(resumed.trials) == 1


def test_two_searches_cannot_write_one_study(tmp_path):
    """The second is refused while the first lives, whatever process it is in."""
    code = (
        "import sys, pathlib\nfrom attrition.training.study import Study\n"
        "study = Study(pathlib.Path(sys.argv[1]), {})\nprint('open', flush=True)\nsys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UsageError, match="another search is running"):
            Study(tmp_path, {})
        other.kill()
    with Study(tmp_path, {}) as study:
        assert study.trials == []


def test_the_best_trial_ran_all_folds():
    """A pruned trial's mean is of other folds; among equals the earlier wins."""
    trials = [
        trial(0, 0.7, 0.7),
        trial(1, 0.99, status=TrialStatus.PRUNED),
        trial(2, 0.8, 0.8),
        trial(3, 0.8, 0.8),
        trial(4, status=TrialStatus.FAILED),
    ]
    assert best_trial(trials).number == 2
    assert best_trial(trials[1:2]) is None
