"""Studies survive any cut of their journal, and plans any round trip."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.training.plan import SearchPlan
from attrition.training.study import Study, Trial, TrialStatus

SPACES = {"class_weight": {"type": "choice", "values": ["balanced", None]}, "max_iter": 100}
SCORES = st.floats(0, 1, allow_subnormal=False)
TRIALS = st.builds(
    Trial,
    number=st.integers(0, 500),
    family=st.sampled_from(["logistic_regression", "extra_trees"]),
    parameters=st.dictionaries(
        st.sampled_from(["C", "max_iter", "class_weight"]), st.one_of(st.none(), SCORES, st.integers(1, 9), st.text())
    ),
    fold_scores=st.lists(SCORES, max_size=5).map(tuple),
    status=st.sampled_from(TrialStatus),
    seconds=st.floats(0, 1e6),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(TRIALS, max_size=6), st.data())
def test_whatever_part_of_the_journal_a_crash_leaves_its_whole_lines_are_read(trials, data):
    """No more, no less, and to the last bit."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with Study(directory, {}) as study:
            study.bind_run("run")
            for trial in trials:
                study.append(trial)
        journal = directory / "trials.jsonl"
        content = journal.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        journal.write_bytes(content[:cut])
        with Study(directory, {}, resume=True) as resumed:
            assert resumed.trials == trials[: content[:cut].count(b"\n")]


@settings(max_examples=30, deadline=None)
@given(
    st.floats(1e-5, 1e4),
    st.floats(1.001, 50),
    st.sampled_from(["uniform", "loguniform"]),
    st.integers(1, 100),
    st.integers(0, 2**32 - 1),
)
def test_a_plan_survives_json_with_its_digest(low, factor, kind, n_trials, seed):
    """And its first configuration lies in the space."""
    space = {"type": kind, "low": low, "high": low * factor}
    plan = SearchPlan(name="p", families={"logistic_regression": SPACES | {"C": space}}, n_trials=n_trials, seed=seed)
    assert SearchPlan.model_validate(plan.model_dump(mode="json")).digest == plan.digest
    assert low <= plan.first_parameters("logistic_regression")["C"] <= low * factor
