"""The controller: it does what was decided, whole or not at all, however often it is killed in between."""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from rollout_world import NEW, OLD, PLAN, Project, look, rollout

from attrition.errors import (
    AccessDenied,
    AuditUnavailable,
    LeaseLost,
    PlatformError,
    ServingError,
    TrackingUnreachable,
    UsageError,
)
from attrition.experiments.verdict import Verdict
from attrition.release import rollout_controller, rollout_lease, rollout_store
from attrition.release.rollout import Command, Status
from attrition.release.rollout_lease import Lease
from attrition.serving.vitals import Reading, Vitals

LAST = PLAN.last
LONG_AGO = timedelta(minutes=10)


@pytest.fixture
def project(tmp_path):
    found = Project(tmp_path)
    yield found
    found.close()


@pytest.fixture
def short_lease(monkeypatch):
    """That of a killed controller expires soon."""
    monkeypatch.setattr(rollout_store, "LEASE_SECONDS", 0.3)


def in_step(project, step, **changed):
    """Store a rollout that is in a step, with the traffic of that step."""
    moment = datetime.now(UTC) - LONG_AGO
    fields = {"step": step, "entered_at": moment, "clock_from": moment, **changed}
    begun = project.store.begin(lambda number: rollout(id=number, **fields))
    rollout_controller.move(project.traffic, begun, step)
    return begun


