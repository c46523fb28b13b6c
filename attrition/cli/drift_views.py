"""Drift reports for terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from attrition.monitoring.drift import FeatureDrift
    from attrition.monitoring.drift_reports import StoredReport
    from attrition.monitoring.live import LiveDrift

_STYLES = {"MAJOR": "bold red", "MODERATE": "yellow", "STABLE": "green", "INSUFFICIENT": "dim"}


def report_view(stored: StoredReport) -> RenderableType:
    """Verdict, features, segments and notes."""
    from rich.console import Group
    from rich.text import Text

    report = stored.report
    parts: list[RenderableType] = [Text(str(report), style=_STYLES[report.level.value]), "", _features(report.features)]
    if report.separability is not None:
        s = report.separability
        told = f"most telling: {', '.join(s.features[:3])}" if s.distinguishable else "no difference is seen"
        parts += ["", f"features together: AUC {s.auc:.3f} [{s.low:.3f}, {s.high:.3f}] (0.5 is chance), {told}"]
    drifted = [segment for segment in report.segments if segment.level.drifted]
    if report.segments:
        few = sum(segment.level == "INSUFFICIENT" for segment in report.segments)
        beside = f"; {few} have too few rows to say" if few else ""
        parts += ["", f"{len(drifted)} of {len(report.segments)} segments by {report.segment_feature} drifted{beside}"]
    for segment in drifted:
        names = ", ".join(f"{each.feature} {each.psi:.2f}" for each in segment.features if each.level.drifted)
        parts.append(f"  {segment.code} ({segment.n_window:,} rows): {names}")
    parts += ["", *(Text(note, "dim") for note in report.notes)]
    parts.append(Text(f"report {report.report_id}, run {stored.run_id}", "dim"))
    return Group(*parts)


def live_view(found: LiveDrift) -> RenderableType:
    """Verdict and features of the last predictions."""
    from rich.console import Group
    from rich.text import Text

    times = Text(f"{found.start:%Y-%m-%d %H:%M:%S} to {found.end:%Y-%m-%d %H:%M:%S} UTC", "dim")
    parts: list[RenderableType] = [Text(str(found), style=_STYLES[found.level.value]), times, ""]
    parts.append(_features(found.features))
    if found.n_ahead:
        words = f"{found.n_ahead:,} predictions are dated later than now and not in view; check the replicas' clocks."
        parts += ["", Text(words)]
    return Group(*parts)


def reports_view(reports: Sequence[StoredReport]) -> RenderableType:
    """One line per report."""
    from rich.text import Text

    table = _table("report", "made", "window", "reference", "rows", "level", "drifted")
    for stored in reports:
        report = stored.report
        table.add_row(
            report.report_id,
            f"{report.created_at:%Y-%m-%d %H:%M}",
            Text(report.window),
            Text(report.reference),
            f"{report.n_window:,}",
            Text(report.level.value, style=_STYLES[report.level.value]),
            ", ".join(report.drifted),
        )
    return table


def _features(features: Sequence[FeatureDrift]) -> Table:
    from rich.text import Text

    table = _table("feature", "level", "PSI", "adjusted p", "mean shift", "missing")
    for each in features:
        shift = "" if each.mean_shift_percent is None else f"{each.mean_shift_percent:+.1f} %"
        missing = each.missing_reference or each.missing_window
        table.add_row(
            each.feature,
            Text(each.level.value, style=_STYLES[each.level.value]),
            "" if each.psi is None else f"{each.psi:.3f}",
            "" if each.p_adjusted is None else f"{each.p_adjusted:.2g}",
            shift,
            f"{each.missing_reference:.1%} → {each.missing_window:.1%}" if missing else "",
        )
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name in {"PSI", "adjusted p", "mean shift", "rows"} else "left")
    return table
