"""The package of a candidate: everything that a model version is, in one folder with one manifest.

``MLmodel`` makes the folder a model of MLflow's scikit-learn flavour, so that ``mlflow models serve`` and
``mlflow.pyfunc.load_model`` read it. It is written here as the small YAML document that it is: MLflow would guess
requirements by importing the model, for seconds, and needs its whole inference stack to do so.

========================== =============================================================================
File                       Holds
========================== =============================================================================
MLmodel, requirements.txt, MLflow's description of the model and of its environment
python_env.yaml,
conda.yaml
model/model.pkl            the classifier, for evaluation and for MLflow's own tools; never read by a replica
scoring/                   the scorer in its declared format
explaining/                what explanations need beside it, as statistics of the training rows
shap.json                  Shapley importance of the features on the holdout
schema.json                the features
candidate.json             family, parameters, calibration, threshold, lineage, parity of the scorer
evaluation.json, ...       evaluation, fairness, quality and verdict
oof.npz                    out-of-fold outcomes and scores of the training rows
drift_reference.npz        distributions of features and scores that later windows are compared with
manifest.json              SHA-256 of all others
========================== =============================================================================
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.schema import FeatureSchema
from attrition.errors import Fault, IntegrityError, NotFound
from attrition.registry.manifest import canonical_json, read_file, verify_directory, write_folder
from attrition.registry.versions import VersionFacts
from attrition.scoring.parity import Parity
from attrition.scoring.scorer import load_scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from attrition.data.quality import QualityReport
    from attrition.evaluation.explanations import GlobalImportance
    from attrition.evaluation.fairness import FairnessReport
    from attrition.evaluation.gates import Verdict
    from attrition.evaluation.references import DriftReference
    from attrition.evaluation.reports import Evaluation
    from attrition.registry.manifest import Manifest
    from attrition.scoring.explainer import Explainer
    from attrition.scoring.scorer import Scorer
    from attrition.training.candidate import Candidate, Lineage

FORMAT = "attrition.package/1"
CANDIDATE_FILE = "candidate.json"
MODEL_FILE = "model/model.pkl"
OOF_FILE = "oof.npz"
SCHEMA_FILE = "schema.json"
SCORING_FOLDER = "scoring/"
EXPLAINING_FOLDER = "explaining/"
IMPORTANCE_FILE = "shap.json"
DRIFT_FILE = "drift_reference.npz"

_REQUIRED = ("scikit-learn", "numpy", "scipy", "pandas")


@dataclass(frozen=True, slots=True)
class PackageRef:
    """A written package: its folder, and the SHA-256 (hex) of its manifest."""

    directory: Path
    manifest_sha256: str


class Package:
    """A verified package. Files are checked again as they are read; the model is unpickled only when asked for.

    Attributes
    ----------
    directory : Path
    manifest : Manifest
    manifest_sha256 : str
    """

    def __init__(self, directory: Path, manifest: Manifest, manifest_sha256: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.manifest_sha256 = manifest_sha256

    def __repr__(self) -> str:
        facts = self.facts
        return f"<Package {facts['family']} {facts['verdict']} sha256:{self.manifest_sha256[:12]}>"

    def read(self, path: str) -> bytes:
        """Verified content of one file.

        Raises
        ------
        IntegrityError
            The file changed since the package was opened.
        """
        return read_file(self.directory, path, self.manifest)

    def document(self, path: str) -> Any:
        """Verified content of one JSON file."""
        return json.loads(self.read(path))

    @property
    def facts(self) -> Mapping[str, Any]:
        """Facts of the manifest, JSON-ready."""
        return self.manifest.facts

    @property
    def version_facts(self) -> VersionFacts:
        """What the version rule looks at; without a version."""
        return VersionFacts(version="", **{name: self.facts[name] for name in _RULE_FACTS})

    @cached_property
    def schema(self) -> FeatureSchema:
        """The features, and the horizon."""
        return FeatureSchema.from_dict(self.document(SCHEMA_FILE))

    @cached_property
    def lineage(self) -> Lineage:
        """Where the model comes from."""
        from attrition.training.candidate import Lineage

        return Lineage.from_dict(self.document(CANDIDATE_FILE)["lineage"])

    @property
    def threshold(self) -> float:
        """Probability from which a person is expected to leave."""
        return float(self.facts["threshold"])

    @property
    def scoring_files(self) -> dict[str, bytes]:
        """The scorer's files, content by name."""
        return self._folder(SCORING_FOLDER)

    @property
    def background_files(self) -> dict[str, bytes]:
        """What explanations need beside the scorer; empty when it was packaged without."""
        return self._folder(EXPLAINING_FOLDER)

    def _folder(self, folder: str) -> dict[str, bytes]:
        paths = [path for path in self.manifest.files if path.startswith(folder)]
        return {path.removeprefix(folder): self.read(path) for path in paths}

    def explainer(self, version: str) -> Explainer:
        """Explains what the scorer estimates, under the name `version`.

        Raises
        ------
        NotFound
            The package was written without a background.
        IntegrityError
            A file is malformed, or changed since the package was opened.
        """
        from attrition.scoring.explainer import Explainer

        return Explainer(
            self.scoring_files, self.background_files, schema=self.schema, version=version, threshold=self.threshold
        )

    @cached_property
    def importance(self) -> GlobalImportance:
        """What the model relies on: Shapley values of rows of the holdout.

        Raises
        ------
        NotFound
            The package was written without it.
        """
        from attrition.evaluation.explanations import GlobalImportance

        if IMPORTANCE_FILE not in self.manifest.files:
            remedy = "train and register it again to get one that can be explained"
            raise NotFound(Fault(IMPORTANCE_FILE, "this version was registered without it", remedy=remedy))
        return GlobalImportance.from_dict(self.document(IMPORTANCE_FILE))

    @cached_property
    def drift_reference(self) -> DriftReference:
        """Distributions of the training rows' features and out-of-fold scores.

        Raises
        ------
        NotFound
            The package was written without them.
        """
        from attrition.evaluation.references import DriftReference

        if DRIFT_FILE not in self.manifest.files:
            remedy = "train and register it again, or compare with a file of its training data"
            raise NotFound(Fault(DRIFT_FILE, "this version was registered without a drift reference", remedy=remedy))
        return DriftReference.from_bytes(self.read(DRIFT_FILE))

    @cached_property
    def scorer(self) -> Scorer:
        """The compiled scorer."""
        return load_scorer(self.scoring_files)

    @cached_property
    def parity(self) -> Parity:
        """How equal scorer and pipeline were found."""
        return Parity.from_dict(self.document(CANDIDATE_FILE)["parity"])

    @cached_property
    def evaluation(self) -> Evaluation:
        """On the holdout."""
        from attrition.evaluation.reports import Evaluation

        return Evaluation.from_dict(self.document("evaluation.json"))

    @cached_property
    def verdict(self) -> Verdict:
        """Of the gates."""
        from attrition.evaluation.gates import Verdict

        return Verdict.from_dict(self.document("verdict.json"))

    @cached_property
    def fairness(self) -> tuple[FairnessReport, ...]:
        """One report per attribute."""
        from attrition.evaluation.fairness import FairnessReport

        return tuple(FairnessReport.from_dict(report) for report in self.document("fairness.json"))

    @cached_property
    def quality(self) -> QualityReport | None:
        """Findings about the data; None when nobody checked."""
        from attrition.data.quality import QualityReport

        document = self.document("quality.json")
        return None if document is None else QualityReport.from_dict(document)

    @cached_property
    def out_of_fold(self) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """Outcomes (0 or 1) and out-of-fold probabilities of the training rows, each of shape (n_rows,).

        Raises
        ------
        IntegrityError
            The file changed since the package was opened.
        """
        with np.load(io.BytesIO(self.read(OOF_FILE)), allow_pickle=False) as oof:
            return oof["oof_true"], oof["oof_score"]

    @cached_property
    def candidate(self) -> Candidate:
        """The candidate with its classifier, unpickled from bytes that were verified as they were read.

        Raises
        ------
        IntegrityError
            A file changed since the package was opened.
        """
        import pickle

        from attrition.training.candidate import Candidate

        document = self.document(CANDIDATE_FILE)
        oof_true, oof_score = self.out_of_fold
        return Candidate(
            classifier=pickle.loads(self.read(MODEL_FILE)),  # noqa: S301 - exactly the bytes that were registered
            threshold=self.threshold,
            schema=self.schema,
            family=document["family"],
            parameters=document["parameters"],
            calibration=document["calibration"],
            objective=document["objective"],
            lineage=self.lineage,
            oof_true=oof_true,
            oof_score=oof_score,
            mitigation=document.get("mitigation"),
        )


