"""Columns become numbers as over HTTP and in a training extract; what is odd is counted, what is nothing is refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from attrition.data.findings import Severity
from attrition.data.mapping import Dialect
from attrition.governance.privacy import PseudonymKey
from attrition.serving.batch_checks import FeatureChecks, Tally, to_numbers
from attrition.serving.batch_ids import Identities
from attrition.serving.batch_read import MISSING

KEY = PseudonymKey.from_hex("00" * 32)
NAN = float("nan")


@pytest.fixture
def checks(schema):
    """Of four features; training saw departments 1 and 2."""
    codes = np.array([1.0, 2.0])
    return FeatureChecks(schema, SimpleNamespace(split_points=(np.empty(0), np.empty(0), np.empty(0), codes)))


def _columns(**changes):
    columns = {"age": [30.0, 40.0], "projects": [1.0, 2.0], "promoted": [0.0, 1.0], "department": [1.0, 2.0]} | changes
    return [pa.array(values) for values in columns.values()]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pa.array([1, None, 3]), [1, NAN, 3]),
        (pa.array([True, False, None]), [1, 0, NAN]),
        (pa.array([None, None]), [NAN, NAN]),
        (pa.array([Decimal("1.5")]), [1.5]),
        (pa.array([1.5], pa.float32()), [1.5]),
        (pa.array([" 1.5", "+2", ".5", "1e-3", "1E+2", "True", "false ", None]), [1.5, 2, 0.5, 1e-3, 100, 1, 0, NAN]),
        (pa.array(["7", "8", "7"]).dictionary_encode(), [7, 8, 7]),
    ],
    ids=str,
)
def test_numbers(column, values):
    """Integers, truth values, decimals and written numbers are numbers; null is NaN."""
    found, n_bad = to_numbers(column)
    np.testing.assert_array_equal(found, np.array(values, float))
    assert n_bad == 0


def test_text_is_counted():
    """Words, infinities and several numbers in one cell are no numbers."""
    found, n_bad = to_numbers(pa.array(["1", "abc", "inf", "nan", "1,5", "0x1", "", "1 2", None]))
    assert n_bad == 7
    assert np.isnan(found[1:]).all()


def test_dates_are_no_numbers(checks):
    """A column of another type is named with it."""
    checks.matrix(_columns(projects=[date(2024, 1, 1)] * 2))
    assert [str(fault) for fault in checks.faults("x")] == [
        "x: column projects: is of type date32[day]; numbers are needed."
    ]


def test_the_matrix_is_in_schema_order(checks):
    """Values are unchanged and missing is NaN."""
    matrix = checks.matrix(_columns(projects=[None, 3]))
    np.testing.assert_array_equal(matrix, [[30, NAN, 0, 1], [40, 3, 1, 2]])
    assert matrix.flags.f_contiguous
    assert checks.sound


def test_odd_values_are_counted_and_scored(checks, schema):
    """Outside the range, unknown, missing: findings, not faults."""
    checks.matrix(_columns(age=[130.0, 40.0], projects=[None, 3.0], department=[9.0, None]))
    assert checks.sound
    found = {(f.code, f.column): f.n_rows for f in checks.tally.findings(schema)}
    assert found == {
        ("range.outside", "age"): 1,
        ("category.unknown", "department"): 1,
        ("null.share", "projects"): 1,
        ("null.share", "department"): 1,
    }


def test_what_has_no_meaning_is_a_fault(checks):
    """Text, infinity and an empty required feature are named with their counts, never with values."""
    checks.matrix(_columns(age=[None, 40.0], projects=["many", "2"], promoted=[float("inf"), 1.0]))
    assert not checks.sound
    text = "\n".join(map(str, checks.faults("in.csv, partition 1 of 2")))
    assert "column projects: 1 of 2 cells hold text or no finite number" in text
    assert "column promoted: 1 of 2 cells hold text or no finite number" in text
    assert "column age: 1 of 2 cells are empty; this feature is required" in text
    assert "many" not in text


def test_tallies_add_up(schema):
    """The whole is the sum of its partitions, and many odd values are a warning."""
    total = Tally()
    for _ in range(2):
        total.add(Tally(10, 3, 1, {"age": 1}, {"age": 2}, {}))
    assert total == Tally(20, 6, 2, {"age": 2}, {"age": 4}, {})
    assert Tally.from_dict(total.to_dict()) == total
    assert total.findings(schema)[0].severity is Severity.WARNING


def test_empty_cells_are_those_of_a_training_extract():
    """Batch and training agree on what a cell without a value looks like."""
    assert Dialect().missing == MISSING


@pytest.mark.parametrize("ids", [["E1", None, "E2"], [1, None, 2], [1.0, None, 2.0], [1.0, NAN, 2.0]])
def test_raw_ids_become_pseudonyms(ids):
    """The same person has the same pseudonym as in a training extract; no id stays none."""
    identities = Identities(KEY, None)
    found = identities.of(pa.array(ids), 3).to_pylist()
    expected = [None if each in {None, NAN} else KEY.pseudonym(str(each).removesuffix(".0")) for each in ids]
    assert found == expected
    assert identities.n_missing == 1


def test_pseudonyms_are_kept_when_they_are_said_to_be():
    """A slice of a column, and surrogates with their number, are recognised too."""
    column = pa.array(["x", "0" * 32, "ab" * 16, "0" * 32 + "-2"])
    identities = Identities(KEY, "pseudonyms")
    assert identities.of(column[1:3], 2) == column[1:3]
    assert identities.of(column[1:], 3) == column[1:]
    assert identities.sound


def test_a_raw_id_is_never_passed_on():
    """One raw id among pseudonyms is a fault."""
    identities = Identities(KEY, "pseudonyms")
    identities.of(pa.array(["0" * 32, "E1"]), 2)
    identities.of(pa.array(["g" * 32]), 1)
    assert "2 of 3 ids are no pseudonyms" in str(identities.faults("x")[0])


def test_a_pseudonym_is_not_replaced_by_another_unasked():
    """Pseudonyms where raw ids are expected are a fault; asked for, they are replaced."""
    column = pa.array(["0" * 32])
    undecided, decided = Identities(KEY, None), Identities(KEY, "raw")
    undecided.of(column, 1)
    assert "look like pseudonyms already" in str(undecided.faults("x")[0])
    assert decided.of(column, 1).to_pylist() == [KEY.pseudonym("0" * 32)]
    assert decided.sound


def test_an_input_without_ids_has_none():
    """Every row is counted as one without id."""
    identities = Identities(KEY, None)
    assert identities.of(None, 2).null_count == 2
    assert identities.n_missing == 2
