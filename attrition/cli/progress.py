"""Live progress of a search: the step at work, the trials done, the best AUC so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from attrition.cli.console import talk

if TYPE_CHECKING:
    from typing import Self

    from rich.progress import TaskID

    from attrition.training.search import TrialUpdate


class SearchProgress:
    """Steps with their time, and a bar while trials run; plain lines when stderr is not a terminal."""

    def __init__(self) -> None:
        self._console = talk()
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish_task()
        self._progress.stop()

    def step(self, name: str) -> None:
        """End the step at work and begin another."""
        self._finish_task()
        if not self._console.is_terminal:
            self._console.print(f"{name} ...")
        self._task = self._progress.add_task(name, total=1, note="")

    def trial(self, update: TrialUpdate) -> None:
        """Show a trial's report."""
        if self._task is not None:
            best = "" if update.best_so_far is None else f"best AUC {update.best_so_far:.4f}"
            self._progress.update(self._task, completed=update.n_done, total=update.n_total, note=best)

    def _finish_task(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._progress.task_ids.index(self._task)]
            self._progress.update(self._task, completed=task.total)
            self._task = None
