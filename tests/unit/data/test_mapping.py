"""Mapping files: strict, and every fault named."""

from __future__ import annotations

import pytest

from attrition.data.mapping import ColumnSpec, Mapping, load_mapping
from attrition.data.schema import FeatureSchema
from attrition.errors import ConfigError

MINIMAL = """
name: own
employee_id: {column: id}
features:
  tenure: {column: months}
"""


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", ["workforce", "hr_comma_sep", "mfg10"])
def test_shipped_mappings_fit_the_default_schema(name):
    """Every shipped mapping says something about each of the nine features."""
    schema = load_mapping(name).schema_for(FeatureSchema.default())
    assert schema.names == FeatureSchema.default().names


def test_department_labels_reach_the_schema():
    """Codes keep their names for slices and model cards."""
    schema = load_mapping("mfg10").schema_for(FeatureSchema.default())
    assert schema["department_code"].categories[9] == "Executive"


def test_an_unknown_mapping_lists_the_shipped_ones():
    """A near miss is guessed."""
    with pytest.raises(ConfigError, match=r"hr_comma_sep, mfg10, workforce; did you mean mfg10\?"):
        load_mapping("mfg1O")


def test_a_mapping_is_loaded_by_path(yaml_file):
    """Own mappings live anywhere."""
    assert load_mapping(yaml_file(MINIMAL)).features["tenure"] == ColumnSpec(column="months")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("colunm: x", r"unknown key features.tenure.colunm"),
        ("column: x, constant: 1", r"exactly one of .* has column, constant"),
        ("absent: false", r"exactly one of .* has none"),
        ("column: x, scale: 0", r"scale 0"),
        ("derive: x, recode: {a: 1}", r"belong to a column"),
        ("derive: x ** 2", r"BinOp is not allowed"),
        ("derive: open(x)", r"open is not a function here; allowed: column, coalesce"),
        ("derive: x.real", r"Attribute is not allowed"),
        ("derive: 'x[0]'", r"Subscript is not allowed"),
        ("derive: minimum(x)", r"minimum takes 2 argument"),
        ("derive: '1 +'", r"is not an expression"),
        ("derive: '1 + 2'", r"reads no column"),
        ("column: x, recode: {yes: 1, no: 0}", r"put it in quotes"),
        ("column: x, recode: {a: 1}, labels: {1: a}", r"leave labels out"),
        ("column: x, recode: {1: 0, '1': 1}", r"stands twice, as a number and in quotes: 1"),
        ("column: x, recode: {a: 0, b: 1, a: 2}", r"own.yaml, line 5: key a stands here a second time"),
        (f"derive: x + {'9' * 400}", r"larger than a float64"),
    ],
)
def test_a_faulty_column_spec_is_named(yaml_file, line, message):
    """The message says which key and why."""
    with pytest.raises(ConfigError, match=message):
        load_mapping(yaml_file(MINIMAL.replace("column: months", line)))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("targets: {column: left}", "unknown key targets"),
        ("dialect: {delimiter: ';;'}", r"dialect\.delimiter"),
        ("dialect: {delimiter: ';', decimal: ',', thousands: ','}", "also the delimiter or the thousands mark"),
        ("target: {constant: 1}", "target takes column or derive or absent, not constant"),
        ("snapshot_date: {constant: 2024}", "constant takes a date"),
        ("sensitive: {tenure: {column: x}}", "names of their own"),
    ],
)
def test_a_faulty_mapping_is_named(yaml_file, extra, message):
    """Also above the column level."""
    with pytest.raises(ConfigError, match=message):
        load_mapping(yaml_file(MINIMAL + extra + "\n"))


def test_all_faults_are_reported_at_once(yaml_file):
    """Nobody wants to fix a file one message at a time."""
    with pytest.raises(ConfigError) as caught:
        load_mapping(yaml_file(MINIMAL.replace("column: months", "colunm: x") + "tarqet: 1\n"))
    assert len(caught.value.faults) >= 2


def test_unmapped_and_unknown_features_are_named():
    """A typo in a feature name shows up from both sides."""
    mapping = Mapping(name="own", employee_id=ColumnSpec(column="id"), features={"tenur": ColumnSpec(column="x")})
    with pytest.raises(ConfigError) as caught:
        mapping.schema_for(FeatureSchema.default().without(*FeatureSchema.default().names[1:]))
    assert "did you mean tenure?" in str(caught.value)
    assert "says nothing about feature tenure" in str(caught.value)
