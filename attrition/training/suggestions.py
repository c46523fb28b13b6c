"""What a search tries next: Optuna over all families at once. Imports Ray; import it where it is used.

The family is itself a choice, and its parameters follow from it. Pruned trials reach Optuna as pruned, with their
partial means, and not as results: a mean over fewer folds is another quantity.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from attrition.training.folds import SCORE
from attrition.training.study import Trial, TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attrition.training.plan import SearchPlan


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
