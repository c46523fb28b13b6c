"""The registry on a real MLflow with SQLite: register, verify, refuse, race, export."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from attrition.data.employees import EmployeeTable
from attrition.data.schema import FeatureSchema
from attrition.errors import IntegrityError, NotFound, ParityError, TrackingUnreachable, UsageError
from attrition.evaluation.gates import GateResult, Outcome, Verdict
from attrition.evaluation.reports import evaluate
from attrition.registry.bundle import load_bundle, local_path
from attrition.registry.models import ModelRegistry
from attrition.registry.package import read_package, write_package
from attrition.registry.records import MANIFEST_TAG, PENDING_TAG, VERSION_TAG
from attrition.scoring.compile import Parity, compile_candidate, prove_equal
from attrition.settings import MODEL_NAME, Settings
from attrition.training.candidate import fit_candidate
from attrition.training.lineage import Lineage
from attrition.training.tracking import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

# MLflow's own table definitions, at their first import
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

ADMITTED = Verdict((GateResult("auc", Outcome.PASS, 0.9, 0.88, 0.92, 0.85, 100, "AUC is high enough", holds=False),))
HELD = Verdict((GateResult("auc", Outcome.FAIL, 0.6, 0.5, 0.7, 0.85, 100, "AUC is below 0.85", holds=True),))


@dataclass
class Project:
    """An embedded MLflow, a registry, and a candidate to register in many variants."""

    settings: Settings
    candidate: Any
    table: EmployeeTable
    evaluation: Any
    parity: Any
    folder: Path

    @property
    def registry(self) -> ModelRegistry:
        return ModelRegistry(self.settings)

    def start_run(self) -> str:
        """Id of an empty run."""
        client = connect(self.settings)
        experiment = client.get_experiment_by_name(self.settings.experiment)
        return client.create_run(experiment.experiment_id).info.run_id

    def log(self, verdict: Verdict = ADMITTED, parity: Parity | None = None, **changes: Any) -> str:
        """Id of a run with the package of a variant of the candidate."""
        run_id = self.start_run()
        candidate = replace(self.candidate, **changes)
        ref = write_package(
            self.folder / run_id,
            candidate,
            self.evaluation,
            None,
            (),
            verdict,
            parity or self.parity,
            scoring_files=compile_candidate(candidate),
        )
        self.registry.log_package(run_id, ref)
        return run_id

    def log_other_model(self) -> str:
        """The same family, fitted differently."""
        lineage = replace(self.candidate.lineage, plan_digest="1" * 64)
        other = fit_candidate(self.table, "logistic_regression", {"C": 0.01}, n_folds=3, lineage=lineage)
        return self.log(classifier=other.classifier, parameters=other.parameters, lineage=lineage)


def _table() -> EmployeeTable:
    rng = np.random.default_rng(5)
    n_rows = 300
    schema = FeatureSchema.default().without("age", "performance_rating", "work_hours", "projects_count", "salary")
    satisfaction = rng.uniform(1, 5, n_rows)
    frame = pd.DataFrame(
        {
            "employee_id": [f"{i:08x}" for i in range(n_rows)],
            "snapshot_date": pd.Timestamp("2024-03-31"),
            "tenure": rng.uniform(0, 200, n_rows),
            "satisfaction_score": satisfaction,
            "promotion_flag": rng.integers(0, 2, n_rows).astype(float),
            "department_code": rng.integers(1, 4, n_rows).astype(float),
            "attrition": (rng.random(n_rows) < 1 / (1 + np.exp(4 * (satisfaction - 2.5)))).astype(np.int8),
        }
    )
    return EmployeeTable(frame, schema, source="made up")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Project:
    """One database for the module: creating it takes seconds."""
    folder = tmp_path_factory.mktemp("registry")
    settings = Settings.from_environment({}, home=folder / "home")
    connect(settings)
    table = _table()
    lineage = Lineage(None, None, "0.1.0+test", "unit", "0" * 64, 42, "2026-01-01T00:00:00+00:00")
    candidate = fit_candidate(table, "logistic_regression", {"C": 1.0}, n_folds=3, lineage=lineage)
    evaluation = evaluate(table.target, candidate.score(table.features), candidate.threshold, n_resamples=100)
    parity = prove_equal(compile_candidate(candidate), candidate, table.features)
    return Project(settings, candidate, table, evaluation, parity, folder / "packages")


@pytest.fixture
def project(base):
    """The same, with no model registered."""
    yield base
    client = connect(base.settings)
    if client.search_registered_models(f"name='{MODEL_NAME}'"):
        client.delete_registered_model(MODEL_NAME)


def test_a_run_becomes_version_one_and_champion(project):
    """With everything that is known about it, found under every name."""
    run_id = project.log()
    version = project.registry.register(run_id)
    assert (version.version, version.bump, version.aliases) == ("1.0.0", "initial", ("champion",))
    assert version.metrics["auc"] == pytest.approx(project.evaluation.metrics["auc"].value)
    assert version.estimates["auc"].low == pytest.approx(project.evaluation.metrics["auc"].low)
    assert version.lineage == project.candidate.lineage
    assert version.verdict == "PASS"
    assert "1.0.0" in str(version)
    assert "champion" in version._repr_html_()
    registry = project.registry
    for ref in ("1.0.0", "champion", str(version.number), run_id):
        assert registry.resolve(ref) == version
    assert registry.list() == [version] == [registry.show("champion")]
    assert registry.by_fingerprint(version.fingerprint) == version
    assert registry.by_fingerprint("0") is None
    assert registry.manifest_sha256(run_id) == version.manifest_sha256


def test_versions_follow_the_rule(project):
    """Threshold: patch. Learned: minor. Family: major. Nothing: none."""
    registry = project.registry
    first = registry.register(project.log())
    assert registry.register(project.log()).number == first.number
    assert registry.register(project.log(threshold=0.9)).version == "1.0.1"
    minor = registry.register(project.log_other_model())
    assert (minor.version, minor.bump, minor.aliases) == ("1.1.0", "minor", ("challenger",))
    assert registry.register(project.log(family="another")).version == "2.0.0"
    assert [version.version for version in registry.list()] == ["2.0.0", "1.1.0", "1.0.1", "1.0.0"]


def test_registering_a_run_twice_gives_the_same_version(project):
    """Also after others were registered."""
    registry = project.registry
    run_id = project.log()
    first = registry.register(run_id)
    registry.register(project.log(threshold=0.9))
    assert registry.register(run_id) == first


def test_a_held_candidate_is_registered_only_with_a_recorded_reason(project):
    """The gate's message says why it is refused."""
    run_id = project.log(HELD)
    for waive in (None, "", "  "):
        with pytest.raises(UsageError, match="AUC is below"):
            project.registry.register(run_id, waive=waive)
    assert project.registry.list() == []
    version = project.registry.register(run_id, waive="pilot of twenty people")
    assert version.waived == "pilot of twenty people"
    assert version.verdict == "FAIL"
    assert "pilot" in str(version)


