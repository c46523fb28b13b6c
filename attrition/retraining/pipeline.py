"""From a decision to a staged challenger: records, search, gates, registration; never the production traffic.

An attempt happens when four things allow it, in this order: nobody else is retraining (a lease in the database), the
last attempt that reached a verdict is long enough ago, the day's budget is not used up, and no attempt with the same
fingerprint (records, split, plan, code) has concluded: it would only be repeated. `force` overrides the decision and
the cooldown, nothing else.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrition.admission import runs
from attrition.data.dataset import Dataset
from attrition.data.outcomes import OutcomeTable, complete_until
from attrition.data.predictions import FEATURE, PredictionTable
from attrition.data.quality import check_quality
from attrition.errors import AttritionError, Fault, InsufficientData, NotFound, PlatformError
from attrition.evaluation.gates import GatePolicy
from attrition.retraining.evidence import the_champion
from attrition.retraining.policy import Verdict
from attrition.retraining.records import assemble, imported
from attrition.training.plan import SearchPlan

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from attrition.admission.runs import Hooks, JudgedRun
    from attrition.data.tables import Tables
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.retraining.ledger import Attempt, Ledger
    from attrition.retraining.policy import DataRules, Decision, RetrainingPolicy
    from attrition.retraining.records import Counts
    from attrition.settings import Settings


class State(StrEnum):
    """What came of a decision."""

    DECIDED = "DECIDED"
    """Nothing was to be done, or only the decision was asked for."""
    BUSY = "BUSY"
    """Another process is retraining."""
    COOLDOWN = "COOLDOWN"
    """The last attempt is too recent."""
    BUDGET = "BUDGET"
    """The day's attempts or minutes are used up."""
    UNCHANGED = "UNCHANGED"
    """The same records, plan and code were tried before."""
    HELD = "HELD"
    """The gates hold the candidate; nothing was registered."""
    REGISTERED = "REGISTERED"
    """There is a new version, the challenger."""


@dataclass(frozen=True, slots=True)
class Retraining:
    """A decision and what came of it.

    Attributes
    ----------
    decision_id : str
    at : datetime
    decision : Decision
    forced : bool
    state : State
    note : str
        Why it went no further, or what was made; a sentence, or empty.
    counts : Counts or None
        Records of the training.
    n_train, n_holdout : int or None
    gates : tuple of (str, str, str)
        Name, outcome and finding of each gate.
    run_id : str
    version : str
        The challenger; of `UNCHANGED` what was made then. Empty: none.
    staged : str
        What became of it at the endpoint.
    """

    decision_id: str
    at: datetime
    decision: Decision
    forced: bool = False
    state: State = State.DECIDED
    note: str = ""
    counts: Counts | None = None
    n_train: int | None = None
    n_holdout: int | None = None
    gates: tuple[tuple[str, str, str], ...] = ()
    run_id: str = ""
    version: str = ""
    staged: str = ""

    @property
    def attention(self) -> bool:
        """Whether somebody should look: retraining is due but was not tried, or the gates hold, or all is unclear."""
        due = self.decision.verdict is not Verdict.HOLD and self.state is State.DECIDED
        return due or self.state is State.HELD

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {
            "id": self.decision_id,
            "at": self.at.isoformat(),
            **self.decision.to_dict(),
            "forced": self.forced,
            "state": str(self.state),
            "note": self.note,
            "records": None if self.counts is None else self.counts.to_dict(),
            "n_train": self.n_train,
            "n_holdout": self.n_holdout,
            "gates": [{"gate": name, "outcome": outcome, "found": found} for name, outcome, found in self.gates],
            "run_id": self.run_id,
            "version": self.version,
            "staged": self.staged,
        }


@dataclass(frozen=True, slots=True)
class Line:
    """What the pipeline works with.

    Attributes
    ----------
    settings, registry, ledger
        Of the project.
    collect : callable
        Rules and the present → records to retrain on, as :func:`collect`; authorises and records it.
    train : callable
        Makes a judged run of a function that needs Ray; authorises and records it.
    register : callable
        Run id → version; authorises and records it.
    stage : callable or None
        Version → what became of it at the endpoint, as a sentence; None: nothing is staged.
    """

    settings: Settings
    registry: ModelRegistry
    ledger: Ledger
    collect: Callable[[DataRules, datetime], tuple[Dataset, Counts]]
    train: Callable[[Callable[[], JudgedRun], Dataset], JudgedRun]
    register: Callable[[str], ModelVersion]
    stage: Callable[[str], str] | None = None


