"""Whatever is done to a log or an export by whoever lacks the signing key, shows against a signed head."""

from __future__ import annotations

import json
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attrition.governance.actions import Action
from attrition.governance.audit import AuditLog, Event, Outcome
from attrition.governance.audit_chain import CONTENT, FIELDS, GENESIS, canonical, parse, seal
from attrition.governance.audit_verify import verify_exports

N = 12
COLUMNS = [name for name in FIELDS if name != "sequence"]

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(str.strip)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | texts
json_values = (
    scalars | st.lists(scalars, max_size=3) | st.dictionaries(texts, st.lists(scalars, max_size=2), max_size=2)
)
events = st.builds(
    Event,
    st.sampled_from([Action.TRAIN, Action.PROMOTE, Action.DATA_IMPORT]),
    texts.filter(lambda text: not text.startswith("person:")),
    st.sampled_from(Outcome),
    actor=texts,
    justification=st.none() | texts,
    model_version=st.none() | texts,
    details=st.dictionaries(texts.map(lambda text: f"d {text}"), json_values, max_size=3),
)


class Fixture:
    """A log of some events in a file, a head of it that is kept elsewhere, and an export."""

    def __init__(self, folder):
        self.folder = folder
        self.database = folder / "a.db"
        self.key = folder / "audit.pem"
        with self.open() as log:
            for number in range(N):
                log.append(
                    Event(
                        Action.TRAFFIC_CHANGE,
                        f"1.{number}.0",
                        Outcome.SUCCEEDED,
                        justification="w" * number or None,
                        details={"share": number / 7, "note": f"n{number}"},
                    )
                )
            log.export(folder / "export.jsonl")
            self.head = log.head()
            self.public_key = log.public_key
        with closing(sqlite3.connect(self.database)) as connection, connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            self.rows = connection.execute(f"SELECT {', '.join(FIELDS)} FROM audit_events ORDER BY sequence").fetchall()
            self.heads = connection.execute("SELECT * FROM audit_heads").fetchall()
        self.export = (folder / "export.jsonl").read_bytes()

    def open(self):
        return AuditLog.open(f"sqlite:///{self.database}", signing_key=self.key, head_events=5)

    def restore(self, rows, *, keep_heads):
        """The table with other rows; whoever can do that may also remove the stored heads."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("DELETE FROM audit_events")
            connection.execute("DELETE FROM audit_heads")
            if keep_heads:
                connection.executemany("INSERT INTO audit_heads VALUES (?, ?, ?, ?, ?, ?)", self.heads)
            places = ", ".join("?" * len(FIELDS))
            connection.executemany(f"INSERT INTO audit_events ({', '.join(FIELDS)}) VALUES ({places})", rows)

    def verify(self):
        with self.open() as log:
            return log.verify(heads=[self.head])

    def verify_export(self, content):
        path = self.folder / "tampered.jsonl"
        path.write_bytes(content)
        (verdict,) = verify_exports([path], {self.public_key}, [self.head])
        return verdict


@pytest.fixture(scope="module")
def audit():
    with tempfile.TemporaryDirectory() as folder:
        yield Fixture(Path(folder))


def resealed(documents):
    """The same contents with all hashes computed anew: what a forger with a copy of this library can do."""
    previous, rows = GENESIS, []
    for document in documents:
        rows.append(seal(previous, {name: document[name] for name in CONTENT}))
        previous = rows[-1]["hash"]
    return rows


def edit(draw, documents):
    chosen = draw(st.integers(0, len(documents) - 1))
    name = draw(st.sampled_from(COLUMNS))
    value = draw(st.dictionaries(texts, json_values, max_size=2) if name == "details" else texts)
    documents[chosen] = {**documents[chosen], name: value}


def delete(draw, documents):
    del documents[draw(st.integers(0, len(documents) - 1))]


def truncate(draw, documents):
    del documents[draw(st.integers(0, len(documents) - 1)) :]


def reorder(draw, documents):
    one, two = draw(st.lists(st.integers(0, len(documents) - 1), min_size=2, max_size=2, unique=True))
    documents[one], documents[two] = (
        {**documents[two], "sequence": documents[one]["sequence"]},
        {**documents[one], "sequence": documents[two]["sequence"]},
    )


def swap_hashes(draw, documents):
    one, two = draw(st.lists(st.integers(0, len(documents) - 1), min_size=2, max_size=2, unique=True))
    for name in draw(st.sampled_from([("hash",), ("previous",), ("hash", "previous")])):
        first, second = documents[one][name], documents[two][name]
        documents[one], documents[two] = {**documents[one], name: second}, {**documents[two], name: first}


def insert(draw, documents):
    place = draw(st.integers(0, len(documents)))
    previous = documents[place - 1]["hash"] if place else GENESIS
    if re.fullmatch("[0-9a-f]{64}", str(previous)) is None:  # edited before: nothing follows it by the rules
        previous = GENESIS
    source = documents[draw(st.integers(0, len(documents) - 1))]
    new = seal(previous, {**{name: source[name] for name in CONTENT}, "sequence": place + 1, "subject": draw(texts)})
    later = [{**document, "sequence": document["sequence"] + 1} for document in documents[place:]]
    documents[place:] = [new, *later]


TAMPERINGS = [edit, delete, truncate, reorder, swap_hashes, insert]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_tampering_with_the_table_shows(audit, data):
    """Any number of changes, with or without recomputing every hash, with or without the stored heads."""
    documents = [{**dict(zip(FIELDS, row, strict=True))} for row in audit.rows]
    for document in documents:
        document["details"] = parse(document["details"])
    original = [dict(document) for document in documents]
    for _ in range(data.draw(st.integers(1, 3))):
        if len(documents) > 1:
            data.draw(st.sampled_from(TAMPERINGS))(data.draw, documents)
    recompute = data.draw(st.booleans())
    if recompute:
        documents = resealed(documents)
    rows = [tuple({**d, "details": canonical(d["details"]).decode()}[name] for name in FIELDS) for d in documents]
    if len({row[0] for row in rows}) < len(rows):  # the table's key does not take a sequence twice
        rows = list({row[0]: row for row in rows}.values())
    audit.restore(rows, keep_heads=data.draw(st.booleans()))
    # Events that follow the rules after the last head are what an honest writer would append: no forgery can be seen.
    appended = documents == resealed(documents) and [d["sequence"] for d in documents] == list(range(1, len(rows) + 1))
    unchanged = documents[:N] == original and appended
    assert audit.verify().intact == unchanged


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_tampering_with_the_lines_of_an_export_shows(audit, data):
    """The same changes, and lines moved as they are."""
    opening, *lines = audit.export.splitlines()
    documents = [json.loads(line) for line in lines]
    for _ in range(data.draw(st.integers(1, 3))):
        if len(documents) > 1:
            data.draw(st.sampled_from([*TAMPERINGS, shuffle, repeat]))(data.draw, documents)
    if data.draw(st.booleans()):
        documents = resealed(documents)
    content = b"".join([opening + b"\n", *(canonical(document) + b"\n" for document in documents)])
    assert audit.verify_export(content).intact == (content == audit.export)


def shuffle(draw, documents):
    documents[:] = draw(st.permutations(documents))


def repeat(draw, documents):
    chosen = draw(st.integers(0, len(documents) - 1))
    documents.insert(draw(st.integers(0, len(documents))), documents[chosen])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_byte_of_an_export_can_change(audit, data):
    """Bytes overwritten, removed or added anywhere, the first line with the head included."""
    content = bytearray(audit.export)
    place = data.draw(st.integers(0, len(content)))
    removed = data.draw(st.integers(0, 5))
    content[place : place + removed] = data.draw(st.binary(max_size=5))
    if bytes(content) != audit.export:
        assert not audit.verify_export(bytes(content)).intact


def test_single_bits_of_an_export_count(audit):
    """Exhaustively for one bit of every seventh byte."""
    assert audit.verify_export(audit.export).intact
    for place in range(0, len(audit.export), 7):
        content = bytearray(audit.export)
        content[place] ^= 1 << (place % 8)
        assert not audit.verify_export(bytes(content)).intact, place


@settings(max_examples=25, deadline=None)
@given(recorded=st.lists(events, min_size=1, max_size=8))
def test_whatever_is_recorded_is_intact_and_read_back(recorded):
    """Any text and any JSON: in the table, in the export, and for the verifier."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with AuditLog.open(f"sqlite:///{folder / 'a.db'}", signing_key=folder / "audit.pem", head_events=3) as log:
            for event in recorded:
                log.append(event)
            assert log.verify().intact
            exported = log.export(folder / "x.jsonl")
            records = log.records()
            assert [record.subject for record in records] == [event.subject for event in recorded]
            assert [canonical(record.details) for record in records] == [canonical(event.details) for event in recorded]
            assert verify_exports([Path(exported.path)], {log.public_key}, [log.head()])[0].intact
