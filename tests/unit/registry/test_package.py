"""A package holds a candidate whole, and verifies before it deserialises."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from attrition.errors import IntegrityError, NotFound
from attrition.registry.manifest import build_manifest
from attrition.registry.package import MODEL_FILE, model_digest, read_package
from attrition.scoring.compile import compile_candidate

TAMPERED: list[str] = []


class _Trap:
    def __reduce__(self):
        return TAMPERED.append, ("unpickled",)


def test_everything_comes_back(made, package):
    """Classifier, threshold, schema, lineage, out-of-fold scores, documents."""
    read = read_package(package.directory, package.manifest_sha256)
    again, candidate = read.candidate, made.candidate
    np.testing.assert_array_equal(again.score(made.table.features), candidate.score(made.table.features))
    np.testing.assert_array_equal(again.oof_score, candidate.oof_score)
    np.testing.assert_array_equal(again.oof_true, candidate.oof_true)
    for name in ("threshold", "schema", "family", "parameters", "calibration", "objective", "lineage"):
        assert getattr(again, name) == getattr(candidate, name)
    assert read.evaluation.to_dict() == made.evaluation.to_dict()
    assert read.verdict == made.verdict
    assert [report.to_dict() for report in read.fairness] == [report.to_dict() for report in made.fairness]
    assert read.quality == made.quality
    assert read.parity == made.parity
    assert read.threshold == candidate.threshold
    records = made.table.features.to_numpy()
    np.testing.assert_allclose(read.scorer.score(records), candidate.score(made.table.features), atol=1e-9)


def test_explanations_come_back(made, package):
    """The importance as it was measured, and an explainer that adds up to the candidate's probability."""
    read = read_package(package.directory, package.manifest_sha256)
    assert read.importance == made.importance
    rows = made.table.features.to_numpy()[:20]
    for row, probability in zip(rows.tolist(), made.candidate.score(made.table.features)[:20], strict=True):
        assert read.explainer("1.0.0").explain(row).probability == pytest.approx(probability, abs=1e-9)


def test_a_package_of_an_earlier_version_says_why_it_explains_nothing(made, tmp_path):
    """It was written without a background, and scores as ever."""
    ref = replace(made, background=None, importance=None).write(tmp_path / "package")
    read = read_package(ref.directory, ref.manifest_sha256)
    assert 0.0 <= read.scorer.score_one([1.0, 2.0, 1.0, 2.0]) <= 1.0
    for ask in (lambda: read.importance, lambda: read.explainer("1.0.0")):
        with pytest.raises(NotFound, match="train and register it again"):
            ask()


def test_the_drift_reference_comes_back(made, package):
    """Whole and by segment; the score's is that of the out-of-fold scores, of the training rows one by one."""
    read = read_package(package.directory, package.manifest_sha256).drift_reference
    assert read.digest == made.drift_reference.digest
    assert list(read.features) == [*made.table.schema.names, "probability"]
    assert set(read.segments) == {"1", "2", "3"}
    np.testing.assert_array_equal(read.features["probability"].values, np.unique(made.candidate.oof_score))


def test_a_package_of_an_earlier_version_says_that_it_has_no_drift_reference(made, tmp_path):
    """And what to do about it."""
    ref = replace(made, drift_reference=None).write(tmp_path / "package")
    with pytest.raises(NotFound, match="train and register it again, or compare with a file"):
        _ = read_package(ref.directory, ref.manifest_sha256).drift_reference


def test_quality_may_be_unknown(made, tmp_path):
    """Nobody has to have checked."""
    ref = replace(made, quality=None).write(tmp_path / "package")
    assert read_package(ref.directory, ref.manifest_sha256).quality is None


def test_the_pickle_is_not_touched_before_the_bytes_are_known(package):
    """A pickle that would run code on load is refused unread, although the folder's own manifest was adapted to it."""
    (package.directory / MODEL_FILE).write_bytes(pickle.dumps(_Trap()))
    manifest = package.directory / "manifest.json"
    manifest.write_bytes(build_manifest(package.directory, {}).to_bytes())
    with pytest.raises(IntegrityError):
        read_package(package.directory, package.manifest_sha256)
    assert not TAMPERED


def test_a_file_that_changes_after_the_package_was_opened_is_refused_too(package):
    """Bytes are checked as they are read."""
    read = read_package(package.directory, package.manifest_sha256)
    (package.directory / MODEL_FILE).write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(IntegrityError, match=MODEL_FILE):
        _ = read.candidate
    assert not TAMPERED


def test_a_path_outside_the_manifest_cannot_be_read(package):
    """However it is written."""
    read = read_package(package.directory, package.manifest_sha256)
    for path in ("../secret", "manifest.json", "/etc/passwd"):
        with pytest.raises(IntegrityError, match="not in the manifest"):
            read.read(path)


def test_another_folder_with_a_manifest_is_no_package(package):
    """Even when its digest is the expected one."""
    shutil.rmtree(package.directory / "scoring")
    manifest = build_manifest(package.directory, {"format": "attrition.package/9"})
    (package.directory / "manifest.json").write_bytes(manifest.to_bytes())
    with pytest.raises(IntegrityError, match=r"attrition\.package/1"):
        read_package(package.directory, manifest.sha256)


def test_the_same_candidate_makes_the_same_package(made, package, tmp_path):
    """No clock, no random id in it: the digest identifies the content."""
    assert made.write(tmp_path / "again").manifest_sha256 == package.manifest_sha256


def test_another_threshold_is_another_package_of_the_same_model(made, package, tmp_path):
    """So that it becomes a patch."""
    other = made.write(tmp_path / "other", threshold=0.123)
    facts = [read_package(ref.directory, ref.manifest_sha256).version_facts for ref in (package, other)]
    assert facts[0].model_digest == facts[1].model_digest == model_digest(compile_candidate(made.candidate))
    assert facts[1].threshold == 0.123


def test_requirements_are_pinned_and_the_signature_lists_the_features(package, made):
    """For MLflow's own tools."""
    document = yaml.safe_load((package.directory / "MLmodel").read_text())
    for name in made.candidate.schema.names:
        assert f'"{name}"' in document["signature"]["inputs"]
    requirements = (package.directory / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert any(line.startswith("scikit-learn==") for line in requirements)


def test_out_of_fold_scores_are_read_without_the_model(package, made, monkeypatch):
    """What recalibrates an estimate must not unpickle anything."""
    monkeypatch.setattr(pickle, "loads", lambda _: pytest.fail("unpickled"))
    y_true, y_score = read_package(package.directory, package.manifest_sha256).out_of_fold
    np.testing.assert_array_equal(y_true, made.candidate.oof_true)
    np.testing.assert_array_equal(y_score, made.candidate.oof_score)
