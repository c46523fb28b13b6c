"""How KubeRay's objects look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from attrition.cluster.ray_objects import RayObject


def objects_view(objects: Sequence[RayObject]) -> RenderableType:
    """Ray objects below each other."""
    table = Table(title="Ray on Kubernetes", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("object", "state", "", "message"):
        table.add_column(name, overflow="fold")
    for one in objects:
        facts = ", ".join(f"{name} {value}" for name, value in one.facts)
        table.add_row(one.ref, one.state, Text(facts), Text(one.message))
    return table
