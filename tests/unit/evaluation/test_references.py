"""References of a population: kinds, segments, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attrition.data.schema import FeatureSchema
from attrition.errors import IntegrityError
from attrition.evaluation.references import MAX_SEGMENTS, DriftReference, add_up
from attrition.evaluation.sketches import CategoryReference, Reference, dump_references

SCHEMA = FeatureSchema.default()
GOLDEN = Path(__file__).with_name("golden") / "drift_reference-1.npz"


def people(n_rows=1_000, seed=0):
    """Columns of some employees, one in fifty without a salary."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(1, 5, n_rows).round(1) for name in SCHEMA.names}
    columns |= {
        "projects_count": rng.integers(0, 9, n_rows).astype(float),
        "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
        "department_code": rng.choice([1.0, 2.0, 7.0], n_rows, p=[0.6, 0.37, 0.03]),
        "salary": np.where(rng.random(n_rows) < 0.02, np.nan, rng.lognormal(11, 0.3, n_rows).round()),
    }
    return columns


def test_kinds_follow_the_schema():
    """Categories, flags and small counts are compared code by code, everything else by rank."""
    columns = people()
    reference = DriftReference.of(columns, SCHEMA, np.linspace(0, 1, 1_000))
    kinds = {name: type(each) for name, each in reference.features.items()}
    assert {name for name, kind in kinds.items() if kind is CategoryReference} == {
        "projects_count",
        "promotion_flag",
        "department_code",
    }
    assert list(kinds) == [*SCHEMA.names, "probability"]
    assert reference.n_rows == 1_000
    assert (reference.features["age"].low, reference.features["age"].high) == (14, 100)
    many = DriftReference.of({**columns, "projects_count": np.arange(1_000.0)}, SCHEMA)
    assert isinstance(many.features["projects_count"], Reference)


def test_segments_are_the_large_codes():
    """A code with 30 rows is none; within a segment its own feature says nothing."""
    columns = people()
    reference = DriftReference.of(columns, SCHEMA)
    assert list(reference.segments) == ["1", "2"]
    assert reference.segment_feature == "department_code"
    in_one = columns["department_code"] == 1
    assert reference.segments["1"]["age"].n == in_one.sum()
    assert "department_code" not in reference.segments["1"]
    assert DriftReference.of(columns, SCHEMA.without("department_code")).segments == {}
    crowded = {**people(60 * 100), "department_code": np.repeat(np.arange(60.0), 100)}
    assert len(DriftReference.of(crowded, SCHEMA).segments) == MAX_SEGMENTS


def test_a_window_is_sketched_as_a_whole_and_by_segment():
    """What the window lacks is not sketched; parts add up to the whole."""
    columns = people()
    reference = DriftReference.of(columns, SCHEMA)
    halves = [{name: column[part::2] for name, column in columns.items()} for part in (0, 1)]
    found = add_up(reference.sketch(half) for half in halves)
    assert set(found) == set(reference.flat())
    for name, sketch in reference.within("2", found).items():
        own = reference.segments["2"][name].own()
        assert (sketch.n, sketch.n_missing) == (own.n, own.n_missing)
        if isinstance(reference.segments["2"][name], Reference):
            np.testing.assert_array_equal(sketch.upto, own.upto)
    without = reference.sketch({name: column for name, column in columns.items() if name != "department_code"})
    assert set(without) == set(SCHEMA.names) - {"department_code"}


def test_the_file_is_the_same_for_the_same_rows():
    """And reads back to the same reference."""
    reference = DriftReference.of(people(), SCHEMA, np.linspace(0, 1, 1_000))
    again = DriftReference.from_bytes(reference.to_bytes())
    repeated = DriftReference.of(people(), SCHEMA, np.linspace(0, 1, 1_000))
    assert again.to_bytes() == reference.to_bytes() == repeated.to_bytes()
    assert again.digest == reference.digest
    assert again.segment_feature == "department_code"
    assert reference.digest != DriftReference.of(people(seed=1), SCHEMA).digest


def test_a_file_of_the_first_format_is_read():
    """As it was written by the version that introduced it."""
    reference = DriftReference.from_bytes(GOLDEN.read_bytes())
    assert reference.digest == "b1890970a66ee87232b613ed1b3578651a314a67ae8819cea1c12a4f114a3721"
    assert list(reference.segments) == ["1", "2"]
    assert reference.n_rows == 1_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 no archive",
        dump_references({}),
        dump_references({"department_code=x@age": Reference.of([1.0]), "age": Reference.of([1.0])}),
        dump_references({"a=1@age": Reference.of([1.0]), "b=1@age": Reference.of([1.0]), "age": Reference.of([1.0])}),
    ],
    ids=["empty", "damaged", "no features", "segment", "two segmentations"],
)
def test_another_file_is_refused(data):
    """Whatever is wrong with it."""
    with pytest.raises(IntegrityError, match="drift reference"):
        DriftReference.from_bytes(data)
