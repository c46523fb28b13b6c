"""The rollout's state machine: what follows from state, evidence and clock."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_world import NEW, NOW, OLD, PLAN, look, rollout

from attrition.experiments.verdict import Verdict
from attrition.release.rollout import Command, Request, Rollout, Seen, Status, decide

LAST = PLAN.last
MINUTE = timedelta(minutes=1)


def within(step, **changed):
    """A rollout that has been in a step since NOW."""
    return rollout(step=step, entered_at=NOW, clock_from=NOW, **changed)


def after(state, minutes=0.0, **seen):
    """The rollout that many minutes later."""
    return decide(state, Seen(**seen), NOW + minutes * MINUTE, "c0ffee")


def asked(command, why=""):
    return Request(7, command, "ada", why)


def test_it_begins_with_the_first_step():
    """Entered by an intent."""
    intent = after(rollout()).intent
    assert (intent.step, intent.ends, intent.reason) == (0, None, "started by ada")


@pytest.mark.parametrize("verdict", [Verdict.CONTINUE, Verdict.PROMOTE])
def test_a_step_is_left_after_dwell_samples_and_a_look(verdict):
    """All three are needed; before the last step but one nothing more."""
    assert after(within(0), 1, look=look(verdict, 10)).intent.step == 1
    assert after(within(0), 0.9, look=look(verdict, 10)) == within(0)
    assert after(within(0), 1, look=look(verdict, 9)) == within(0)
    assert after(within(0), 1) == within(0)


def test_only_merit_leads_to_everybody():
    """That nothing was found against it is not enough for the last step."""
    assert after(within(LAST - 1), 2, look=look(Verdict.CONTINUE)) == within(LAST - 1)
    promoted = after(within(LAST - 1), 2, look=look(Verdict.PROMOTE))
    assert (promoted.intent.step, promoted.alias_moved) == (LAST, True)


def test_a_mismatched_split_leads_nowhere():
    """INCONCLUSIVE is no permission, and at the end it ends the rollout."""
    assert after(within(1), 2, look=look(Verdict.INCONCLUSIVE)) == within(1)
    assert after(within(1), 60, look=look(Verdict.INCONCLUSIVE)).intent.ends is Status.INCONCLUSIVE


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (None, "no traffic to judge by in the time of the step 5 %"),
        (look(Verdict.CONTINUE, 0), "no traffic to judge by in the time of the step 5 %"),
        (
            look(Verdict.CONTINUE, 19),
            "too little traffic in the time of the step 5 %: 19 and 19 employees of 20",
        ),
    ],
)
def test_without_traffic_it_ends_inconclusive(seen, reason):
    """Not as a failure."""
    intent = after(within(1), 60, look=seen).intent
    assert (intent.ends, intent.reason) == (Status.INCONCLUSIVE, reason)


def test_an_equal_version_ends_inconclusive():
    """The time of the plan is over, and nothing was shown."""
    intent = after(within(LAST - 1), 60, look=look(Verdict.CONTINUE, 500, "error_rate is open")).intent
    assert intent.ends is Status.INCONCLUSIVE
    assert intent.reason == "undecided at the end of the step 30 %: error_rate is open"


@pytest.mark.parametrize("status", [Status.RUNNING, Status.WAITING, Status.PAUSED])
@pytest.mark.parametrize(
    "seen",
    [
        {"breach": "guard: 9 of 9 requests failed"},
        {"look": look(Verdict.ROLL_BACK, 500, "it is worse")},
        {"request": asked(Command.ROLLBACK, "complaints")},
    ],
)
def test_harm_gives_everything_back_in_every_status(status, seen):
    """At any moment, before dwell and samples."""
    found = after(within(1, status=status, paused_at=NOW), 0, **seen)
    assert (found.intent.step, found.intent.ends) == (None, Status.ROLLED_BACK)


def test_after_the_promotion_only_the_guard_and_people_withdraw():
    """There is no champion beside it any more to be compared with."""
    state = within(LAST, alias_moved=True)
    assert after(state, 0.5, look=look(Verdict.ROLL_BACK)) == state
    assert after(state, 0.5, breach="guard").intent.ends is Status.ROLLED_BACK
    assert after(state, 0.5, request=asked(Command.ROLLBACK)).intent.ends is Status.ROLLED_BACK
    assert after(state, 1).status is Status.PROMOTED


def test_a_pause_stops_the_clock():
    """Neither dwell nor limit go on; what was learned stays."""
    paused = after(within(1), 0.5, request=asked(Command.PAUSE, "payroll"))
    assert (paused.status, paused.reason) == (Status.PAUSED, "by ada (payroll)")
    assert after(paused, 600, look=look(Verdict.PROMOTE)) == paused
    resumed = after(paused, 100.5, request=asked(Command.RESUME))
    assert (resumed.status, resumed.entered_at, resumed.clock_from) == (Status.RUNNING, NOW, NOW + 100 * MINUTE)
    assert after(resumed, 100.9, look=look(Verdict.PROMOTE)) == resumed
    assert after(resumed, 101, look=look(Verdict.PROMOTE)).intent.step == 2


def test_an_approval_opens_the_step_that_asks_for_it():
    """It may have been given before; while it is waited for, no limit ends the rollout."""
    steps = (*PLAN.steps[:-1], PLAN.steps[-1].model_copy(update={"approval": True}))
    state = within(LAST - 1, plan=PLAN.model_copy(update={"steps": steps}))
    good = look(Verdict.PROMOTE)
    assert after(state, 2, look=good, approved=True).intent.step == LAST
    waiting = after(state, 2, look=good)
    assert waiting.status is Status.WAITING
    assert after(waiting, 10_000, look=good) == waiting
    assert after(waiting, 3, look=good, approved=True).intent.step == LAST


def test_a_pause_does_not_end_the_wait_for_an_approval():
    """It is resumed as what it was; no limit ends it, and no new evidence is asked for."""
    waiting = within(LAST - 1, status=Status.WAITING)
    paused = after(waiting, 1, request=asked(Command.PAUSE))
    resumed = after(paused, 2, request=asked(Command.RESUME))
    assert (paused.status, resumed.status, resumed.paused_from) == (Status.PAUSED, Status.WAITING, None)
    assert after(resumed, 10_000) == resumed
    assert after(resumed, 3, approved=True).intent.step == LAST


def test_somebody_elses_change_pauses():
    """And `resume` asks for the step's traffic again, with new evidence."""
    paused = after(within(1), 1, foreign="the traffic is 1.0.0 1, which this rollout did not set")
    assert paused.status is Status.PAUSED
    resumed = after(paused, 2, foreign="still", request=asked(Command.RESUME))
    assert (resumed.intent.step, resumed.intent.asked_by) == (1, "ada")
    entered = resumed.completed(NOW + 3 * MINUTE)
    assert (entered.status, entered.entered_at) == (Status.RUNNING, NOW + 3 * MINUTE)


