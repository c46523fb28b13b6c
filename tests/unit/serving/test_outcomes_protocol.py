"""``POST /v1/outcomes``: what is accepted, and every fault of a body at once."""

from __future__ import annotations

import json

import pytest

from attrition.governance.identity import Pseudonymiser
from attrition.governance.privacy import PseudonymKey
from attrition.serving.log_entries import Outcome
from attrition.serving.protocols import outcomes
from attrition.serving.protocols.problems import Problem

NOON = 1_711_886_400_000_000  # 2024-03-31T12:00:00Z
KEY = PseudonymKey(bytes(range(32)))


class FakeLog:
    """Remembers what it is given."""

    def __init__(self):
        self.batches = []
        self.has_room = True
        self.pseudonym = Pseudonymiser(KEY)

    def append_outcomes(self, batch, source):
        self.batches.append((source, batch))
        return self.has_room


@pytest.fixture
def log():
    return FakeLog()


def post(log, document):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return outcomes.receive(log, body, now_us=NOON)


def faults(answer):
    assert isinstance(answer, Problem)
    return {error.pointer: error.detail for error in answer.errors}


def test_outcomes_are_written_with_pseudonyms(log):
    """In the order sent, times in UTC."""
    answer = post(
        log,
        {
            "outcomes": [
                {"employee_id": "E1", "left_on": "2024-03-01"},
                {"employee_id": 2, "left_on": None, "observed_at": "2024-03-31T14:00:00+02:00"},
                {"employee_id": KEY.pseudonym("E3"), "left_on": None, "observed_at": None},
            ]
        },
    )
    assert json.loads(answer) == {"accepted": 3}
    assert log.batches == [
        (
            "api",
            [
                Outcome(KEY.pseudonym("E1"), "2024-03-01", None),
                Outcome(KEY.pseudonym("2"), None, NOON),
                Outcome(KEY.pseudonym("E3"), None, None),
            ],
        )
    ]


def test_every_fault_is_named_and_nothing_is_written(log):
    """By pointer, without the values."""
    answer = post(
        log,
        {
            "outcomes": [
                {"employee_id": "E1"},
                {"left_on": "31.03.2024"},
                {"employee_id": True, "left_on": 20240331, "observed_at": "2024-03-31"},
                {"employee_id": "  ", "left_on": "2024-02-30", "observed_at": "2024-04-01T00:00:00Z"},
                {"employee_id": 1.5, "left_on": None, "left": 1},
                "E9",
            ],
            "source": "me",
        },
    )
    assert answer.status == 422
    found = faults(answer)
    assert list(found) == [
        "/source",
        "/outcomes/0/left_on",
        "/outcomes/1/employee_id",
        "/outcomes/1/left_on",
        "/outcomes/2/employee_id",
        "/outcomes/2/left_on",
        "/outcomes/2/observed_at",
        "/outcomes/3/employee_id",
        "/outcomes/3/left_on",
        "/outcomes/3/observed_at",
        "/outcomes/4/left",
        "/outcomes/4/employee_id",
        "/outcomes/5",
    ]
    assert found["/outcomes/0/left_on"] == "is required; null says that the person is still employed"
    assert found["/outcomes/3/observed_at"] == "lies in the future; give when it was observed"
    assert "31.03.2024" not in str(found)
    assert log.batches == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b'{"outcomes": [NaN]}', 400),
        (b'{"outcomes": [{"employee_id": "\\ud800", "left_on": null}]}', 400),
        (b"[" * 100_000, 400),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"outcomes": {}}', 422),
        (b'{"outcomes": []}', 422),
        (b'{"outcomes": [{"employee_id": 1e300, "left_on": null}]}', 422),
        (b'{"outcomes": [{"employee_id": 1, "left_on": "0000-00-00"}]}', 422),
        (b'{"outcomes": [{"employee_id": 1, "left_on": null, "observed_at": "9999-12-31T23:59:59-23:59"}]}', 422),
        (b'{"outcomes": [{"employee_id": 1, "left_on": null, "observed_at": 5}]}', 422),
        (json.dumps({"outcomes": [{"employee_id": 1, "left_on": None}] * 1001}).encode(), 413),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_bodies(log, body, status):
    """None is an error of ours."""
    answer = post(log, body)
    assert isinstance(answer, Problem)
    assert answer.status == status
    assert json.loads(answer.body)["status"] == status
    assert log.batches == []


def test_no_room_is_said(log):
    """Outcomes that were not stored must be sent again."""
    log.has_room = False
    answer = post(log, {"outcomes": [{"employee_id": 1, "left_on": None}]})
    assert answer.status == 503
    assert dict(answer.headers)[b"retry-after"] == b"10"


def test_the_documented_example_is_accepted(log):
    """And the description names the fields that are known."""
    operation = outcomes.path_item()["post"]
    content = operation["requestBody"]["content"]["application/json"]
    assert json.loads(post(log, content["example"])) == {"accepted": 2}
    item = content["schema"]["properties"]["outcomes"]["items"]
    assert tuple(item["properties"]) == outcomes.FIELDS
