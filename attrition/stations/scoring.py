"""Batch scoring under guard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.governance.actions import Action
from attrition.stations.subjects import file_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attrition.governance.guard import Guard
    from attrition.governance.privacy import PseudonymKey
    from attrition.registry.bundle import BundleRef
    from attrition.serving.batch import BatchResult, Progress
    from attrition.serving.batch_ids import Ids
    from attrition.settings import Settings


class Scoring:
    """Many employees at once, without an endpoint; its public method is the Workspace's own.

    Parameters
    ----------
    settings
        Say which Ray there is.
    guard
        Of the project.
    export
        Version or alias → its bundle; asked only after the guard.
    key
        Gives the key that turns employee ids into pseudonyms.
    ray
        Connects to the project's Ray.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        export: Callable[[str], BundleRef],
        key: Callable[[], PseudonymKey],
        ray: Callable[[], object],
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._export = export
        self._key = key
        self._ray = ray

    def score(
        self,
        source: str | Path,
        target: str | Path,
        ref: str = "champion",
        *,
        mapping: str | Path | None = None,
        keep: Sequence[str] = (),
        ids: Ids | None = None,
        as_delta: bool = False,
        table_version: int | None = None,
        overwrite: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> BatchResult:
        """Score a file, a folder or a Delta table of employees in a batch; repeat an interrupted call to finish it.

        Parameters
        ----------
        source
            CSV, CSV.gz, Parquet, a folder of one of them, or a Delta table; a path, ``file:`` or ``abfss:`` address.
        target
            Path, ``file:`` or ``abfss:`` address. ``.csv``, ``.csv.gz`` and ``.parquet`` name one file; anything else a
            folder of Parquet files.
        ref
            Version or alias that scores.
        mapping
            Mapping by path or shipped name; None: `source` has canonical columns.
        keep
            Columns of `source` that the output repeats.
        ids
            ``raw`` or ``pseudonyms``: what the column ``employee_id`` holds; raw ids are replaced by pseudonyms.
        as_delta
            Make a Delta table of the folder.
        table_version
            Of a Delta table as input; the latest when None.
        overwrite
            Replace what an earlier batch wrote to `target`.

        Raises
        ------
        InputError, UsageError
            Input, version or output cannot be used; every fault is counted and named.
        PlatformError
            Ray or the storage did not do its part.
        """
        from attrition.data.mapping import load_mapping
        from attrition.serving import batch_execution
        from attrition.serving.batch import plan_batch, run_batch

        with self._guard.acting(Action.BATCH_SCORE, file_subject("batch", source)) as entry:
            batch = plan_batch(
                source,
                target,
                self._export(ref),
                self._key(),
                mapping=None if mapping is None else load_mapping(mapping),
                keep=keep,
                ids=ids,
                as_delta=as_delta,
                table_version=table_version,
            )
            execute = batch_execution.in_threads
            # an embedded Ray has this machine's cores only, and takes seconds to start
            if not batch.small and (self._settings.ray_address or not batch.leaves_threads_free):
                self._ray()
                execute = batch_execution.on_ray
            result = run_batch(batch, execute, overwrite=overwrite, on_progress=on_progress)
            entry.model_version = result.version
            entry.details |= {"rows": result.n_rows, "target": file_subject("output", target)}
            return result
