"""Extracts become employee tables, or are refused with every fault and no person's values."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyarrow import parquet

from attrition.data.extracts import read_extract, surrogate_ids
from attrition.data.mapping import ColumnSpec, Dialect, load_mapping
from attrition.data.schema import FeatureSchema
from attrition.errors import ConfigError, ExtractError, InsufficientData


@pytest.fixture
def read(key):
    def read_canonical(path, mapping=None, **options):
        return read_extract(path, mapping, key, **options)

    return read_canonical


def faults(path, read, **options):
    with pytest.raises(ExtractError) as caught:
        read(path, **options)
    return str(caught.value)


def test_a_canonical_extract_needs_no_mapping(canonical, write, read):
    """Types, order and names are those of the table contract."""
    extract = read(write(canonical))
    frame = extract.table.frame
    features = list(FeatureSchema.default().names)
    assert list(frame) == ["employee_id", "snapshot_date", *features, "attrition", "gender"]
    assert frame["snapshot_date"].dtype == "datetime64[us]"
    assert set(frame[features].dtypes) == {np.dtype(np.float64)}
    assert extract.table.target.dtype == np.int8
    assert extract.table.source == "extract.csv"
    np.testing.assert_array_equal(frame["salary"], canonical["salary"])


def test_ids_are_pseudonymised_everywhere(canonical, write, read, key):
    """Neither the table nor the raw frame holds an employee's number."""
    extract = read(write(canonical))
    assert extract.table.frame["employee_id"][3] == key.pseudonym("E0003")
    for frame in (extract.table.frame, extract.raw):
        assert not frame.astype(str).apply(lambda column: column.str.fullmatch(r"E\d{4}")).to_numpy().any()


@pytest.mark.parametrize("kind", ["csv.gz", "parquet", "folder", "delta"])
def test_every_format_gives_the_same_table(canonical, write, read, tmp_path, kind):
    """The file format is no property of the data."""
    expected = read(write(canonical)).table.content_hash()
    typed = canonical.assign(snapshot_date=pd.to_datetime(canonical["snapshot_date"]))
    path = tmp_path / f"copy.{kind}"
    if kind == "csv.gz":
        canonical.to_csv(path, index=False)
    elif kind == "parquet":
        typed.to_parquet(path)
    elif kind == "folder":
        path.mkdir()
        typed.iloc[:90].to_parquet(path / "part-0.parquet")
        typed.iloc[90:].to_parquet(path / "part-1.parquet")
    else:
        write_deltalake(path, typed.iloc[:50])
        write_deltalake(path, typed, mode="overwrite")  # the files of the first version are still there
    assert read(path).table.content_hash() == expected


def test_features_that_the_mapping_lacks_are_left_out(canonical, write, read):
    """Not invented, not filled."""
    mapping = load_mapping("workforce")
    mapping = mapping.model_copy(update={"features": {**mapping.features, "age": ColumnSpec(absent=True)}})
    table = read(write(canonical.drop(columns="age")), mapping).table
    assert "age" not in table.schema.names
    assert "age" not in table.frame


def test_scale_offset_recode_and_derive(canonical, write, read):
    """Values come out in canonical units."""
    foreign = canonical.assign(
        years=canonical["tenure"] / 12, level=["low", "high"] * 100, monthly=canonical["work_hours"] * 4.33
    )
    mapping = load_mapping("workforce")
    features = {
        **mapping.features,
        "tenure": ColumnSpec(column="years", scale=12),
        "salary": ColumnSpec(column="level", recode={"low": 1, "high": 2}, scale=10, offset=5),
        "work_hours": ColumnSpec(derive="monthly / 4.33"),
        "age": ColumnSpec(constant=40),
    }
    extract = read(write(foreign), mapping.model_copy(update={"features": features}))
    np.testing.assert_allclose(extract.table.frame["tenure"], canonical["tenure"])
    np.testing.assert_allclose(extract.table.frame["work_hours"], canonical["work_hours"])
    assert extract.table.frame["salary"].unique().tolist() == [15, 25]
    assert set(extract.table.frame["age"]) == {40}
    assert set(extract.unmapped) == {"tenure", "age", "work_hours", "salary"}


