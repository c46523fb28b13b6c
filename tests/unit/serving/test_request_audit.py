"""Where a request came from, and that an import of outcomes is recorded before it is accepted."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from attrition.governance.audit import AuditLog
from attrition.governance.identity import Pseudonymiser
from attrition.governance.privacy import PseudonymKey
from attrition.serving.client_address import client_address
from attrition.serving.gateway import Gateway, Limits
from attrition.serving.metrics import Meter
from attrition.serving.request_audit import RequestAudit

FORWARDED = b"x-forwarded-for"


@pytest.mark.parametrize(
    ("scope", "address"),
    [
        ({"headers": [], "client": ("192.0.2.1", 5000)}, "192.0.2.1"),
        ({"headers": [(FORWARDED, b"198.51.100.7")], "client": ("127.0.0.1", 1)}, "198.51.100.7"),
        ({"headers": [(FORWARDED, b"made-up, 2001:db8::1")], "client": ("127.0.0.1", 1)}, "2001:db8::1"),
        ({"headers": [(FORWARDED, b"made-up"), (FORWARDED, b"203.0.113.5")]}, "203.0.113.5"),
        ({"headers": [(FORWARDED, b"x" * 65)]}, None),
        ({"headers": [(FORWARDED, b"a\nb")]}, None),
        ({"headers": [], "client": None}, None),
        ({}, None),
    ],
)
def test_the_last_hop_counts_and_nonsense_is_left_out(scope, address):
    """What a client claims about itself stands before what our own HAProxy saw."""
    assert client_address(scope) == address


class Spool:
    """Takes outcomes, as a prediction log does."""

    def __init__(self):
        self.batches = []
        self.pseudonym = Pseudonymiser(PseudonymKey(bytes(range(32))))

    def append(self, scores, latency_us):
        raise AssertionError

    def append_outcomes(self, batch, source):
        self.batches.append((source, batch))
        return True


def post(spool, audit, document, meter=None):
    """Response of a gateway to outcomes."""
    gateway = Gateway(Limits(), lambda *_: None, log=spool, record_outcomes=audit.outcomes, meter=meter)

    async def send():
        transport = httpx.ASGITransport(app=gateway)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            return await client.post("/v1/outcomes", json=document)

    return asyncio.run(send())


def test_an_import_of_outcomes_is_recorded_around_it(tmp_path):
    """Started and how it ended, without an id or a date; a bad body is a failed import."""
    address = f"sqlite:///{tmp_path / 'governance.db'}"
    audit, spool = RequestAudit(address), Spool()
    good = {"outcomes": [{"employee_id": "E-4711", "left_on": "2024-03-01"}]}
    assert post(spool, audit, good).status_code == 202
    assert post(spool, audit, {"outcomes": [{"employee_id": "E-4711", "left_on": "soon"}]}).status_code == 422
    audit.close()
    with AuditLog.open(address) as log:
        records = log.records()
    assert [(r.action, r.outcome) for r in records] == [
        ("outcome.import", "started"),
        ("outcome.import", "succeeded"),
        ("outcome.import", "started"),
        ("outcome.import", "failed"),
    ]
    assert len({record.correlation for record in records}) == 2
    assert "4711" not in str([record.to_dict() for record in records])
    assert len(spool.batches) == 1


def test_outcomes_that_cannot_be_recorded_are_not_accepted(tmp_path):
    """The client is told to come back, and it is counted: an alert waits for that."""
    (tmp_path / "file").touch()
    spool, meter = Spool(), Meter()
    found = post(spool, RequestAudit(f"sqlite:///{tmp_path / 'file' / 'x.db'}"), {"outcomes": []}, meter)
    assert (found.status_code, found.json()["type"]) == (503, "urn:attrition:problem:audit-unavailable")
    assert spool.batches == []
    assert meter.drain().counts == {("prediction_errors", ("none", "none", "audit-unavailable")): 1}
