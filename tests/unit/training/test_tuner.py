"""What the search suggests and records, without a cluster."""

from __future__ import annotations

import pickle
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from attrition.data.splits import stratified_folds
from attrition.training.folds import FoldData, fold_scores
from attrition.training.plan import SearchPlan
from attrition.training.study import Study, Trial, TrialStatus
from attrition.training.suggestions import FoldSearch
from attrition.training.tuner import EarlyStop, Recorder

SPACES = {
    "hist_gradient_boosting": {
        "learning_rate": {"type": "loguniform", "low": 0.01, "high": 1.0, "default": 0.2},
        "max_iter": {"type": "int", "low": 10, "high": 50, "default": 20},
        "class_weight": {"type": "choice", "values": [None, "balanced"]},
        "max_leaf_nodes": 8,
    },
    "logistic_regression": {"C": {"type": "uniform", "low": 0.5, "high": 2.0}},
}
PLAN = SearchPlan(name="unit", families=SPACES, n_trials=12, n_folds=3)
FIRST = [
    ("hist_gradient_boosting", {"learning_rate": 0.2, "max_iter": 20, "class_weight": None, "max_leaf_nodes": 8}),
    ("logistic_regression", {"C": 1.25}),
]


def configurations(search, n, score=0.5):
    """Ask for n configurations, telling each result."""
    found = []
    for i in range(n):
        found.append(search.suggest(f"t{i}"))
        search.on_trial_complete(f"t{i}", {"score": score, "training_iteration": PLAN.n_folds})
    return found


def test_the_first_trials_are_each_familys_first_configuration():
    """Small budgets try everything once."""
    found = configurations(FoldSearch(PLAN, []), 2)
    assert [(c["family"], c["parameters"]) for c in found] == FIRST


def test_suggestions_stay_in_the_space_and_carry_the_constants():
    """For whatever family."""
    found = configurations(FoldSearch(PLAN, []), 12)
    assert [c["number"] for c in found] == list(range(12))
    assert {c["family"] for c in found} == set(SPACES)
    for configuration in found:
        parameters = configuration["parameters"]
        assert set(parameters) == set(SPACES[configuration["family"]])
        if configuration["family"] == "logistic_regression":
            assert 0.5 <= parameters["C"] <= 2
        else:
            assert 0.01 <= parameters["learning_rate"] <= 1
            assert parameters["max_iter"] in range(10, 51)
            assert parameters["max_leaf_nodes"] == 8


def test_one_after_the_other_the_seed_decides_the_suggestions():
    """Different seeds search elsewhere."""
    first, again = (configurations(FoldSearch(PLAN, []), 10) for _ in range(2))
    other = configurations(FoldSearch(PLAN.model_copy(update={"seed": 7}), []), 10)
    assert first == again
    assert first != other


def test_a_resumed_search_skips_what_was_tried():
    """Numbers and first configurations are not given out twice, and suggestions go on from other random values."""
    family, parameters = FIRST[0]
    ended = [
        Trial(0, family, parameters, (0.9, 0.9, 0.9), TrialStatus.COMPLETE, 1.0),
        Trial(2, family, {**parameters, "learning_rate": 0.5}, (0.6,), TrialStatus.PRUNED, 1.0),
        Trial(3, family, {**parameters, "learning_rate": 0.7}, (), TrialStatus.FAILED, 1.0),
    ]
    found = configurations(FoldSearch(PLAN, ended), 9)
    assert [c["number"] for c in found] == [1, 4, 5, 6, 7, 8, 9, 10, 11]
    assert (found[0]["family"], found[0]["parameters"]) == FIRST[1]
    assert FIRST[0] not in [(c["family"], c["parameters"]) for c in found]


def test_the_optimiser_prefers_what_scored_well():
    """Given good trials of one family only."""
    ended = [
        Trial(i, "logistic_regression", {"C": 0.5 + 0.1 * i}, (0.9,) * 3, TrialStatus.COMPLETE, 1.0) for i in range(8)
    ] + [
        Trial(
            8 + i,
            "hist_gradient_boosting",
            {"learning_rate": 0.1 + 0.1 * i, "max_iter": 20, "class_weight": None, "max_leaf_nodes": 8},
            (0.5,),
            TrialStatus.PRUNED,
            1.0,
        )
        for i in range(4)
    ]
    plan = PLAN.model_copy(update={"n_trials": 40})
    search = FoldSearch(plan, ended)
    found = [search.suggest(f"t{i}")["family"] for i in range(20)]
    assert found.count("logistic_regression") > 12


