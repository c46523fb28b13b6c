"""The search: from a table and a plan to a calibrated candidate, over Ray Tune, recorded in MLflow and on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attrition.errors import Fault, PlatformError
from attrition.training.candidate import check_learnable, fit_candidate
from attrition.training.study import Study, Trial, TrialStatus, TrialUpdate, best_trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attrition.data.employees import EmployeeTable
    from attrition.settings import Settings
    from attrition.training.candidate import Candidate
    from attrition.training.lineage import Lineage
    from attrition.training.plan import SearchPlan

__all__ = ["SearchResult", "Trial", "TrialStatus", "TrialUpdate", "search"]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    candidate : Candidate
        The best trial's configuration, refitted on all rows, calibrated, with its threshold.
    trials : tuple of Trial
        Every trial of the study in the order of suggestion, those before a resume included.
    run_id : str
        MLflow parent run, still running: what is made of the candidate belongs to it as well. The caller ends it, see
        :func:`attrition.training.connection.ended`.
    n_pruned : int
        Trials that were stopped early.
    seconds : float
        Wall time of this call.
    best : Trial
        The trial the candidate was made from.
    """

    candidate: Candidate
    trials: tuple[Trial, ...]
    run_id: str
    n_pruned: int
    seconds: float
    best: Trial


def search(
    table: EmployeeTable,
    plan: SearchPlan,
    *,
    settings: Settings,
    lineage: Lineage,
    on_trial: Callable[[TrialUpdate], None] | None = None,
    resume: bool = False,
) -> SearchResult:
    """Try the plan's configurations on the connected Ray cluster and refit the best.

    Parameters
    ----------
    table
        Training rows with outcomes; never the holdout.
    plan
        Families, spaces, budget, calibration and threshold objective.
    settings
        The study is kept in ``home/tune/<plan name>``.
    lineage
        Recorded with the candidate and in MLflow.
    on_trial
        Called in this process after every fold and every trial.
    resume
        True takes up a study of this plan on these rows that was interrupted, if there is one: its ended trials are
        kept, and its MLflow run goes on. False starts over.

    Raises
    ------
    InsufficientData
        See :func:`attrition.training.candidate.check_learnable`.
    ConfigError
        `resume`, but the study is of another plan or other rows.
    UsageError
        Another process is searching in the same study.
    TrackingUnreachable
        MLflow does not answer.
    PlatformError
        No trial ran all folds: every one failed, or the time budget was too short.
    """
    from attrition.data.splits import stratified_folds
    from attrition.training.connection import ended
    from attrition.training.folds import FoldData
    from attrition.training.trial_log import TrialLog
    from attrition.training.tuner import Recorder, run_trials

    started = time.perf_counter()
    check_learnable(table, plan.n_folds)
    folds = stratified_folds(table, plan.n_folds, plan.seed)
    data = FoldData(table.features, table.target, folds, table.schema)
    identity = {"plan": plan.digest, "data": table.content_hash(), "schema": table.schema.digest}
    with Study(study_folder(settings, plan), identity, resume=resume) as study:
        log = TrialLog(settings, plan, lineage, study)
        with ended(log.client, log.run_id, success=False):
            run_trials(plan, data, study, Recorder(study, plan, log.add, on_trial))
            best = _best(plan, study)
            log.finish(best)
            candidate = fit_candidate(
                table,
                best.family,
                best.parameters,
                n_folds=plan.n_folds,
                seed=plan.seed,
                calibration=plan.calibration,
                objective=plan.objective,
                mitigation=plan.mitigation,
                lineage=lineage,
            )
        trials = tuple(sorted(study.trials, key=lambda trial: trial.number))
    return SearchResult(
        candidate=candidate,
        trials=trials,
        run_id=log.run_id,
        n_pruned=sum(trial.status is TrialStatus.PRUNED for trial in trials),
        seconds=time.perf_counter() - started,
        best=best,
    )


def study_folder(settings: Settings, plan: SearchPlan) -> Path:
    """Where the trials of a plan's search are kept."""
    return settings.home / "tune" / plan.name


def _best(plan: SearchPlan, study: Study) -> Trial:
    best = best_trial(study.trials)
    if best is None:
        budget = f"; the time budget is {plan.time_budget_seconds:g} s" if plan.time_budget_seconds else ""
        found = f"none of {len(study.trials)} trials ran all {plan.n_folds} folds{budget}"
        raise PlatformError(Fault(f"search {plan.name}", found, remedy="allow more time or more trials"))
    return best
