"""The rollout as a pure state machine: what it is, what was seen, what time it is, hence what to do next.

::

                 ┌────────── next step ◀──────────┐
    RUNNING ─────┤ dwell, samples, verdict        │ approved
       │  ▲      └─ next step asks an approval ─▶ WAITING
 pause │  │ resume
       ▼  │                    RUNNING, WAITING and PAUSED alike:
     PAUSED                      breach, evidence of harm, `rollback` ─▶ ROLLED_BACK
                                 `promote` ─▶ last step
    last step, watched for its dwell ─▶ PROMOTED          undecided at a step's limit ─▶ INCONCLUSIVE

Every move that touches traffic or an alias is an :class:`Intent`. The controller
(:mod:`attrition.release.rollout_controller`) stores it before it acts, so that whoever comes after a crash finishes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from attrition.experiments.verdict import Verdict
from attrition.release.rollout_plan import RolloutPlan, Step

if TYPE_CHECKING:
    from attrition.experiments.verdict import Analysis


class Status(StrEnum):
    """Where a rollout stands."""

    RUNNING = "RUNNING"
    WAITING = "WAITING"
    """For somebody's approval of the version."""
    PAUSED = "PAUSED"
    """By somebody, or because somebody else changed the traffic; harm is still acted on."""
    PROMOTED = "PROMOTED"
    """The challenger is the champion."""
    ROLLED_BACK = "ROLLED_BACK"
    """The champion has all traffic again, for the reason that is recorded."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """The champion has all traffic again: neither harm nor merit was shown in the time of the plan."""

    @property
    def is_final(self) -> bool:
        """The rollout is over."""
        return self in {Status.PROMOTED, Status.ROLLED_BACK, Status.INCONCLUSIVE}


class Command(StrEnum):
    """What a person can ask of a rollout that runs."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    """Skip what is left of the plan; the approval that it asks for is needed all the same."""
    ROLLBACK = "rollback"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Intent(_Frozen):
    """A move of traffic and alias that was decided and may be half done."""

    step: int | None
    """Step that is entered; None: the champion gets everything back."""
    ends: Status | None
    """Status of a return."""
    reason: str
    """Why, for people and the audit log."""
    correlation: str
    """Of its audit events, the same whoever finishes it."""
    decided_at: datetime
    asked_by: str = ""
    """Who asked for it; empty: the plan or the evidence did."""


class LogLine(_Frozen):
    """One thing that happened."""

    at: datetime
    text: str


class Rollout(_Frozen):
    """A rollout as it is stored."""

    id: int
    plan: RolloutPlan
    champion: str
    """Version that answered when it began."""
    challenger: str
    experiment_before: str
    """Name of the comparison that the traffic was drawn for before."""
    alias_before: str | None
    """Version that had the alias ``champion`` before."""
    started_by: str
    started_at: datetime
    alias_moved: bool = False
    """The alias ``champion`` was moved to the challenger, or is about to be."""
    status: Status = Status.RUNNING
    step: int = -1
    """Number of the step; -1 before the first."""
    entered_at: datetime | None = None
    """When its traffic was confirmed: the evidence counts from here."""
    clock_from: datetime | None = None
    """From when dwell and limit count: later than `entered_at` by the time that it was paused."""
    paused_at: datetime | None = None
    paused_from: Status | None = None
    """What it goes back to when it is resumed."""
    intent: Intent | None = None
    reason: str = ""
    """Why it stands where it stands."""
    trouble: str = ""
    """What keeps the controller from going on, such as a platform that does not answer."""
    look: dict[str, Any] | None = None
    """The last analysis, for people."""
    log: tuple[LogLine, ...] = ()

    @property
    def name(self) -> str:
        """Of the comparison, for which people are assigned anew."""
        return f"rollout-{self.id}-{self.challenger}"

    @property
    def current(self) -> Step | None:
        """The step that it is in; None before the first."""
        return self.plan.steps[self.step] if self.step >= 0 else None

    @property
    def is_promoted(self) -> bool:
        """The challenger has all traffic and the alias, though it may still be watched."""
        return self.step == self.plan.last

    @property
    def needs_approval(self) -> bool:
        """Whether the step after this one asks for an approval."""
        return not self.is_promoted and self.plan.steps[self.step + 1].approval

    def intending(
        self,
        *,
        step: int | None = None,
        ends: Status | None = None,
        reason: str,
        correlation: str,
        now: datetime,
        asked_by: str = "",
    ) -> Rollout:
        """About to enter a step, or to give everything back to the champion."""
        intent = Intent(step=step, ends=ends, reason=reason, correlation=correlation, decided_at=now, asked_by=asked_by)
        moves = self.alias_moved or step == self.plan.last
        return self.model_copy(update={"intent": intent, "alias_moved": moves})

    def noted(self, text: str, now: datetime, **changes: Any) -> Rollout:
        """With a line in its log, and changes."""
        return self.model_copy(update={"log": (*self.log, LogLine(at=now, text=text)), **changes})

    def completed(self, now: datetime) -> Rollout:
        """After its intent was carried out."""
        intent = self.intent
        assert intent is not None
        if intent.step is None:
            assert intent.ends is not None
            text = f"{intent.ends.replace('_', ' ').lower()}: {self.champion} has all traffic ({intent.reason})"
            ended = {"status": intent.ends, "reason": intent.reason, "intent": None, "trouble": ""}
            return self.noted(text, now, **ended, paused_at=None, paused_from=None)
        step = self.plan.steps[intent.step]
        entered = {"step": intent.step, "entered_at": now, "clock_from": now, "look": None}
        running = {"status": Status.RUNNING, "reason": intent.reason, "intent": None, "trouble": ""}
        running |= {"paused_at": None, "paused_from": None}
        return self.noted(f"step {intent.step + 1}, {step.title}: {intent.reason}", now, **entered, **running)

    def paused(self, reason: str, now: datetime) -> Rollout:
        """Standing still."""
        pausing = {"status": Status.PAUSED, "paused_at": now, "paused_from": self.status, "reason": reason}
        return self.noted(f"paused: {reason}", now, **pausing)

    def resumed(self, reason: str, now: datetime) -> Rollout:
        """Going on; the pause counts neither as dwell nor towards the limit."""
        clock = self.clock_from
        if clock is not None and self.paused_at is not None:
            clock += now - self.paused_at
        going_on = {"status": self.paused_from or Status.RUNNING, "paused_at": None, "paused_from": None}
        return self.noted(reason, now, **going_on, clock_from=clock, reason=reason)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return self.model_dump(mode="json")


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked for; authorised and recorded when it was asked."""

    id: int
    command: Command
    actor: str
    justification: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """The analysis of the step's evidence.

    Attributes
    ----------
    analysis : Analysis
    n_champion, n_challenger : int
        Employees of each version in the step; pairs, in a shadow.
    """

    analysis: Analysis
    n_champion: int
    n_challenger: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document; when the step ends is the rollout's to say, as that depends on pauses."""
        counts = {"n_champion": self.n_champion, "n_challenger": self.n_challenger}
        return {**self.analysis.to_dict(), "ends": None, **counts}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at a moment.

    Attributes
    ----------
    breach : str
        Which hard limit the challenger breaks; empty: none.
    look : Look or None
        The newest analysis of this step; None: there is none yet.
    approved : bool or None
        Somebody approved the version; asked only where a step wants to know. None: there is no answer yet.
    foreign : str
        What somebody else made of the traffic; empty: it is as the step set it.
    request : Request or None
        The oldest one that was not dealt with, rollbacks first.
    """

    breach: str = ""
    look: Look | None = None
    approved: bool | None = False
    foreign: str = ""
    request: Request | None = None


def decide(rollout: Rollout, seen: Seen, now: datetime, correlation: str) -> Rollout:
    """The rollout after this moment: the same one when nothing is to be done, with an intent when traffic is to move.

    Parameters
    ----------
    rollout
        Not final; with an intent only when a rollback is asked for, which replaces it.
    correlation
        Names the audit events of the intent, if there will be one.
    """
    return _Moment(rollout, seen, now, correlation).decide()


@dataclass(frozen=True, slots=True)
class _Moment:
    """A rollout, what is seen of the world, and the time."""

    rollout: Rollout
    seen: Seen
    now: datetime
    correlation: str

    def decide(self) -> Rollout:
        """What is urgent, then what somebody asked for, then what the plan says."""
        withdrawn = self.withdrawn()
        if withdrawn is not None:
            return withdrawn
        if self.seen.request is not None:
            return self.asked(self.seen.request)
        if self.rollout.status is Status.PAUSED:
            return self.rollout
        if self.seen.foreign:
            return self.rollout.paused(self.seen.foreign, self.now)
        if self.rollout.step < 0:
            return self.enter(0, f"started by {self.rollout.started_by}")
        return self.watched() if self.rollout.is_promoted else self.by_plan()

    def enter(self, step: int, reason: str, asked_by: str = "") -> Rollout:
        return self.rollout.intending(
            step=step, reason=reason, correlation=self.correlation, now=self.now, asked_by=asked_by
        )

    def give_back(self, ends: Status, reason: str, asked_by: str = "") -> Rollout:
        return self.rollout.intending(
            ends=ends, reason=reason, correlation=self.correlation, now=self.now, asked_by=asked_by
        )

    def withdrawn(self) -> Rollout | None:
        """Back to the champion at once, whatever the status; None when nothing asks for that."""
        request, look = self.seen.request, self.seen.look
        if self.seen.breach:
            return self.give_back(Status.ROLLED_BACK, self.seen.breach)
        if request is not None and request.command is Command.ROLLBACK:
            return self.give_back(Status.ROLLED_BACK, request.justification or "asked for", request.actor)
        if look is not None and look.analysis.verdict is Verdict.ROLL_BACK and not self.rollout.is_promoted:
            return self.give_back(Status.ROLLED_BACK, "; ".join(look.analysis.reasons) or "the challenger is worse")
        return None

    def asked(self, request: Request) -> Rollout:
        """What becomes of a request that is no rollback; one that does not fit changes nothing."""
        rollout, now = self.rollout, self.now
        by = request.actor + (f" ({request.justification})" if request.justification else "")
        if request.command is Command.PROMOTE and not rollout.is_promoted:
            return self.enter(rollout.plan.last, f"promoted by {by}", request.actor)
        if request.command is Command.PAUSE and rollout.status is not Status.PAUSED:
            return rollout.paused(f"by {by}", now)
        if request.command is not Command.RESUME or rollout.status is not Status.PAUSED:
            return rollout
        if self.seen.foreign:  # the step's traffic is to come back, and its evidence begins anew
            return self.enter(rollout.step, f"resumed by {by}", request.actor)
        return rollout.resumed(f"resumed by {by}", now)

    def watched(self) -> Rollout:
        """Promoted, and for a while withdrawn again when the guard says so."""
        rollout = self.rollout
        if not self.has_lasted(rollout.plan.steps[-1].dwell):
            return rollout
        text = f"{rollout.challenger} is the champion"
        return rollout.noted(text, self.now, status=Status.PROMOTED)

    def by_plan(self) -> Rollout:
        """Stay, wait for an approval, go on, or end undecided."""
        rollout, look = self.rollout, self.seen.look
        step = rollout.plan.steps[rollout.step]
        if rollout.status is Status.WAITING:  # for as long as it takes; harm ends it earlier
            return self.enter(rollout.step + 1, f"{rollout.challenger} was approved") if self.seen.approved else rollout
        is_enough = look is not None and min(look.n_champion, look.n_challenger) >= step.min_samples
        if look is not None and is_enough and self.has_lasted(step.dwell) and _speaks_for(rollout, look):
            reason = _evidence(look)
            if not rollout.needs_approval or self.seen.approved:
                return self.enter(rollout.step + 1, reason)
            if self.seen.approved is None:
                return rollout
            text = f"waits for an approval of {rollout.challenger}"
            return rollout.noted(f"{text}: {reason}", self.now, status=Status.WAITING, reason=text)
        if self.has_lasted(step.limit):
            return self.give_back(Status.INCONCLUSIVE, _undecided(step, look))
        return rollout

    def has_lasted(self, seconds: float) -> bool:
        """Whether the step is that old, pauses apart."""
        assert self.rollout.clock_from is not None
        return self.now - self.rollout.clock_from >= timedelta(seconds=seconds)


def _speaks_for(rollout: Rollout, look: Look) -> bool:
    """Whether the evidence lets the rollout go on: merit before the last step, no objection before the others."""
    if rollout.step + 1 == rollout.plan.last:
        return look.analysis.verdict is Verdict.PROMOTE
    return look.analysis.verdict in {Verdict.PROMOTE, Verdict.CONTINUE}


def _evidence(look: Look) -> str:
    found = "; ".join(look.analysis.reasons) or "nothing speaks against it"
    return f"{look.analysis.verdict} with {look.n_champion} and {look.n_challenger} employees: {found}"


def _undecided(step: Step, look: Look | None) -> str:
    """Why a step ends without a decision."""
    if look is None or not look.n_challenger:
        return f"no traffic to judge by in the time of the step {step.title}"
    if min(look.n_champion, look.n_challenger) < step.min_samples:
        counts = f"{look.n_champion} and {look.n_challenger} employees of {step.min_samples}"
        return f"too little traffic in the time of the step {step.title}: {counts}"
    found = "; ".join(look.analysis.reasons) or "neither harm nor merit is shown"
    return f"undecided at the end of the step {step.title}: {found}"
