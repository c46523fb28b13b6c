"""The feature schema."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from attrition.data.schema import Feature, FeatureSchema
from attrition.errors import ConfigError


def test_the_default_has_nine_features():
    """In the order of the feature matrix."""
    schema = FeatureSchema.default()
    assert len(schema.names) == 9
    assert schema.categorical == ("department_code",)
    assert set(schema.numeric) | set(schema.categorical) == set(schema.names)


def test_a_document_round_trips():
    """Labels and all."""
    schema = FeatureSchema.default().with_categories({"department_code": {1: "sales"}})
    assert FeatureSchema.from_dict(schema.to_dict()) == schema


def test_the_digest_depends_on_what_a_model_reads():
    """Not on labels or descriptions, but on names, order and kinds."""
    schema = FeatureSchema.default()
    assert schema.with_categories({"department_code": {1: "sales"}}).digest == schema.digest
    assert schema.without("age").digest != schema.digest
    backwards = schema.model_copy(update={"features": schema.features[::-1]})
    assert backwards.digest != schema.digest


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Age", "kind": "continuous"},
        {"name": "age", "kind": "number"},
        {"name": "age", "kind": "continuous", "minimum": 3, "maximum": 2},
        {"name": "age", "kind": "continuous", "categories": {1: "a"}},
        {"name": "employee_id", "kind": "integer"},
        {"name": "age", "kind": "continuous", "units": "years"},
    ],
)
def test_contradictions_are_refused(fields):
    """Names, kinds, ranges, labels, reserved names, unknown keys."""
    with pytest.raises(ValidationError):
        Feature(**fields)


def test_bounds():
    """A binary feature has its own."""
    assert Feature(name="x", kind="binary").bounds == (0.0, 1.0)
    assert Feature(name="x", kind="continuous", minimum=3).bounds == (3.0, float("inf"))


def test_a_missing_feature_is_a_key_error():
    """As of a mapping."""
    with pytest.raises(KeyError):
        FeatureSchema.default()["shoe_size"]


def test_an_own_schema_is_read_from_yaml(tmp_path):
    """And a typo in it is named."""
    path = tmp_path / "schema.yaml"
    path.write_text("features: [{name: x, kind: binary}, {name: y, kind: integer}]")
    assert FeatureSchema.from_yaml(path).names == ("x", "y")
    path.write_text("features: [{name: x, kind: binary}, {name: x, kind: integer}]")
    with pytest.raises(ConfigError, match="features named twice: x"):
        FeatureSchema.from_yaml(path)
    path.write_text("feature: []")
    with pytest.raises(ConfigError, match="unknown key feature"):
        FeatureSchema.from_yaml(path)
