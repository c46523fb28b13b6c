"""A replica loads exactly what was exported, and little else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attrition.errors import IntegrityError, NotFound, UsageError
from attrition.registry.bundle import load_bundle, load_explainer, local_path
from attrition.registry.export import remove_bundles, write_bundle
from attrition.registry.manifest import write_folder
from attrition.registry.package import read_package
from attrition.registry.records import ModelVersion


@pytest.fixture
def opened(package):
    """The package, verified."""
    return read_package(package.directory, package.manifest_sha256)


@pytest.fixture
def version(opened):
    """A registered version of it."""
    return ModelVersion(
        version="1.0.0",
        number=1,
        run_id="0" * 32,
        model_id="m-1",
        source=str(opened.directory),
        aliases=("champion",),
        manifest_sha256=opened.manifest_sha256,
        created_at="2026-01-01T00:00:00+00:00",
        bump="initial",
        waived="",
        facts=opened.facts,
    )


def test_a_bundle_scores_as_the_candidate_decides(made, opened, version, tmp_path):
    """Version, threshold, schema and scorer are those of the package."""
    ref = write_bundle(tmp_path / "bundles", opened, version)
    bundle = load_bundle(ref.uri, ref.manifest_sha256)
    assert (bundle.version, bundle.threshold, bundle.schema) == (
        "1.0.0",
        made.candidate.threshold,
        made.candidate.schema,
    )
    records = made.table.features.to_numpy()
    np.testing.assert_allclose(bundle.scorer.score(records), made.candidate.score(made.table.features), atol=1e-9)
    assert load_bundle(Path(ref.uri).as_uri(), ref.manifest_sha256).manifest_sha256 == ref.manifest_sha256


def test_a_bundle_is_lean_and_named_after_its_content(opened, version, tmp_path):
    """No pickle, no data."""
    ref = write_bundle(tmp_path, opened, version)
    found = sorted(path.relative_to(ref.uri).as_posix() for path in Path(ref.uri).rglob("*") if path.is_file())
    assert found == [
        "candidate.json",
        "explaining/background.json",
        "manifest.json",
        "schema.json",
        "scoring/scorer.json",
    ]
    assert Path(ref.uri).name == f"1.0.0-{ref.manifest_sha256[:8]}"


def test_exporting_again_reuses_the_folder_and_repairs_a_damaged_one(opened, version, tmp_path):
    """Nothing else is left behind."""
    ref = write_bundle(tmp_path, opened, version)
    written = (Path(ref.uri) / "schema.json").stat().st_mtime_ns
    assert write_bundle(tmp_path, opened, version) == ref
    assert (Path(ref.uri) / "schema.json").stat().st_mtime_ns == written
    (Path(ref.uri) / "schema.json").write_text("{}")
    assert write_bundle(tmp_path, opened, version) == ref
    load_bundle(ref.uri, ref.manifest_sha256)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_explains_as_its_package_does(made, opened, version, tmp_path):
    """The same explanation, and it adds up to the candidate's probability."""
    ref = write_bundle(tmp_path, opened, version)
    row = made.table.features.to_numpy()[3].tolist()
    found = load_explainer(ref.uri, ref.manifest_sha256).explain(row)
    assert found == opened.explainer("1.0.0").explain(row)
    assert found.probability == pytest.approx(made.candidate.score(made.table.features)[3], abs=1e-9)
    assert found.threshold == made.candidate.threshold


def test_a_bundle_of_a_version_without_a_background_scores_and_says_why_it_does_not_explain():
    """The one that an earlier version exported."""
    folder = Path(__file__).with_name("golden") / "bundle-1"
    digest = "a08d6bd3efc123f95039fe2213a9ccce5189db94a72388b8d68d1ab2b10a812a"
    with pytest.raises(NotFound, match="registered without it; train and register it again"):
        load_explainer(folder, digest)


@pytest.mark.parametrize(
    "name",
    ["candidate.json", "schema.json", "scoring/scorer.json", "explaining/background.json", "manifest.json"],
)
def test_a_changed_byte_is_refused(opened, version, tmp_path, name):
    """In every file."""
    ref = write_bundle(tmp_path, opened, version)
    path = Path(ref.uri) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=name):
        load_bundle(ref.uri, ref.manifest_sha256)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "attrition.bundle/9"},
        {"threshold": 1.5},
        {"threshold": None},
        {"version": None, "format": None},
    ],
)
def test_a_verified_folder_that_is_no_bundle_is_refused(opened, version, tmp_path, change):
    """Whoever exported it made a mistake."""
    ref = write_bundle(tmp_path, opened, version)
    files = {p.relative_to(ref.uri).as_posix(): p.read_bytes() for p in Path(ref.uri).rglob("*") if p.is_file()}
    del files["manifest.json"]
    files["candidate.json"] = json.dumps({**json.loads(files["candidate.json"]), **change}).encode()
    digest = write_folder(tmp_path / "other", files, {})
    with pytest.raises(IntegrityError):
        load_bundle(tmp_path / "other", digest)