def test_folds_are_scored_one_after_the_other(table):
    """A trial can stop between them."""
    data = FoldData(table.features, table.target, stratified_folds(table, 3, 42), table.schema)
    scores = fold_scores(data, "logistic_regression", {"C": 1.0}, "auc", 42)
    first = next(scores)
    rest = list(scores)
    assert len(rest) == 2
    assert all(0.7 < score < 1 for score in (first, *rest))
    precision = list(fold_scores(data, "logistic_regression", {"C": 1.0}, "average_precision", 42))
    assert all(table.target.mean() < score < 1 for score in precision)


def test_read_only_arrays_are_enough(table):
    """Ray shares them without a copy."""
    features, y = table.features, table.target
    y.flags.writeable = False
    folds = stratified_folds(table, 3, 42)
    for rows in (part for fold in folds for part in fold):
        rows.flags.writeable = False
    data = FoldData(features, y, folds, table.schema)
    for family in ("extra_trees", "hist_gradient_boosting", "logistic_regression"):
        assert np.isfinite(next(fold_scores(data, family, {}, "auc", 42)))


@pytest.fixture
def events(tmp_path):
    """A recorder with what it announces and records."""
    ended, updates = [], []
    with Study(tmp_path, {}) as study:
        study.bind_run("run")
        yield SimpleNamespace(
            recorder=Recorder(study, PLAN, ended.append, updates.append), study=study, ended=ended, updates=updates
        )


def run(recorder, number, scores, *, error=False):
    """What Ray tells a callback about one trial."""
    config = {"number": number, "family": "logistic_regression", "parameters": {"C": 1.0}}
    trial = SimpleNamespace(trial_id=f"t{number}", config=config)
    recorder.on_trial_start(iteration=0, trials=[trial], trial=trial)
    for i, score in enumerate(scores):
        result = {"fold_score": score, "seconds": float(i + 1)}
        recorder.on_trial_result(iteration=i, trials=[trial], trial=trial, result=result)
    end = recorder.on_trial_error if error else recorder.on_trial_complete
    end(iteration=9, trials=[trial], trial=trial)


def test_updates_tell_the_progress(events):
    """After every fold and at the end; the best counts only complete trials."""
    run(events.recorder, 0, [0.8, 0.7, 0.9])
    run(events.recorder, 1, [0.99])
    states = [(u.number, str(u.status), u.folds_done, u.n_done) for u in events.updates]
    assert states == [
        (0, "running", 0, 0),
        (0, "running", 1, 0),
        (0, "running", 2, 0),
        (0, "complete", 3, 1),
        (1, "running", 0, 1),
        (1, "running", 1, 1),
        (1, "pruned", 1, 2),
    ]
    assert events.updates[0].mean_score is None
    assert events.updates[0].best_so_far is None
    assert events.updates[-1].best_so_far == pytest.approx(0.8)
    assert events.updates[-1].n_total == 12


def test_a_trial_is_on_disk_before_anything_learns_of_its_end(events):
    """So that a kill loses nothing that was announced."""
    seen = []
    events.recorder._on_end = lambda trial: seen.append((events.study.directory / "trials.jsonl").read_text())
    run(events.recorder, 0, [0.8, 0.7, 0.9])
    assert '"status": "complete"' in seen[0]


def test_a_failed_trial_is_recorded_as_such(events):
    """With the folds it had."""
    run(events.recorder, 0, [0.8], error=True)
    assert events.ended[0].status is TrialStatus.FAILED
    assert events.study.trials == events.ended


def test_ray_may_pickle_the_recorder(events):
    """It does so for a restore that nobody asks for."""
    pickle.dumps(events.recorder)


def test_an_error_of_the_caller_ends_the_search_in_good_order(tmp_path):
    """It is raised when the workers are released; until then the caller hears nothing more."""
    calls = []

    def fail(update):
        calls.append(update)
        raise ValueError

    with Study(tmp_path, {}) as study:
        study.bind_run("run")
        recorder = Recorder(study, PLAN, lambda trial: None, fail)
        assert not recorder.stop.stop_all()
        run(recorder, 0, [0.8, 0.7, 0.9])
        assert recorder.stop.stop_all()
        assert isinstance(recorder.stop.reason, ValueError)
        assert len(calls) == 1
        assert len(study.trials) == 1


def test_the_time_budget_ends_the_search():
    """No budget is no limit."""
    assert EarlyStop(0.0).stop_all()
    assert not EarlyStop(60.0).stop_all()
    assert not EarlyStop(None).stop_all()


def test_a_second_ctrl_c_interrupts_at_once():
    """The first ends the search; afterwards Ctrl-C is what it was."""
    before = signal.getsignal(signal.SIGINT)
    stop = EarlyStop(None)
    with stop.on_ctrl_c():
        signal.raise_signal(signal.SIGINT)
        assert isinstance(stop.reason, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_another_thread_is_left_alone():
    """Signals belong to the main thread."""
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter():
        with EarlyStop(None).on_ctrl_c():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
