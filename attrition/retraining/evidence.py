"""What is known about the version in production: drift, matured labels, and an estimate where there are none.

Whatever cannot be found out becomes a sentence in the evidence, never a NaN: nothing logged yet, no outcome, too few
rows. Only a champion there must be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrition.data.outcomes import OutcomeTable, complete_until
from attrition.data.predictions import PredictionTable
from attrition.errors import ExtractError, Fault, InsufficientData, NotFound
from attrition.evaluation.references import PROBABILITY
from attrition.monitoring.buckets import parse_span
from attrition.monitoring.drift_run import run_drift
from attrition.monitoring.performance import ServedModel, assess_performance
from attrition.monitoring.performance_policy import PerformancePolicy
from attrition.monitoring.performance_report import Standing
from attrition.monitoring.window_estimate import estimate_window
from attrition.registry.models import CHAMPION
from attrition.retraining.policy import Covariates, Evidence, Realised

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import pandas as pd

    from attrition.data.tables import Tables
    from attrition.evaluation.intervals import Estimate
    from attrition.monitoring.drift_report import DriftReport
    from attrition.monitoring.run import Execution
    from attrition.monitoring.windows import Window
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.registry.package import Package
    from attrition.retraining.policy import EvidenceRules
    from attrition.settings import Settings

_COLUMNS = ("employee_id", "time", "version", "probability", "decision")


def the_champion(registry: ModelRegistry) -> ModelVersion:
    """The version in production.

    Raises
    ------
    NotFound
        There is none, so there is nothing to be better than.
    """
    try:
        return registry.resolve(CHAMPION)
    except NotFound as error:
        remedy = "train and register a first version: attrition tune --register"
        raise NotFound(Fault("retraining", "there is no champion to retrain", "", remedy)) from error


def gather_evidence(
    settings: Settings,
    registry: ModelRegistry,
    tables: Tables,
    rules: EvidenceRules,
    execution: Callable[[Window], Execution],
    *,
    now: datetime,
) -> Evidence:
    """Evidence about the champion as of `now`; the drift report that it rests on is stored.

    Parameters
    ----------
    execution
        Who reads the parts of the window; see :mod:`attrition.monitoring.run`.
    now
        With a time zone.

    Raises
    ------
    NotFound
        There is no champion.
    PlatformError
        MLflow, Ray or the storage does not answer.
    """
    version = the_champion(registry).version
    package = registry.load(version)
    missing: list[str] = []
    covariates = _covariates(settings, registry, tables, version, rules, execution, now, missing)
    realised, estimated = _performance(settings, package, version, rules, now, missing)
    metrics = package.evaluation.metrics
    return Evidence(
        version=version,
        baseline_auc=metrics.get("auc"),
        baseline_accuracy=metrics.get("accuracy"),
        covariates=covariates,
        realised=realised,
        estimated_auc=estimated,
        missing=tuple(missing),
    )


def _covariates(
    settings: Settings,
    registry: ModelRegistry,
    tables: Tables,
    version: str,
    rules: EvidenceRules,
    execution: Callable[[Window], Execution],
    now: datetime,
    missing: list[str],
) -> Covariates | None:
    try:
        report = run_drift(settings, lambda: registry, tables, rules.drift_window, version, execution, now=now).report
    except (NotFound, InsufficientData, ExtractError) as error:
        missing.append(f"drift is unknown: {error}")
        return None
    if report.level == "INSUFFICIENT":
        missing.append(f"drift is unknown: window {report.window} has {report.n_window:,} rows, too few to compare")
        return None
    return covariates_of(report)


def covariates_of(report: DriftReport) -> Covariates:
    """What a drift report says about the features; the score is no feature."""
    drifted = {
        each.feature: each.mean_shift_percent
        for each in report.features
        if each.level.drifted and each.feature != PROBABILITY
    }
    return Covariates(report.report_id, report.window, report.n_window, str(report.level), drifted)


def _performance(
    settings: Settings, package: Package, version: str, rules: EvidenceRules, now: datetime, missing: list[str]
) -> tuple[Realised | None, Estimate | None]:
    try:
        log = PredictionTable(settings.tables).between(end=now, columns=_COLUMNS)
    except NotFound:
        missing.append("performance is unknown: no prediction was logged yet")
        return None, None
    rows = log[log["version"] == version].reset_index(drop=True)
    outcomes = OutcomeTable(settings.tables)
    realised = _realised(rows, outcomes, package, version, rules, now, missing)
    return realised, _estimated(rows, package, version, rules, now, missing)


def _realised(
    rows: pd.DataFrame,
    table: OutcomeTable,
    package: Package,
    version: str,
    rules: EvidenceRules,
    now: datetime,
    missing: list[str],
) -> Realised | None:
    as_of = complete_until(table.history(), now)
    if as_of is None:
        missing.append("performance is unknown: no outcome was recorded yet (attrition outcomes import FILE)")
        return None
    model = ServedModel(package.schema, package.evaluation.metrics.get("auc"))
    report = assess_performance(
        rows,
        table.current(as_of),
        {version: model},
        as_of=as_of,
        now=now,
        period=rules.period,
        policy=PerformancePolicy(min_persons=rules.min_persons),
    )
    buckets = [bucket for each in report.versions for bucket in each.buckets]
    measured = [bucket for bucket in buckets if bucket.standing is not Standing.NOT_MEASURED]
    if not measured:
        n_mature = max((bucket.maturity.n_mature for bucket in buckets), default=0)
        missing.append(
            f"performance is unknown: of version {version}, no {rules.period} has the labels of {rules.min_persons} "
            f"persons (at most {n_mature}); a label takes {package.schema.horizon_days} days"
        )
        return None
    latest = measured[-1]
    if not latest.metrics["auc"].defined:
        missing.append(f"AUC is unknown: everybody predicted in {latest.name} has the same outcome")
    return Realised(latest.name, latest.metrics["auc"], latest.metrics["accuracy"])


def _estimated(
    rows: pd.DataFrame, package: Package, version: str, rules: EvidenceRules, now: datetime, missing: list[str]
) -> Estimate | None:
    start, end = parse_span(rules.drift_window, now=now)
    within = rows[(rows["time"] >= start) & (rows["time"] < end)].reset_index(drop=True)
    try:
        estimate = estimate_window(
            within,
            None,
            package.out_of_fold,
            version=version,
            period=(start, end),
            horizon_days=package.schema.horizon_days,
            as_of=None,
            policy=PerformancePolicy(),
        )
    except InsufficientData as error:
        missing.append(f"performance cannot be estimated: {error}")
        return None
    return estimate.estimated.metrics["auc"]
