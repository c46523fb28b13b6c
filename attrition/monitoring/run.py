"""A window read and sketched, part by part: in threads of this process, or on Ray with a task per part.

Sketches are added up in the order of the parts, whoever was done first: counts do not depend on it, sums of floats do
to the last bit. Memory holds the parts at work and the few that wait for their turn, however large the window is.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from attrition.errors import ExtractError, Fault, InsufficientData, PlatformError
from attrition.evaluation.references import add_up
from attrition.serving.batch_read import NotNumeric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from attrition.evaluation.references import DriftReference
    from attrition.evaluation.sketches import AnySketch
    from attrition.monitoring.windows import Block, Part, Window

SMALL_PARTS = 4
"""Up to so many parts are read before a Ray would have started."""

SAMPLE_ROWS = 5_000
"""Rows of a window that are kept together, for what single features do not show."""

TASK_RETRIES = 3
"""Of a task whose process or node died, or whose storage did not answer."""

IN_FLIGHT_PER_CPU = 2
"""One task runs, the next one waits at its worker."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows chosen by a hash of their place: the same ones whoever reads them, and of any two samples the union's.

    Attributes
    ----------
    keys : ndarray of shape (n_rows,), uint64
        Ascending.
    rows : ndarray of shape (n_rows, n_features), float64
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.float64]

    @classmethod
    def none(cls, n_features: int) -> Sample:
        """Of no rows."""
        return cls(np.empty(0, np.uint64), np.empty((0, n_features)))

    @classmethod
    def of(cls, columns: Sequence[NDArray[np.float64]], part: int, offset: int, n_kept: int = SAMPLE_ROWS) -> Sample:
        """At most `n_kept` of some rows, which begin at `offset` in a part.

        Parameters
        ----------
        columns
            At least one, each of shape (n_rows,).
        """
        places = np.arange(offset, offset + len(columns[0]), dtype=np.uint64)
        keys = _mixed((np.uint64(part) << np.uint64(40)) + places)
        chosen = np.argpartition(keys, n_kept)[:n_kept] if len(keys) > n_kept else np.arange(len(keys))
        return cls(keys[chosen], np.column_stack([column[chosen] for column in columns])).smallest(n_kept)

    def __add__(self, other: Sample) -> Sample:
        """Of both, cut to the usual size."""
        both = Sample(np.concatenate([self.keys, other.keys]), np.concatenate([self.rows, other.rows]))
        return both.smallest(SAMPLE_ROWS)

    def smallest(self, n_kept: int) -> Sample:
        """The rows with the smallest keys, in their order."""
        order = np.argsort(self.keys, kind="stable")[:n_kept]
        return Sample(self.keys[order], self.rows[order])


@dataclass(frozen=True, slots=True)
class Sketched:
    """What is known of a part of a window, or of all of it.

    Attributes
    ----------
    sketches : mapping of str to sketch
        By the names of :meth:`attrition.evaluation.references.DriftReference.flat`.
    n_rows, n_left_out : int
        Rows that count, and rows that do not.
    sample : Sample
    """

    sketches: Mapping[str, AnySketch]
    n_rows: int
    n_left_out: int
    sample: Sample

    def __add__(self, other: Sketched) -> Sketched:
        """Of both together."""
        return Sketched(
            add_up((self.sketches, other.sketches)),
            self.n_rows + other.n_rows,
            self.n_left_out + other.n_left_out,
            self.sample + other.sample,
        )


class Execution(Protocol):
    """Reads parts."""

    def __call__(self, reference: DriftReference, parts: Sequence[Part]) -> Iterator[Sketched | ExtractError]:
        """Each part's sketches, or its faults, in the order of the parts.

        Raises
        ------
        PlatformError
            Ray or the storage did not do its part.
        """
        ...


