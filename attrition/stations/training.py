"""Searches, trainings and judgements under guard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from attrition.governance.actions import Action
from attrition.stations.data import stored_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from attrition.admission.judging import Judgement
    from attrition.admission.runs import Hooks, JudgedRun
    from attrition.data.tables import Tables
    from attrition.evaluation.gates import GatePolicy
    from attrition.governance.guard import Entry, Guard
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.settings import Settings
    from attrition.training.search import TrialUpdate


class Training:
    """From a snapshot to a judged run; its public methods are the Workspace's own.

    Parameters
    ----------
    settings
        Where MLflow is.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    tables
        Gives the project's snapshots.
    start_ray
        Connects to the project's Ray, and says so where that takes a while.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        registry: Callable[[], ModelRegistry],
        tables: Callable[[], Tables],
        start_ray: Callable[[Hooks], None],
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry
        self._tables = tables
        self._start_ray = start_ray

    def tune(
        self,
        plan: str | Path = "default",
        *,
        snapshot: int | None = None,
        gates: str | Path | None = None,
        on_trial: Callable[[TrialUpdate], None] | None = None,
        on_step: Callable[[str], None] | None = None,
        resume: bool = False,
    ) -> JudgedRun:
        """Search hyper-parameters on Ray, judge the winner by the gates and log everything to MLflow.

        Parameters
        ----------
        plan
            A search plan by path, or a shipped one by name (``smoke``, ``default``, ``thorough``).
        snapshot
            Version of the snapshot; the latest when None.
        gates
            Gate thresholds by path or name; the shipped ones when None.
        resume
            Continue the interrupted search of the same plan and data.

        Raises
        ------
        InputError
            Plan, gates or data cannot be used.
        PlatformError
            Ray or MLflow do not answer.
        """
        from attrition.admission import runs
        from attrition.training.connection import probe
        from attrition.training.plan import SearchPlan

        search_plan, policy = SearchPlan.load(plan), _policy(gates)
        hooks = runs.Hooks(on_trial, on_step)
        with self._guard.acting(Action.TRAIN, f"plan {search_plan.name}", details={"resume": resume}) as entry:
            dataset = stored_dataset(self._tables(), snapshot)
            entry.data_version = str(dataset.snapshot.version)
            probe(self._settings)  # a server that does not answer must not cost the start of a Ray first
            self._start_ray(hooks)
            hooks.step("Searching")
            registry = self._registry()
            run = runs.tune(registry, self._settings, dataset, search_plan, policy, hooks=hooks, resume=resume)
            return self.signed(run, entry)

    def train(
        self,
        family: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        plan: str | Path = "default",
        snapshot: int | None = None,
        gates: str | Path | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> JudgedRun:
        """Fit one configuration without a search and judge it; by default the baseline, a balanced logistic regression.

        `plan` supplies everything but the configuration: split, folds, seed, calibration, threshold objective.
        """
        from attrition.admission import runs
        from attrition.training.baseline import BASELINE
        from attrition.training.plan import SearchPlan

        if family is None:
            family, defaults = BASELINE
            parameters = {**defaults, **(parameters or {})}
        search_plan, policy = SearchPlan.load(plan), _policy(gates)
        with self._guard.acting(Action.TRAIN, f"family {family}") as entry:
            dataset = stored_dataset(self._tables(), snapshot)
            entry.data_version = str(dataset.snapshot.version)
            run = runs.train(
                self._registry(),
                self._settings,
                dataset,
                search_plan,
                policy,
                family=family,
                parameters=parameters or {},
                hooks=runs.Hooks(on_step=on_step),
            )
            return self.signed(run, entry)

    def signed(self, run: JudgedRun, entry: Entry) -> JudgedRun:
        """The run, with who made it: its author may not be the one who approves it."""
        self._registry().set_author(run.run_id, entry.actor)
        entry.details |= {"run": run.run_id, "family": run.candidate.family, "verdict": str(run.verdict.outcome)}
        return run

    def validate(
        self,
        ref: str,
        *,
        gates: str | Path | None = None,
        min_auc: float | None = None,
        min_accuracy: float | None = None,
        bias_threshold: float | None = None,
        check_fairness: bool | None = None,
    ) -> Judgement:
        """Judge a version (``1.0.0``, ``champion``) or a logged run again on its own holdout.

        Parameters
        ----------
        min_auc, min_accuracy, bias_threshold, check_fairness
            Override the thresholds of `gates`; None keeps them.
        """
        from attrition.admission import runs

        policy = _policy(gates).with_overrides(
            min_auc=min_auc, min_accuracy=min_accuracy, bias_threshold=bias_threshold, check_fairness=check_fairness
        )
        with self._guard.acting(Action.VALIDATE, f"model {ref}") as entry:
            judgement = runs.validate(self._registry(), partial(stored_dataset, self._tables()), ref, policy)
            entry.details["verdict"] = str(judgement.verdict.outcome)
            return judgement

    def unchanged(self, plan: str | Path = "default", *, snapshot: int | None = None) -> ModelVersion | None:
        """The version that a run of `plan` would reproduce (same data, plan and code), or None.

        Data from which persons were erased since count as the same: an erasure is no reason to retrain.
        """
        from attrition.admission import runs
        from attrition.training.plan import SearchPlan

        self._guard.require(Action.MODEL_VIEW, "models")
        return runs.reproduced(self._registry(), stored_dataset(self._tables(), snapshot), SearchPlan.load(plan))


def _policy(gates: str | Path | None) -> GatePolicy:
    from attrition.evaluation.gates import GatePolicy

    return GatePolicy.default() if gates is None else GatePolicy.load(gates)
