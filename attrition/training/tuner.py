"""The search on Ray Tune: one trial fits one configuration fold by fold. Imports Ray; import it where it is used.

All trials see the same folds in the same order, so the mean after one fold already compares like with like, and ASHA
can stop a weak configuration there. What is suggested next is Optuna's affair (TPE over all families at once, the
family itself being a choice); pruned trials reach it as pruned, with their partial means, not as results.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from attrition.errors import Fault, PlatformError
from attrition.training.families import FAMILIES
from attrition.training.study import Study, Trial, TrialStatus, TrialUpdate, best_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema
    from attrition.training.plan import SearchPlan

_log = logging.getLogger(__name__)

SCORE = "score"
"""Key under which a trial reports its mean so far."""

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints headers however quiet it is told to be
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # result files that nobody reads
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C must reach the caller; the study is on disk anyway
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # the study is the checkpoint
}


@dataclass(frozen=True, slots=True)
class FoldData:
    """What every trial reads, shared between the workers without a copy.

    Attributes
    ----------
    features : DataFrame of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,), int8
    folds : sequence of (fit rows, score rows)
    schema : FeatureSchema
    """

    features: pd.DataFrame
    y: NDArray[np.int8]
    folds: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]
    schema: FeatureSchema


def fold_scores(data: FoldData, family: str, parameters: Mapping[str, Any], metric: str, seed: int) -> Iterator[float]:
    """The metric on each fold of one configuration, one after the other.

    Parameters
    ----------
    metric
        ``auc`` or ``average_precision``.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    measure = {"auc": roc_auc_score, "average_precision": average_precision_score}[metric]
    for fit_rows, score_rows in data.folds:
        pipeline = FAMILIES[family].build(data.schema, parameters, seed)
        pipeline.fit(data.features.iloc[fit_rows], data.y[fit_rows])
        scores = pipeline.predict_proba(data.features.iloc[score_rows])[:, 1]
        yield float(measure(data.y[score_rows], scores))


def run_trial(config: dict[str, Any], data: FoldData, metric: str, seed: int) -> None:
    """One trial, in a worker: reports the mean so far after each fold."""
    started = time.perf_counter()
    scores: list[float] = []
    for score in fold_scores(data, config["family"], config["parameters"], metric, seed):
        scores.append(score)
        mean = sum(scores) / len(scores)
        tune.report({SCORE: mean, "fold_score": score, "seconds": time.perf_counter() - started})


