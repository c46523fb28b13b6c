"""How explanations look in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from attrition.evaluation.explanations import Explanation, GlobalImportance

_BAR_WIDTH = 18
_ARROWS = {"raises": "▲ raises", "lowers": "▼ lowers", "none": ""}


def explanation_view(explanation: Explanation) -> RenderableType:
    """The estimate, the largest contributions in words, then every feature with a bar."""
    from attrition.evaluation.explanation_text import number
    from attrition.evaluation.explanations import SPACES

    table = _table("feature", "value", f"contribution ({SPACES[explanation.space]})", "", "")
    largest = max((abs(part.contribution) for part in explanation.contributions), default=0.0) or 1.0
    for part in explanation.contributions:
        table.add_row(
            part.feature,
            "missing" if part.value is None else number(part.value),
            f"{part.contribution:+.4f}",
            "█" * round(_BAR_WIDTH * abs(part.contribution) / largest),
            _ARROWS[part.direction],
        )
    side = "at or above" if explanation.decision else "below"
    head = Text.assemble(
        (f"{explanation.probability:.1%}", "bold"),
        f" estimated by version {explanation.model_version}, {side} its threshold of {explanation.threshold:.1%}; "
        f"{explanation.base_probability:.1%} before any feature is looked at",
    )
    sentences = Text("\n".join(f"  {sentence}" for sentence in explanation.top))
    total = Text(
        f"\nbase value {explanation.base_value:+.4f} + contributions = {explanation.raw_score:+.4f}, "
        f"{explanation.mapping['kind']} map → {explanation.probability:.6f} "
        f"(differs by {explanation.difference:.0e} from what was served)\n"
        "A contribution moves the estimate of this model; it is not a reason to leave.",
        style="dim",
    )
    return Group(head, Text(), sentences, Text(), table, total)


def importance_view(importance: GlobalImportance, ref: str) -> RenderableType:
    """One line per feature, the most important first."""
    from attrition.evaluation.explanations import trend_words

    table = _table("feature", f"mean |contribution| ({importance.unit})", "share", "", "")
    for part in importance.features:
        bar = "█" * round(_BAR_WIDTH * part.share / max(importance.features[0].share, 1e-12))
        row = (f"{part.mean_absolute:.4f}", f"{part.share:.1%}", bar, trend_words(part.trend))
        table.add_row(part.feature, *row)
    title = Text(f"What {ref} relies on, over {importance.n_rows:,} employees that it had not seen\n", style="bold")
    return Group(title, table)


def _table(*columns: str) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place in {1, 2} else "left", no_wrap=True)
    return table
