"""How jobs look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from attrition.cluster.jobs import Job


def jobs_view(jobs: Sequence[Job]) -> RenderableType:
    """Jobs below each other, the latest last."""
    table = Table(title="Jobs", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("job", "status", "started (UTC)", "lasted", "exit", "command"):
        table.add_column(name, justify="right" if name in ("lasted", "exit") else "left", overflow="fold")
    for job in jobs:
        table.add_row(
            job.submission_id,
            job.status.lower(),
            f"{job.started_at:%Y-%m-%d %H:%M:%S}" if job.started_at else "-",
            f"{(job.ended_at - job.started_at).total_seconds():,.0f} s" if job.started_at and job.ended_at else "-",
            "-" if job.exit_code is None else str(job.exit_code),
            Text(job.command),
        )
    return table