def sketch_window(reference: DriftReference, window: Window, execute: Execution) -> Sketched:
    """The sketches of a whole window.

    Raises
    ------
    ExtractError
        Values that are no numbers: the faults of every part.
    InsufficientData
        No row that counts.
    PlatformError
        Ray or the storage did not do its part.
    """
    total: Sketched | None = None
    faults: list[Fault] = []
    for found in execute(reference, window.parts):
        if isinstance(found, ExtractError):
            faults += found.faults
        elif not faults:
            total = found if total is None else total + found
    if faults:
        raise ExtractError(faults)
    if total is None or not total.n_rows:
        left_out = 0 if total is None else total.n_left_out
        beside = f"; {left_out:,} are a shadow's, or retention has removed their features" if left_out else ""
        raise InsufficientData(Fault(f"window {window.text}", f"has no rows to compare{beside}"))
    return total


def sketch_part(reference: DriftReference, part: Part) -> Sketched | ExtractError:
    """A part's sketches, or the faults of its rows as a value: a bad file is no reason to run a task again."""
    try:
        try:
            return _read(reference, part, as_text=False)
        except NotNumeric:  # true, false, or a real fault: now cell by cell
            return _read(reference, part, as_text=True)
    except ExtractError as error:
        return error


def read_columns(parts: Iterable[Part], names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """All rows of some parts in memory, by feature, with the score where the parts have one.

    Raises
    ------
    ExtractError
        Values that are no numbers: the faults of every part.
    PlatformError
        The storage did not answer.
    """
    held: dict[str, list[NDArray[np.float64]]] = {}
    faults: list[Fault] = []
    for part in parts:
        try:
            try:
                blocks = list(part.read(names))
            except NotNumeric:
                blocks = list(part.read(names, as_text=True))
        except ExtractError as error:
            faults += error.faults
            continue
        for block in blocks:
            for name, column in block.columns.items():
                held.setdefault(name, []).append(column)
    if faults:
        raise ExtractError(faults)
    return {name: np.concatenate(columns) for name, columns in held.items()}


def _read(reference: DriftReference, part: Part, *, as_text: bool) -> Sketched:
    total = Sketched({}, 0, 0, Sample.none(len(reference.names)))
    for block in part.read(reference.names, as_text=as_text):
        total += _sketched(reference, block, part.number, total.n_rows)
    return total


def _sketched(reference: DriftReference, block: Block, part: int, offset: int) -> Sketched:
    names = reference.names
    sample = Sample.none(len(names))
    if all(name in block.columns for name in names):  # rows of a version that reads other features are not like these
        sample = Sample.of([block.columns[name] for name in names], part, offset)
    return Sketched(reference.sketch(block.columns), block.n_rows, block.n_left_out, sample)


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers spread evenly over all of uint64, one to one (SplitMix64; Steele, Lea & Flood 2014, OOPSLA)."""
    z = keys + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def in_threads(reference: DriftReference, parts: Sequence[Part]) -> Iterator[Sketched | ExtractError]:
    """Reads here, one part per core at a time: sorting and decoding leave the interpreter free."""
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting, pending = iter(parts), deque[Any]()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="attrition-drift") as pool:
        try:
            for part in waiting:
                pending.append(pool.submit(sketch_part, reference, part))
                if len(pending) > n_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for each in pending:
                each.cancel()


def on_ray(reference: DriftReference, parts: Iterable[Part]) -> Iterator[Sketched | ExtractError]:
    """Reads on the connected Ray. Files and tables must be visible to every node under the same path."""
    import ray

    task: Any = ray.remote(num_cpus=1, max_retries=TASK_RETRIES, retry_exceptions=[PlatformError, OSError])(sketch_part)
    common = ray.put(reference)
    limit = IN_FLIGHT_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    pending = deque[Any]()
    try:
        for part in parts:
            pending.append(task.remote(common, part))
            if len(pending) > limit:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PlatformError):
            raise PlatformError(error.cause.faults or str(error.cause)) from error
        raise
    except ray.exceptions.RayError as error:
        found = f"a drift task could not be run ({type(error).__name__})"
        raise PlatformError(Fault("Ray", found, "", "look at the Ray dashboard, and repeat the command")) from error
    finally:
        for each in pending:
            ray.cancel(each)