def test_a_loaded_package_is_the_candidate(project):
    """By version and by run."""
    run_id = project.log()
    loaded = [project.registry.load(run_id)]
    project.registry.register(run_id)
    loaded.append(project.registry.load("1.0.0"))
    for package in loaded:
        np.testing.assert_array_equal(
            package.candidate.score(project.table.features), project.candidate.score(project.table.features)
        )


def test_a_flipped_byte_in_any_file_refuses_to_load(project):
    """Load, verify and export; nothing has been deserialised. The file is named."""
    registry = project.registry
    version = registry.register(project.log())
    directory = local_path(version.source)
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    assert len(paths) >= 12
    for path in paths:
        original = path.read_bytes()
        for position in {0, len(original) // 2, len(original) - 1}:
            damaged = bytearray(original)
            damaged[position] ^= 1
            path.write_bytes(bytes(damaged))
            for act in (registry.load, registry.verify, registry.export_bundle):
                with pytest.raises(IntegrityError, match=path.name):
                    act("1.0.0")
        path.write_bytes(original)
    assert registry.verify("1.0.0").n_files == len(paths) - 1


def test_a_file_beside_the_registered_ones_refuses_to_load(project):
    """A missing one as well."""
    version = project.registry.register(project.log())
    directory = local_path(version.source)
    (directory / "extra.py").write_text("")
    with pytest.raises(IntegrityError, match=r"extra\.py"):
        project.registry.load("champion")
    (directory / "extra.py").unlink()
    (directory / "schema.json").unlink()
    with pytest.raises(IntegrityError, match=r"schema\.json: missing"):
        project.registry.verify("champion")


def test_a_damaged_package_is_not_registered(project):
    """Nor logged."""
    run_id = project.log()
    model = connect(project.settings).get_run(run_id).data.tags["attrition.model_id"]
    location = connect(project.settings).get_logged_model(model).artifact_location
    (local_path(location) / "candidate.json").write_text("{}")
    with pytest.raises(IntegrityError):
        project.registry.register(run_id)
    assert project.registry.list() == []
    ref = read_package(project.folder / run_id, project.registry.manifest_sha256(run_id))
    (project.folder / run_id / "oof.npz").write_bytes(b"")
    with pytest.raises(IntegrityError):
        project.registry.log_package(run_id, ref)


def test_what_does_not_exist_is_said_with_what_does(project):
    """Version, alias, run, run without a package."""
    registry = project.registry
    with pytest.raises(NotFound, match=r"none is registered.*attrition tune --register"):
        registry.resolve("champion")
    registry.register(project.log())
    for ref in ("9.9.9", "nobody", "77"):
        with pytest.raises(NotFound, match=r"1\.0\.0 \(champion\)"):
            registry.load(ref)
    with pytest.raises(NotFound, match="run"):
        registry.register("0" * 32)
    with pytest.raises(NotFound, match="no package"):
        registry.register(project.start_run())


def test_aliases_move_and_promotion_ends_a_challenge(project):
    """One champion at a time."""
    registry = project.registry
    registry.register(project.log())
    registry.register(project.log(threshold=0.9))
    assert registry.promote("challenger").aliases == ("champion",)
    assert registry.resolve("1.0.0").aliases == ()
    assert "approved-2026-01" in registry.set_alias("approved-2026-01", "champion").aliases
    for bad in ("latest", "Champion", "1.0.0", "a b", ""):
        with pytest.raises(UsageError):
            registry.set_alias(bad, "1.0.0")


def test_versions_are_compared_by_verified_facts(project):
    """Versions and unregistered runs."""
    registry = project.registry
    registry.register(project.log())
    run_id = project.log(threshold=0.9)
    comparison = registry.compare("champion", run_id)
    assert comparison.first == "1.0.0"
    assert {name for name, _, _ in comparison.differences} == {"threshold"}


def test_an_exported_bundle_scores_as_the_candidate_decides(project):
    """From the configured folder; exporting again finds it."""
    registry = project.registry
    registry.register(project.log())
    ref = registry.export_bundle("champion")
    assert ref == registry.export_bundle("1.0.0")
    assert Path(ref.uri).parent == Path(project.settings.bundles)
    bundle = load_bundle(ref.uri, ref.manifest_sha256)
    assert (bundle.version, bundle.threshold) == ("1.0.0", project.candidate.threshold)
    records = project.table.features.to_numpy()
    np.testing.assert_allclose(bundle.scorer.score(records), project.candidate.score(project.table.features), atol=1e-9)


def test_registrations_at_once_get_different_versions(project):
    """Four at a time: consecutive patches, one champion; equal ones share a version."""
    runs = [project.log(threshold=0.5 + i / 100) for i in range(3)]
    runs.append(project.log(threshold=0.52))
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(project.registry.register, runs))
    listed = project.registry.list()
    assert len({version.version for version in listed}) == len(listed)
    assert {version.version for version in versions} == {version.version for version in listed}
    assert [version.version for version in listed if "champion" in version.aliases] == ["1.0.0"]
    assert listed[0].version == f"1.0.{len(listed) - 1}"


