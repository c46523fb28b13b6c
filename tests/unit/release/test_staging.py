"""Staging, and everything that keeps a version from it or from a rollout."""

from __future__ import annotations

import pytest
from rollout_world import NEW, OLD, PLAN, FileTraffic, ref, rollout, staged

from attrition.errors import ConfigError, Fault, ServingError
from attrition.evaluation.gates import GateResult, Outcome, Verdict
from attrition.release.rollout_traffic import STAGE_HEADER, differs, is_staged, move
from attrition.release.staging import Staged, gate_faults, stage, stage_faults, start_faults
from attrition.serving import changes
from attrition.serving.smoke import SmokeCheck, SmokeReport
from attrition.serving.traffic import single_variant
from attrition.stations.release import staged_by

GOOD = Verdict((GateResult("auc", Outcome.PASS, 0.9, 0.88, 0.92, 0.85, 100, "fine", holds=False),))
BAD = Verdict((GateResult("auc", Outcome.FAIL, 0.6, 0.5, 0.7, 0.85, 100, "too low", holds=True),))
APPROVED = PLAN.model_copy(update={"steps": (*PLAN.steps[:-1], PLAN.steps[-1].model_copy(update={"approval": True}))})


def texts(faults):
    return [str(fault) for fault in faults]


@pytest.fixture
def control(tmp_path):
    found = FileTraffic(tmp_path / "traffic.json")
    found.put(single_variant(ref(OLD)), 1)
    return found


@pytest.mark.parametrize("passes", [True, False])
def test_staging_keeps_a_version_that_passes_and_lets_one_go_that_does_not(control, monkeypatch, passes):
    """Neither gets traffic, and the pin of the test is gone."""
    report = SmokeReport(NEW, (SmokeCheck("equality", passed=passes, detail="differs"),))
    monkeypatch.setattr("attrition.serving.smoke.smoke_test", lambda *_: report)
    found = stage(control, None, NEW, None)
    traffic = control.show().traffic
    assert (found.passed, is_staged(traffic, NEW)) == (passes, passes)
    assert [(pin.header, pin.value) for pin in traffic.pins] == ([(STAGE_HEADER, NEW)] if passes else [])
    assert {v.version for v in traffic.variants if v.weight} == {OLD}


def test_an_interrupted_staging_leaves_no_pin(control, monkeypatch):
    """Whatever the smoke test raises."""

    def raises(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("attrition.serving.smoke.smoke_test", raises)
    with pytest.raises(KeyboardInterrupt):
        stage(control, None, NEW, None)
    assert control.show().traffic.pins == ()


def test_a_pin_of_the_test_that_stays_is_told_and_hinders_no_rollout(control, monkeypatch):
    """The traffic could not be changed once more."""
    report = SmokeReport(NEW, (SmokeCheck("equality", passed=True, detail=""),))
    monkeypatch.setattr("attrition.serving.smoke.smoke_test", lambda *_: report)

    def refuse(*_):
        raise ServingError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(control, "unpin", refuse)
        with pytest.raises(ServingError, match="no answer"):
            stage(control, None, NEW, None)
    assert len(control.show().traffic.pins) == 2
    move(control, rollout(), 0)
    assert control.show().traffic.pins == ()
    assert not differs(control.show().traffic, rollout(), 0)


def test_what_is_not_staged():
    """A version that failed its gates, that answers, that is a shadow; and where nothing is served."""
    assert texts(gate_faults(NEW, BAD)) == ["version 1.1.0: did not pass its gates (FAIL: auc); release one that did."]
    assert "answers requests already" in str(stage_faults(OLD, GOOD, staged())[0])
    assert "is a shadow" in str(stage_faults(NEW, GOOD, changes.shadow(single_variant(ref(OLD)), [ref(NEW)]))[0])
    assert "nothing is served" in str(stage_faults(NEW, GOOD, None)[0])
    assert stage_faults(NEW, GOOD, single_variant(ref(OLD))) == []


def start(challenger=(NEW, GOOD), plan=PLAN, traffic=None, **known):
    facts = {"running": None, "experiment": None, "demands_approval": False} | known
    return texts(start_faults(challenger, plan, traffic or staged(), **facts))


def test_what_begins():
    """A staged version that passed, beside one champion; with an approval where that is demanded."""
    assert start() == []
    assert start(plan=APPROVED, demands_approval=True) == []


def test_what_does_not_begin():
    """Each by itself."""
    assert "is not staged; attrition release stage 1.1.0" in start(traffic=single_variant(ref(OLD)))[0]
    assert "answers all requests already" in start(challenger=(OLD, GOOD))[0]
    assert "rollout 1 of 1.1.0: is under way; one at a time" in start(running=rollout())[0]
    assert "where access is closed, four eyes are asked for" in start(demands_approval=True)[0]
    split = changes.shift(staged(), [(ref(OLD), 0.9), (ref(NEW), 0.1)], experiment="march")
    assert "a split for march: is under way (1.0.0 0.9, 1.1.0 0.1)" in start(traffic=split)[0]
    assert "experiment march: is running" in start(experiment="march")[0]
    shadowed = changes.shadow(single_variant(ref(OLD)), [ref("1.2.0")])
    assert "is under way (1.0.0 1, shadow 1.2.0)" in start(traffic=shadowed)[0]


def test_all_faults_at_once():
    """A version that failed, a plan that asks nobody, a rollout under way."""
    found = start(challenger=(NEW, BAD), running=rollout(), demands_approval=True)
    assert len(found) == 3


def test_moves_are_idempotent_and_shortest(control):
    """A second time changes nothing; each step says so itself."""
    control.put(staged(), 1)
    state = rollout()
    for step in (0, 1, 2, 3, None):
        assert differs(control.show().traffic, state, step)
        move(control, state, step)
        assert not differs(control.show().traffic, state, step)
        generation = control.show().traffic.generation
        move(control, state, step)
        assert control.show().traffic.generation == generation
    assert control.show().traffic.experiment == ""
    assert control.show().traffic.salt == "attrition"


def test_the_way_back_from_a_shadow(control):
    """Somebody else's shadow stays."""
    control.put(staged(), 1)
    move(control, rollout(), 0)
    control.shadow([NEW, "1.2.0"])
    move(control, rollout(), None)
    traffic = control.show().traffic
    assert [traffic.variant(name).version for name in traffic.shadows] == ["1.2.0"]


def test_people_stay_with_their_version_as_the_share_grows(control):
    """Whoever met the challenger at 5 % meets it at 30 %."""
    control.put(staged(), 1)
    met = []
    for step in (1, 2):
        move(control, rollout(), step)
        split = control.show().traffic.split
        met.append({n for n in range(2_000) if split.assign(f"E-{n}", draw=0)[0].version == NEW})
    assert met[0] < met[1]
    assert len(met[0]) == pytest.approx(100, abs=40)


def test_a_retraining_does_not_fail_when_its_version_cannot_be_staged():
    """It is told why instead."""

    class Station:
        def stage(self, version):
            if version == "9.9.9":
                raise ConfigError(Fault("endpoint", "nothing is served"))
            checks = (SmokeCheck("equality", passed=version == NEW, detail="differs by 0.1"),)
            return Staged(version, SmokeReport(version, checks), value=version if version == NEW else "")

    staged_ = staged_by(Station)
    assert staged_("9.9.9") == "not staged: endpoint: nothing is served."
    assert staged_(OLD) == "not staged, as it failed its smoke tests: equality: differs by 0.1"
    assert staged_(NEW) == "staged without traffic; reached by the request header x-attrition-stage: 1.1.0"
