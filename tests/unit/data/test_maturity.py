"""Matured labels: one, zero, or not known yet."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from attrition.data.maturity import matured_labels
from attrition.errors import UsageError


def label(left_on=None, *, as_of, person="a", time="2024-03-01 23:30", horizon_days=30):
    """Label of one prediction about a person."""
    predictions = pd.DataFrame(
        {
            "employee_id": pd.Series([person], [7], dtype="str"),
            "time": pd.to_datetime([time], utc=True).astype("datetime64[us, UTC]"),
        },
        index=[7],
    )
    outcomes = pd.DataFrame(
        {"employee_id": pd.Series(["a"], dtype="str"), "left_on": pd.to_datetime([left_on]).astype("datetime64[us]")}
    )
    moment = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
    result = matured_labels(predictions, outcomes, horizon_days=horizon_days, as_of=moment)
    assert list(result.index) == [7]
    value = result["label"].iloc[0]
    return None if pd.isna(value) else int(value)


@pytest.mark.parametrize(
    ("left_on", "as_of", "expected"),
    [
        ("2024-03-15", "2024-03-20", 1),  # known before the horizon is over
        ("2024-03-01", "2024-03-20", 1),  # on the day of the prediction
        ("2024-03-31", "2024-06-01", 1),  # on the last day
        ("2024-04-01", "2024-06-01", 0),  # a day too late
        ("2024-03-20", "2024-03-15", None),  # announced, not gone yet
        ("2024-05-01", "2024-04-15", 0),  # announced for after the horizon, which is over
        ("2024-02-15", "2024-06-01", None),  # had left before the prediction was made
        (None, "2024-06-01", 0),  # stayed
        (None, "2024-04-01", 0),  # the day after the horizon
        (None, "2024-03-31", None),  # on its last day he may still go
        ("9999-12-31", "2024-06-01", 0),  # how some systems write "not left"
    ],
)
def test_labels(left_on, as_of, expected):
    """Of a prediction made on 1 March with a horizon of 30 days, to 31 March."""
    assert label(left_on, as_of=as_of) == expected


@pytest.mark.parametrize(("as_of", "expected"), [("2024-06-01", 0), ("2024-03-05", None)])
def test_a_person_without_outcomes(as_of, expected):
    """Nobody said that he left: he stayed once outcomes are complete beyond the horizon."""
    assert label(as_of=as_of, person="b") == expected


def test_a_record_without_a_person_never_matures():
    """It cannot be joined."""
    assert label("2024-03-15", as_of="2024-06-01", person=None) is None


def test_many_at_once():
    """Dates and horizon come with the label; nobody is lost or doubled."""
    predictions = pd.DataFrame(
        {
            "employee_id": pd.Series(["a", "b", "a"], dtype="str"),
            "time": pd.to_datetime(["2024-01-01", "2024-01-01", "2024-03-01"], utc=True),
        }
    )
    outcomes = pd.DataFrame({"employee_id": ["a", "b"], "left_on": pd.to_datetime(["2024-03-10", None])})
    labels = matured_labels(predictions, outcomes, horizon_days=30, as_of=datetime(2024, 3, 11, tzinfo=UTC))
    assert labels["label"].tolist() == [0, 0, 1]
    assert [str(day)[:10] for day in labels["left_on"]] == ["2024-03-10", "NaT", "2024-03-10"]
    assert labels["horizon_end"].astype("str").tolist() == ["2024-01-31", "2024-01-31", "2024-03-31"]
    assert str(labels["label"].dtype) == "Int8"


def test_nothing_to_label():
    """Empty in, empty out."""
    predictions = pd.DataFrame(
        {"employee_id": pd.Series([], dtype="str"), "time": pd.Series([], dtype="datetime64[us, UTC]")}
    )
    outcomes = pd.DataFrame(
        {"employee_id": pd.Series([], dtype="str"), "left_on": pd.Series([], dtype="datetime64[us]")}
    )
    assert len(matured_labels(predictions, outcomes, horizon_days=30, as_of=datetime(2024, 3, 11, tzinfo=UTC))) == 0


def test_mistakes_are_refused():
    """A horizon of nothing, a time of nowhere."""
    frame = pd.DataFrame()
    with pytest.raises(UsageError, match="must be positive"):
        matured_labels(frame, frame, horizon_days=0, as_of=datetime(2024, 3, 11, tzinfo=UTC))
    with pytest.raises(UsageError, match="time zone"):
        matured_labels(frame, frame, horizon_days=1, as_of=datetime(2024, 3, 11))  # noqa: DTZ001