_RULE_FACTS = ("family", "schema_digest", "model_digest", "threshold", "fingerprint")


def write_package(
    directory: Path,
    candidate: Candidate,
    evaluation: Evaluation,
    quality: QualityReport | None,
    fairness: Sequence[FairnessReport],
    verdict: Verdict,
    parity: Parity,
    *,
    scoring_files: Mapping[str, bytes],
    background_files: Mapping[str, bytes] | None = None,
    importance: GlobalImportance | None = None,
    drift_reference: DriftReference | None = None,
) -> PackageRef:
    """Write a candidate and everything known about it into a new folder.

    Parameters
    ----------
    directory
        Does not exist yet.
    parity
        Of :func:`attrition.scoring.compile.prove_equal`, for `scoring_files`.
    scoring_files
        The compiled scorer: the very bytes that were proven equal to the candidate.
    background_files
        Of :func:`attrition.scoring.compile.compile_background`; without them predictions cannot be explained.
    importance
        Of the features, on the holdout.
    drift_reference
        Of the training rows; without it, drift is measured against files only.

    Raises
    ------
    FileExistsError
        The folder exists.
    """
    facts = _facts(candidate, evaluation, verdict, scoring_files)
    files = {
        **_mlflow_files(candidate),
        **{SCORING_FOLDER + name: data for name, data in scoring_files.items()},
        **{EXPLAINING_FOLDER + name: data for name, data in (background_files or {}).items()},
        SCHEMA_FILE: canonical_json(candidate.schema.to_dict()),
        CANDIDATE_FILE: canonical_json(_candidate_document(candidate, parity)),
        "evaluation.json": canonical_json(evaluation.to_dict()),
        "verdict.json": canonical_json(verdict.to_dict()),
        "quality.json": canonical_json(None if quality is None else quality.to_dict()),
        "fairness.json": canonical_json([report.to_dict() for report in fairness]),
        OOF_FILE: _oof(candidate),
    }
    if importance is not None:
        files[IMPORTANCE_FILE] = canonical_json(importance.to_dict())
    if drift_reference is not None:
        files[DRIFT_FILE] = drift_reference.to_bytes()
    return PackageRef(Path(directory), write_folder(Path(directory), files, facts))