def retrain(
    line: Line,
    found: Retraining,
    policy: RetrainingPolicy,
    *,
    clock: Callable[[], datetime],
    hooks: Hooks,
) -> Retraining:
    """What came of a decision, once it was carried out as far as policy, budget and gates allow.

    Parameters
    ----------
    found
        The decision, noted but not carried out; `forced` overrides it and the cooldown.
    clock
        The present, with a time zone.

    Raises
    ------
    InsufficientData
        The records do not suffice to train or to judge.
    PlatformError
        Ray, MLflow, the storage or the database does not do its part.
    """
    if found.decision.verdict is not Verdict.RETRAIN and not found.forced:
        return found
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    other = line.ledger.acquire(holder, clock(), policy.lease_minutes)
    if other is not None:
        note = f"another process has been retraining and may do so until {other.until:%Y-%m-%d %H:%M} UTC"
        return replace(found, state=State.BUSY, note=note)
    try:
        refused = refusal(line.ledger.attempts(), policy, clock(), forced=found.forced)
        if refused is not None:
            return replace(found, state=refused[0], note=refused[1])
        alive = _sign_of_life(line.ledger, holder, policy, clock, hooks)
        return _attempt(line, found, policy, clock, alive)
    finally:
        line.ledger.release(holder)


def collect(settings: Settings, tables: Tables, rules: DataRules, *, now: datetime) -> tuple[Dataset, Counts]:
    """Records to retrain on as of `now`, stored as a snapshot.

    Raises
    ------
    InsufficientData
        There is no snapshot to start from, or it cannot be joined with production.
    NotFound
        Nothing was logged or no outcome recorded.
    PlatformError
        The storage does not answer.
    """
    history, _ = tables.read_snapshot(imported(tables.snapshots()))
    outcomes = OutcomeTable(settings.tables)
    as_of = complete_until(outcomes.history(), now)
    if as_of is None:
        found = "no outcome was recorded yet, so nothing in production has a label"
        raise NotFound(Fault("retraining", found, "", "attrition outcomes import FILE"))
    log = PredictionTable(settings.tables)
    logged = log.features()
    unknown = [name for name in history.schema.names if name not in logged]
    if unknown:
        remedy = "import a snapshot with the features that are served"
        raise InsufficientData(
            Fault("predictions", f"no version in production reads {name}, which the snapshot has", "", remedy)
            for name in unknown
        )
    columns = ["employee_id", "time", "version", "probability", "decision", "shadow_of"]
    rows = log.between(end=now, columns=[*columns, *(FEATURE + name for name in history.schema.names)])
    table, counts = assemble(history, rows, outcomes.current(as_of), rules, as_of=as_of)
    snapshot = tables.write_snapshot(table, check_quality(table))
    table, snapshot = tables.read_snapshot(snapshot.version)
    return Dataset(table, snapshot, tables.quality(snapshot.version) or check_quality(table)), counts


def refusal(
    attempts: list[Attempt], policy: RetrainingPolicy, now: datetime, *, forced: bool
) -> tuple[State, str] | None:
    """Why there may be no attempt now, as a state and a sentence; None when there may."""
    concluded = next((attempt for attempt in attempts if attempt.concluded), None)
    if concluded is not None and not forced:
        free = concluded.started_at + timedelta(days=policy.cooldown_days)
        if now < free:
            last = f"the last attempt, on {concluded.started_at:%Y-%m-%d}, is too recent"
            return State.COOLDOWN, f"{last}; the next one may begin on {free:%Y-%m-%d}, or by force"
    today = [attempt for attempt in attempts if attempt.started_at.date() == now.date()]
    if len(today) >= policy.runs_per_day:
        return State.BUDGET, f"{len(today)} attempts were made today; {policy.runs_per_day} are allowed"
    minutes = sum(attempt.seconds for attempt in today) / 60
    if minutes >= policy.minutes_per_day:
        return (
            State.BUDGET,
            f"{minutes:.0f} minutes of training were used today; {policy.minutes_per_day:g} are allowed",
        )
    return None


