"""Outcomes: what counts, what is new, and files of them."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from deltalake import DeltaTable

from attrition.data.outcome_files import read_outcomes
from attrition.data.outcomes import OutcomeTable, Recorded, complete_until
from attrition.errors import ExtractError, PlatformError
from attrition.governance.identity import Pseudonymiser
from attrition.governance.privacy import PseudonymKey

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


def statements(*items):
    """Statements of (person, left_on, observed_at), missing is None."""
    frame = pd.DataFrame(items, columns=["employee_id", "left_on", "observed_at"])
    return pd.DataFrame(
        {
            "employee_id": frame["employee_id"].astype("str"),
            "left_on": pd.to_datetime(frame["left_on"]).astype("datetime64[us]"),
            "observed_at": pd.to_datetime(frame["observed_at"], utc=True).astype("datetime64[us, UTC]"),
            "source": "test",
        }
    )


@pytest.fixture
def table(tmp_path):
    return OutcomeTable(str(tmp_path))


def known(table, **options):
    """Person → date of leaving, as text."""
    current = table.current(**options)
    return dict(zip(current["employee_id"], [str(day)[:10] for day in current["left_on"]], strict=True))


def test_the_same_import_again_changes_nothing(table, tmp_path):
    """Not even the version of the table."""
    batch = statements(("a", "2024-03-31", "2024-04-01"), ("b", None, "2024-04-01"), ("c", None, None))
    assert table.record(batch, now=NOW) == Recorded(3, 3, 3)
    version = DeltaTable(str(tmp_path / "outcomes")).version()
    assert table.record(batch, now=LATER) == Recorded(3, 0, 0)
    assert DeltaTable(str(tmp_path / "outcomes")).version() == version
    assert known(table) == {"a": "2024-03-31", "b": "NaT", "c": "NaT"}


def test_outcomes_are_complete_until_the_latest_observation_but_not_after_now(table):
    """One dated in the future completes nothing beyond now; before the first one nothing is known."""
    assert complete_until(table.history(), NOW) is None
    table.record(statements(("a", "2024-03-31", "2024-04-01"), ("b", None, "2024-04-02")), now=NOW)
    assert complete_until(table.history(), NOW) == datetime(2024, 4, 2, tzinfo=UTC)
    table.record(statements(("c", None, "2024-09-01")), now=NOW)
    assert complete_until(table.history(), NOW) == NOW
    assert complete_until(table.history(), datetime(2024, 3, 1, tzinfo=UTC)) is None


def test_a_correction_wins(table):
    """Observed later, whatever it says."""
    table.record(statements(("a", "2024-03-31", "2024-04-01")), now=NOW)
    assert table.record(statements(("a", "2024-03-15", "2024-04-02")), now=NOW) == Recorded(1, 1, 1)
    assert known(table) == {"a": "2024-03-15"}
    table.record(statements(("a", None, "2024-04-03")), now=NOW)
    assert known(table) == {"a": "NaT"}
    assert len(table.history()) == 3


def test_a_late_record_does_not_overwrite_newer_knowledge(table):
    """But is kept, so that what was known then can be asked for."""
    table.record(statements(("a", "2024-05-31", "2024-06-01")), now=NOW)
    assert table.record(statements(("a", None, "2024-04-01")), now=LATER).n_new == 1
    assert known(table) == {"a": "2024-05-31"}
    assert known(table, as_of=datetime(2024, 5, 1, tzinfo=UTC)) == {"a": "NaT"}
    assert known(table, as_of=datetime(2024, 1, 1, tzinfo=UTC)) == {}


def test_of_two_statements_for_the_same_time_the_last_recorded_counts(table):
    """Also when the first is said again."""
    first, second = statements(("a", "2024-03-31", "2024-04-01")), statements(("a", "2024-03-30", "2024-04-01"))
    for number, (batch, left_on) in enumerate([(first, "2024-03-31"), (second, "2024-03-30"), (first, "2024-03-31")]):
        table.record(batch, now=NOW + timedelta(hours=number))
        assert known(table) == {"a": left_on}


def test_statements_without_a_time(table):
    """Count as observed now when they say something new; of several about a person the last one is meant."""
    batch = statements(("a", None, None), ("a", "2024-03-31", None))
    assert table.record(batch, now=NOW) == Recorded(2, 1, 1)
    assert table.record(batch, now=LATER).n_new == 0
    assert known(table) == {"a": "2024-03-31"}
    assert table.current()["observed_at"].tolist() == [pd.Timestamp(NOW)]
    assert table.record(statements(("a", None, None)), now=LATER).n_new == 1
    assert known(table) == {"a": "NaT"}


def test_importers_do_not_get_in_each_others_way(tmp_path):
    """Equal imports at the same moment are recorded once."""
    batch = statements(*((f"p{number}", "2024-03-31", "2024-04-01") for number in range(50)))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: OutcomeTable(str(tmp_path)).record(batch, now=NOW), range(4)))
    assert sorted(recorded.n_new for recorded in done) == [0, 0, 0, 50]
    assert len(OutcomeTable(str(tmp_path)).history()) == 50


def test_nothing_recorded_yet(table):
    """Is an empty frame with the same types."""
    empty = table.current()
    table.record(statements(("a", None, None)), now=NOW)
    assert (empty.dtypes == table.current().dtypes).all()
    assert not len(empty)


def test_a_place_that_cannot_be_written(tmp_path):
    """A platform error with the table's address."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match="outcomes: the table cannot be"):
        OutcomeTable(str(tmp_path / "file")).record(statements(("a", None, None)), now=NOW)


