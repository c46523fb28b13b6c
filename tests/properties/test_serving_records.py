"""The fast decoder and the thorough one state the same rules."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.data.schema import Feature, FeatureSchema
from attrition.serving.protocols.problems import Problem
from attrition.serving.records import Batch, RecordCodec

SCHEMA = FeatureSchema(
    features=(
        Feature(name="age", kind="continuous", minimum=14, maximum=100, required=True),
        Feature(name="projects", kind="integer", minimum=0, maximum=50),
        Feature(name="promoted", kind="binary"),
        Feature(name="department", kind="category"),
        Feature(name="pay", kind="continuous"),
    )
)
CODEC = RecordCodec(SCHEMA, max_records=3)

numbers = st.one_of(st.integers(-5, 120), st.integers(), st.floats(), st.floats(0, 60), st.booleans())
values = st.one_of(numbers, st.none(), st.text(max_size=5), st.just([]), st.just({}))
keys = st.one_of(st.sampled_from(["employee_id", *SCHEMA.names]), st.text(max_size=8))
records = st.one_of(
    st.dictionaries(keys, values, max_size=7),
    st.fixed_dictionaries({"age": st.floats(14, 100)}, optional=dict.fromkeys(SCHEMA.names[1:], numbers)),
)
bodies = st.one_of(
    st.binary(max_size=60),
    records.map(json.dumps).map(str.encode),
    st.lists(records, max_size=4).map(lambda found: json.dumps({"records": found}).encode()),
    st.recursive(values, lambda inner: st.lists(inner, max_size=3), max_leaves=5).map(json.dumps).map(str.encode),
)


@settings(max_examples=300, deadline=None)
@given(body=bodies)
def test_any_body_is_decoded_or_explained(body):
    """No body raises; what is refused is refused for reasons that are found, encoded and bounded."""
    answer = CODEC.decode(body)
    if isinstance(answer, Batch):
        assert all(14 <= record.age <= 100 for record in answer.records)
        return
    assert isinstance(answer, Problem)
    assert answer.status in {400, 413, 422}
    document = msgspec.json.decode(answer.body)
    assert document["detail"]
    if answer.status == 422:
        assert answer.errors
        # the fallback text means that the two decoders disagree, which only half a surrogate pair may cause
        disagrees = any("does not fit the schema; see" in error.detail for error in answer.errors)
        assert not disagrees or b"\\ud" in body.lower()


@settings(max_examples=100, deadline=None)
@given(
    record=st.fixed_dictionaries(
        {"age": st.floats(14, 100)},
        optional={
            "projects": st.one_of(st.none(), st.integers(0, 50)),
            "promoted": st.one_of(st.none(), st.booleans(), st.integers(0, 1)),
            "department": st.one_of(st.none(), st.integers(-(2**40), 2**40)),
            "pay": st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        },
    )
)
def test_valid_values_arrive_unchanged(record):
    """Every float64 survives the way through JSON exactly."""
    batch = CODEC.decode(json.dumps(record).encode())
    assert isinstance(batch, Batch)
    assert {name: getattr(batch.records[0], name) for name in record} == record
