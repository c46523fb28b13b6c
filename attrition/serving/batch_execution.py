"""Who does the work of a batch: this process, its threads, or Ray with a task per partition.

Plain tasks, not Ray Data: a partition is read, scored and written in one place, so there is nothing to hand over
between operators, and a task that dies is simply run again.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Protocol

from attrition.errors import ExtractError, Fault, PlatformError
from attrition.serving.batch_task import score_partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from attrition.serving.batch_output import Output, PartReport
    from attrition.serving.batch_plan import Partition
    from attrition.serving.batch_task import Job

IN_FLIGHT_PER_CPU = 2
"""One task runs, the next one waits at its worker: more would only fill the scheduler."""
TASK_RETRIES = 3
"""Of a task whose process or node died."""


class Execution(Protocol):
    """Scores partitions, in any order."""

    def __call__(
        self, job: Job, partitions: Iterable[Partition], output: Output
    ) -> Iterator[PartReport | ExtractError]:
        """Report on each partition as it is done, or the faults of its rows.

        Raises
        ------
        PlatformError
            Ray could not do its part.
        """
        ...


def attempt(job: Job, partition: Partition, output: Output) -> PartReport | ExtractError:
    """Report on a partition, or the faults of its rows as a value: a bad file is no reason to run a task again."""
    try:
        return score_partition(job, partition, output)
    except ExtractError as error:
        return error


def in_process(job: Job, partitions: Iterable[Partition], output: Output) -> Iterator[PartReport | ExtractError]:
    """Scores here, one after another: for inputs that are done before a Ray would have started."""
    for partition in partitions:
        yield attempt(job, partition, output)


def in_threads(job: Job, partitions: Iterable[Partition], output: Output) -> Iterator[PartReport | ExtractError]:
    """Scores here, one partition per core at a time: on one machine faster than processes, which must be started.

    For jobs that :attr:`~attrition.serving.batch_task.Job.leaves_threads_free`; right for any.
    """
    n_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting = iter(partitions)
    pending: set[Future[PartReport | ExtractError]] = set()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="attrition-batch") as pool:
        while True:
            while len(pending) < n_threads and (partition := next(waiting, None)) is not None:
                pending.add(pool.submit(attempt, job, partition, output))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def on_ray(job: Job, partitions: Iterable[Partition], output: Output) -> Iterator[PartReport | ExtractError]:
    """Scores on the connected Ray, at most `IN_FLIGHT_PER_CPU` tasks per CPU at a time.

    Input, output and bundle must be visible to every node under the same path.
    """
    import ray

    task: Any = ray.remote(num_cpus=1, max_retries=TASK_RETRIES)(attempt)
    common = ray.put(job)
    limit = IN_FLIGHT_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = iter(partitions)
    pending: list[Any] = []
    try:
        while True:
            while len(pending) < limit and (partition := next(waiting, None)) is not None:
                pending.append(task.remote(common, partition, output))
            if not pending:
                return
            done, pending = ray.wait(pending, num_returns=1)
            yield ray.get(done[0])
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        remedy = "look at the Ray dashboard, and repeat the command: finished partitions are not scored again"
        raise PlatformError(
            Fault("Ray", f"a scoring task could not be run ({type(error).__name__})", "", remedy)
        ) from error
    finally:
        for each in pending:
            ray.cancel(each)
