"""What windows are compared with: the training rows of a registered version, or the rows of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attrition.data.schema import FeatureSchema
from attrition.data.splits import apply_split
from attrition.errors import ExtractError, Fault, InputError, NotFound
from attrition.evaluation.references import PROBABILITY, DriftReference
from attrition.monitoring.run import Sample, read_columns
from attrition.monitoring.windows import file_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.data.tables import Tables
    from attrition.registry.models import ModelRegistry
    from attrition.registry.package import Package


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """A reference with its name.

    Attributes
    ----------
    name : str
        Version, or name of a file.
    model_version : str
        Empty for a file.
    reference : DriftReference
    sample : ndarray of shape (n_rows, n_features) or None
        Rows, for what single features do not show; None when they are not there any more.
    note : str
        Why there is no sample, as a sentence.
    """

    name: str
    model_version: str
    reference: DriftReference
    sample: NDArray[np.float64] | None
    note: str = ""


def is_file(reference: str) -> bool:
    """Whether a reference names a file rather than a version or alias.

    Examples
    --------
    >>> is_file("1.0.0"), is_file("champion"), is_file("data/2006.parquet")
    (False, False, True)
    """
    return "/" in reference or reference.endswith((".parquet", ".csv", ".csv.gz")) or Path(reference).exists()


def version_baseline(registry: ModelRegistry, tables: Tables, ref: str) -> Baseline:
    """The baseline that a version was registered with.

    Distributions come from its package. Rows come from the snapshot that it was trained on, less the persons who were
    erased since.

    Raises
    ------
    NotFound
        No such version, or it was registered without a drift reference.
    IntegrityError
        The package differs from its manifest.
    """
    package, version = registry.load(ref), registry.resolve(ref).version
    reference = package.drift_reference
    try:
        sample, note = _training_sample(package, tables, reference.names), ""
    except InputError:
        sample = None
        note = "The snapshot that the version was trained on is not there, so features were not looked at together."
    return Baseline(version, version, reference, sample, note)


def file_baseline(path: str, schema: FeatureSchema | None = None) -> Baseline:
    """The rows of a file as baseline; they are read into memory.

    Parameters
    ----------
    path
        CSV, CSV.gz or Parquet, a folder of them or a Delta table; columns are named as the features, and
        ``probability`` where there are scores.
    schema
        The features; those that the file lacks are left out. None: the nine HR features.

    Raises
    ------
    NotFound
        No such file.
    ExtractError
        It has none of the features, or values that are no numbers.
    """
    schema = schema or FeatureSchema.default()
    name, present, parts = file_parts(path)
    known = [each for each in schema.names if each in present]
    if not known:
        raise ExtractError(Fault(name, "has none of the features", f"such as {', '.join(schema.names[:3])}"))
    schema = schema.without(*(each for each in schema.names if each not in known))
    columns = read_columns(parts, known)
    reference = DriftReference.of(columns, schema, columns.get(PROBABILITY))
    if not reference.n_rows:
        raise ExtractError(Fault(name, "has no rows", "", "name a file with rows"))
    return Baseline(name, "", reference, _sampled([columns[each] for each in reference.names]))


def _training_sample(package: Package, tables: Tables, names: Sequence[str]) -> NDArray[np.float64]:
    lineage = package.lineage
    if lineage.snapshot is None or lineage.split is None:
        raise NotFound("The version does not say which snapshot it was trained on.")
    table, snapshot = tables.read_snapshot(lineage.snapshot.version)
    if not snapshot.held(lineage.snapshot.content_hash):
        raise NotFound("The snapshot of that number holds other rows.")
    features = table.take(apply_split(table, lineage.split).train).features
    return _sampled([features[name].to_numpy(np.float64) for name in names])


def _sampled(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return Sample.of(columns, 0, 0).rows