def test_a_registration_that_died_is_passed_over(project, monkeypatch):
    """Its half-made version is invisible, and the next one does not wait for it for ever."""
    monkeypatch.setattr("attrition.registry.models.PENDING_SECONDS", 0.5)
    registry = project.registry
    registry.register(project.log())
    monkeypatch.setattr(ModelRegistry, "_complete", lambda *_: pytest.fail("died"))
    with pytest.raises(pytest.fail.Exception):
        registry.register(project.log(threshold=0.8))
    monkeypatch.undo()
    monkeypatch.setattr("attrition.registry.models.PENDING_SECONDS", 0.5)
    assert [version.version for version in registry.list()] == ["1.0.0"]
    assert registry.register(project.log(threshold=0.9)).version == "1.0.1"


@pytest.mark.parametrize("moment", ["set_registered_model_alias", "delete_model_version_tag"])
def test_a_registration_killed_before_its_alias_is_completed_by_the_next(project, monkeypatch, moment):
    """Of the same run, of a run like it, or of another: there is a champion afterwards."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for follow_up in (lambda killed: killed, lambda _: project.log(), lambda _: project.log(threshold=0.9)):
        killed = project.log()
        with monkeypatch.context() as patch:
            patch.setattr(f"mlflow.tracking.MlflowClient.{moment}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                project.registry.register(killed)
        project.registry.register(follow_up(killed))
        assert project.registry.resolve("champion").version == "1.0.0"
        pending = [version for version in _raw_versions(project) if PENDING_TAG in version.tags]
        assert pending == []
        connect(project.settings).delete_registered_model(MODEL_NAME)


def test_an_alias_that_was_moved_on_purpose_stays(project):
    """Registering again repairs what was interrupted, and nothing else."""
    registry = project.registry
    first, second = project.log(), project.log(threshold=0.9)
    registry.register(first)
    registry.register(second)
    registry.promote("1.0.1")
    registry.promote("1.0.0")
    assert registry.register(first).aliases == ("champion",)
    assert registry.register(second).aliases == ()


@pytest.mark.parametrize("parity", [Parity(1e-3, 500, 1e-6), Parity(1e-3, 500, 1e-2), Parity(0.0, 0, 1e-6)])
def test_a_scorer_that_was_not_proven_equal_is_not_registered(project, parity):
    """Too large a difference, too lax a tolerance, nothing compared: not even with a reason."""
    run_id = project.log(parity=parity)
    with pytest.raises(ParityError, match="differs from its pipeline"):
        project.registry.register(run_id, waive="never mind")
    assert project.registry.list() == []


@pytest.mark.parametrize("digest", ["../keys", "", "0" * 63, "A" * 64, "0" * 64 + "/.."])
def test_a_manifest_digest_that_is_none_is_refused(project, digest):
    """On a version and on a run; it would be used as the name of a folder."""
    registry = project.registry
    run_id = project.log()
    version = registry.register(run_id)
    client = connect(project.settings)
    unregistered = project.log(threshold=0.9)
    client.set_tag(unregistered, MANIFEST_TAG, digest)
    for act in (registry.load, registry.verify, registry.register):
        with pytest.raises(IntegrityError, match="64 hexadecimal digits"):
            act(unregistered)
    client.set_model_version_tag(MODEL_NAME, str(version.number), MANIFEST_TAG, digest)
    for act in (registry.load, registry.verify, registry.export_bundle):
        with pytest.raises(IntegrityError, match=r"version 1\.0\.0.*64 hexadecimal digits"):
            act("1.0.0")


def test_a_read_only_database_is_named(project):
    """No traceback of a library, and what exists can still be read."""
    run_id = project.log()
    project.registry.register(run_id)
    registry = project.registry
    assert registry.list()
    database = Path(project.settings.tracking_uri.removeprefix("sqlite:///"))
    client = registry._client()._client
    with _read_only(database, client):
        with pytest.raises(TrackingUnreachable, match=r"mlflow\.db.*readonly"):
            registry.set_alias("pilot", "1.0.0")
        assert registry.resolve("champion").version == "1.0.0"


@contextmanager
def _read_only(database: Path, client: Any) -> Iterator[None]:
    """SQLite refuses writes on every connection; file permissions would not stop an administrator."""
    from sqlalchemy import event

    engine = client._get_registry_client().store.engine

    def refuse(connection, _record, _proxy):
        connection.execute("PRAGMA query_only = ON")

    def allow(connection, _record):
        connection.execute("PRAGMA query_only = OFF")

    assert database.is_file()
    event.listen(engine, "checkout", refuse)
    event.listen(engine, "checkin", allow)
    try:
        yield
    finally:
        event.remove(engine, "checkout", refuse)
        event.remove(engine, "checkin", allow)


def _raw_versions(project: Project) -> list[Any]:
    return list(connect(project.settings).search_model_versions(f"name='{MODEL_NAME}'"))


def test_versions_of_others_are_left_alone(project):
    """A version without our tags is neither listed nor an obstacle."""
    registry = project.registry
    registry.register(project.log())
    client = connect(project.settings)
    foreign = client.create_model_version(MODEL_NAME, source="file:///nowhere", await_creation_for=0)
    assert VERSION_TAG not in foreign.tags
    assert PENDING_TAG not in foreign.tags
    assert [version.version for version in registry.list()] == ["1.0.0"]
    assert registry.register(project.log(threshold=0.9)).version == "1.0.1"


def test_logging_and_registering_take_at_most_two_seconds(project):
    """No requirement is inferred, no model imported."""
    project.registry.register(project.log())
    started = time.perf_counter()
    project.registry.register(project.log(threshold=0.9))
    assert time.perf_counter() - started < 2.0


def test_mlflow_itself_loads_the_champion(project):
    """With its own tools and nothing of ours, through the registry's alias."""
    project.registry.register(project.log())
    frame = project.table.features.head(5)
    frame.to_json(project.folder / "five.json")
    program = f"""
import mlflow, pandas as pd
mlflow.set_tracking_uri({project.settings.tracking_uri!r})
model = mlflow.pyfunc.load_model("models:/{MODEL_NAME}@champion")
frame = pd.read_json({str(project.folder / "five.json")!r}, dtype="float64")
print(*model.predict(frame)[:, 1])
assert [column.name for column in model.metadata.get_input_schema()] == list(frame)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, text=True)
    found = [float(value) for value in done.stdout.split()]
    np.testing.assert_allclose(found, project.candidate.score(frame), atol=1e-9)


def test_a_deleted_version_is_gone_and_its_number_is_never_used_again(project):
    """The files, the bundle and the aliases go; who did it and why stays; the champion cannot be deleted."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    registry = project.registry
    champion = registry.register(project.log())
    second = registry.register(project.log_other_model())
    bundle = Path(registry.export_bundle(second.version).uri)
    with pytest.raises(UsageError, match="is the champion"):
        registry.delete("champion", by="ada", justification="wrong", now=now)
    deleted = registry.delete(second.version, by="ada", justification="retention is over", now=now)
    assert deleted.deleted["by"] == "ada"
    assert registry.list() == [registry.resolve(champion.version)]
    assert not bundle.exists()
    assert not local_path(second.source).exists()
    for ref in (second.version, "challenger"):
        with pytest.raises(NotFound):
            registry.resolve(ref)
    with pytest.raises(NotFound, match="was deleted on 2026-05-01"):
        registry.load(second.version)
    third = registry.register(project.log(threshold=0.77))
    assert third.version not in {champion.version, second.version}
