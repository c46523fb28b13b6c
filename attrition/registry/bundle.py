"""What a serving replica loads: the lean folder of one version, verified, then turned into a function.

Importing this module needs neither MLflow nor scikit-learn nor pandas, and neither does anything it does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from attrition.data.addresses import local_or_address
from attrition.data.schema import FeatureSchema
from attrition.errors import Fault, IntegrityError, UsageError
from attrition.registry.manifest import read_verified, read_verified_from
from attrition.scoring.scorer import load_scorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attrition.registry.manifest import Manifest
    from attrition.scoring.explainer import Explainer
    from attrition.scoring.scorer import Scorer

FORMAT = "attrition.bundle/1"
SCHEMA_FILE = "schema.json"
CANDIDATE_FILE = "candidate.json"
SCORING_FOLDER = "scoring/"
EXPLAINING_FOLDER = "explaining/"


@dataclass(frozen=True, slots=True)
class BundleRef:
    """Where an exported version lies, and what it must be.

    Attributes
    ----------
    uri : str
        Absolute path of the folder, or its address in an object store.
    version : str
    manifest_sha256 : str
        Of the bundle's own manifest.
    """

    uri: str
    version: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version, verified and ready to score.

    Attributes
    ----------
    version : str
    scorer : Scorer
    schema : FeatureSchema
    threshold : float
        Probability from which a person is expected to leave.
    family : str
    manifest_sha256 : str
    facts : mapping
        JSON-ready: lineage, registry version and run, model digest.
    """

    version: str
    scorer: Scorer
    schema: FeatureSchema
    threshold: float
    family: str
    manifest_sha256: str
    facts: Mapping[str, Any]


def load_bundle(path: str | Path, manifest_sha256: str) -> Bundle:
    """The version in a folder, after every byte was compared with the manifest.

    Parameters
    ----------
    path
        Local path, ``file:`` URI, or address of an object store (``abfss://...``).
    manifest_sha256
        Of the bundle's manifest, as exported.

    Raises
    ------
    IntegrityError
        Changed, missing or additional files, or a content that is no version.
    UsageError
        A URI of another scheme.
    PlatformError
        The object store did not answer.
    """
    manifest, files = read_bundle(path, manifest_sha256)
    version, threshold, family, schema = _described(path, files)
    scorer = load_scorer(_within(SCORING_FOLDER, files))
    if scorer.feature_names != schema.names:
        raise IntegrityError(Fault(str(path), "the scorer reads other features than the schema has"))
    return Bundle(version, scorer, schema, threshold, family, manifest_sha256, manifest.facts)


def load_explainer(path: str | Path, manifest_sha256: str) -> Explainer:
    """The explainer of the version in a folder; parameters and errors as of :func:`load_bundle`.

    Raises
    ------
    NotFound
        The version was registered without what explanations need.
    """
    from attrition.scoring.explainer import Explainer

    _, files = read_bundle(path, manifest_sha256)
    version, threshold, _, schema = _described(path, files)
    scoring, background = _within(SCORING_FOLDER, files), _within(EXPLAINING_FOLDER, files)
    explainer = Explainer(scoring, background, schema=schema, version=version, threshold=threshold)
    if explainer.scorer.feature_names != schema.names:
        raise IntegrityError(Fault(str(path), "the scorer reads other features than the schema has"))
    return explainer


def is_bundle(folder: Path) -> bool:
    """Whether a folder says that it is a bundle; nothing is verified."""
    try:
        document = json.loads((folder / CANDIDATE_FILE).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _described(path: str | Path, files: Mapping[str, bytes]) -> tuple[str, float, str, FeatureSchema]:
    """Version, threshold, family and schema of a bundle."""
    try:
        document = json.loads(files[CANDIDATE_FILE])
        if document["format"] != FORMAT:
            raise IntegrityError(Fault(CANDIDATE_FILE, f"format {document['format']!r}", f"{FORMAT} is read"))
        schema = FeatureSchema.from_dict(json.loads(files[SCHEMA_FILE]))
        version, threshold, family = str(document["version"]), float(document["threshold"]), str(document["family"])
    except (KeyError, ValueError, TypeError) as error:
        raise IntegrityError(Fault(str(path), "not a bundle", f"a folder of {FORMAT}", "export it again")) from error
    if not 0.0 <= threshold <= 1.0:
        raise IntegrityError(Fault(CANDIDATE_FILE, f"threshold {threshold}", "a probability"))
    return version, threshold, family, schema


def _within(folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(folder): data for name, data in files.items() if name.startswith(folder)}


def read_bundle(path: str | Path, manifest_sha256: str) -> tuple[Manifest, dict[str, bytes]]:
    """Manifest and content of every file of a bundle, verified; parameters and errors as of :func:`load_bundle`."""
    place = local_or_address(path)
    if isinstance(place, Path):
        return read_verified(place, manifest_sha256)
    from attrition.data.folders import StoreFolder

    return read_verified_from(StoreFolder(place), manifest_sha256)


def local_path(path: str | Path) -> Path:
    """The local folder that a path or ``file:`` URI names.

    Raises
    ------
    UsageError
        A URI of another scheme.
    """
    text = str(path)
    if text.startswith("file:"):
        return Path(unquote(urlsplit(text).path))
    if "://" in text:
        raise UsageError(Fault(text, "not a local folder", "", "mount or download it, and give its path"))
    return Path(path)
