"""A batch, in this process: same numbers as the scorer, every kind of input and output, resumed, refused."""

from __future__ import annotations

import gzip
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyarrow import parquet

from attrition.data.addresses import lies_in
from attrition.data.folders import LocalFolder
from attrition.data.mapping import Mapping, load_mapping
from attrition.data.schema import FeatureSchema
from attrition.errors import ExtractError, PlatformError, UsageError
from attrition.governance.privacy import PseudonymKey
from attrition.registry.bundle import CANDIDATE_FILE, FORMAT, SCHEMA_FILE, SCORING_FOLDER, BundleRef, load_bundle
from attrition.registry.manifest import write_folder
from attrition.scoring.compile import compile_candidate
from attrition.serving import batch_plan
from attrition.serving.batch import plan_batch, run_batch
from attrition.serving.batch_execution import in_process, in_threads
from attrition.serving.batch_output import Output
from attrition.training.families import FAMILIES

KEY = PseudonymKey.from_hex("00" * 32)
SCHEMA = FeatureSchema.default()
NAMES = list(SCHEMA.names)


def _people(n_rows=500, seed=0):
    rng = np.random.default_rng(seed)
    features = {
        "tenure": rng.integers(0, 400, n_rows).astype(float),
        "age": rng.uniform(18, 65, n_rows),
        "satisfaction_score": rng.uniform(1, 5, n_rows),
        "performance_rating": rng.uniform(1, 5, n_rows).round(1),
        "work_hours": rng.normal(40, 5, n_rows),
        "projects_count": rng.integers(0, 9, n_rows).astype(float),
        "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
        "salary": rng.lognormal(11, 0.3, n_rows),
        "department_code": rng.integers(1, 7, n_rows).astype(float),
    }
    frame = pd.DataFrame(features)
    frame = frame.mask(rng.random(frame.shape) < 0.05)
    frame.insert(0, "employee_id", [f"E{i:05d}" for i in range(n_rows)])
    frame["site"] = rng.choice(["Kiel, north", 'the "old" one', "Ulm"], n_rows)
    return frame


