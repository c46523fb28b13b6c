"""Batch scoring: a file, a folder or a table of employees in, their probabilities of leaving out.

::

    plan ──▶ partitions ──▶ read ▸ score ▸ write, one task each ──▶ parts ──▶ output

The scorer is the one that serves, read from the same verified bundle, so a person's probability is the same to the last
bit as in the answer to a request, of one record or of many. A large batch compiles that scorer's loops first, see
:mod:`attrition.scoring.compiled`. Memory does not grow with the input: a task holds a few thousand rows at a time. An
interrupted batch is finished by repeating it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from attrition.data.addresses import lies_in, local_or_address
from attrition.data.schema import EMPLOYEE_ID, SNAPSHOT_DATE
from attrition.errors import ExtractError, Fault, UsageError
from attrition.registry.bundle import load_bundle
from attrition.serving.batch_checks import Tally
from attrition.serving.batch_output import Output
from attrition.serving.batch_plan import plan_input
from attrition.serving.batch_task import OUTPUT_COLUMNS, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attrition.data.findings import Finding
    from attrition.data.mapping import Mapping
    from attrition.data.schema import FeatureSchema
    from attrition.governance.privacy import PseudonymKey
    from attrition.registry.bundle import Bundle, BundleRef
    from attrition.serving.batch_execution import Execution
    from attrition.serving.batch_ids import Ids
    from attrition.serving.batch_plan import InputPlan

SMALL_PARTITIONS = 4
"""Up to so many partitions are scored before a Ray would have started."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was checked and can be run.

    Attributes
    ----------
    plan : InputPlan
    job : Job
    output : Output
    bundle : Bundle
    """

    plan: InputPlan
    job: Job
    output: Output
    bundle: Bundle

    @property
    def small(self) -> bool:
        """Whether starting a Ray for it would take longer than scoring it."""
        return len(self.plan.partitions) <= SMALL_PARTITIONS

    @property
    def leaves_threads_free(self) -> bool:
        """Whether threads of one process can do all of it at once."""
        return self.job.leaves_threads_free

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for two runs to share parts, JSON-ready."""
        job = self.job
        mapping = "" if job.mapping is None else job.mapping.model_dump_json()
        return {
            "input": self.plan.fingerprint,
            "model version": self.bundle.version,
            "model manifest": self.bundle.manifest_sha256,
            "schema": self.bundle.schema.digest,
            "layout": str(self.output.layout),
            "kept columns": list(job.keep),
            "ids": job.ids or "",
            "pseudonym key": job.key.key_id,
            "mapping": hashlib.sha256(mapping.encode()).hexdigest() if mapping else "",
            "partitions": len(self.plan.partitions),
        }


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch is.

    Attributes
    ----------
    n_rows : int
        Scored in this run.
    n_done, n_partitions : int
        Partitions that are complete, of all.
    share : float in [0, 1]
        Of the input's bytes.
    seconds : float
        Since this run began to score.
    """

    n_rows: int
    n_done: int
    n_partitions: int
    share: float
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Speed of this run."""
        return self.n_rows / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch did.

    Attributes
    ----------
    path : str
        Of the output.
    layout : str
    version : str
    n_rows, n_leavers : int
        Rows of the output; those expected to leave.
    n_partitions, n_resumed : int
        Of the input; those that an earlier run had completed.
    seconds, rows_per_second : float
        Of this run.
    findings : tuple of Finding
    """

    path: str
    layout: str
    version: str
    n_rows: int
    n_leavers: int
    n_partitions: int
    n_resumed: int
    seconds: float
    rows_per_second: float
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        names = [name for name in self.__slots__ if name != "findings"]
        return {name: getattr(self, name) for name in names} | {"findings": [f.to_dict() for f in self.findings]}


def plan_batch(
    source: str | Path,
    target: str | Path,
    bundle: BundleRef,
    key: PseudonymKey,
    *,
    mapping: Mapping | None = None,
    keep: Sequence[str] = (),
    ids: Ids | None = None,
    as_delta: bool = False,
    table_version: int | None = None,
) -> Batch:
    """The batch that scores `source` into `target`, checked as far as headers tell.

    Parameters
    ----------
    source
        CSV, CSV.gz or Parquet, a folder of one of them, or a Delta table: a path, a ``file:`` URI, or an address
        ``abfss://container@account.dfs.core.windows.net/...``.
    target
        Path, ``file:`` URI or address ``abfss:``. ``.csv``, ``.csv.gz`` and ``.parquet`` name one file; anything else
        a folder of Parquet.
    bundle
        The version that scores.
    mapping
        None: the input has canonical columns.
    keep
        Columns of the input that the output repeats.
    ids
        See :class:`attrition.serving.batch_ids.Identities`; a mapping always makes pseudonyms.
    as_delta
        Make a Delta table of the output folder.
    table_version
        Of a Delta table as input; None is the latest.

    Raises
    ------
    NotFound, ExtractError, ConfigError, IntegrityError, UsageError
        The input, mapping, version or output cannot be used. Columns that are missing are all named.
    """
    loaded = load_bundle(bundle.uri, bundle.manifest_sha256)
    dialect = None if mapping is None else mapping.dialect
    plan = plan_input(
        source,
        table_version=table_version,
        delimiter="," if dialect is None else dialect.delimiter,
        splittable=dialect is None or _one_byte_line_ends(dialect.encoding),
    )
    output = Output.at(target, as_delta=as_delta)
    fitted = None if mapping is None else fit_mapping(mapping, loaded.schema)
    _check_apart(local_or_address(source), output)
    _check_columns(plan, loaded.schema, tuple(keep), fitted)
    n_partitions = len(plan.partitions)
    job = Job(bundle, key, ids, tuple(keep), fitted, n_partitions, compiled=n_partitions > SMALL_PARTITIONS)
    return Batch(plan, job, output, loaded)


def run_batch(
    batch: Batch,
    execute: Execution,
    *,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> BatchResult:
    """Score what is not scored yet, and put the output together.

    Parameters
    ----------
    execute
        Who does the work, see :mod:`attrition.serving.batch_execution`.
    overwrite
        Discard what an earlier batch wrote to the output.
    on_progress
        Called when the batch begins and whenever a partition is complete.

    Raises
    ------
    UsageError
        The output is there already, or holds parts of another batch.
    ExtractError
        Rows that cannot be scored: the faults of every partition that was at work when the first was found.
    PlatformError
        Ray or the storage did not do its part; repeat the batch to go on.
    """
    partitions = batch.plan.partitions
    reports, complete = batch.output.begin(batch.identity, overwrite=overwrite)
    n_resumed = len(reports)
    remaining = [partition for partition in partitions if partition.number not in reports]
    started = time.perf_counter()
    n_rows = 0
    scored_size = batch.plan.size - sum(partition.size for partition in remaining)

    def tell() -> None:
        if on_progress is not None:
            seconds = time.perf_counter() - started
            share = scored_size / max(batch.plan.size, 1)
            on_progress(Progress(n_rows, len(reports), len(partitions), share, seconds))

    tell()
    faults: list[Fault] = []
    stopping = _Stoppable(remaining)
    for report in execute(batch.job, stopping, batch.output):
        if isinstance(report, ExtractError):
            stopping.stop()
            faults += report.faults
            continue
        reports[report.number] = report
        n_rows += report.tally.n_rows
        scored_size += partitions[report.number].size
        tell()
    if faults:
        raise ExtractError(faults)
    total = Tally()
    ordered = [reports[partition.number] for partition in partitions]
    for report in ordered:
        total.add(report.tally)
    if not total.n_rows:
        raise ExtractError(Fault(batch.plan.path, "has no rows", "", "export it again with its rows"))
    summary = {"rows": total.n_rows, "leavers": total.n_leavers}
    if not complete:
        batch.output.finish(ordered, batch.job.columns, summary)
    seconds = time.perf_counter() - started
    return BatchResult(
        path=str(batch.output.path),
        layout=str(batch.output.layout),
        version=batch.bundle.version,
        n_rows=total.n_rows,
        n_leavers=total.n_leavers,
        n_partitions=len(partitions),
        n_resumed=n_resumed,
        seconds=seconds,
        rows_per_second=n_rows / seconds,
        findings=total.findings(batch.bundle.schema),
    )


class _Stoppable:
    """Partitions, until somebody has seen enough: what is at work then is still waited for."""

    def __init__(self, partitions: Sequence[Any]) -> None:
        self._partitions = iter(partitions)
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def __iter__(self) -> _Stoppable:
        return self

    def __next__(self) -> Any:
        if self._stopped:
            raise StopIteration
        return next(self._partitions)


def fit_mapping(mapping: Mapping, schema: FeatureSchema) -> Mapping:
    """`mapping` less the features that a version does not read.

    Raises
    ------
    ExtractError
        Features that it reads and the mapping does not supply.
    """
    lacking = [name for name in schema.names if name not in mapping.features or mapping.features[name].absent]
    if lacking:
        where = f"mapping {mapping.name}"
        raise ExtractError(
            Fault(where, f"does not supply {name}, which the version reads", "", "name its column") for name in lacking
        )
    return mapping.model_copy(update={"features": {name: mapping.features[name] for name in schema.names}})


def _one_byte_line_ends(encoding: str) -> bool:
    try:
        return '\n"'.encode(encoding) == b'\n"'
    except LookupError:
        return False


def _check_apart(source: Path | str, output: Output) -> None:
    if lies_in(source, output.path) or lies_in(output.path, source):
        raise UsageError(Fault(str(output.path), "lies in the input or around it", "", "name an output beside it"))


def _check_columns(plan: InputPlan, schema: FeatureSchema, keep: tuple[str, ...], mapping: Mapping | None) -> None:
    """Raise unless the files have every column that is needed, and only harmless ones are kept."""
    present = plan.partitions[0].columns
    name = PurePosixPath(plan.path).name
    secret = mapping.employee_id.column if mapping is not None else EMPLOYEE_ID
    faults = [
        Fault(f"--keep {column}", "holds the employees' ids", "no raw id is written", "the output has their pseudonyms")
        for column in keep
        if column == secret
    ]
    faults += [
        Fault(f"--keep {column}", "is a column of the output already")
        for column in keep
        if column in OUTPUT_COLUMNS and column != secret
    ]
    faults += [Fault(f"--keep {column}", "is named twice") for column in {*keep} if keep.count(column) > 1]
    if faults:
        raise UsageError(faults)
    if mapping is None:
        needed = dict.fromkeys(schema.names, "the version reads it")
    else:
        needed = {
            column: f"mapping {mapping.name} reads {', '.join(fed)} from it"
            for column, fed in _sources(mapping).items()
        }
    needed |= dict.fromkeys(keep, "it is to be kept")
    lacking = [column for column in needed if column not in present]
    if lacking:
        from attrition.data.readers import names_columns

        known = present if names_columns(present, [*needed, EMPLOYEE_ID]) else []  # else it may be a person's row
        raise ExtractError(
            [_whereabouts(name, present, known), *(_lacking(name, each, needed, known) for each in lacking)]
        )


def _sources(mapping: Mapping) -> dict[str, list[str]]:
    """Columns that a mapping cannot do without when outcomes are not asked for, and what they feed."""
    fed: dict[str, list[str]] = {}
    for canonical, spec in {
        EMPLOYEE_ID: mapping.employee_id,
        SNAPSHOT_DATE: mapping.snapshot_date,
        **mapping.features,
    }.items():
        for column in () if spec.optional else spec.columns:
            fed.setdefault(column, []).append(canonical)
    return fed


def _lacking(where: str, column: str, needed: dict[str, str], present: Sequence[str]) -> Fault:
    from attrition.data.mapping import suggestion

    return Fault(where, f"has no column {column}", needed[column], suggestion(column, present))


def _whereabouts(where: str, present: Sequence[str], known: Sequence[str]) -> Fault:
    """What the file has instead; names only where they are known to be names."""
    from attrition.data.readers import NO_HEADER_REMEDY

    other = next((mark for mark in (";", "\t", "|") if len(present) == 1 and mark in present[0]), None)
    remedy = f"cells seem to be separated by {other!r}: set dialect.delimiter in a mapping" if other else ""
    if not known:
        found = f"the first line of its {len(present)} columns holds other things than the names expected"
        return Fault(where, found, "", remedy or NO_HEADER_REMEDY)
    listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return Fault(where, f"its columns are {listed}", "", remedy or "give --mapping when they have other names")
