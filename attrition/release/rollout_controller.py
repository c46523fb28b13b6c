"""The controller: it sees, decides by :func:`attrition.release.rollout.decide`, and does what was decided.

Traffic, alias and audit events move together or not at all. There is no transaction over Serve, MLflow and a database,
so a move is a saga: the intent is stored, its start recorded in the audit log, the traffic moved, the alias moved, the
end recorded, the intent replaced by its result. Every part may be repeated without effect, so a controller that finds
an intent, its own or that of one that was killed, carries it out from the start. A step that cannot be entered (a
version that cannot be loaded, a registry that does not answer for `RETRY_SECONDS`) is undone the same way: by the
intent to give everything back. The audit events of an intent have one correlation, whoever recorded them.

The guard looks every second; the analysis, which reads tables, runs beside it and never keeps it waiting.
"""

from __future__ import annotations

import logging
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from attrition.errors import (
    AccessError,
    AccessUnavailable,
    AttritionError,
    AuditUnavailable,
    LeaseLost,
    NotFound,
    PlatformError,
    RayUnreachable,
    TrackingUnreachable,
)
from attrition.governance.actions import Action
from attrition.release.rollout import Command, Rollout, Seen, Status, decide
from attrition.release.rollout_guard import Watch, breach
from attrition.release.rollout_traffic import differs, move

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from attrition.experiments.plan import ExperimentPlan
    from attrition.experiments.samples import Errors
    from attrition.governance.guard import Guard
    from attrition.registry.models import ModelVersion
    from attrition.release.rollout import Intent, Look
    from attrition.release.rollout_lease import Lease
    from attrition.release.rollout_store import RolloutStore
    from attrition.release.rollout_traffic import Served, TrafficControl
    from attrition.serving.vitals import Reading

logger = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
"""How long a step that is half entered waits for a platform that does not answer, before it is undone."""

_PAUSE_SECONDS = 5.0
"""Between two attempts at a move that failed."""

_TRANSIENT = (RayUnreachable, TrackingUnreachable, AuditUnavailable, AccessUnavailable)


class Registry(Protocol):
    """What the controller needs of :class:`~attrition.registry.models.ModelRegistry`."""

    def resolve(self, ref: str) -> ModelVersion:
        """The version that a reference names."""

    def promote(self, ref: str) -> ModelVersion:
        """Make a version the champion."""

    def set_alias(self, alias: str, ref: str) -> ModelVersion:
        """Point an alias at a version."""


@dataclass(frozen=True)
class World:
    """Everything outside that a rollout depends on.

    Attributes
    ----------
    traffic : callable
        From the name of who acts to the control of the traffic.
    registry : callable
        Gives the registry.
    vitals : callable
        From what is served to what its replicas have counted.
    analyse : callable
        From a step's experiment, the moment when it began and the requests of its versions to the look at its evidence.
    guard : Guard
        Authorises and records.
    tell : callable
        Takes the rollout after every moment, for those who want to know how it goes; returns at once.
    """

    traffic: Callable[[str], TrafficControl]
    registry: Callable[[], Registry]
    vitals: Callable[[Served], Iterable[Reading]]
    analyse: Callable[[ExperimentPlan, datetime, Mapping[str, Errors]], Look]
    guard: Guard
    tell: Callable[[Rollout], None] = lambda _rollout: None


