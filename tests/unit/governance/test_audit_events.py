"""Events: what may be recorded, and what may not."""

from __future__ import annotations

import pytest

from attrition.errors import UsageError
from attrition.governance.actions import Action
from attrition.governance.audit_events import MAX_DETAIL_BYTES, Event, Outcome, person

PSEUDONYM = "9f" * 16


def event(action=Action.TRAIN, subject="run", outcome=Outcome.STARTED, **fields):
    return Event(action, subject, outcome, **fields)


def test_what_may_be_recorded():
    """Every action and outcome, texts in any script, JSON details, persons by pseudonym."""
    for action in Action:
        for outcome in Outcome:
            event(action, person(PSEUDONYM), outcome)
    event(subject="Größe 1.0.0 日本", justification="one\n\ttwo", details={"a": [1, 2.5, None, True, {"b": "c"}]})
    event(subject="s" * 256, actor="a" * 128, justification="j" * 2_000, client_address="::1", correlation="c" * 64)
    event(Action.ERASE, PSEUDONYM)
    event(Action.ERASE, person(PSEUDONYM + "-2"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "model.train"}, "action is no Action"),
        ({"outcome": "started"}, "outcome is no Outcome"),
        ({"subject": ""}, "subject is empty"),
        ({"subject": None}, "subject is no text"),
        ({"justification": " "}, "justification is empty"),
        ({"subject": "s" * 257}, "subject has 257 characters; at most 256"),
        ({"actor": "a\x1b[2J"}, "actor holds control characters"),
        ({"subject": "a\nb"}, "subject holds control characters"),
        ({"justification": "a\x00"}, "justification holds control characters"),
        ({"justification": "\ud800"}, "justification holds control characters"),
        ({"subject": "person:4217"}, "subject is a person, but no pseudonym"),
        ({"action": Action.ERASE, "subject": "E004217"}, "subject is a person, but no pseudonym"),
        ({"details": []}, "details are no mapping"),
        ({"details": {"x": float("nan")}}, "details are not JSON"),
        ({"details": {"x": 2**60}}, "details are not JSON"),
        ({"details": {1: "x"}}, "details are not JSON"),
        ({"details": {"x": object()}}, "details are not JSON"),
        ({"details": {"x": "\x1b"}}, "control characters"),
        ({"details": {"x\x07": 1}}, "control characters"),
        ({"details": {"x": "y" * MAX_DETAIL_BYTES}}, "at most 8192"),
        ({"details": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}}}, "nested too deeply"),
        ({"details": {"Employee_ID": 4217}}, "a person's data: employee_id"),
    ],
)
def test_what_may_not(fields, message):
    """Each with a reason."""
    with pytest.raises(UsageError, match=message):
        event(**fields)


def test_all_faults_come_at_once_and_without_the_values():
    """A justification may hold what must not be repeated anywhere."""
    with pytest.raises(UsageError) as caught:
        event(subject="secret" * 100, actor="secret\x00", details={"salary": "secret"})
    assert len(caught.value.faults) == 3
    assert "secret" not in str(caught.value)
