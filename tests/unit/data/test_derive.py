"""Expressions over columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from attrition.data.cells import Cells
from attrition.data.derive import Expression
from attrition.data.mapping import Dialect


@pytest.fixture
def cells():
    frame = pd.DataFrame(
        {
            "a": ["1", "2", None],
            "b": ["4", "0", "1"],
            "sex": ["F", None, "M"],
            "born": ["1990-01-01", "2000-02-29", None],
            "hired": ["1/31/2020", "12/1/2021", "2/2/2022"],
            "a b": ["7", "8", "9"],
        },
        dtype="str",
    )
    return Cells(frame, Dialect(), where="x.csv", first_line=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + 2 * b", [9, 2, np.nan]),
        ("-a", [-1, -2, np.nan]),
        ("a / b", [0.25, np.nan, np.nan]),
        ("a < b", [1, 0, np.nan]),
        ("sex == 'F'", [1, np.nan, 0]),
        ("'F' != sex", [0, np.nan, 1]),
        ('column("a b") - 1', [6, 7, 8]),
        ("where(b > 0, a, -1)", [1, -1, np.nan]),
        ("coalesce(a, b)", [1, 2, 1]),
        ("is_missing(sex)", [0, 1, 0]),
        ("minimum(b, 2)", [2, 0, 1]),
        ("maximum(b, 2)", [4, 2, 2]),
        ("year(born)", [1990, 2000, np.nan]),
        ("year(parse_date(hired, '%m/%d/%Y'))", [2020, 2021, 2022]),
        ("days_between(born, make_date(2000, 3, 1))", [3712, 1, np.nan]),
        ("parse_date(hired, '%m/%d/%Y') > make_date(2021, 1, 1)", [0, 1, 1]),
    ],
)
def test_values(cells, text, expected):
    """Missing operands make missing values; nothing else does, but a quotient by zero."""
    value = np.broadcast_to(Expression.parse(text).evaluate(cells), 3)
    np.testing.assert_array_equal(value, expected)
    assert not cells.faults


def test_spans_of_time_are_julian_years(cells):
    """365.25 days are a year and twelve months."""
    years = Expression.parse("years_between(born, make_date(2020, 1, 1))").evaluate(cells)
    months = Expression.parse("months_between(born, make_date(2020, 1, 1))").evaluate(cells)
    assert years[0] == pytest.approx(30, abs=0.01)
    np.testing.assert_allclose(months, 12 * years)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("born + 'x'", "arithmetic takes numbers"),
        ("sex < 'F'", "== and != only"),
        ("years_between(a + 1, born)", "a date is needed"),
        ("parse_date(a, b)", "quoted format"),
        ("'F' == (a + 1)", "column of text only"),
    ],
)
def test_wrong_types_are_refused(cells, text, message):
    """With a sentence that says what fits."""
    with pytest.raises(ValueError, match=message):
        Expression.parse(text).evaluate(cells)


def test_text_where_a_number_is_needed_is_a_fault(cells):
    """By count and line, without the text."""
    Expression.parse("sex + 1").evaluate(cells)
    (fault,) = cells.faults
    assert str(fault).startswith("x.csv: column sex: 2 of 3 cells hold no number (lines 2, 4)")


@pytest.mark.parametrize("number", ["9" * 400, "1e999", "-1e999"])
def test_a_number_beyond_all_floats_is_refused(number):
    """When the mapping is read, not when the first row is computed."""
    with pytest.raises(ValueError, match="larger than a float64"):
        Expression.parse(f"a + {number}")


def test_an_endless_expression_is_refused():
    """A mapping is configuration."""
    with pytest.raises(ValueError, match="at most 500 characters"):
        Expression.parse("+".join(["a"] * 400))