def _sign_of_life(
    ledger: Ledger, holder: str, policy: RetrainingPolicy, clock: Callable[[], datetime], hooks: Hooks
) -> Hooks:
    """Hooks that also prolong the lease: a search reports after every fold.

    They raise PlatformError when another process has taken the lease over: two would register two challengers.
    """

    def prolong() -> None:
        if ledger.acquire(holder, clock(), policy.lease_minutes) is not None:
            found = f"gave no sign of life for {policy.lease_minutes:g} minutes, and another process took over"
            raise PlatformError(Fault("retraining", found, "", "raise lease_minutes in its policy"))

    def on_trial(update: Any) -> None:
        prolong()
        if hooks.on_trial is not None:
            hooks.on_trial(update)

    def on_step(words: str) -> None:
        prolong()
        hooks.step(words)

    return runs.Hooks(on_trial, on_step)


def _attempt(
    line: Line, found: Retraining, policy: RetrainingPolicy, clock: Callable[[], datetime], hooks: Hooks
) -> Retraining:
    started, began = clock(), time.monotonic()
    plan, gates = SearchPlan.load(policy.plan), GatePolicy.load(policy.gates)
    champion = the_champion(line.registry)
    hooks.step("Collecting the records")
    dataset, counts = line.collect(policy.data, started)
    found = replace(found, counts=counts)
    recent = runs.Recent(policy.data.holdout_days, policy.data.embargo_days)
    lineage, _ = runs.plan_lineage(dataset, plan, recent)
    earlier = _tried(line, dataset, plan, lineage.fingerprint, recent)
    if earlier is not None:
        return replace(found, state=State.UNCHANGED, note=earlier[0], version=earlier[1])
    line.ledger.begin(found.decision_id, lineage.fingerprint, started)
    state, version, run_id = "FAILED", "", ""
    try:
        run = line.train(
            lambda: runs.tune(line.registry, line.settings, dataset, plan, gates, hooks=hooks, recent=recent),
            dataset,
        )
        run_id = run.run_id
        found = replace(
            found,
            run_id=run_id,
            n_train=run.n_train,
            n_holdout=run.n_holdout,
            gates=tuple((gate.gate, gate.outcome.name, gate.message) for gate in run.verdict.results),
        )
        if not run.verdict.admits:
            state = State.HELD
            held = ", ".join(gate.gate for gate in run.verdict.results if gate.holds) or "no gate passed"
            note = f"the gates hold the candidate ({held}); version {champion.version} stays"
            return replace(found, state=State.HELD, note=note)
        registered = line.register(run_id)
        state, version = State.REGISTERED, registered.version
        staged = _staged(line, version)
        note = (
            f"version {version} is registered as challenger; version {champion.version} stays in charge until promoted"
        )
        return replace(found, state=State.REGISTERED, note=note, version=version, staged=staged)
    finally:
        seconds = time.monotonic() - began
        line.ledger.end(found.decision_id, str(state), seconds=seconds, version=version, run_id=run_id)


def _staged(line: Line, version: str) -> str:
    """What became of the version at the endpoint; it is registered all the same when it could not be staged."""
    if line.stage is None:
        return ""
    try:
        return line.stage(version)
    except AttritionError as error:
        return f"not staged: {error}"


def _tried(
    line: Line, dataset: Dataset, plan: SearchPlan, fingerprint: str, recent: runs.Recent
) -> tuple[str, str] | None:
    """What an attempt with the same fingerprint came to, and its version; None when there was none."""
    made = runs.reproduced(line.registry, dataset, plan, recent)
    if made is not None:
        return (
            f"nothing changed: version {made.version} was made from these records, this plan and this code",
            made.version,
        )
    for attempt in line.ledger.attempts():
        if attempt.concluded and attempt.fingerprint == fingerprint:
            what = "held by the gates" if attempt.state == "HELD" else f"registered as {attempt.version}"
            note = f"nothing changed since the attempt of {attempt.started_at:%Y-%m-%d}, which was {what}"
            return note, attempt.version
    return None
