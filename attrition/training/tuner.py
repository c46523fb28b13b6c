"""The search on Ray Tune: one trial fits one configuration fold by fold. Imports Ray; import it where it is used.

All trials see the same folds in the same order, so the mean after one fold already compares like with like, and ASHA
can stop a weak configuration there.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from attrition.errors import Fault, PlatformError
from attrition.training.folds import SCORE, run_trial
from attrition.training.study import Study, Trial, TrialStatus, TrialUpdate, best_trial
from attrition.training.suggestions import FoldSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from attrition.training.folds import FoldData
    from attrition.training.plan import SearchPlan

_log = logging.getLogger(__name__)

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints headers however quiet it is told to be
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # result files that nobody reads
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # see EarlyStop
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the study is the checkpoint
}


class EarlyStop(tune.Stopper):  # type: ignore[misc]  # ray is not typed
    """Ends a search in good order, with its workers released: at the time budget, on Ctrl-C, on an error of the caller.

    An exception that crosses Tune's loop would leave the workers, and their CPUs, taken for as long as somebody keeps
    the traceback. So it is noted here, and raised when Tune has ended.

    Parameters
    ----------
    budget_seconds
        From now on; None is no limit.
    """

    def __init__(self, budget_seconds: float | None) -> None:
        self._deadline = None if budget_seconds is None else time.monotonic() + budget_seconds
        self.reason: BaseException | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002 (Ray's signature)
        """False: no trial is stopped on its own account."""
        return False

    def stop_all(self) -> bool:
        """Whether to end the search."""
        return self.reason is not None or (self._deadline is not None and time.monotonic() > self._deadline)

    @contextmanager
    def on_ctrl_c(self) -> Iterator[None]:
        """In the main thread: the first Ctrl-C ends the search, a second one interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT) or signal.default_int_handler

        def note(*_: object) -> None:
            self.reason = KeyboardInterrupt()
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


class Recorder(tune.Callback):  # type: ignore[misc]  # ray is not typed
    """Follows the trials on the driver: records each one that ends, then says so.

    Parameters
    ----------
    study
        Where ended trials are kept.
    plan
        For the budget and the number of folds.
    on_end
        Called with each ended trial, after it is on disk.
    on_update
        Called after every fold and at the end of every trial.
    """

    def __init__(
        self,
        study: Study,
        plan: SearchPlan,
        on_end: Callable[[Trial], None],
        on_update: Callable[[TrialUpdate], None] | None,
    ) -> None:
        self._study = study
        self._plan = plan
        self._on_end = on_end
        self._on_update = on_update
        self._running: dict[str, Trial] = {}
        self.stop = EarlyStop(plan.time_budget_seconds)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray writes a copy of its callbacks to disk, which nobody restores."""
        return {}

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:
        """Announce it."""
        config = trial.config
        started = Trial(config["number"], config["family"], config["parameters"])
        self._running[trial.trial_id] = started
        self._announce(started)

    def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Add the fold."""
        running = self._running[trial.trial_id].with_fold(result["fold_score"], result["seconds"])
        self._running[trial.trial_id] = running
        if len(running.fold_scores) < self._plan.n_folds:
            self._announce(running)

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
        """Record it as complete or pruned."""
        folds_done = len(self._running[trial.trial_id].fold_scores)
        self._end(trial, TrialStatus.COMPLETE if folds_done == self._plan.n_folds else TrialStatus.PRUNED)

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:
        """Record it as failed."""
        _log.warning("trial %s failed", trial.config["number"])
        self._end(trial, TrialStatus.FAILED)

    def _end(self, trial: Any, status: TrialStatus) -> None:
        ended = replace(self._running.pop(trial.trial_id), status=status)
        self._study.append(ended)
        self._on_end(ended)
        self._announce(ended)

    def _announce(self, trial: Trial) -> None:
        if self._on_update is None or self.stop.reason is not None:
            return
        best = best_trial(self._study.trials)
        update = TrialUpdate(
            number=trial.number,
            family=trial.family,
            status=trial.status,
            folds_done=len(trial.fold_scores),
            mean_score=trial.mean if trial.fold_scores else None,
            best_so_far=best.mean if best else None,
            n_done=len(self._study.trials),
            n_total=self._plan.n_trials,
        )
        try:
            self._on_update(update)
        except BaseException as error:  # noqa: BLE001 (raised again when Tune has ended)
            self.stop.reason = error


def run_trials(plan: SearchPlan, data: FoldData, study: Study, recorder: Recorder) -> None:
    """Run what is left of the plan's budget on the connected Ray cluster.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; trials that ended before are in the study. What `on_update` raises is passed on likewise.
    PlatformError
        No trial of the study ended well; carries what the first failure said.
    """
    remaining = plan.n_trials - len(study.trials)
    if remaining <= 0:
        return
    scratch = study.directory / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    with _quiet(), recorder.stop.on_ctrl_c():
        results = _tuner(plan, data, study, recorder, remaining).fit()
    shutil.rmtree(scratch, ignore_errors=True)
    if recorder.stop.reason is not None:
        raise recorder.stop.reason
    if results.errors and best_trial(study.trials) is None:
        raise PlatformError(Fault("search", f"all trials failed; the first said: {_last_line(results.errors[0])}"))


def _tuner(plan: SearchPlan, data: FoldData, study: Study, recorder: Recorder, n_trials: int) -> tune.Tuner:
    scheduler = ASHAScheduler(
        time_attr="training_iteration",
        metric=SCORE,
        mode="max",
        max_t=plan.n_folds,
        grace_period=plan.grace_folds,
        reduction_factor=plan.reduction_factor,
    )
    _replay(scheduler, study.trials)
    trainable = tune.with_parameters(run_trial, data=data, metric=plan.metric, seed=plan.seed)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=FoldSearch(plan, study.trials),
            scheduler=scheduler,
            num_samples=n_trials,
            max_concurrent_trials=plan.max_concurrent_trials or _n_cpus(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="ray", storage_path=str(study.directory), callbacks=[recorder], stop=recorder.stop, verbose=0
        ),
    )


def _n_cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _replay(scheduler: ASHAScheduler, trials: Sequence[Trial]) -> None:
    """Let the scheduler see recorded trials as it would have seen them, so that a resumed search prunes as before."""
    for trial in trials:
        if not trial.fold_scores:
            continue
        seen = SimpleNamespace(trial_id=f"recorded-{trial.number}")
        scheduler.on_trial_add(None, seen)
        for step in range(1, len(trial.fold_scores) + 1):
            result = {"training_iteration": step, SCORE: sum(trial.fold_scores[:step]) / step}
            scheduler.on_trial_result(None, seen, result)
        scheduler.on_trial_remove(None, seen)


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


@contextmanager
def _quiet() -> Iterator[None]:
    """Tune without banners and result files."""
    logger = logging.getLogger("ray.tune")
    level, before = logger.level, {name: os.environ.get(name) for name in _QUIET}
    verbosity = optuna.logging.get_verbosity()
    os.environ.update(_QUIET)
    logger.setLevel(logging.ERROR)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
        optuna.logging.set_verbosity(verbosity)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
