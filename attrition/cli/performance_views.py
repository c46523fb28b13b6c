"""How realised and estimated performance look in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from attrition.monitoring.performance_report import REALISED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from attrition.evaluation.intervals import Estimate
    from attrition.monitoring.alert_state import AlertRow
    from attrition.monitoring.performance_report import PerformanceReport, VersionPerformance
    from attrition.monitoring.window_estimate import WindowEstimate

_SHORT = ("accuracy", "precision", "recall", "f1", "fpr", "fnr")


def performance_view(report: PerformanceReport) -> RenderableType:
    """AUC and calibration over time with intervals, the whole period with all intervals, then fairness and findings."""
    fairness = [
        Text(f"version {version.version}, {found.attribute}: {found.summary}")
        for version in report.versions
        for found in version.fairness
    ]
    measured = [version for version in report.versions if version.whole.metrics]
    whole: list[RenderableType] = [Text(), _whole(report, measured)] if measured else []
    return Group(_over_time(report), *whole, *fairness, *map(Text, report.findings))


def estimate_view(found: WindowEstimate) -> RenderableType:
    """The estimate, and beside it what the outcomes say of the persons whose label is mature."""
    table = Table(title=found.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in found.header:
        table.add_column(name, justify="left" if name == "metric" else "right", no_wrap=True)
    for row in found.rows:
        table.add_row(*row)
    admitted = f"AUC at admission: {found.baseline or 'unknown'}."
    return Group(table, Text(admitted), *map(Text, found.remarks))


def _over_time(report: PerformanceReport) -> Table:
    table = Table(title=report.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    left = ("version", "period", "minimum")
    for name in (
        "version",
        "period",
        "persons",
        "mature",
        "left",
        "censored",
        "auc",
        *_SHORT,
        "calibration",
        "minimum",
    ):
        table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    for version in report.versions:
        for bucket in (*version.buckets, version.whole):
            n, metrics = bucket.maturity, bucket.metrics
            table.add_row(
                version.version,
                bucket.name,
                *(f"{count:,}" for count in (n.n_persons, n.n_mature, n.n_left, n.n_censored)),
                str(metrics["auc"]) if metrics else "",
                *(_value(metrics[name]) if metrics else "" for name in _SHORT),
                str(metrics["calibration_error"]) if metrics else "",
                str(bucket.standing),
            )
    return table


def _whole(report: PerformanceReport, measured: Sequence[VersionPerformance]) -> Table:
    intervals = f"{report.policy.confidence:.0%} intervals"
    title = f"Whole period, every person once at the first prediction, with {intervals}"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("metric")
    for version in measured:
        table.add_column(f"version {version.version}", justify="right", no_wrap=True)
    for name in REALISED:
        table.add_row(name.replace("_", " "), *(str(version.whole.metrics[name]) for version in measured))
    baselines = [str(version.baseline) if version.baseline else "unknown" for version in measured]
    table.add_row("auc at admission", *baselines)
    return table


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" if estimate.defined else "-"


def alerts_view(rows: Sequence[AlertRow]) -> RenderableType:
    """Alerts below each other, the latest last."""
    table = Table(title="Alerts", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("alert", "state", "sent (UTC)", "suppressed since"):
        table.add_column(name, justify="right" if name == "suppressed since" else "left", no_wrap=True)
    for row in rows:
        table.add_row(row.key, row.state, f"{row.sent_at:%Y-%m-%d %H:%M:%S}", f"{row.n_suppressed:,}")
    return table
