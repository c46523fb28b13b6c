"""What keeps an attempt from being made, and what is missing for one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from attrition.admission.runs import Hooks, Recent
from attrition.data.tables import Tables
from attrition.errors import InsufficientData, NotFound, PlatformError
from attrition.retraining.evidence import the_champion
from attrition.retraining.ledger import Attempt, Ledger
from attrition.retraining.pipeline import Retraining, State, _sign_of_life, collect, refusal
from attrition.retraining.policy import DataRules, Decision, Evidence, RetrainingPolicy, Verdict
from attrition.settings import Settings

POLICY = RetrainingPolicy.load()
NOW = datetime(2026, 5, 4, 20, tzinfo=UTC)


def attempt(ago, state="REGISTERED", seconds=60.0):
    return Attempt("a", "f", NOW - ago, seconds, state)


@pytest.mark.parametrize(
    ("attempts", "forced", "state"),
    [
        ([], False, None),
        ([attempt(timedelta(days=13))], False, State.COOLDOWN),
        ([attempt(timedelta(days=13), "HELD")], False, State.COOLDOWN),
        ([attempt(timedelta(days=14))], False, None),
        ([attempt(timedelta(days=1), "FAILED")], False, None),
        ([attempt(timedelta(days=1), "RUNNING")], False, None),
        ([attempt(timedelta(days=13))], True, None),
        ([attempt(timedelta(hours=1), "FAILED"), attempt(timedelta(hours=2), "FAILED")], False, State.BUDGET),
        ([attempt(timedelta(hours=1)), attempt(timedelta(hours=2))], True, State.BUDGET),
        ([attempt(timedelta(hours=1), "FAILED"), attempt(timedelta(hours=21), "FAILED")], False, None),
        ([attempt(timedelta(hours=1), "FAILED", seconds=240 * 60)], True, State.BUDGET),
    ],
)
def test_cooldown_and_budget(attempts, forced, state):
    """Only verdicts start the cooldown, force ends it; the day's budget counts everything, and force does not help."""
    found = refusal(attempts, POLICY, NOW, forced=forced)
    assert (found and found[0]) == state
    if found:
        assert found[1]


def test_whoever_lost_the_lease_stops(tmp_path):
    """A process that gave no sign of life must not register beside the one that took over."""
    ledger, said = Ledger(f"sqlite:///{tmp_path / 'governance.db'}"), []
    hooks = _sign_of_life(ledger, "ada", POLICY, lambda: NOW, Hooks(on_step=said.append))
    hooks.step("Searching")
    assert ledger.acquire("bob", NOW + timedelta(minutes=POLICY.lease_minutes), POLICY.lease_minutes) is None
    for sign in (lambda: hooks.step("Registering"), lambda: hooks.on_trial(None)):
        with pytest.raises(PlatformError, match="another process took over"):
            sign()
    assert said == ["Searching"]


def test_nothing_to_start_from(tmp_path):
    """No snapshot, then no outcome: each said with the command that brings it."""
    settings = Settings.from_environment({}, home=tmp_path)
    tables = Tables(settings.tables)
    with pytest.raises(InsufficientData, match="attrition data import FILE"):
        collect(settings, tables, DataRules(), now=NOW)


def test_no_outcome_yet(tmp_path, made):
    """Production has no label, so there is nothing new to learn."""
    settings = Settings.from_environment({}, home=tmp_path)
    tables = Tables(settings.tables)
    tables.write_snapshot(made.table)
    with pytest.raises(NotFound, match="attrition outcomes import FILE"):
        collect(settings, tables, DataRules(), now=NOW)


class Empty:
    def resolve(self, ref):
        raise NotFound(f"version {ref} does not exist")


def test_no_champion():
    """Nothing to be better than; the message says how to get one."""
    with pytest.raises(NotFound, match="attrition tune --register"):
        the_champion(Empty())


@pytest.mark.parametrize(
    ("verdict", "state", "attention"),
    [
        (Verdict.HOLD, State.DECIDED, False),
        (Verdict.RETRAIN, State.DECIDED, True),
        (Verdict.INVESTIGATE, State.DECIDED, True),
        (Verdict.RETRAIN, State.REGISTERED, False),
        (Verdict.RETRAIN, State.UNCHANGED, False),
        (Verdict.RETRAIN, State.BUSY, False),
        (Verdict.HOLD, State.HELD, True),
    ],
)
def test_when_somebody_should_look(verdict, state, attention):
    """The command exits 3 then: what is due and was only checked, what is unclear, what the gates hold."""
    found = Retraining("a", NOW, Decision(verdict, "", (), (), Evidence("1.0.0")), state=state)
    assert found.attention is attention
    assert found.to_dict()["state"] == state


def test_the_newest_records_are_the_holdout(made):
    """The cutoff counts whole days back from the newest record, itself included."""
    dated = made.table.frame.assign(snapshot_date=pd.Timestamp("2026-04-30"))
    table = replace(made.table, frame=dated)
    assert Recent(1, 0).cutoff(table).isoformat() == "2026-04-30"
    assert Recent(30, 0).cutoff(table).isoformat() == "2026-04-01"
