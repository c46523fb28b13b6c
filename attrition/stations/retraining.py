"""Retraining under guard: the decision, the attempt, and what was decided before."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrition.errors import AttritionError
from attrition.governance.actions import Action

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from pathlib import Path

    from attrition.admission.runs import JudgedRun
    from attrition.data.dataset import Dataset
    from attrition.data.tables import Tables
    from attrition.governance.guard import Entry, Guard
    from attrition.monitoring.run import Execution
    from attrition.monitoring.windows import Window
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.retraining.ledger import Ledger
    from attrition.retraining.pipeline import Retraining as Result
    from attrition.retraining.policy import DataRules, RetrainingPolicy
    from attrition.retraining.records import Counts
    from attrition.settings import Settings
    from attrition.training.search import TrialUpdate

SUBJECT = "champion"


class Retraining:
    """Whether to train a new version, and its training; reached as ``Workspace.retraining``.

    Nothing here changes production traffic: the end is a challenger. Every method raises ``AccessDenied`` for who may
    not do it; an attempt needs the permissions to train and to register, too.

    Parameters
    ----------
    settings
        Where MLflow, tables and database are.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    tables
        Gives the project's snapshots.
    execution
        Who reads the parts of a drift window.
    ray
        Connects to the project's Ray.
    sign
        Notes who made a run, in the registry and in the audit log.
    register
        Makes a version of a run, under guard.
    stage
        Version → what became of it at the endpoint, as a sentence; None: nothing is staged.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        registry: Callable[[], ModelRegistry],
        tables: Callable[[], Tables],
        *,
        execution: Callable[[Window], Execution],
        ray: Callable[[], object],
        sign: Callable[[JudgedRun, Entry], JudgedRun],
        register: Callable[[str], ModelVersion],
        stage: Callable[[str], str] | None = None,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry
        self._tables = tables
        self._execution = execution
        self._ray = ray
        self._sign = sign
        self._register = register
        self._stage = stage

    def check(self, policy: RetrainingPolicy | str | Path | None = None, *, now: datetime | None = None) -> Result:
        """Decide whether to retrain, and record the decision; nothing is trained.

        Parameters
        ----------
        policy
            A policy, its YAML file, or a shipped one by name; None is the shipped one.
        now
            The present; the clock's when None.

        Raises
        ------
        NotFound
            There is no champion.
        ConfigError
            The policy cannot be used.
        PlatformError
            MLflow, Ray, the storage or the database does not answer.
        """
        return self._decided(_policy(policy), now or datetime.now(UTC), forced=False)

    def run(
        self,
        policy: RetrainingPolicy | str | Path | None = None,
        *,
        force: bool = False,
        now: datetime | None = None,
        on_trial: Callable[[TrialUpdate], None] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> Result:
        """Decide, and when the verdict is RETRAIN, train, judge and register a challenger.

        Parameters
        ----------
        force
            Train whatever the verdict, and in the cooldown; lease, budget and fingerprint still count.

        Raises
        ------
        InsufficientData
            The records do not suffice.
        NotFound, ConfigError, PlatformError
            As :meth:`check`.
        """
        from attrition.admission.runs import Hooks
        from attrition.retraining.pipeline import Line, retrain
        from attrition.retraining.policy import Verdict

        rules = _policy(policy)
        found = self._decided(rules, now or datetime.now(UTC), forced=force)
        if force or found.decision.verdict is Verdict.RETRAIN:
            for action in (Action.DATA_IMPORT, Action.TRAIN, Action.REGISTER):  # before hours of work, not after
                self._guard.require(action, SUBJECT)
        ledger = self._ledger()
        line = Line(
            self._settings, self._registry(), ledger, self._collected, self._trained, self._register, self._stage
        )
        moment = now
        try:
            found = retrain(
                line, found, rules, clock=lambda: moment or datetime.now(UTC), hooks=Hooks(on_trial, on_step)
            )
        except Exception as error:
            # a library's words may hold a person's values
            note = str(error)[:500] if isinstance(error, AttritionError) else type(error).__name__
            ledger.note(found.decision_id, found.at, {**found.to_dict(), "state": "FAILED", "note": note})
            raise
        ledger.note(found.decision_id, found.at, found.to_dict())
        return found

    def history(self, last: int | None = 20) -> builtins.list[dict[str, Any]]:
        """Decisions with what came of them, the newest first; documents as of ``Result.to_dict``.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        self._guard.require(Action.MODEL_VIEW, "retraining decisions")
        return self._ledger().decisions(last)

    def _decided(self, policy: RetrainingPolicy, now: datetime, *, forced: bool) -> Result:
        from attrition.retraining.evidence import gather_evidence
        from attrition.retraining.pipeline import Retraining as Result
        from attrition.retraining.policy import decide

        with self._guard.acting(Action.RETRAINING_DECISION, SUBJECT) as entry:
            evidence = gather_evidence(
                self._settings, self._registry(), self._tables(), policy.evidence, self._execution, now=now
            )
            decision = decide(evidence, policy)
            found = Result(secrets.token_hex(8), now, decision, forced=forced)
            entry.model_version = evidence.version
            entry.details |= {
                "decision": found.decision_id,
                "verdict": str(decision.verdict),
                "rule": decision.rule,
                "reasons": list(decision.reasons),
                "missing": [text[:200] for text in decision.missing],
                "forced": forced,
            }
            self._ledger().note(found.decision_id, now, found.to_dict())
            return found

    def _collected(self, rules: DataRules, now: datetime) -> tuple[Dataset, Counts]:
        from attrition.retraining.pipeline import collect

        with self._guard.acting(Action.DATA_IMPORT, SUBJECT, details={"retraining": True}) as entry:
            dataset, counts = collect(self._settings, self._tables(), rules, now=now)
            entry.data_version = str(dataset.snapshot.version)
            entry.details["content_hash"] = dataset.snapshot.content_hash
            return dataset, counts

    def _trained(self, make: Callable[[], JudgedRun], dataset: Dataset) -> JudgedRun:
        details = {"retraining": True}
        with self._guard.acting(Action.TRAIN, "retraining", details=details) as entry:
            entry.data_version = str(dataset.snapshot.version)
            self._ray()
            return self._sign(make(), entry)

    def _ledger(self) -> Ledger:
        from attrition.retraining.ledger import Ledger

        self._settings.prepare_home()
        return Ledger(self._settings.database_url)


def _policy(policy: RetrainingPolicy | str | Path | None) -> RetrainingPolicy:
    from attrition.retraining.policy import RetrainingPolicy

    if isinstance(policy, RetrainingPolicy):
        return policy
    return RetrainingPolicy.load() if policy is None else RetrainingPolicy.load(policy)