# --- files ---


@pytest.fixture
def pseudonym(key):
    return Pseudonymiser(key)


@pytest.fixture
def file(tmp_path):
    def write(text, name="leavers.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


def test_a_file_is_read_and_pseudonymised(file, pseudonym, key):
    """Other columns are not read, names least of all."""
    path = file("name,employee_id,left_on,observed_at\nX,E1,2024-03-31,2024-04-01\nY,E2,,2024-04-01T08:00:00+02:00\n")
    frame = read_outcomes(path, pseudonym, now=NOW)
    assert frame["employee_id"].tolist() == [key.pseudonym("E1"), key.pseudonym("E2")]
    assert [str(day)[:10] for day in frame["left_on"]] == ["2024-03-31", "NaT"]
    assert frame["observed_at"].tolist() == [
        pd.Timestamp("2024-04-01", tz="UTC"),
        pd.Timestamp("2024-04-01 06:00", tz="UTC"),
    ]
    assert set(frame["source"]) == {"leavers.csv"}
    assert list(frame.columns) == ["employee_id", "left_on", "observed_at", "source"]


@pytest.mark.parametrize("name", ["leavers.csv.gz", "leavers.csv"])
def test_a_file_without_times(table, file, pseudonym, name):
    """Importing it twice records it once."""
    frame = read_outcomes(file("employee_id,left_on\n1,2024-03-31\n2,\n", name), pseudonym, now=NOW)
    assert frame["observed_at"].isna().all()
    assert table.record(frame, now=NOW).n_new == 2
    assert table.record(frame, now=LATER).n_new == 0


def test_a_parquet_file(tmp_path, table, pseudonym, key):
    """Typed columns, whole numbers as ids."""
    path = tmp_path / "leavers.parquet"
    pd.DataFrame(
        {
            "employee_id": [1.0, 2.0],
            "left_on": pd.to_datetime(["2024-03-31", None]),
            "observed_at": pd.to_datetime(["2024-04-01", "2024-04-01"], utc=True),
        }
    ).to_parquet(path)
    frame = read_outcomes(path, pseudonym, now=NOW)
    table.record(frame, now=NOW)
    assert known(table) == {key.pseudonym("1"): "2024-03-31", key.pseudonym("2"): "NaT"}


def test_all_faults_at_once_without_values(file, pseudonym):
    """By column, count and line."""
    text = "employee_id,left_on,observed_at\nE1,31.03.2024,2024-04-01\n,2024-03-31,yesterday\nE3,,2031-01-01\n"
    with pytest.raises(ExtractError) as caught:
        read_outcomes(file(text), pseudonym, now=NOW)
    message = str(caught.value)
    assert "column left_on: 1 of 3 cells hold no date written YYYY-MM-DD (line 2)" in message
    assert "column employee_id: 1 of 3 employee ids are missing (line 3)" in message
    assert "column observed_at: 1 of 3 cells hold no date or time (line 3)" in message
    assert "column observed_at: 1 of 3 times lie in the future (line 4)" in message
    assert "yesterday" not in message
    assert "31.03" not in message


def test_missing_columns_are_named(file, pseudonym):
    """With the likely meaning."""
    with pytest.raises(ExtractError, match=r"no column left_on; .* did you mean leftOn\?"):
        read_outcomes(file("employee_id,leftOn\nE1,\n"), pseudonym, now=NOW)


def test_another_key_means_other_persons(file):
    """So the key must be the project's."""
    path = file("employee_id,left_on\nE1,\n")
    one, other = (read_outcomes(path, Pseudonymiser(PseudonymKey(bytes([n]) * 32)), now=NOW) for n in (1, 2))
    assert one["employee_id"].tolist() != other["employee_id"].tolist()
