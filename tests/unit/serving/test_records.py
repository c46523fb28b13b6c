"""The schema of a request that several versions may answer."""

from __future__ import annotations

from attrition.data.schema import Feature, FeatureSchema
from attrition.serving.records import RecordCodec, request_schema, selector


def schema(*features):
    return FeatureSchema(features=features)


def test_one_version_keeps_its_schema():
    """Merging one schema changes nothing."""
    default = FeatureSchema.default()
    assert request_schema([default]) == default


def test_ranges_are_the_widest_and_requirements_the_strictest():
    """What any version accepts is accepted; what any version needs is needed."""
    one = schema(Feature(name="age", kind="integer", minimum=18, maximum=65, required=True))
    other = schema(Feature(name="age", kind="integer", minimum=14), Feature(name="pay", kind="continuous"))
    merged = request_schema([one, other])
    assert merged.names == ("age", "pay")
    assert merged["age"].bounds == (14, float("inf"))
    assert merged["age"].required
    assert merged["age"].kind == "integer"


def test_kinds_that_differ_become_a_number():
    """The most lenient reading wins; each version still reads its own feature."""
    one = schema(Feature(name="flag", kind="binary"))
    other = schema(Feature(name="flag", kind="continuous", minimum=0, maximum=3))
    merged = request_schema([one, other])["flag"]
    assert (merged.kind, merged.bounds) == ("continuous", (0, 3))


def test_a_schema_of_one_feature():
    """The selector gives a row also when there is only one value to select."""
    only = schema(Feature(name="age", kind="continuous"))
    batch = RecordCodec(only, max_records=1).decode(b'{"age": 3}')
    assert selector(only.names)(batch.records[0]) == (3.0,)


def test_a_feature_called_records():
    """A schema may use the name of the array; a single record of it is still a record."""
    codec = RecordCodec(schema(Feature(name="records", kind="continuous")), max_records=2)
    assert codec.decode(b'{"records": [{"records": 1}]}').records[0].records == 1.0


def test_a_record_that_says_nothing_is_refused():
    """A score for nobody would look like one for somebody; the problem names the features."""
    codec = RecordCodec(FeatureSchema.default(), max_records=10)
    for body in (b"{}", b'{"employee_id": "E7"}', b'{"age": null}', b'{"records": [{"age": 30}, {}]}'):
        problem = codec.decode(body)
        assert problem.status == 422
        assert b"no value of any feature" in problem.body
    assert codec.decode(b'{"age": 30}').single


def test_an_id_may_be_called_records():
    """What decides between one record and many is the document, not a word in it."""
    codec = RecordCodec(FeatureSchema.default(), max_records=10)
    assert codec.decode(b'{"employee_id": "records", "age": 30}').single
    assert len(codec.decode(b'{"\\u0072ecords": [{"age": 30}]}').records) == 1