def test_numbers_in_european_dress(canonical, write, read):
    """Semicolons, decimal commas and thousands marks are a matter of dialect."""
    path = write(
        canonical.assign(salary=[f"{value:,.0f}".replace(",", ".") for value in canonical["salary"]]),
        sep=";",
        decimal=",",
    )
    mapping = load_mapping("workforce").model_copy(
        update={"dialect": Dialect(delimiter=";", decimal=",", thousands=".")}
    )
    table = read(path, mapping).table
    np.testing.assert_array_equal(table.frame["salary"], canonical["salary"])
    np.testing.assert_array_equal(table.frame["work_hours"], canonical["work_hours"])


def test_another_encoding_and_a_byte_order_mark(canonical, write, read):
    """A byte-order mark is no part of the first header."""
    labelled = canonical.assign(gender="männlich")
    assert set(read(write(labelled, encoding="utf-8-sig")).table.frame["gender"]) == {"männlich"}
    mapping = load_mapping("workforce").model_copy(update={"dialect": Dialect(encoding="cp1252")})
    assert set(read(write(labelled, encoding="cp1252"), mapping).table.frame["gender"]) == {"männlich"}


def test_missing_values_stay_missing(canonical, write, read):
    """As NaN in features and as a group of its own in sensitive attributes."""
    canonical.loc[0, ["age", "gender"]] = None
    table = read(write(canonical)).table
    assert np.isnan(table.frame["age"][0])
    assert table.frame["gender"][0] == "unknown"


def test_scoring_needs_neither_outcomes_nor_many_rows(canonical, write, read):
    """Five employees without outcome and gender can be scored."""
    extract = read(write(canonical.head(5).drop(columns=["attrition", "gender"])), require_target=False)
    assert not extract.table.has_target
    assert extract.table.sensitive == ()


def test_an_own_schema_reads_columns_of_its_names(canonical, write, read):
    """Without a mapping, the schema's names are the columns."""
    schema = FeatureSchema.default().without("salary", "age")
    assert read(write(canonical), schema=schema).table.schema.names == schema.names