def _export(folder, family, version="1.0.0"):
    frame = _people(1_000, seed=9)
    y = (frame["satisfaction_score"].fillna(3) < 2.5).astype(int)
    pipeline = FAMILIES[family].build(SCHEMA, {}, 1).fit(frame[NAMES], y)
    files = compile_candidate(SimpleNamespace(classifier=pipeline, schema=SCHEMA))
    candidate = {"format": FORMAT, "version": version, "family": family, "threshold": 0.4}
    content = {SCORING_FOLDER + name: data for name, data in files.items()}
    content |= {SCHEMA_FILE: json.dumps(SCHEMA.to_dict()).encode(), CANDIDATE_FILE: json.dumps(candidate).encode()}
    return BundleRef(str(folder), version, write_folder(folder, content, {}))


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """A logistic regression."""
    return _export(tmp_path_factory.mktemp("bundles") / "linear", "logistic_regression")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A histogram gradient boosting."""
    return _export(tmp_path_factory.mktemp("bundles") / "trees", "hist_gradient_boosting")


@pytest.fixture
def people():
    """Five hundred employees."""
    return _people()


@pytest.fixture(autouse=True)
def _small_partitions(monkeypatch):
    """A few rows are several partitions."""
    monkeypatch.setattr(batch_plan, "CSV_BYTES", 10_000)
    monkeypatch.setattr(batch_plan, "PARQUET_ROWS", 100)


def _write(frame, path):
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False, row_group_size=70)
    else:
        frame.to_csv(path, index=False)
    return path


def _read(path):
    if path.is_dir() or path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_csv(path)


def _score(source, target, ref, *, execute=in_process, overwrite=False, on_progress=None, **options):
    batch = plan_batch(source, target, ref, KEY, **options)
    return run_batch(batch, execute, overwrite=overwrite, on_progress=on_progress)


def _expected(ref, frame):
    return load_bundle(ref.uri, ref.manifest_sha256).scorer.score(
        np.ascontiguousarray(frame[NAMES].to_numpy(np.float64))
    )


@pytest.mark.parametrize("source", ["in.csv", "in.csv.gz", "in.parquet"])
@pytest.mark.parametrize("target", ["out", "out.csv", "out.csv.gz", "out.parquet"])
@pytest.mark.parametrize("version", ["linear", "trees"])
def test_probabilities_are_those_of_the_scorer(tmp_path, people, request, source, target, version):
    """To the last bit, row by row, whatever the formats; decisions, pseudonyms and version beside them."""
    ref = request.getfixturevalue(version)
    result = _score(_write(people, tmp_path / source), tmp_path / target, ref)
    scored = _read(tmp_path / target)
    expected = _expected(ref, people)
    assert list(scored) == ["employee_id", "probability", "decision", "model_version"]
    np.testing.assert_array_equal(scored["probability"], expected)
    np.testing.assert_array_equal(scored["decision"], expected >= 0.4)
    assert list(scored["employee_id"]) == [KEY.pseudonym(each) for each in people["employee_id"]]
    assert set(scored["model_version"]) == {"1.0.0"}
    assert (result.n_rows, result.n_leavers) == (500, int((expected >= 0.4).sum()))
    assert result.n_partitions > 1 or source == "in.csv.gz"


def test_a_delta_table_to_a_delta_table(tmp_path, people, linear):
    """An old version is read by its number; the output is a table of one commit."""
    write_deltalake(tmp_path / "in", pa.Table.from_pandas(people[:300], preserve_index=False))
    write_deltalake(tmp_path / "in", pa.Table.from_pandas(people[300:], preserve_index=False), mode="append")
    result = _score(tmp_path / "in", tmp_path / "out", linear, as_delta=True, table_version=0)
    table = DeltaTable(tmp_path / "out")
    assert table.version() == 0
    assert result.n_rows == 300
    scored = table.to_pyarrow_table().to_pandas().set_index("employee_id")["probability"]
    ids = [KEY.pseudonym(each) for each in people["employee_id"][:300]]
    np.testing.assert_array_equal(scored[ids], _expected(linear, people[:300]))


def test_columns_are_kept(tmp_path, people, linear):
    """Text and numbers, commas and quotation marks come out as they went in."""
    for source, target in (("in.csv", "out.csv"), ("in.parquet", "out.parquet")):
        _score(_write(people, tmp_path / source), tmp_path / target, linear, keep=["site", "age"])
        scored = _read(tmp_path / target)
        assert list(scored)[4:] == ["site", "age"]
        assert list(scored["site"]) == list(people["site"])
        np.testing.assert_array_equal(scored["age"], people["age"])


def test_a_folder_of_files(tmp_path, people, linear):
    """Files are scored in the order of their names; columns may stand in another order in each."""
    (tmp_path / "in").mkdir()
    _write(people[:200], tmp_path / "in" / "a.csv")
    _write(people[200:][list(reversed(people.columns))], tmp_path / "in" / "b.csv")
    _score(tmp_path / "in", tmp_path / "out", linear)
    np.testing.assert_array_equal(_read(tmp_path / "out")["probability"], _expected(linear, people))


def test_written_truth_values(tmp_path, people, linear):
    """A CSV file may say True and False where the model reads 1 and 0."""
    people["promotion_flag"] = people["promotion_flag"].fillna(0)
    words = people.assign(promotion_flag=people["promotion_flag"].map({0.0: "False", 1.0: "true"}))
    _score(_write(words, tmp_path / "in.csv"), tmp_path / "out", linear)
    np.testing.assert_array_equal(_read(tmp_path / "out")["probability"], _expected(linear, people))


def test_an_input_without_ids(tmp_path, people, linear):
    """Is scored in its order, and the result says that ids are missing."""
    result = _score(_write(people.drop(columns="employee_id"), tmp_path / "in.csv"), tmp_path / "out", linear)
    assert _read(tmp_path / "out")["employee_id"].isna().all()
    assert ("ids.missing", 500) in [(finding.code, finding.n_rows) for finding in result.findings]


@pytest.mark.parametrize("source", ["in.csv", "in.csv.gz", "in.parquet"])
def test_a_mapping(tmp_path, people, linear, monkeypatch, source):
    """Foreign columns are scored as the mapping reads them, partition by partition."""
    monkeypatch.setattr("attrition.serving.batch_read._MAPPED_BYTES", 10_000)
    foreign = people.rename(columns={"employee_id": "nr", "salary": "monthly"})
    foreign["monthly"] = foreign["monthly"] / 12
    document = load_mapping("workforce").model_dump(exclude_none=True)
    document["employee_id"] = {"column": "nr"}
    document["snapshot_date"] = {"absent": True}
    document["features"]["salary"] = {"column": "monthly", "scale": 12}
    document["sensitive"] = {}
    mapping = Mapping.model_validate(document)
    _score(_write(foreign, tmp_path / source), tmp_path / "out", linear, mapping=mapping, keep=["site"])
    scored = _read(tmp_path / "out")
    expected = _expected(linear, people.assign(salary=foreign["monthly"] * 12))
    np.testing.assert_array_equal(scored["probability"], expected)
    assert list(scored["employee_id"]) == [KEY.pseudonym(each) for each in people["employee_id"]]
    assert list(scored["site"]) == list(people["site"])


def test_a_mapping_must_supply_what_the_version_reads(tmp_path, people, linear):
    """Each feature that it declares absent is named."""
    document = load_mapping("workforce").model_dump(exclude_none=True)
    document["features"] |= {"age": {"absent": True}, "salary": {"absent": True}}
    with pytest.raises(ExtractError) as error:
        _score(_write(people, tmp_path / "in.csv"), tmp_path / "out", linear, mapping=Mapping.model_validate(document))
    assert [fault.found.split(",")[0] for fault in error.value.faults] == [
        "does not supply age",
        "does not supply salary",
    ]


def test_missing_columns_are_all_named(tmp_path, people, linear):
    """With what is there instead."""
    renamed = people.rename(columns={"tenure": "tenur", "age": "Age", "salary": "pay"})
    with pytest.raises(ExtractError) as error:
        _score(_write(renamed, tmp_path / "in.csv"), tmp_path / "out", linear, keep=["sit"])
    message = str(error.value)
    for column, near in (("tenure", "tenur"), ("age", "Age"), ("sit", "site")):
        assert f"has no column {column}; " in message
        assert f"did you mean {near}?" in message
    assert "has no column salary" in message
    assert not (tmp_path / "out").exists()


def test_another_delimiter_is_recognised(tmp_path, people, linear):
    """The message says which one and what to do."""
    people.to_csv(tmp_path / "in.csv", index=False, sep=";")
    with pytest.raises(ExtractError, match=r"separated by ';': set dialect\.delimiter"):
        _score(tmp_path / "in.csv", tmp_path / "out", linear)


@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
def test_text_in_a_number(tmp_path, people, linear, source):
    """Partition, column and count, never a value; what was scored before is kept for the next run."""
    broken = people.assign(age=people["age"].astype("str").mask(people.index >= 497, "secret"))
    with pytest.raises(ExtractError) as error:
        _score(_write(broken, tmp_path / source), tmp_path / "out", linear)
    (fault,) = error.value.faults
    assert fault.where.startswith(f"{source}, partition ")
    assert "column age" in fault.where
    assert fault.found.startswith("3 of ")
    assert "secret" not in str(error.value)
    assert not list((tmp_path / "out").glob(".part-*"))


def test_ragged_rows_are_counted(tmp_path, people, linear):
    """A row with a cell too many would shift its values."""
    path = _write(people, tmp_path / "in.csv")
    path.write_text(path.read_text() + "E1,1,2\nE2,1\n")
    with pytest.raises(ExtractError, match="2 rows do not have the header's 11 cells"):
        _score(path, tmp_path / "out", linear)


class Killed(Exception):
    """Stands for the end of the process."""


def _dying_after(n_partitions):
    def execute(job, partitions, output):
        for number, report in enumerate(in_process(job, partitions, output)):
            if number == n_partitions:
                raise Killed
            yield report

    return execute


@pytest.mark.parametrize("target", ["out", "out.csv", "out.parquet"])
def test_an_interrupted_batch_goes_on(tmp_path, people, linear, target):
    """Finished partitions are not scored again, and the result is that of an uninterrupted batch."""
    source = _write(people, tmp_path / "in.csv")
    _score(source, tmp_path / f"whole-{target}", linear)
    with pytest.raises(Killed):
        _score(source, tmp_path / target, linear, execute=_dying_after(2))
    assert not target.endswith((".csv", ".parquet")) or not (tmp_path / target).exists()
    seen = []
    result = _score(source, tmp_path / target, linear, on_progress=seen.append)
    assert result.n_resumed == 3
    assert seen[0].n_done == 3
    assert seen[-1].share == 1.0
    assert sum(1 for _ in seen) == result.n_partitions - 2
    pd.testing.assert_frame_equal(_read(tmp_path / target), _read(tmp_path / f"whole-{target}"))


def test_a_torn_part_is_scored_again(tmp_path, people, linear):
    """A part that is shorter than its report says did not survive a crash."""
    source = _write(people, tmp_path / "in.csv")
    with pytest.raises(Killed):
        _score(source, tmp_path / "out", linear, execute=_dying_after(2))
    (tmp_path / "out" / "part-00001.parquet").write_bytes(b"PAR1")
    assert _score(source, tmp_path / "out", linear).n_resumed == 2
    np.testing.assert_array_equal(_read(tmp_path / "out")["probability"], _expected(linear, people))


def test_a_finished_batch_is_left_alone(tmp_path, people, linear):
    """Repeating the command is harmless and says the same."""
    source = _write(people, tmp_path / "in.csv")
    first, again = (_score(source, tmp_path / "out", linear) for _ in range(2))
    assert again.n_resumed == again.n_partitions
    assert (again.n_rows, again.n_leavers, again.findings) == (first.n_rows, first.n_leavers, first.findings)


def test_other_batches_are_not_mixed(tmp_path, people, linear, trees):
    """Another version, input or option refuses, says what differs, and --overwrite starts anew."""
    source = _write(people, tmp_path / "in.csv")
    with pytest.raises(Killed):
        _score(source, tmp_path / "out", linear, execute=_dying_after(2))
    with pytest.raises(UsageError, match=r"model manifest: was .* now .*") as error:
        _score(source, tmp_path / "out", trees)
    assert "--overwrite" in str(error.value)
    with pytest.raises(UsageError, match="kept columns: was nothing when this output was begun, now site"):
        _score(source, tmp_path / "out", linear, keep=["site"])
    _write(people[:400], source)
    with pytest.raises(UsageError, match="input: was"):
        _score(source, tmp_path / "out", linear)
    assert _score(source, tmp_path / "out", trees, overwrite=True).n_resumed == 0
    np.testing.assert_array_equal(_read(tmp_path / "out")["probability"], _expected(trees, people[:400]))


def test_what_is_there_is_not_overwritten(tmp_path, people, linear):
    """A file needs --overwrite; a folder that no batch wrote is refused even so."""
    source = _write(people, tmp_path / "in.csv")
    (tmp_path / "out.csv").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    for target in ("out", "out.csv"):
        with pytest.raises(UsageError, match="is there already"):
            _score(source, tmp_path / target, linear)
    with pytest.raises(UsageError, match="is there already"):
        _score(source, tmp_path / "out", linear, overwrite=True)
    assert (tmp_path / "out" / "precious").exists()
    _score(source, tmp_path / "out.csv", linear, overwrite=True)
    assert len(_read(tmp_path / "out.csv")) == 500


def test_meaningless_calls_are_refused(tmp_path, people, linear):
    """An output in its input, ids or output columns among those to keep, a table with the name of a file."""
    source = _write(people, tmp_path / "in.csv")
    for target, options, message in (
        (source, {}, "lies in the input"),
        (tmp_path / "out", {"keep": ["employee_id"]}, "no raw id is written"),
        (tmp_path / "out", {"keep": ["site", "site"]}, "is named twice"),
        (tmp_path / "out.csv", {"as_delta": True}, "name of a file"),
    ):
        with pytest.raises(UsageError, match=message):
            _score(source, target, linear, **options)
    with pytest.raises(UsageError, match="lies in the input"):
        _score(tmp_path, tmp_path / "out", linear)


def test_ids_that_are_pseudonyms_already(tmp_path, people, linear):
    """Are kept when that is said, and asked about when it is not."""
    people["employee_id"] = [KEY.pseudonym(each) for each in people["employee_id"]]
    source = _write(people, tmp_path / "in.parquet")
    with pytest.raises(ExtractError, match="look like pseudonyms already"):
        _score(source, tmp_path / "out", linear)
    _score(source, tmp_path / "kept", linear, ids="pseudonyms")
    assert list(_read(tmp_path / "kept")["employee_id"]) == list(people["employee_id"])


def test_parts_that_do_not_fit_together(tmp_path, people, linear):
    """Kept columns of several types cannot become one file; the parts stay."""
    (tmp_path / "in").mkdir()
    _write(people[:100], tmp_path / "in" / "a.parquet")
    _write(people[100:200].assign(site=1), tmp_path / "in" / "b.parquet")
    with pytest.raises(PlatformError, match="cannot be put together"):
        _score(tmp_path / "in", tmp_path / "out.parquet", linear, keep=["site"])
    assert (tmp_path / ".out.parquet.parts" / "part-00000.parquet").exists()


def test_an_output_that_cannot_be_shown_leaves_no_copy(tmp_path, people, linear, monkeypatch):
    """The parts stay, to be put together again; what was put together already goes."""
    adopt = LocalFolder.adopt

    def refuse(self, file, name):
        if name == "out.parquet":
            raise PlatformError("the storage did not do its part.")
        adopt(self, file, name)

    monkeypatch.setattr(LocalFolder, "adopt", refuse)
    with pytest.raises(PlatformError, match="did not do its part"):
        _score(_write(people, tmp_path / "in.parquet"), tmp_path / "out.parquet", linear)
    names = [path.name for path in (tmp_path / ".out.parquet.parts").iterdir()]
    assert "part-00000.parquet" in names
    assert not [name for name in names if name.startswith(".part-")]


def test_gzip_members_may_follow_each_other(tmp_path, people, linear):
    """Compressed files that were put together are read to the end."""
    text = people.to_csv(index=False).encode()
    cut = text.index(b"\n", len(text) // 2) + 1
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(text[:cut]) + gzip.compress(text[cut:]))
    assert _score(tmp_path / "in.csv.gz", tmp_path / "out", linear).n_rows == 500


def test_row_groups_do_not_follow_the_batches(tmp_path, people, linear):
    """Small batches do not make small row groups."""
    _score(_write(people, tmp_path / "in.csv"), tmp_path / "out.parquet", linear)
    assert parquet.read_metadata(tmp_path / "out.parquet").num_row_groups == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("version", ["linear", "trees"])
def test_threads_and_compiled_code_write_the_same_bytes(tmp_path, request, people, kind, version, monkeypatch):
    """A batch of many partitions compiles its scorer; one of few has the same numbers."""
    monkeypatch.setattr("attrition.serving.batch.SMALL_PARTITIONS", 1)
    ref = request.getfixturevalue(version)
    source = _write(people, tmp_path / f"in.{kind}")
    batch = plan_batch(source, tmp_path / "threads.csv", ref, KEY)
    assert batch.job.compiled
    assert not batch.leaves_threads_free  # raw ids are replaced by Python code
    served = replace(batch, job=replace(batch.job, compiled=False), output=Output.at(tmp_path / "here.csv"))
    run_batch(batch, in_threads)
    run_batch(served, in_process)
    assert (tmp_path / "threads.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()


def test_faults_in_threads_end_a_batch(tmp_path, linear, people):
    """As in one thread: what was at work is reported."""
    people["age"] = people["age"].astype("str").mask(people.index >= 200, "secret")
    source = _write(people, tmp_path / "in.csv")
    with pytest.raises(ExtractError) as error:
        run_batch(plan_batch(source, tmp_path / "out", linear, KEY), in_threads)
    assert "secret" not in str(error.value)


def test_file_uris_are_paths(tmp_path, linear, people):
    """Input, output and bundle; blanks are quoted in a URI."""
    (tmp_path / "HR data").mkdir()
    source = _write(people, tmp_path / "HR data" / "in.parquet")
    uri = BundleRef("file://" + linear.uri, linear.version, linear.manifest_sha256)
    _score(source.as_uri(), (tmp_path / "HR data" / "out.csv").as_uri(), uri)
    _score(source, tmp_path / "plain.csv", linear)
    assert (tmp_path / "HR data" / "out.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


def test_no_folder_is_made_of_an_address(tmp_path, linear, people, monkeypatch):
    """An address that nothing writes to is refused in one line, not taken for a folder named s3:."""
    monkeypatch.chdir(tmp_path)
    source = _write(people, tmp_path / "in.csv")
    with pytest.raises(UsageError, match="cannot be read or written"):
        _score(source, "s3://bucket/out", linear)
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


ADDRESS = "abfss://hr@account.dfs.core.windows.net/scores"


@pytest.mark.parametrize("name", ["/out", "/out.parquet", "/out.csv", "/out.csv.gz"])
def test_a_store_holds_the_same(tmp_path, linear, people, object_store, name):
    """Byte for byte what a local output has; nothing else is left, here or there."""
    source = _write(people, tmp_path / "in.parquet")
    _score(source, tmp_path / f"local{name}", linear)
    result = _score(source, ADDRESS + name, linear)
    assert result.path == ADDRESS + name
    local = {
        path.relative_to(tmp_path / "local").as_posix(): path.read_bytes()
        for path in (tmp_path / "local").rglob("*")
        if path.is_file()
    }
    found = {path.removeprefix("/hr/scores/"): object_store.cat(path) for path in object_store.find("/hr/scores")}
    assert found.keys() == local.keys()
    assert {path: found[path] for path in found if ".gz" not in path} == {
        path: local[path] for path in local if ".gz" not in path
    }
    with pytest.raises(UsageError, match="is there already") if "." in name else nullcontext():
        assert _score(source, ADDRESS + name, linear).n_resumed == result.n_partitions
    again = _score(source, ADDRESS + name, linear, overwrite=True)
    assert (again.n_resumed, again.n_rows) == (0, len(people))


def test_an_interrupted_batch_goes_on_in_a_store(tmp_path, linear, people, object_store):
    """Parts that were uploaded are not scored again; one that is torn is."""
    source = _write(people, tmp_path / "in.parquet")
    first = _score(source, ADDRESS, linear)
    progress = json.loads(object_store.cat("/hr/scores/_progress.json"))
    object_store.pipe_file("/hr/scores/_progress.json", json.dumps({**progress, "complete": False}).encode())
    object_store.pipe_file("/hr/scores/part-00000.parquet", b"torn")
    second = _score(source, ADDRESS, linear)
    assert (second.n_partitions, second.n_resumed) == (first.n_partitions, first.n_partitions - 1)
    assert second.n_rows == len(people)


def test_an_address_lies_in_another():
    """As a path does: by its parts, not by its letters."""
    assert lies_in(ADDRESS, ADDRESS)
    assert lies_in(ADDRESS + "/out", ADDRESS)
    assert not lies_in(ADDRESS + "-out", ADDRESS)
    assert not lies_in(ADDRESS, ADDRESS + "/out")
    assert not lies_in(Path("/scores"), ADDRESS)


def test_a_store_that_does_not_answer(tmp_path, linear, people, object_store, monkeypatch):
    """Is the platform's fault, says so, and names no key."""
    monkeypatch.setattr(type(object_store), "_open", lambda *_, **__: (_ for _ in ()).throw(OSError("key=secret")))
    source = _write(people, tmp_path / "in.csv")
    with pytest.raises(PlatformError, match="did not do its part") as error:
        _score(source, ADDRESS, linear)
    assert "secret" not in str(error.value)