class Controller:
    """Drives the rollout that is under way, as long as it holds the lease.

    Parameters
    ----------
    world
        What it sees and changes.
    store
        Where the rollout is kept.
    lease
        Held.
    """

    def __init__(self, world: World, store: RolloutStore, lease: Lease) -> None:
        self._world = world
        self._store = store
        self._lease = lease
        self._watch: Watch | None = None
        self._analyst = ThreadPoolExecutor(2, thread_name_prefix="rollout analysis")
        self._analysis: tuple[tuple[int, datetime | None], Future[Look]] | None = None
        self._look: tuple[tuple[int, datetime | None], Look] | None = None
        self._shown: Look | None = None
        self._next_look = 0.0
        self._retry_at = 0.0
        self._approval: Future[bool] | None = None
        self._troubles: dict[str, str] = {}

    def close(self) -> None:
        """Let the analysis that is under way end."""
        self._analyst.shutdown(wait=True, cancel_futures=True)

    def run(self, on_change: Callable[[Rollout], None] = lambda _: None) -> Rollout:
        """Drive the rollout to its end; the rollout as it ended. A database that does not answer is asked again.

        Raises
        ------
        LeaseLost
            Another controller has taken over.
        NotFound
            There is no rollout.
        """
        shown: Rollout | None = None
        while True:
            began = time.monotonic()
            try:
                rollout = self.tick()
            except LeaseLost:
                raise
            except PlatformError as error:  # the database, so it cannot be noted there
                logger.warning("%s", error)
                time.sleep(_PAUSE_SECONDS)
                continue
            if rollout != shown:
                on_change(rollout)
                shown = rollout
            if rollout.status.is_final:
                return rollout
            time.sleep(max(0.0, rollout.plan.guard.poll - (time.monotonic() - began)))

    def tick(self) -> Rollout:
        """One look at everything and, at most, one move; what a platform does not do is noted and tried again.

        Raises
        ------
        LeaseLost
            Another controller has taken over.
        """
        rollout = self._tick()
        self._world.tell(rollout)
        return rollout

    def _tick(self) -> Rollout:
        rollout = self._store.latest()
        if rollout.status.is_final:
            return rollout
        try:
            if rollout.intent is not None:
                return self._carry_out(rollout) if time.monotonic() >= self._retry_at else rollout
            return self._go_on(rollout)
        except LeaseLost:
            raise
        except AttritionError as error:
            logger.warning("%s", error)
            self._retry_at = time.monotonic() + _PAUSE_SECONDS
            return self._troubled(str(error))

    def _go_on(self, rollout: Rollout) -> Rollout:
        seen = self._see(rollout)
        after = decide(rollout, seen, datetime.now(UTC), secrets.token_hex(16))
        if seen.look is not None and seen.look is not self._shown:
            self._shown = seen.look
            after = after.model_copy(update={"look": seen.look.to_dict()})
        after = after.model_copy(update={"trouble": "; ".join(self._troubles.values())})
        handled = None if seen.request is None else seen.request.id
        if after != rollout or handled is not None:
            self._store.save(after, self._lease.token, handled=handled)
        return after if after.intent is None else self._carry_out(after)

    def _see(self, rollout: Rollout) -> Seen:
        """The moment; whatever withdraws the challenger at once does not wait for the rest."""
        request = self._store.request(rollout)
        if request is not None and request.command is Command.ROLLBACK:
            return Seen(request=request)
        served = self._world.traffic("").show()
        if rollout.step < 0:
            return Seen(request=request)
        broken = self._breach(rollout, served)
        if broken:
            return Seen(breach=broken)
        look = self._newest_look(rollout)
        return Seen(
            look=look,
            approved=self._is_approved(rollout, look),
            foreign=differs(served.traffic, rollout, rollout.step),
            request=request,
        )

    def _is_approved(self, rollout: Rollout, look: Look | None) -> bool | None:
        """Whether somebody approved the challenger; not asked before it matters, nor waited for: None until then."""
        if not rollout.needs_approval or (look is None and rollout.status is not Status.WAITING):
            return False
        if self._approval is None:
            self._approval = self._analyst.submit(self._ask_approval, rollout.challenger)
        if not self._approval.done():
            return None
        asked, self._approval = self._approval, None
        self._troubles.pop("approval", None)
        try:
            return asked.result()
        except AttritionError as error:  # waits; the evidence still counts
            self._troubles["approval"] = str(error)
            return False

    def _ask_approval(self, version: str) -> bool:
        return bool(self._world.registry().resolve(version).approval)

    def _breach(self, rollout: Rollout, served: Served) -> str:
        limits = rollout.plan.guard
        if self._watch is None:
            self._watch = Watch(limits.window)
        self._watch.take(self._world.vitals(served), time.monotonic())
        return breach(limits, self._watch.window(rollout.challenger))

    def _newest_look(self, rollout: Rollout) -> Look | None:
        """The last analysis of this step; begins another when it is time, and does not wait for it."""
        if rollout.is_promoted:
            return None
        key = (rollout.step, rollout.entered_at)
        if self._analysis is not None and self._analysis[1].done():
            of, future = self._analysis
            self._analysis = None
            self._troubles.pop("analysis", None)
            try:
                self._look = (of, future.result())
            except NotFound:  # nothing is logged yet
                pass
            except AttritionError as error:  # the guard goes on
                self._troubles["analysis"] = str(error)
            except Exception as error:
                logger.exception("The analysis of the step failed")
                self._troubles["analysis"] = f"the analysis failed: {type(error).__name__}"
        if self._analysis is None and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + rollout.plan.look
            self._analysis = (key, self._analyst.submit(self._world.analyse, *self._question(rollout)))
        return self._look[1] if self._look is not None and self._look[0] == key else None

    def _question(self, rollout: Rollout) -> tuple[ExperimentPlan, datetime, Mapping[str, Errors]]:
        """What the analysis is asked: the step's experiment, since when, and the requests that were counted."""
        assert rollout.entered_at is not None
        assert self._watch is not None
        versions = {"champion": rollout.champion, "challenger": rollout.challenger}
        is_shadow = rollout.plan.steps[rollout.step].shadow
        errors = {
            version: self._watch.requests(version, shadow=is_shadow and role == "challenger")
            for role, version in versions.items()
        }
        return rollout.plan.experiment(rollout.step, name=rollout.name, **versions), rollout.entered_at, errors

    def _carry_out(self, rollout: Rollout) -> Rollout:
        """Do what was decided, whatever of it is done already."""
        intent = rollout.intent
        assert intent is not None
        try:
            self._move(rollout, intent)
        except LeaseLost:
            raise
        except AttritionError as error:
            if intent.step is None:
                raise
            now, correlation = datetime.now(UTC), secrets.token_hex(16)
            request = self._store.request(rollout)
            if request is not None and request.command is Command.ROLLBACK:
                undone = decide(rollout, Seen(request=request), now, correlation)
                self._store.save(undone, self._lease.token, handled=request.id)
                return self._carry_out(undone)
            is_young = now - intent.decided_at < timedelta(seconds=RETRY_SECONDS)
            if isinstance(error, AccessError) or (isinstance(error, _TRANSIENT) and is_young):  # somebody else may
                raise
            reason = f"the step {rollout.plan.steps[intent.step].title} could not be entered: {error}"
            undone = rollout.intending(ends=Status.ROLLED_BACK, reason=reason, correlation=correlation, now=now)
            self._store.save(undone, self._lease.token)
            return self._carry_out(undone)
        completed = rollout.completed(datetime.now(UTC))
        self._store.save(completed, self._lease.token)
        self._next_look = 0.0
        self._approval = None
        self._troubles.clear()
        if self._watch is not None:
            self._watch.reset()
        return completed

    def _move(self, rollout: Rollout, intent: Intent) -> None:
        """Traffic, then alias, between the start and the end in the audit log."""
        world = self._world
        is_promotion = intent.step == rollout.plan.last
        title = "back to the champion" if intent.step is None else rollout.plan.steps[intent.step].title
        details = {
            "rollout": rollout.id,
            "champion": rollout.champion,
            "step": title,
            # what a library wrote may be coloured, which no audit event takes: nothing could be given back then
            "why": "".join(c if c.isprintable() else " " for c in intent.reason)[:500],
            "asked_by": intent.asked_by or "plan",
        }
        if intent.ends is not None:
            details["ends"] = str(intent.ends)
        action = Action.TRAFFIC_CHANGE
        if intent.step is None:
            action = Action.ROLLBACK
        elif is_promotion:
            action = Action.PROMOTE
        with world.guard.acting(
            action,
            f"rollout of {rollout.challenger}",
            model_version=rollout.champion if intent.step is None else rollout.challenger,
            details=details,
            correlation=intent.correlation,
        ) as entry:
            control = world.traffic(entry.actor)
            self._lease.check()
            move(control, rollout, intent.step)
            entry.details["generation"] = control.show().traffic.generation
            if rollout.alias_moved:
                self._lease.check()
                entry.details["alias_champion"] = self._move_alias(rollout, to_challenger=is_promotion)

    def _move_alias(self, rollout: Rollout, *, to_challenger: bool) -> str:
        """Have the alias ``champion`` say who answers; the version that it names then."""
        registry = self._world.registry()
        try:
            now: str | None = registry.resolve("champion").version
        except NotFound:
            now = None
        if to_challenger and now != rollout.challenger:
            return registry.promote(rollout.challenger).version
        if not to_challenger and now == rollout.challenger:
            return registry.set_alias("champion", rollout.alias_before or rollout.champion).version
        return now or ""

    def _troubled(self, why: str) -> Rollout:
        """The rollout with what keeps it from going on; noted once."""
        rollout = self._store.latest()
        if rollout.trouble == why:
            return rollout
        noted = rollout.model_copy(update={"trouble": why})
        self._store.save(noted, self._lease.token)
        return noted