class PlanSpace:
    """The plan's space as Optuna asks for it: the family first, then that family's parameters."""

    def __init__(self, plan: SearchPlan) -> None:
        self.plan = plan

    def __call__(self, trial: optuna.Trial) -> None:
        """Suggest one configuration; constants need no suggestion."""
        family = trial.suggest_categorical("family", list(self.plan.families))
        for name, space in self.plan.families[family].items():
            if space.distribution() is not None:
                space.suggest(trial, f"{family}/{name}")

    def point(self, family: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration in Optuna's names, without the constants."""
        spaces = self.plan.families[family]
        searched = {name: value for name, value in parameters.items() if spaces[name].distribution() is not None}
        return {"family": family, **{f"{family}/{name}": value for name, value in searched.items()}}

    def parameters(self, suggestion: Mapping[str, Any]) -> dict[str, Any]:
        """Hyperparameters of a suggestion as Ray nests it, with the constants and in the plan's order."""
        family = suggestion["family"]
        searched = suggestion.get(family, {})
        return {name: searched.get(name, space.initial) for name, space in self.plan.families[family].items()}

    def frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        """An ended trial for the optimiser to learn from."""
        spaces = self.plan.families[trial.family]
        distributions = {"family": optuna.distributions.CategoricalDistribution(list(self.plan.families))}
        for name, space in spaces.items():
            if (distribution := space.distribution()) is not None:
                distributions[f"{trial.family}/{name}"] = distribution
        means = {step + 1: sum(trial.fold_scores[: step + 1]) / (step + 1) for step in range(len(trial.fold_scores))}
        states = {
            TrialStatus.COMPLETE: optuna.trial.TrialState.COMPLETE,
            TrialStatus.PRUNED: optuna.trial.TrialState.PRUNED,
        }
        state = states.get(trial.status, optuna.trial.TrialState.FAIL)
        return optuna.trial.create_trial(
            state=state,
            value=None if state is optuna.trial.TrialState.FAIL else trial.mean,
            params=self.point(trial.family, trial.parameters),
            distributions=distributions,
            intermediate_values=means,
        )


class FoldSearch(OptunaSearch):  # type: ignore[misc]  # ray is not typed
    """Optuna's suggestions as configurations of this project, starting from what a study already knows.

    Parameters
    ----------
    plan
        Space, seed and first trials.
    ended
        Trials of the study so far; their numbers are not given out again.
    """

    def __init__(self, plan: SearchPlan, ended: Sequence[Trial]) -> None:
        self._plan_space = PlanSpace(plan)
        self._n_folds = plan.n_folds
        taken = {trial.number for trial in ended}
        self._numbers = iter([number for number in range(plan.n_trials + len(ended)) if number not in taken])
        storage = optuna.storages.InMemoryStorage()
        study = optuna.create_study(storage=storage, study_name=plan.name, direction="maximize")
        study.add_trials([self._plan_space.frozen(trial) for trial in ended])
        known = [(trial.family, dict(trial.parameters)) for trial in ended]
        for family in plan.families:
            first = dict(plan.first_parameters(family))
            if (family, first) not in known:
                study.enqueue_trial(self._plan_space.point(family, first))
        super().__init__(
            self._plan_space,
            metric=SCORE,
            mode="max",
            sampler=sampler(plan, n_known=len(ended)),
            study_name=plan.name,
            storage=storage,
        )

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration: number, family and all its parameters."""
        suggestion = super().suggest(trial_id)
        return {
            "number": next(self._numbers),
            "family": suggestion["family"],
            "parameters": self._plan_space.parameters(suggestion),
        }

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna; a trial that did not run all folds was pruned: its mean is of other folds than the rest."""
        complete = result is not None and result.get("training_iteration", 0) >= self._n_folds
        super().on_trial_complete(trial_id, result if complete else None, error)


def sampler(plan: SearchPlan, n_known: int = 0) -> optuna.samplers.BaseSampler:
    """The plan's sampler; a resumed one must not draw the same random values again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=plan.seed + n_known,
            multivariate=True,
            group=True,
            constant_liar=True,
            n_startup_trials=2 * len(plan.families),
        )


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
        if self._on_update is not None:
            best = best_trial(self._study.trials)
            self._on_update(
                TrialUpdate(
                    number=trial.number,
                    family=trial.family,
                    status=trial.status,
                    folds_done=len(trial.fold_scores),
                    mean_score=trial.mean if trial.fold_scores else None,
                    best_so_far=best.mean if best else None,
                    n_done=len(self._study.trials),
                    n_total=self._plan.n_trials,
                )
            )


def run_trials(plan: SearchPlan, data: FoldData, study: Study, recorder: Recorder) -> None:
    """Run what is left of the plan's budget on the connected Ray cluster.

    Raises
    ------
    PlatformError
        No trial of the study ended well; carries what the first failure said.
    """
    remaining = plan.n_trials - len(study.trials)
    if remaining <= 0:
        return
    scratch = study.directory / "ray"
    shutil.rmtree(scratch, ignore_errors=True)
    with _quiet():
        try:
            results = _tuner(plan, data, study, recorder, remaining).fit()
        except KeyboardInterrupt as interrupt:
            # Ray cleans up after errors only: its workers would live as long as somebody keeps this traceback
            traceback.clear_frames(interrupt.__traceback__)
            raise
    shutil.rmtree(scratch, ignore_errors=True)
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
            time_budget_s=plan.time_budget_seconds,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(name="ray", storage_path=str(study.directory), callbacks=[recorder], verbose=0),
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
    """Tune without banners, result files and its own handler of Ctrl-C."""
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