def test_a_person_may_skip_the_rest():
    """From any step to the last."""
    intent = after(within(0), 0, request=asked(Command.PROMOTE, "the feed ends")).intent
    assert (intent.step, intent.asked_by, intent.reason) == (LAST, "ada", "promoted by ada (the feed ends)")
    done = within(LAST, alias_moved=True)
    assert after(done, 0, request=asked(Command.PROMOTE)) == done


def test_what_was_decided_survives_storage():
    """A rollout is the same after JSON."""
    state = after(within(LAST - 1), 2, look=look(Verdict.PROMOTE)).paused("by ada", NOW)
    assert Rollout.model_validate_json(state.model_dump_json()) == state


seen = st.builds(
    Seen,
    breach=st.sampled_from(["", "", "", "guard"]),
    look=st.none() | st.builds(look, st.sampled_from(list(Verdict)), st.integers(0, 100)),
    approved=st.booleans(),
    foreign=st.sampled_from(["", "", "", "foreign"]),
    request=st.none() | st.builds(asked, st.sampled_from(list(Command))),
)


@settings(deadline=None)  # a busy machine
@given(st.lists(st.tuples(seen, st.floats(0, 90)), max_size=30), st.booleans())
def test_no_history_breaks_the_promises(moments, approval):
    """Shares only grow, nobody meets a promoted version without merit or a person, and what ended stays ended."""
    steps = (*PLAN.steps[:-1], PLAN.steps[-1].model_copy(update={"approval": approval}))
    state, now = rollout(plan=PLAN.model_copy(update={"steps": steps})), NOW
    for each, minutes in moments:
        now += timedelta(minutes=minutes)
        if state.status.is_final:
            break
        following = decide(state, each, now, "c0ffee")
        intent = following.intent
        if intent is not None and intent.step is not None:
            by_hand = each.request is not None and each.request.command in {Command.PROMOTE, Command.RESUME}
            assert intent.step in {state.step + 1} | ({state.step, LAST} if by_hand else set())
            if intent.step == LAST and not by_hand:
                was_shown = each.look is not None and each.look.analysis.verdict is Verdict.PROMOTE
                assert was_shown or state.status is Status.WAITING
                assert each.approved or not approval
            assert not each.breach
        state = following if intent is None else following.completed(now)
        assert state.intent is None
        assert -1 <= state.step <= LAST
        assert (state.champion, state.challenger) == (OLD, NEW)
