"""How traffic and its changes look on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from attrition.cluster.traffic import Switch, TrafficState
    from attrition.serving.deployed import VariantStatus
    from attrition.serving.traffic import Traffic, Variant
    from attrition.serving.traffic_history import TrafficChange


def traffic_view(state: TrafficState) -> RenderableType:
    """What is served now."""
    traffic, replicas = state.traffic, state.status.replicas
    title = f"Generation {traffic.generation} on {replicas} replica{'' if replicas == 1 else 's'}"
    if traffic.experiment:
        title += f", experiment {traffic.experiment}"
    return _variants(traffic, title, {variant.name: variant for variant in state.status.variants})


def change_view(change: TrafficChange) -> RenderableType:
    """A change that was applied."""
    title = f"Applied as generation {change.generation} in {change.seconds:.2f} s"
    return _variants(change.traffic, title)


def switch_view(switch: Switch) -> RenderableType:
    """What the smoke tests found, and the traffic afterwards."""
    table = _table(f"Smoke tests of {switch.report.version}", "check", "passed", "found")
    for check in switch.report.checks:
        table.add_row(check.name, "yes" if check.passed else Text("no", "bold red"), check.detail)
    return table if switch.change is None else Group(table, change_view(switch.change))


def history_view(changes: Sequence[TrafficChange]) -> RenderableType:
    """Changes, in the order given."""
    if not changes:
        return Text("No change was made yet.")
    table = _table("Changes of traffic", "generation", "time (UTC)", "actor", "change", "outcome", "seconds", "why")
    for change in changes:
        why = change.detail.splitlines()[0] if change.detail else ""
        moment = change.time.strftime("%Y-%m-%d %H:%M:%S")
        row = (str(change.generation), moment, change.actor, change.action, str(change.outcome))
        table.add_row(*row, f"{change.seconds:.2f}", why)
    return table


def _variants(traffic: Traffic, title: str, found: Mapping[str, VariantStatus] | None = None) -> Table:
    placed = any(variant.is_placed for variant in traffic.variants)
    columns = ("variant", "version", "share", "pins", "role", *(("placement",) if placed else ()))
    table = _table(title, *columns)
    for variant in traffic.variants:
        pins = ", ".join(f"{pin.header}={pin.value}" for pin in traffic.pins if pin.variant == variant.name)
        cells = [variant.name, variant.version, f"{variant.weight:.2%}", pins, traffic.role(variant.name)]
        if placed:
            cells.append(_placement(variant, (found or {}).get(variant.name)))
        table.add_row(*cells)
    return table


def _placement(variant: Variant, status: VariantStatus | None) -> str:
    if not variant.is_placed or status is None:
        return str(variant.placement)
    return f"{variant.placement}: {status.state}, {status.replicas} replica{'' if status.replicas == 1 else 's'}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table