def read_package(directory: Path, manifest_sha256: str) -> Package:
    """The package in a folder, after every byte was compared with the manifest; nothing is deserialised yet.

    Raises
    ------
    IntegrityError
        Names every file that is changed, missing or not promised.
    """
    manifest = verify_directory(Path(directory), manifest_sha256)
    if manifest.facts.get("format") != FORMAT:
        found = f"holds {str(manifest.facts.get('format'))[:40]!r}"
        raise IntegrityError(Fault(Path(directory).name, found, f"this version of attrition reads {FORMAT}"))
    return Package(Path(directory), manifest, manifest_sha256)


def model_digest(scoring_files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) of a scorer's files: what was learned, whatever the threshold."""
    digest = hashlib.sha256()
    for name in sorted(scoring_files):
        digest.update(f"{name}\0{len(scoring_files[name])}\0".encode())
        digest.update(scoring_files[name])
    return digest.hexdigest()


def _facts(
    candidate: Candidate, evaluation: Evaluation, verdict: Verdict, scoring: Mapping[str, bytes]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "family": candidate.family,
        "parameters": dict(candidate.parameters),
        "calibration": candidate.calibration,
        "features": list(candidate.schema.names),
        "schema_digest": candidate.schema.digest,
        "model_digest": model_digest(scoring),
        "threshold": float(candidate.threshold),
        "fingerprint": candidate.lineage.fingerprint,
        "lineage": candidate.lineage.to_dict(),
        "metrics": {name: estimate.to_dict() for name, estimate in evaluation.metrics.items()},
        "verdict": str(verdict.outcome),
        "admits": bool(verdict.admits),
    }


def _candidate_document(candidate: Candidate, parity: Parity) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "family": candidate.family,
        "parameters": dict(candidate.parameters),
        "calibration": candidate.calibration,
        "objective": dict(candidate.objective),
        "threshold": float(candidate.threshold),
        "lineage": candidate.lineage.to_dict(),
        "fingerprint": candidate.lineage.fingerprint,
        "parity": parity.to_dict(),
        "mitigation": candidate.mitigation,
    }


def _mlflow_files(candidate: Candidate) -> dict[str, bytes]:
    import pickle

    import yaml

    python = platform.python_version()
    requirements = [f"mlflow=={installed('mlflow')}", *(f"{name}=={installed(name)}" for name in _REQUIRED)]
    inputs = [{"type": "double", "name": name, "required": False} for name in candidate.schema.names]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": requirements}],
    }
    document = {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": MODEL_FILE,
                "predict_fn": "predict_proba",
                "python_version": python,
            },
            "sklearn": {
                "code": None,
                "pickled_model": MODEL_FILE,
                "serialization_format": "pickle",
                "sklearn_version": installed("scikit-learn"),
            },
        },
        "mlflow_version": installed("mlflow"),
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
    }
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    return {
        "MLmodel": yaml.safe_dump(document).encode(),
        "requirements.txt": "\n".join([*requirements, ""]).encode(),
        "python_env.yaml": yaml.safe_dump(environment).encode(),
        "conda.yaml": yaml.safe_dump(conda).encode(),
        MODEL_FILE: pickle.dumps(candidate.classifier, protocol=5),
    }


def _oof(candidate: Candidate) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, oof_true=candidate.oof_true, oof_score=candidate.oof_score)
    return stream.getvalue()
