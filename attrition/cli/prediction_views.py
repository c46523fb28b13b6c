"""How logged predictions look in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from attrition.data.delta import Compaction


def predictions_view(frame: pd.DataFrame) -> RenderableType:
    """Predictions below each other, without their features; what shadows copied is named when there are shadows."""
    with_shadows = frame["shadow_of"].notna().any()
    columns = ["time (UTC)", "prediction_id", "version", "variant", "reason", "probability", "decision", "ms"]
    table = Table(title="Predictions", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in [*columns, "shadow of"] if with_shadows else columns:
        table.add_column(column, justify="right" if column in {"probability", "ms"} else "left", no_wrap=True)
    for row in frame.itertuples():
        table.add_row(
            f"{row.time:%Y-%m-%d %H:%M:%S}",
            str(row.prediction_id),
            str(row.version),
            str(row.variant),
            str(row.reason),
            f"{row.probability:.3f}",
            "leave" if row.decision else "stay",
            f"{row.latency_us / 1000:.2f}",  # type: ignore[operator]
            *([str(row.shadow_of) if isinstance(row.shadow_of, str) else ""] if with_shadows else []),
        )
    return table


def compaction_text(done: Compaction) -> str:
    """What a compaction did, in a sentence."""
    return f"{done.n_before:,} files became {done.n_after:,}; {done.n_deleted:,} old ones were deleted."