def ticks(controller, until, seconds=10.0):
    """Tick until something holds; the rollout then."""
    deadline = time.monotonic() + seconds
    while not until(found := controller.tick()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_a_rollout_from_start_to_end(project):
    """Every step's traffic, the alias with the last, and an audit log without an open start."""
    project.look = look(Verdict.PROMOTE)
    project.store.begin(lambda number: rollout(id=number))
    seen = []
    with project.controller() as controller:
        for step in range(LAST + 1):
            found = ticks(controller, lambda r, step=step: r.step == step)
            traffic = project.traffic.show().traffic
            seen.append((project.answering, [traffic.variant(name).version for name in traffic.shadows], project.alias))
            assert not rollout_controller.differs(traffic, found, step)
            assert traffic.pins == ()
            older = found.model_copy(update={"clock_from": found.clock_from - LONG_AGO})
            project.store.save(older, controller._lease.token)
        ended = ticks(controller, lambda r: r.status.is_final)
    assert ended.status is Status.PROMOTED
    assert seen == [
        ({OLD: 1.0}, [NEW], OLD),
        ({OLD: 0.95, NEW: 0.05}, [], OLD),
        ({OLD: 0.7, NEW: 0.3}, [], OLD),
        ({NEW: 1.0}, [], NEW),
    ]
    assert project.guard.audit.records(unfinished=True) == []
    actions = [(e.action, e.outcome) for e in project.guard.audit.records()]
    assert actions[-2:] == [("traffic.promote", "started"), ("traffic.promote", "succeeded")]


ENDS = {
    "promotion": lambda found: found.intent is None and found.step == LAST,
    "rollback": lambda found: found.intent is None and found.status.is_final,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.parametrize("scenario", ["promotion", "rollback"])
def test_a_kill_between_any_two_parts_leaves_all_or_nothing(tmp_path, scenario):
    """Whatever was done when the controller died, its successor finishes; alias and traffic agree, no start is open."""
    points, killed_at = [], 0
    while True:
        killed_at += 1
        folder = tmp_path / str(killed_at)
        folder.mkdir()
        project = Project(folder)
        if scenario == "promotion":
            in_step(project, LAST - 1)
        else:
            moved = in_step(project, LAST, alias_moved=True)
            project.registry.promote(NEW)
            project.store.ask(moved, Command.ROLLBACK, "ada", "complaints")
        project.close()
        code, what = _killed(folder, killed_at, scenario)
        project = Project(folder)
        project.store.release(1)  # instead of waiting until the lease of the dead has expired
        project.look = look(Verdict.PROMOTE)
        with project.controller() as controller:
            done = ticks(controller, ENDS[scenario])
        wanted = NEW if scenario == "promotion" else OLD
        assert (project.answering, project.alias) == ({wanted: 1.0}, wanted), what
        assert done.log
        assert project.guard.audit.records(unfinished=True) == [], what
        project.close()
        if code == 0:
            break
        points.append(what)
    assert points[0] == "save"  # the intent
    assert {"audit started", "set", "alias", "audit succeeded"} <= set(points)
    assert points[-1] == "save"  # complete


def _killed(folder, killed_at, scenario):
    """Drive in a process that dies after so many things; its exit code, and what it did last."""
    note = folder / "last"
    pid = os.fork()
    if pid == 0:
        try:
            count = 0

            def after(what):
                nonlocal count
                count += 1
                note.write_text(what)
                if count == killed_at:
                    os._exit(9)

            project = Project(folder, after)
            project.look = look(Verdict.PROMOTE)
            with Lease(project.store, patience_seconds=5.0) as lease:
                controller = rollout_controller.Controller(project.world(), project.store, lease)
                ticks(controller, ENDS[scenario])
        except BaseException as error:  # noqa: BLE001 - pytest must not go on in two processes
            sys.stderr.write(repr(error))
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, 9}
    return code, note.read_text()


def test_a_breach_does_not_wait_for_anything(project):
    """Not for the analysis, and not in a pause."""
    in_step(project, 1, status=Status.PAUSED, paused_at=datetime.now(UTC))
    project.readings = [Reading("a", 100.0, {NEW: Vitals(answered=10)})]
    with project.controller() as controller:
        assert controller.tick().status is Status.PAUSED
        project.readings = [Reading("a", 101.0, {NEW: Vitals(answered=30, failed=20)})]
        ended = controller.tick()
    assert ended.status is Status.ROLLED_BACK
    assert "20 of 40 requests failed" in ended.reason
    assert project.answering == {OLD: 1.0}


def test_evidence_of_harm_rolls_back_after_a_breath(project):
    """Also while the rollout waits for an approval."""
    in_step(project, 1, status=Status.WAITING)
    project.look = look(Verdict.ROLL_BACK, 500, "error_rate is worse")
    with project.controller() as controller:
        ended = ticks(controller, lambda r: r.status.is_final)
    assert (ended.status, ended.reason) == (Status.ROLLED_BACK, "error_rate is worse")
    assert (ended.look["verdict"], ended.look["n_challenger"]) == ("ROLL_BACK", 500)


def refuse_the_challenger(project, words):
    original = project.traffic.set

    def refuse(shares, **options):
        if NEW in shares:
            raise ServingError(words)
        original(shares, **options)

    project.traffic.set = refuse


def test_a_version_that_cannot_be_loaded_is_undone(project):
    """The champion has everything, and the reason is there."""
    in_step(project, 0)
    project.look = look(Verdict.CONTINUE)
    refuse_the_challenger(project, "the bundle is damaged")
    with project.controller() as controller:
        ended = ticks(controller, lambda found: found.status.is_final)
    assert ended.status is Status.ROLLED_BACK
    assert ended.reason == "the step 5 % could not be entered: the bundle is damaged"


def test_what_a_library_has_coloured_does_not_keep_the_champion_from_coming_back(project):
    """No audit event takes a control character, and nothing is moved without one."""
    in_step(project, 0)
    project.look = look(Verdict.CONTINUE)
    refuse_the_challenger(project, "\x1b[36mray::Gateway\x1b[39m: the bundle is damaged")
    with project.controller() as controller:
        ended = ticks(controller, lambda found: found.status.is_final)
    assert ended.status is Status.ROLLED_BACK
    why = [record.details["why"] for record in project.guard.audit.records(action="traffic.rollback")]
    assert why[0].endswith(" [36mray::Gateway [39m: the bundle is damaged")
    traffic = project.traffic.show().traffic
    assert (project.answering, traffic.shadows) == ({OLD: 1.0}, ())


def test_a_registry_that_is_down_is_waited_for_then_everything_goes_back(project, monkeypatch):
    """The traffic does not stay where the alias cannot follow; once the registry is back, the alias is right, too."""
    monkeypatch.setattr(rollout_controller, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(rollout_controller, "_PAUSE_SECONDS", 0.05)
    in_step(project, LAST - 1)
    project.look = look(Verdict.PROMOTE)
    project.registry.refuses = TrackingUnreachable("MLflow does not answer")
    with project.controller() as controller:
        half = ticks(controller, lambda r: bool(r.trouble))
        assert (half.intent.step, project.answering) == (LAST, {NEW: 1.0})
        ended = ticks(controller, lambda r: r.status.is_final)
    assert ended.status is Status.ROLLED_BACK
    assert (project.answering, project.alias) == ({OLD: 1.0}, OLD)


def test_a_rollback_waits_for_no_older_request(project):
    """Not for one that cannot be dealt with, as what is served cannot be seen."""
    running = in_step(project, 1)
    project.store.ask(running, Command.PAUSE, "ada", "")
    project.store.ask(running, Command.ROLLBACK, "bea", "complaints")
    show, asked = project.traffic.show, []

    def unseen():
        asked.append(1)
        if len(asked) == 1:
            raise ServingError("no answer")
        return show()

    with project.controller() as controller:
        project.traffic.show = unseen
        first = controller.tick()
        controller._retry_at = 0.0
        ended = controller.tick()
    assert (first.intent.reason, ended.status) == ("complaints", Status.ROLLED_BACK)


@pytest.mark.parametrize("error", [AccessDenied("may not promote"), AuditUnavailable("the log does not answer")])
def test_who_may_not_enter_a_step_does_not_undo_the_rollout(project, error):
    """It stays decided, for a controller that may, or until it can be recorded."""
    in_step(project, LAST - 1)
    project.look = look(Verdict.PROMOTE)
    with project.controller() as controller:
        append, project.guard.audit.append = project.guard.audit.append, lambda _event: raises(error)
        refused = ticks(controller, lambda r: bool(r.trouble))
        assert (refused.status, refused.intent.step, refused.trouble) == (Status.RUNNING, LAST, str(error))
        project.guard.audit.append = append
        controller._retry_at = 0.0
        assert controller.tick().step == LAST
    assert (project.answering, project.alias) == ({NEW: 1.0}, NEW)


def raises(error):
    raise error


def test_a_rollback_replaces_a_step_that_cannot_be_entered(project):
    """Also by somebody who may withdraw, but not promote, and while a platform is waited for."""
    running = in_step(project, LAST - 1)
    project.look = look(Verdict.PROMOTE)
    refused = AccessDenied("may not promote")
    with project.controller() as controller:
        append = project.guard.audit.append
        project.guard.audit.append = lambda e: raises(refused) if e.action == "traffic.promote" else append(e)
        assert ticks(controller, lambda r: bool(r.trouble)).intent.step == LAST
        project.store.ask(running, Command.ROLLBACK, "ada", "complaints")
        controller._retry_at = 0.0
        ended = controller.tick()
    assert (ended.status, ended.reason, project.store.request(running)) == (Status.ROLLED_BACK, "complaints", None)
    assert (project.answering, project.alias) == ({OLD: 1.0}, OLD)


def test_an_analysis_that_breaks_keeps_the_guard_alive(project):
    """Told until an analysis succeeds, by its kind alone; a breach is still acted on."""
    in_step(project, 1)
    project.look, works = look(Verdict.CONTINUE, 5), []
    project._looked = lambda: project.look if works else raises(ValueError("a column is missing"))
    project.readings = [Reading("a", 100.0, {NEW: Vitals(answered=10)})]
    with project.controller() as controller:
        ticks(controller, lambda r: bool(r.trouble))
        assert {controller.tick().trouble for _ in range(5)} == {"the analysis failed: ValueError"}
        works.append(1)
        assert ticks(controller, lambda r: not r.trouble).look["verdict"] == "CONTINUE"
        project.readings = [Reading("a", 101.0, {NEW: Vitals(answered=30, failed=20)})]
        assert controller.tick().status is Status.ROLLED_BACK


def test_a_database_that_is_away_for_a_moment_does_not_end_the_drive(project, monkeypatch):
    """It is asked again."""
    monkeypatch.setattr(rollout_controller, "_PAUSE_SECONDS", 0.01)
    running = in_step(project, 1)
    project.store.ask(running, Command.ROLLBACK, "ada", "complaints")
    latest, failures = project.store.latest, [PlatformError("the database does not answer")] * 3
    monkeypatch.setattr(project.store, "latest", lambda: raises(failures.pop()) if failures else latest())
    with project.controller() as controller:
        assert controller.run().status is Status.ROLLED_BACK
    assert failures == []


def test_a_withdrawn_version_does_not_keep_an_alias_that_nobody_had(project):
    """The champion answers, so it gets the alias."""
    moved = in_step(project, LAST, alias_moved=True, alias_before=None)
    project.registry.promote(NEW)
    project.store.ask(moved, Command.ROLLBACK, "ada", "complaints")
    with project.controller() as controller:
        assert controller.tick().status is Status.ROLLED_BACK
    assert (project.answering, project.alias) == ({OLD: 1.0}, OLD)


def test_a_registry_that_hangs_does_not_blind_the_guard(project):
    """The approval is asked for beside it; one that was given before is not waited for."""
    steps = [*PLAN.steps[:-1], PLAN.steps[-1].model_copy(update={"approval": True})]
    in_step(project, LAST - 1, plan=PLAN.model_copy(update={"steps": tuple(steps)}))
    project.look = look(Verdict.PROMOTE)
    project.registry.approve(NEW)
    resolve, answers = project.registry.resolve, threading.Event()

    def slow(name):
        answers.wait(10)
        return resolve(name)

    project.registry.resolve = slow
    with project.controller() as controller:
        waiting = ticks(controller, lambda r: r.look is not None)
        began = time.monotonic()
        assert controller.tick() == waiting
        assert time.monotonic() - began < 5  # of the ten that the answer takes
        assert waiting.status is Status.RUNNING
        answers.set()
        promoted = ticks(controller, lambda r: r.step == LAST)
    assert not any("waits for" in line.text for line in promoted.log)


def test_somebody_elses_change_pauses(project):
    """A person's change wins; `resume` puts the step's traffic back."""
    running = in_step(project, 1)
    project.traffic.set({OLD: 0.5, NEW: 0.5})
    with project.controller() as controller:
        paused = controller.tick()
        assert paused.status is Status.PAUSED
        assert "which this rollout did not set" in paused.reason
        assert controller.tick().status is Status.PAUSED
        project.store.ask(running, Command.RESUME, "ada", "")
        resumed = controller.tick()
    assert (resumed.status, resumed.step, project.answering) == (Status.RUNNING, 1, {OLD: 0.95, NEW: 0.05})


def test_an_approval_is_waited_for(project):
    """For as long as it takes."""
    steps = [*PLAN.steps[:-1], PLAN.steps[-1].model_copy(update={"approval": True})]
    in_step(project, LAST - 1, plan=PLAN.model_copy(update={"steps": tuple(steps)}))
    project.look = look(Verdict.PROMOTE)
    with project.controller() as controller:
        waiting = ticks(controller, lambda r: r.status is Status.WAITING)
        assert project.answering == {OLD: 0.7, NEW: 0.3}
        assert NEW in waiting.reason
        project.registry.approve(NEW)
        ticks(controller, lambda r: r.step == LAST)
    assert project.alias == NEW


def test_one_controller_at_a_time(project, short_lease, monkeypatch):
    """The second waits; one that was suspended for longer than its lease must not write any more."""
    running = in_step(project, 0)
    monkeypatch.setattr(rollout_lease.Lease, "_beat", lambda _self: None)
    with Lease(project.store) as first:
        with pytest.raises(UsageError, match=r"is driven by .* process"), Lease(project.store, patience_seconds=0.05):
            pass
        time.sleep(0.35)
        with Lease(project.store) as second:
            assert second.token > first.token
            project.store.save(running, second.token)
            with pytest.raises(LeaseLost):
                project.store.save(running, first.token)
            with pytest.raises(LeaseLost):
                first.check()
