"""The chain of hashes: what it says about sequences of events that are, and are not, what was appended."""

from __future__ import annotations

import hashlib
import json

import pytest

from attrition.governance.audit_chain import (
    CONTENT,
    DOMAIN,
    FIELDS,
    GENESIS,
    Mark,
    Reason,
    canonical,
    check_chain,
    event_hash,
    parse,
    seal,
)


def content(sequence, **changes):
    return dict.fromkeys(CONTENT) | {"sequence": sequence, "details": {"n": sequence}} | changes


def chain(n):
    documents, previous = [], GENESIS
    for sequence in range(1, n + 1):
        documents.append(seal(previous, content(sequence)))
        previous = documents[-1]["hash"]
    return documents


def broken(documents, marks=(), **options):
    found = check_chain(documents, marks, **options).found
    return found and (found.sequence, found.reason)


def test_the_hash_is_the_documented_one():
    """SHA-256 over domain, previous hash and canonical JSON; an auditor must be able to compute it by other means."""
    document = content(1, subject="ä")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    expected = hashlib.sha256(b"attrition/audit/event/1\x00" + bytes(32) + text.encode()).hexdigest()
    assert event_hash(GENESIS, document) == expected
    assert DOMAIN.endswith(b"\x00")


def test_a_golden_event():
    """The format of version 1 stays what it was."""
    document = content(1, time="2026-01-31T12:00:00.000000Z", action="model.train", subject="run", outcome="succeeded")
    assert event_hash(GENESIS, document) == "12470d8799e2a5e547c1dcf4b808bd084ced604876e5d0f4766885157374a043"


@pytest.mark.parametrize("number", [1e20, -0.0, 1e-7, 2**53 - 1, 0.1, 1e300, 5e-324, -1.0, 1.5e21])
def test_numbers_survive_text(number):
    """What was hashed is what is read back, also floats that are written as integers."""
    text = canonical({"x": number})
    assert canonical(parse(text)) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, "\ud800", object(), {1: 2}, {"\ud800": 1}])
def test_what_is_not_json_cannot_be_hashed(value):
    """One kind of error, whatever is wrong."""
    with pytest.raises(ValueError):
        canonical({"x": value})


def test_nesting_without_end_is_a_value_error():
    """Not a crash of whoever verifies."""
    with pytest.raises(ValueError, match="deeply"):
        parse("[" * 100_000)
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(ValueError, match="deeply"):
        canonical(nested)


def test_an_intact_chain():
    """Nothing is found, and the end is reported."""
    documents = chain(5)
    check = check_chain(documents)
    assert (check.found, check.last, check.last_hash, check.covered) == (None, 5, documents[-1]["hash"], 0)
    assert check_chain([]).last_hash == GENESIS


def test_a_part_of_a_chain():
    """Begins after a known hash; marks before it say nothing."""
    documents = chain(5)
    check = check_chain(documents[2:], [Mark(1, "other")], first=3, previous=documents[1]["hash"])
    assert check.found is None
    assert broken(documents[2:], first=3, previous=GENESIS) == (3, Reason.BROKEN_LINK)
    assert broken(documents[2:], [Mark(2, GENESIS)], first=3, previous=documents[1]["hash"]) == (2, Reason.REWRITTEN)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_counts(field):
    """None can be changed, left out or added."""
    documents = chain(5)
    changed = {**documents[2], field: 7 if field == "sequence" else "a" * 64}
    assert broken([*documents[:2], changed, *documents[3:]]) is not None
    lacking = {name: value for name, value in documents[2].items() if name != field}
    assert broken([*documents[:2], lacking, *documents[3:]]) == (3, Reason.MALFORMED)
    more = {**documents[2], field + "_": None}
    assert broken([*documents[:2], more, *documents[3:]]) == (3, Reason.MALFORMED)


def test_removed_moved_repeated_and_inserted_events():
    """The first place that is wrong is named, with what happened there."""
    one, two, three, four, five = chain(5)
    assert broken([one, two, four, five]) == (3, Reason.MISSING)
    assert broken([two, three]) == (1, Reason.MISSING)
    assert broken([one, three, two, four, five]) == (2, Reason.REORDERED)
    assert broken([one, two, two, three]) == (2, Reason.REORDERED)
    assert broken([one, two, three, seal(three["hash"], content(3)), four]) == (3, Reason.REORDERED)
    assert broken([one, two, seal(two["hash"], content(3, subject="x")), four]) == (4, Reason.BROKEN_LINK)


def test_truncation_and_rewriting_show_against_a_mark_only():
    """A shorter chain and a recomputed one are consistent in themselves."""
    documents = chain(5)
    end = Mark(5, documents[-1]["hash"])
    rewritten, previous = documents[:2], documents[1]["hash"]
    for sequence in (3, 4, 5):
        rewritten.append(seal(previous, content(sequence, subject="rewritten")))
        previous = rewritten[-1]["hash"]
    assert broken(documents[:3]) is None
    assert broken(rewritten) is None
    assert broken(documents[:3], [end]) == (4, Reason.TRUNCATED)
    assert broken([], [end]) == (1, Reason.TRUNCATED)
    assert broken(rewritten, [end]) == (5, Reason.REWRITTEN)
    found = check_chain(rewritten, [Mark(2, documents[1]["hash"]), end]).found
    assert "3 to 5" in found.detail


def test_what_marks_cover():
    """The last event that one confirms; two that contradict each other cannot both be right."""
    documents = chain(5)
    marks = [Mark(number, documents[number - 1]["hash"]) for number in (2, 4)]
    assert check_chain(documents, marks).covered == 4
    assert broken(documents, [*marks, Mark(4, GENESIS)]) == (4, Reason.REWRITTEN)
