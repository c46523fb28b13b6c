"""Lines to those who are told how a rollout goes."""

from __future__ import annotations

import threading

import pytest
from rollout_world import rollout

from attrition.errors import PlatformError
from attrition.release import rollout_reports
from attrition.release.rollout_reports import Listener, Reports

STEP = [rollout(step=step) for step in range(4)]


def steps_told(told):
    return Listener(lambda each: each.step, lambda each: told.append(each.step))


def test_everybody_is_told_once_and_knows_the_end():
    """What was overtaken while somebody was being told is left out."""
    told, began, goes_on = [], threading.Event(), threading.Event()

    def tell(each):
        began.set()
        assert goes_on.wait(10)
        told.append(each.step)

    reports = Reports(Listener(lambda each: each.step, tell))
    reports.take(STEP[0])
    assert began.wait(10)
    for each in (STEP[1], STEP[2], STEP[3], STEP[3]):
        reports.take(each)
    goes_on.set()
    reports.close()
    assert told == [0, 3]


@pytest.mark.parametrize("error", [PlatformError("no answer"), KeyError("a bug")])
def test_who_does_not_answer_is_tried_again_and_keeps_nothing_from_others(error, monkeypatch, caplog):
    """Later, and once more at the end."""
    monkeypatch.setattr(rollout_reports, "RETRY_SECONDS", 3_600.0)
    told, tries = [], []

    def tell(each):
        tries.append(each.step)
        if len(tries) == 1:
            raise error

    reports = Reports(Listener(lambda each: each.step, tell), steps_told(told))
    reports.take(STEP[0])
    while not (tries and told):
        pass
    reports._lines[0]._under_way.result()
    reports.take(STEP[1])  # not yet
    reports.close()
    assert tries == [0, 1]
    assert told[-1] == 1
    assert caplog.records


def test_without_a_rollout_nobody_is_told():
    """A controller that found none."""
    told = []
    Reports(steps_told(told)).close()
    assert told == []
