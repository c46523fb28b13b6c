"""A search in MLflow: a parent run, and one child run for each trial with what was tried and what came out."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from attrition.errors import Fault, NotFound, PlatformError, TrackingUnreachable
from attrition.training.connection import connect, ended, experiment_id
from attrition.training.study import TrialStatus
from attrition.training.tracking import start_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Run

    from attrition.settings import Settings
    from attrition.training.lineage import Lineage
    from attrition.training.plan import SearchPlan
    from attrition.training.study import Study, Trial

_log = logging.getLogger(__name__)

_TRIAL = "attrition.trial"
_PARENT = "mlflow.parentRunId"


class TrialLog:
    """Writes ended trials of a study below the study's parent run, which it starts or takes up again.

    A trial that cannot be written while the search runs is tried again at the end: the study on disk is what counts.

    Parameters
    ----------
    settings
        Of the tracking store.
    plan, lineage
        Describe the parent run.
    study
        Gets the id of the parent run; trials that it has and MLflow lacks are written now.

    Raises
    ------
    TrackingUnreachable
        See :func:`attrition.training.tracking.connect`.
    """

    def __init__(self, settings: Settings, plan: SearchPlan, lineage: Lineage, study: Study) -> None:
        self.client = connect(settings)
        self._plan = plan
        self._study = study
        self._experiment = experiment_id(self.client, settings)
        self._logged: set[int] = set()
        self._attempted: set[int] = set()
        self.run_id = study.run_id or ""
        if not self.run_id or not self._take_up(self.run_id):
            title = f"search {plan.name}"
            self.run_id = start_run(self.client, settings, title, lineage, kind="search")
            study.bind_run(self.run_id)
        with ended(self.client, self.run_id, success=False):
            for trial in study.trials:
                if trial.number not in self._logged:
                    self._write(trial)

    def add(self, trial: Trial) -> None:
        """Write an ended trial; a failure is reported to the log and made good by :meth:`finish`."""
        try:
            self._write(trial)
        except Exception as error:  # noqa: BLE001 (a search of an hour must not end because the store did not answer once)
            _log.warning("trial %d is not in MLflow yet (%s)", trial.number, type(error).__name__)

    def finish(self, best: Trial) -> None:
        """Write what is missing and the summary.

        Raises
        ------
        TrackingUnreachable
            The store does not take the rest; the search can be resumed without losing a trial.
        """
        from mlflow.entities import Metric, RunTag

        trials, now = self._study.trials, _now()
        summary = {
            f"search_best_{self._plan.metric}": best.mean,
            "search_n_trials": float(len(trials)),
            "search_n_pruned": float(sum(trial.status is TrialStatus.PRUNED for trial in trials)),
            "search_trial_seconds": sum(trial.seconds for trial in trials),
        }
        try:
            for trial in trials:
                if trial.number not in self._logged:
                    self._write(trial)
            self.client.log_batch(
                self.run_id,
                metrics=[Metric(name, value, now, 0) for name, value in summary.items()],
                tags=[RunTag("attrition.best_trial", str(best.number))],
            )
        except (PlatformError, NotFound) as error:
            fault = Fault("MLflow", "stopped answering during the search", remedy="resume the search when it answers")
            raise TrackingUnreachable(fault) from error

    def _take_up(self, run_id: str) -> bool:
        """Whether the parent run of an earlier process still exists; it runs again afterwards."""
        try:
            run = self.client.get_run(run_id)
        except NotFound:
            return False
        if run.info.lifecycle_stage == "deleted":
            return False
        self.client.update_run(run_id, status="RUNNING")
        for child in self._children():
            if child.info.status == "RUNNING":
                # the process died between starting and ending it; it is written anew
                self.client.delete_run(child.info.run_id)
            else:
                self._logged.add(int(child.data.tags[_TRIAL]))
        return True

    def _children(self, number: int | None = None) -> Iterator[Run]:
        """Runs of the trials, or of the trial `number`."""
        which = f"tags.`{_PARENT}` = '{self.run_id}'"
        if number is not None:
            which += f" AND tags.`{_TRIAL}` = '{number}'"
        token = None
        while True:
            page = self.client.search_runs([self._experiment], which, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _write(self, trial: Trial) -> None:
        from mlflow.entities import Metric, Param

        run = self._begun(trial) or self._begin(trial)
        # a second attempt writes the same points: MLflow keeps one of them
        end, name = run.info.start_time + round(trial.seconds * 1000), self._plan.metric
        metrics = [Metric(f"fold_{name}", score, end, step) for step, score in enumerate(trial.fold_scores)]
        metrics.append(Metric("duration_seconds", trial.seconds, end, 0))
        if trial.fold_scores:
            metrics.append(Metric(f"mean_{name}", trial.mean, end, 0))
        params = [Param("family", trial.family), *(Param(key, str(value)) for key, value in trial.parameters.items())]
        self.client.log_batch(run.info.run_id, metrics=metrics, params=params)
        failed = trial.status is TrialStatus.FAILED
        self.client.set_terminated(run.info.run_id, "FAILED" if failed else "FINISHED", end_time=end)
        self._logged.add(trial.number)

    def _begun(self, trial: Trial) -> Run | None:
        """The run that a failed attempt to write the trial left behind, if it did."""
        if trial.number not in self._attempted:
            return None
        return next(self._children(trial.number), None)

    def _begin(self, trial: Trial) -> Run:
        self._attempted.add(trial.number)
        return self.client.create_run(
            self._experiment,
            start_time=_now() - round(trial.seconds * 1000),
            run_name=f"{trial.number:03d} {trial.family}",
            tags={
                _PARENT: self.run_id,
                _TRIAL: str(trial.number),
                "attrition.kind": "trial",
                "attrition.family": trial.family,
                "attrition.status": str(trial.status),
            },
        )


def _now() -> int:
    return int(time.time() * 1000)
