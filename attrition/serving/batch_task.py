"""One partition: read, score, write. Runs in any process; needs neither scikit-learn nor pandas nor MLflow.

Output columns: ``employee_id`` (a pseudonym; null where the input has none), ``probability`` of leaving within the
version's horizon, ``decision`` (true: expected to leave), ``model_version``, then the columns to keep.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from attrition.data.schema import EMPLOYEE_ID
from attrition.errors import ExtractError
from attrition.registry.bundle import load_bundle
from attrition.serving.batch_arrays import ascii_texts, booleans, doubles
from attrition.serving.batch_checks import FeatureChecks, Tally
from attrition.serving.batch_ids import Identities
from attrition.serving.batch_read import NotNumeric, read_mapped_rows, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from attrition.data.mapping import Mapping
    from attrition.data.schema import FeatureSchema
    from attrition.governance.privacy import PseudonymKey
    from attrition.registry.bundle import Bundle, BundleRef
    from attrition.scoring.scorer import Scorer
    from attrition.serving.batch_ids import Ids
    from attrition.serving.batch_output import Output, PartReport
    from attrition.serving.batch_plan import Partition
    from attrition.serving.batch_read import Rows

OUTPUT_COLUMNS = (EMPLOYEE_ID, "probability", "decision", "model_version")


class Sink(Protocol):
    """Where the scored rows of one partition go."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append some rows."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What all partitions of a batch have in common.

    Attributes
    ----------
    bundle : BundleRef
        The version that scores.
    key : PseudonymKey
    ids : str or None
        See :class:`attrition.serving.batch_ids.Identities`.
    keep : tuple of str
        Columns of the input that the output repeats.
    mapping : Mapping or None
        None: the input has canonical columns.
    n_partitions : int
        For messages.
    compiled : bool
        Worth compiling for; see :mod:`attrition.scoring.compiled`.
    """

    bundle: BundleRef
    key: PseudonymKey
    ids: Ids | None = None
    keep: tuple[str, ...] = ()
    mapping: Mapping | None = None
    n_partitions: int = 1
    compiled: bool = False

    @property
    def leaves_threads_free(self) -> bool:
        """Whether the work is Arrow's, numpy's and compiled code's, so that threads of one process run at once.

        Replacing raw ids and applying a mapping is Python's.
        """
        return self.mapping is None and self.ids == "pseudonyms"

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the output."""
        return (*OUTPUT_COLUMNS, *self.keep)


def score_partition(job: Job, partition: Partition, output: Output) -> PartReport:
    """Report on a partition whose scored rows are in `output` now.

    May be repeated, also at the same time: the part is the same each time and appears in one step.

    Raises
    ------
    ExtractError
        Something cannot be scored; every fault of the partition is counted.
    IntegrityError
        The version's bytes changed.
    """
    try:
        with output.write_part(partition.number) as part:
            return part.complete(score_rows(job, partition, part))
    except NotNumeric:
        # true, false, or a real fault: now cell by cell
        with output.write_part(partition.number) as part:
            return part.complete(score_rows(job, partition, part, as_text=True))


def score_rows(job: Job, partition: Partition, sink: Sink, *, as_text: bool = False) -> Tally:
    """Counts of a partition after its scored rows were written to `sink`.

    Parameters
    ----------
    as_text
        See :func:`attrition.serving.batch_read.read_rows`.

    Raises
    ------
    NotNumeric
        The fast way does not do, and nothing in `sink` counts.
    """
    bundle = _bundle(job.bundle.uri, job.bundle.manifest_sha256)
    scorer = _compiled(job.bundle.uri, job.bundle.manifest_sha256) if job.compiled else bundle.scorer
    where = partition.describe(job.n_partitions)
    checks = FeatureChecks(bundle.schema, bundle.scorer)
    identities = Identities(job.key, "pseudonyms" if job.mapping is not None else job.ids)
    for rows in _rows(job, partition, bundle.schema, where, as_text=as_text):
        matrix = checks.matrix(rows.features)
        ids = identities.of(rows.ids, len(matrix))
        if checks.sound and identities.sound and len(matrix):
            probability = scorer.score(matrix)
            decision = probability >= bundle.threshold
            checks.tally.n_leavers += int(np.count_nonzero(decision))
            sink.write(_scored(job.columns, ids, probability, decision, bundle.version, rows.kept))
    faults = [*checks.faults(where), *identities.faults(where)]
    if faults:
        raise ExtractError(faults)
    checks.tally.n_without_id = identities.n_missing
    return checks.tally


def _bundle(uri: str, manifest_sha256: str) -> Bundle:
    """Verified once per process, not once per partition; by one thread."""
    with _LOADING:
        return _load(uri, manifest_sha256)


def _compiled(uri: str, manifest_sha256: str) -> Scorer:
    """The scorer of a version in its compiled form, once per process; by one thread."""
    with _LOADING:
        return _compile(uri, manifest_sha256)


_LOADING = threading.RLock()


@lru_cache(maxsize=1)
def _load(uri: str, manifest_sha256: str) -> Bundle:
    return load_bundle(uri, manifest_sha256)


@lru_cache(maxsize=1)
def _compile(uri: str, manifest_sha256: str) -> Scorer:
    from attrition.scoring.compiled import compiled_scorer

    return compiled_scorer(_load(uri, manifest_sha256).scorer)


def _rows(job: Job, partition: Partition, schema: FeatureSchema, where: str, *, as_text: bool) -> Iterator[Rows]:
    if job.mapping is not None:
        return read_mapped_rows(partition, schema, job.keep, where, mapping=job.mapping, key=job.key)
    return read_rows(partition, schema.names, job.keep, where, as_text=as_text)


def _scored(
    names: Sequence[str],
    ids: pa.Array,
    probability: NDArray[np.float64],
    decision: NDArray[np.bool_],
    version: str,
    kept: Sequence[pa.Array],
) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [ids, doubles(probability), booleans(decision), pa.repeat(ascii_texts([version])[0], len(probability))]
    return pa.record_batch([*columns, *map(_plain, kept)], names=list(names))


def _plain(column: pa.Array) -> pa.Array:
    """A kept column in a type that every output can hold."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        return column.dictionary_decode()
    if types.is_timestamp(column.type):
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column