def test_a_bundle_exported_by_an_earlier_version_loads_and_scores_as_it_did():
    """The formats of manifest, bundle and schema are a promise: this folder is never regenerated."""
    digest = "a08d6bd3efc123f95039fe2213a9ccce5189db94a72388b8d68d1ab2b10a812a"
    bundle = load_bundle(Path(__file__).with_name("golden") / "bundle-1", digest)
    assert (bundle.version, bundle.family) == ("1.0.0", "logistic_regression")
    assert bundle.threshold == pytest.approx(0.46606568622857164)
    assert bundle.schema.names == ("tenure", "satisfaction_score", "promotion_flag", "department_code")
    assert bundle.scorer.score_one([12.0, 2.0, 0.0, 1.0]) == pytest.approx(0.8789668209362342)
    assert bundle.scorer.score_one([80.0, np.nan, 1.0, 99.0]) == pytest.approx(0.1971480173423066)


ADDRESS = "abfss://models@account.dfs.core.windows.net/bundles"


def test_a_bundle_in_an_object_store(opened, version, tmp_path, object_store):
    """Equal to a local one, made once, made again when it is damaged, and removed by version."""
    local = write_bundle(tmp_path, opened, version)
    ref = write_bundle(ADDRESS, opened, version)
    assert ref.uri == f"{ADDRESS}/{Path(local.uri).name}"
    assert ref.manifest_sha256 == local.manifest_sha256
    folder = f"/models/bundles/{Path(ref.uri).name}"
    found = {path.removeprefix(f"{folder}/"): object_store.cat(path) for path in object_store.find(folder)}
    files = {each.relative_to(local.uri).as_posix(): each.read_bytes() for each in Path(local.uri).rglob("*.*")}
    assert found == files
    loaded = load_bundle(ref.uri, ref.manifest_sha256)
    assert loaded.scorer.score_one([40.0] * len(loaded.schema.names)) == load_bundle(
        local.uri, local.manifest_sha256
    ).scorer.score_one([40.0] * len(loaded.schema.names))
    object_store.store.clear()
    assert write_bundle(ADDRESS, opened, version) == ref
    remove_bundles(ADDRESS, "1.0")
    assert load_bundle(ref.uri, ref.manifest_sha256).version == "1.0.0"
    remove_bundles(ADDRESS, "1.0.0")
    assert object_store.find("/models") == []


@pytest.mark.parametrize("damage", ["changed", "longer", "missing", "added", "manifest"])
def test_a_damaged_bundle_in_an_object_store(opened, version, object_store, damage):
    """Is not loaded, and the next export mends it."""
    ref = write_bundle(ADDRESS, opened, version)
    folder = f"/models/bundles/{Path(ref.uri).name}"
    content = object_store.cat(f"{folder}/candidate.json")
    if damage == "missing":
        object_store.rm(f"{folder}/candidate.json")
    elif damage == "added":
        object_store.pipe_file(f"{folder}/scoring/more.json", b"{}")
    else:
        name = "manifest.json" if damage == "manifest" else "candidate.json"
        object_store.pipe_file(f"{folder}/{name}", content + b" " if damage == "longer" else b"x" + content[1:])
    with pytest.raises(IntegrityError):
        load_bundle(ref.uri, ref.manifest_sha256)
    assert write_bundle(ADDRESS, opened, version) == ref
    assert load_bundle(ref.uri, ref.manifest_sha256).version == "1.0.0"


def test_an_address_that_is_not_local_is_refused():
    """With what to do."""
    with pytest.raises(UsageError, match="mount or download"):
        local_path("abfss://bundles@account/1.0.0")


def test_a_replica_imports_no_training_library(opened, version, tmp_path):
    """Loading and scoring, in a fresh process."""
    ref = write_bundle(tmp_path, opened, version)
    program = f"""
import sys
from attrition.registry.bundle import load_bundle
bundle = load_bundle({ref.uri!r}, {ref.manifest_sha256!r})
assert 0 <= bundle.scorer.score_one([1.0] * len(bundle.schema.names)) <= 1
heavy = {{"sklearn", "pandas", "scipy", "mlflow", "ray", "matplotlib", "treelite", "pyarrow"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
