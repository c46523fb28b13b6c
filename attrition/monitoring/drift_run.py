"""A drift run: baseline and window read, compared, shown in MLflow and stored; the module that composes the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.evaluation.references import PROBABILITY
from attrition.monitoring.baselines import file_baseline, is_file, version_baseline
from attrition.monitoring.domain_classifier import separability
from attrition.monitoring.drift import DriftPolicy
from attrition.monitoring.drift_page import MAX_POINTS, drift_page
from attrition.monitoring.drift_report import make_report, report_id
from attrition.monitoring.drift_reports import DriftReports, StoredReport
from attrition.monitoring.drift_tracking import log_drift
from attrition.monitoring.run import sketch_window
from attrition.monitoring.windows import plan_window

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from attrition.data.schema import FeatureSchema
    from attrition.data.tables import Tables
    from attrition.monitoring.baselines import Baseline
    from attrition.monitoring.drift_report import DriftReport
    from attrition.monitoring.run import Execution, Sketched
    from attrition.monitoring.windows import Window
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings


def run_drift(
    settings: Settings,
    registry: Callable[[], ModelRegistry],
    tables: Tables,
    window: str,
    reference: str,
    execution: Callable[[Window], Execution],
    *,
    now: datetime,
    policy: DriftPolicy | None = None,
    schema: FeatureSchema | None = None,
) -> StoredReport:
    """Report of a window against a reference, stored; the stored one when the same comparison was made before.

    Parameters
    ----------
    registry
        Asked only when the reference is a version.
    window
        See :func:`attrition.monitoring.windows.plan_window`.
    reference
        Version, alias or file.
    execution
        Who reads the parts of a window; see :mod:`attrition.monitoring.run`.
    now
        With a time zone.
    schema
        Features of a reference that is a file.

    Raises
    ------
    InputError, UsageError
        Reference or window cannot be used; every fault is named.
    PlatformError
        Ray, MLflow or the storage did not do its part; what was stored by then is found by the next run.
    """
    policy = policy or DriftPolicy()
    if is_file(reference):
        baseline = file_baseline(reference, schema)
    else:
        baseline = version_baseline(registry(), tables, reference)
    version = baseline.model_version or None
    planned = plan_window(window, baseline.reference.names, tables=settings.tables, now=now, version=version)
    reports = DriftReports(settings.tables)
    known = reports.find(report_id(baseline.reference.digest, planned, policy))
    if known is not None:
        return known
    found = sketch_window(baseline.reference, planned, execution(planned))
    report = compare_window(baseline, planned, found, policy=policy, now=now)
    earlier = [stored.report for stored in reports.list(reference_digest=report.reference_digest, last=MAX_POINTS)]
    run_id = log_drift(settings, report, drift_page(report, earlier))
    reports.add(report, run_id)
    return StoredReport(report, run_id)


def compare_window(
    baseline: Baseline, window: Window, found: Sketched, *, policy: DriftPolicy, now: datetime
) -> DriftReport:
    """Report on a window that was read."""
    notes = [baseline.note] if baseline.note else []
    names = baseline.reference.names
    unseen = [name for name in names if name not in found.sketches]
    notes += [f"No row of the window was scored by a version that reads {name}." for name in unseen]
    if PROBABILITY in baseline.reference.features and PROBABILITY not in found.sketches:
        notes.append("The window has no scores of this version, so prediction drift was not measured.")
    if found.n_left_out:
        kinds = "a shadow's, or retention has removed their features"
        notes.append(f"{found.n_left_out:,} rows of the period do not count: they are {kinds}.")
    if window.n_ahead:
        found_ahead = f"{window.n_ahead:,} predictions are dated later than this run"
        notes.append(f"{found_ahead}; check the clocks of the replicas.")
    separable = None
    if baseline.sample is not None:
        separable = separability(baseline.sample, found.sample.rows, names)
    return make_report(
        baseline.reference,
        window,
        found,
        name=baseline.name,
        model_version=baseline.model_version,
        policy=policy,
        now=now,
        separability=separable,
        notes=tuple(notes),
    )