class TestRefusals:
    """Each with one message."""

    def test_missing_file(self, tmp_path, read):
        """Names the path."""
        assert "no such file" in faults(tmp_path / "nothing.csv", read)

    @pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
    def test_empty_file(self, tmp_path, read, content):
        """Also one of blank lines."""
        (tmp_path / "x.csv").write_text(content, encoding="utf-8")
        assert "is empty" in faults(tmp_path / "x.csv", read)

    def test_header_only(self, canonical, write, read):
        """No rows are no data."""
        assert "a header and no rows" in faults(write(canonical.head(0)), read)

    @pytest.mark.parametrize(("sep", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
    def test_wrong_delimiter(self, canonical, write, read, sep, name):
        """The right one is suggested, though decimal commas make columns too."""
        message = faults(write(canonical, sep=sep, decimal=","), read)
        assert f"the {name} does" in message
        assert f"set dialect.delimiter: {sep!r}" in message

    def test_missing_columns_with_near_misses(self, canonical, write, read):
        """All of them at once, and what the file has instead."""
        message = faults(write(canonical.rename(columns={"salary": "Salery", "age": "birthday"})), read)
        assert "has no column salary" in message
        assert "did you mean Salery?" in message
        assert "has no column age" in message
        assert "its columns are employee_id" in message

    def test_a_file_without_a_header_is_not_quoted(self, canonical, write, read):
        """Its first row is a person's; neither the list of columns nor a near miss may show it."""
        canonical.loc[0] = ["E1", "2024-03-31", 154, 34, 1.7, 2.9, 38.25, 6, 1, 61_234, 5, "age", 0]  # "age" is a name
        path = write(canonical)
        path.write_text(path.read_text().partition("\n")[2])
        message = faults(path, read)
        assert "the first line of its 13 columns holds other things than the names expected" in message
        row = path.read_text().split("\n")[0].split(",")
        assert not [value for value in row if len(value) > 2 and value != "age" and value in message]

    def test_repeated_values_of_a_missing_header_are_not_quoted(self, canonical, write, read):
        """Two cells of the first row agree."""
        canonical.loc[0, ["tenure", "salary"]] = 4711
        path = write(canonical.drop(columns=["gender"]))
        path.write_text(path.read_text().partition("\n")[2])
        message = faults(path, read)
        assert "holds other things than the names expected, some twice" in message
        assert "4711" not in message

    def test_text_in_a_number(self, canonical, write, read):
        """Count and lines of every column, never the text."""
        canonical = canonical.astype({"age": object, "salary": object})
        canonical.loc[[1, 4, 6, 9], "age"] = "Miller"
        canonical.loc[0, "salary"] = "Smith"
        message = faults(write(canonical), read)
        assert "column age: 4 of 200 cells hold no number (lines 3, 6, 8, ...)" in message
        assert "column salary: 1 of 200 cells hold no number (line 2)" in message
        assert "Miller" not in message
        assert "Smith" not in message

    def test_lines_become_rows_where_a_cell_spans_lines(self, canonical, write, read):
        """A line number would be wrong there."""
        canonical = canonical.astype({"age": object})
        canonical.loc[0, "gender"] = "two\nlines"
        canonical.loc[5, "age"] = "x"
        assert "(row 6)" in faults(write(canonical), read)

    def test_bad_dates(self, canonical, write, read):
        """With the format that was expected."""
        canonical.loc[7, "snapshot_date"] = "31.03.2024"
        assert "1 of 200 cells hold no date written YYYY-MM-DD (line 9)" in faults(write(canonical), read)

    def test_missing_dates_and_ids(self, canonical, write, read):
        """Every row needs both."""
        canonical.loc[[1, 2], "snapshot_date"] = None
        canonical.loc[3, "employee_id"] = None
        message = faults(write(canonical), read)
        assert "2 of 200 dates are missing (lines 3, 4)" in message
        assert "1 of 200 employee ids are missing" in message

    @pytest.mark.parametrize("value", [2, None])
    def test_outcomes_other_than_0_and_1(self, canonical, write, read, value):
        """A third outcome is a mapping mistake, a missing one a horizon that is not over."""
        canonical.loc[3, "attrition"] = value
        assert "attrition: 1 of 200 outcomes are" in faults(write(canonical), read)

    def test_unknown_label_of_the_target(self, canonical, write, read):
        """Lists what the mapping knows, not what the file holds."""
        mapping = load_mapping("workforce").model_copy(
            update={"target": ColumnSpec(column="attrition", recode={"stay": 0, "leave": 1})}
        )
        message = faults(write(canonical), read, mapping=mapping)
        assert "200 of 200 cells hold no known label" in message
        assert "recode of attrition knows stay, leave" in message

    def test_ragged_rows(self, canonical, write, read):
        """Count and first row, never the cells."""
        path = write(canonical)
        lines = path.read_text().splitlines()
        lines[10] += ",Miller"
        lines[20] = "E1,2024-03-31"
        path.write_text("\n".join(lines))
        message = faults(path, read)
        assert "2 rows do not have the header's 13 cells (row 10 has 14)" in message
        assert "Miller" not in message

    def test_repeated_header(self, canonical, write, read):
        """Which of the two is meant, nobody knows."""
        assert "column age stands 2 times" in faults(write(canonical.rename(columns={"tenure": "age"})), read)

    def test_unbalanced_quotation_mark(self, canonical, write, read):
        """The parser's own message would quote the cells."""
        path = write(canonical)
        path.write_text(path.read_text().replace("E0003", '"E0003'))
        assert "E0003" not in faults(path, read)

    def test_not_utf8(self, canonical, write, read):
        """Names line and remedy."""
        canonical.loc[4, "gender"] = "ü"
        message = faults(write(canonical, encoding="cp1252"), read)
        assert "line 6 is not utf-8 text" in message
        assert "dialect.encoding" in message

    def test_unknown_encoding(self, canonical, write, read):
        """A typo in the dialect."""
        mapping = load_mapping("workforce").model_copy(update={"dialect": Dialect(encoding="utf-9")})
        assert "utf-9 is not known" in faults(write(canonical), read, mapping=mapping)

    def test_damaged_gzip(self, canonical, tmp_path, read):
        """Cut in the middle."""
        path = tmp_path / "x.csv.gz"
        path.write_bytes(gzip.compress(canonical.to_csv().encode())[:-200])
        assert "damaged gzip" in faults(path, read)

    def test_a_gzip_file_that_unpacks_to_too_much(self, tmp_path, read, monkeypatch):
        """A small file may hold more than the memory does."""
        monkeypatch.setattr("attrition.data.readers.MAX_UNPACKED_BYTES", 10 * 2**20)
        path = tmp_path / "x.csv.gz"
        path.write_bytes(gzip.compress(bytes(20 * 2**20)))
        assert path.stat().st_size < 2**16
        assert "at most 10 MiB are read from a gzip file" in faults(path, read)

    def test_damaged_parquet(self, canonical, tmp_path, read):
        """As a file and in a folder."""
        path = tmp_path / "folder" / "x.parquet"
        path.parent.mkdir()
        canonical.to_parquet(path)
        path.write_bytes(path.read_bytes()[:-100])
        assert "x.parquet is a damaged Parquet file" in faults(path, read).replace(":", "")
        assert "folder/x.parquet: is a damaged Parquet file" in faults(path.parent, read)

    def test_folder_without_parquet(self, tmp_path, read):
        """Says what is expected."""
        assert "a folder without Parquet files" in faults(tmp_path, read)

    def test_folder_of_different_files(self, canonical, tmp_path, read):
        """Names the odd one."""
        canonical.to_parquet(tmp_path / "a.parquet")
        canonical.drop(columns="age").to_parquet(tmp_path / "b.parquet")
        assert "b.parquet: has other columns than a.parquet" in faults(tmp_path, read)

    def test_nested_columns(self, tmp_path, read):
        """Lists are no cells."""
        parquet.write_table(pa.table({"tenure": [[1, 2]], "age": [b"x"]}), tmp_path / "x.parquet")
        message = faults(tmp_path / "x.parquet", read)
        assert "column tenure is of type list" in message
        assert "column age is of type binary" in message

    @pytest.mark.parametrize("content", [b"PK\x03\x04rest", b"\x00\x01\x02"])
    def test_spreadsheets_and_other_binaries(self, tmp_path, read, content):
        """The usual mistake has its remedy."""
        (tmp_path / "x.csv").write_bytes(content)
        assert "export a spreadsheet as CSV UTF-8" in faults(tmp_path / "x.csv", read)

    def test_a_target_is_needed_for_training(self, canonical, write, read):
        """The mapping may declare it absent only for scoring."""
        mapping = load_mapping("workforce").model_copy(update={"target": ColumnSpec(absent=True)})
        assert "target is absent" in faults(write(canonical), read, mapping=mapping)

    def test_twenty_rows(self, canonical, write, read):
        """Too few for any honest figure."""
        with pytest.raises(InsufficientData, match="has 20 rows; at least 100 are needed"):
            read(write(canonical.head(20)))

    @pytest.mark.parametrize(("outcome", "word"), [(0, "stayed"), (1, "left")])
    def test_all_one_class(self, canonical, write, read, outcome, word):
        """Nothing can be learned from it."""
        with pytest.raises(InsufficientData, match=f"everybody {word}: all 200 outcomes are equal"):
            read(write(canonical.assign(attrition=outcome)))

    def test_hardly_any_leavers(self, canonical, write, read):
        """Ten of each outcome are the least."""
        canonical["attrition"] = [1] * 9 + [0] * 191
        with pytest.raises(InsufficientData, match="has 9 leavers and 191 stayers"):
            read(write(canonical))

    def test_a_derivation_of_the_wrong_type(self, canonical, write, read):
        """The mapping is to blame, not the file."""
        mapping = load_mapping("workforce")
        mapping = mapping.model_copy(
            update={"features": {**mapping.features, "age": ColumnSpec(derive="make_date(age, 1, 1)")}}
        )
        with pytest.raises(ConfigError, match="age: derive yields dates"):
            read(write(canonical), mapping)


def test_unknown_department_labels_are_missing_and_noted(canonical, write, read):
    """At most ten labels are listed, and only labels of a category: few, and each in several rows."""
    mapping = load_mapping("workforce")
    spec = ColumnSpec(column="department", recode={"sales": 1}, unknown="missing")
    mapping = mapping.model_copy(update={"features": {**mapping.features, "department_code": spec}})
    departments = ["sales"] * 140 + [f"new{i:02d}" for i in range(12)] * 5
    extract = read(write(canonical.assign(department=departments)), mapping)
    (finding,) = extract.findings
    assert (finding.code, finding.column, finding.n_rows) == ("category.unknown", "department_code", 60)
    assert "new09, ..." in finding.message
    assert extract.table.frame["department_code"].isna().sum() == 60


@pytest.mark.parametrize(
    "texts",
    [[f"Miller {i}" for i in range(60)], [*["new"] * 20, "Miller"]],
    ids=["as good as one each", "one rare among frequent ones"],
)
def test_texts_that_may_be_names_are_counted_only(canonical, write, read, texts):
    """A column of free text is no category."""
    mapping = load_mapping("workforce")
    spec = ColumnSpec(column="department", recode={"sales": 1}, unknown="missing")
    mapping = mapping.model_copy(update={"features": {**mapping.features, "department_code": spec}})
    departments = [*texts, *["sales"] * (200 - len(texts))]
    (finding,) = read(write(canonical.assign(department=departments)), mapping).findings
    assert finding.n_rows == len(texts)
    assert finding.message.startswith(f"{len(set(texts))} labels")
    assert "Miller" not in finding.message


def test_dates_relative_to_the_snapshot(canonical, write, read):
    """An expression may use the snapshot date, whatever the file calls it."""
    mapping = load_mapping("workforce").model_copy(
        update={"snapshot_date": ColumnSpec(derive="make_date(year, 12, 31)")},
    )
    spec = ColumnSpec(derive="years_between(parse_date(born, '%d.%m.%Y'), snapshot_date)")
    mapping = mapping.model_copy(update={"features": {**mapping.features, "age": spec}})
    frame = canonical.drop(columns="snapshot_date").assign(year=2023, born="31.12.1983")
    table = read(write(frame), mapping).table
    np.testing.assert_allclose(table.frame["age"], 40, atol=0.01)
    assert set(table.dates) == {pd.Timestamp("2023-12-31")}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_dates_with_a_time_zone_keep_their_day(canonical, write, read, tmp_path, kind):
    """Midnight in Berlin is not the day before."""
    canonical["snapshot_date"] = pd.Timestamp("2024-03-31", tz="Europe/Berlin")
    path = write(canonical)
    if kind == "parquet":
        path = tmp_path / "x.parquet"
        canonical.to_parquet(path)
    assert set(read(path).table.dates) == {pd.Timestamp("2024-03-31")}


def test_truth_values_are_numbers(canonical, write, read):
    """As pandas writes them."""
    expected = canonical["promotion_flag"].tolist()
    table = read(write(canonical.assign(promotion_flag=canonical["promotion_flag"] == 1))).table
    assert table.frame["promotion_flag"].tolist() == expected


class TestSurrogates:
    """Ids of rows that have none."""

    @pytest.fixture
    def raw(self):
        return pd.DataFrame({"a": ["1", "2", "1", "1"], "b": ["x", None, "x", "y"]}, dtype="str")

    def test_repetitions_are_numbered(self, raw, key):
        """Equal rows share the content part."""
        first, second, third, fourth = surrogate_ids(raw, key)
        assert third == f"{first}-2"
        assert len({first, second, fourth}) == 3

    def test_order_of_rows_and_columns_does_not_matter(self, raw, key):
        """The same file sorted otherwise gives the same persons."""
        shuffled = raw[["b", "a"]].iloc[[3, 2, 0, 1]]
        assert sorted(surrogate_ids(raw, key)) == sorted(surrogate_ids(shuffled, key))

    def test_missing_is_not_the_word_none(self, key):
        """Neither is it an empty text."""
        frames = [pd.DataFrame({"a": [value]}, dtype="str") for value in (None, "None", "")]
        assert len({surrogate_ids(frame, key)[0] for frame in frames}) == 3
