"""A search against scikit-learn's RandomizedSearchCV on the same configurations and folds; run it as a script.

Both sides try N configurations of gradient boosting and forests, drawn beforehand, on the same person-disjoint folds of
the same rows, two at a time, and refit the best. The search prunes; RandomizedSearchCV cannot. Printed: wall times and
their ratio (target: at most 1), AUC of both winners on the same holdout, the time that Tune adds to a trial that does
nothing, and the peak memory of the process tree (proportional set size, so that shared pages count once).

Options: ``--rows 15000 --trials 16 --folds 5 --repeats 1``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.cluster.session import connect as connect_ray
from attrition.data.extracts import read_extract
from attrition.data.splits import split_holdout, stratified_folds
from attrition.data.workforce import simulate, write_extract
from attrition.governance.privacy import PseudonymKey
from attrition.settings import Settings
from attrition.training.families import FAMILIES
from attrition.training.lineage import Lineage
from attrition.training.plan import SearchPlan
from attrition.training.tracking import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attrition.data.employees import EmployeeTable

N_JOBS = 2
LINEAGE = Lineage(None, None, "benchmark", "benchmark", "0" * 64, 42, "2026-01-01T00:00:00+00:00")


def process_tree(root: int) -> list[int]:
    """Ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo.extend(children.get(found[-1], []))
    return found


def memory_mb(root: int) -> float:
    """Proportional set size of a process tree."""
    total = 0
    for pid in process_tree(root):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


@dataclass
class Measurement:
    """Wall time and peak memory of a block, and what the tree used before it."""

    seconds: float = 0.0
    peak_mb: float = 0.0
    before_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Measurement]:
    """Measure the block, sampling memory five times a second."""
    import os

    root, done = os.getpid(), threading.Event()
    found = Measurement(before_mb=memory_mb(root))

    def sample() -> None:
        while not done.wait(0.2):
            found.peak_mb = max(found.peak_mb, memory_mb(root))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    started = time.perf_counter()
    try:
        yield found
    finally:
        found.seconds = time.perf_counter() - started
        done.set()
        sampler.join()


def drawn(n_trials: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Configurations: each family's first one, then random ones from the default plan's spaces."""
    import optuna

    from attrition.training.suggestions import PlanSpace

    plan = SearchPlan.load("default")
    space = PlanSpace(plan)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    found = [(family, dict(plan.first_parameters(family))) for family in plan.families]
    while len(found) < n_trials:
        trial = study.ask()
        space(trial)
        family = trial.params["family"]
        nested = {name.partition("/")[2]: value for name, value in trial.params.items() if "/" in name}
        found.append((family, space.parameters({"family": family, family: nested})))
    return found[:n_trials]


def randomized_search(table: EmployeeTable, configurations: list[tuple[str, dict[str, Any]]], n_folds: int) -> Any:
    """RandomizedSearchCV over exactly `configurations`, refitted."""
    from sklearn.model_selection import RandomizedSearchCV

    class Listed(RandomizedSearchCV):
        """Takes the list as it is: RandomizedSearchCV draws from a list of spaces with replacement."""

        def _run_search(self, evaluate_candidates: Any) -> None:
            evaluate_candidates([{name: values[0] for name, values in point.items()} for point in points])

    points = []
    for family, parameters in configurations:
        pipeline = FAMILIES[family].build(table.schema, parameters, 42)
        points.append({"prepare": [pipeline["prepare"]], "model": [pipeline["model"]]})
    first = FAMILIES[configurations[0][0]].build(table.schema, configurations[0][1], 42)
    folds = stratified_folds(table, n_folds, 42)
    search = Listed(first, points, n_iter=len(points), scoring="roc_auc", cv=folds, n_jobs=N_JOBS)
    return search.fit(table.features, table.target)


def ray_search(
    table: EmployeeTable, configurations: list[tuple[str, dict[str, Any]]], n_folds: int, settings: Settings
) -> Any:
    """The search over exactly `configurations`, refitted without calibration, as the other side does."""
    import attrition.training.suggestions as suggestions_module
    from attrition.training.search import search

    plan = SearchPlan.load("default").model_copy(
        update={
            "name": "benchmark",
            "n_trials": len(configurations),
            "n_folds": n_folds,
            "calibration": "none",
            "max_concurrent_trials": N_JOBS,
        }
    )
    suggest = suggestions_module.FoldSearch.suggest

    def given(self: Any, trial_id: str) -> dict[str, Any]:
        suggestion = suggest(self, trial_id)
        family, parameters = configurations[suggestion["number"]]
        return {**suggestion, "family": family, "parameters": parameters}

    suggestions_module.FoldSearch.suggest = given
    try:
        return search(table, plan, settings=settings, lineage=LINEAGE)
    finally:
        suggestions_module.FoldSearch.suggest = suggest


def trial_overhead(settings: Settings, n_trials: int = 20) -> tuple[float, float]:
    """Seconds until the first of `n_trials` trials on a few rows ends, and seconds per trial after it."""
    from attrition.training.search import search

    frame = simulate(400, seed=1)
    table = _read(frame, settings.home / "tiny.csv.gz")
    plan = SearchPlan(
        name="overhead",
        families={"logistic_regression": {"C": {"type": "loguniform", "low": 0.1, "high": 1}, "max_iter": 100}},
        n_trials=n_trials,
        n_folds=2,
        max_concurrent_trials=1,
        calibration="none",
    )
    started, ends = time.perf_counter(), []

    def note(update: Any) -> None:
        if update.status != "running":
            ends.append(time.perf_counter() - started)

    result = search(table, plan, settings=settings, lineage=LINEAGE, on_trial=note)
    work = sum(trial.seconds for trial in result.trials[1:])
    return ends[0], (ends[-1] - ends[0] - work) / (n_trials - 1)


def _read(frame: Any, path: Path) -> EmployeeTable:
    return read_extract(write_extract(frame, path), "workforce", PseudonymKey.from_hex("ab" * 32)).table


def say(line: str) -> None:
    """To stdout: a benchmark's figures are data."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run and print."""
    from sklearn.metrics import roc_auc_score

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=15_000)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.from_environment({}, home=Path(folder))
        table = _read(simulate(options.rows, seed=42), settings.home / "extract.csv.gz")
        split = split_holdout(table)
        train, holdout = table.take(split.train), table.take(split.holdout)
        configurations = drawn(options.trials, seed=7)
        connect(settings)
        ratios = []
        for _ in range(options.repeats):
            with measured() as theirs:
                reference = randomized_search(train, configurations, options.folds)
            from joblib.externals.loky import get_reusable_executor

            get_reusable_executor().shutdown(wait=True)
            their_auc = roc_auc_score(holdout.target, reference.predict_proba(holdout.features)[:, 1])
            with connect_ray(settings, num_cpus=N_JOBS):
                with measured() as ours:
                    result = ray_search(train, configurations, options.folds, settings)
                first, each = trial_overhead(settings)
            our_auc = roc_auc_score(holdout.target, result.candidate.score(holdout.features))
            ratios.append(ours.seconds / theirs.seconds)
            say(f"rows {len(train)}, configurations {options.trials}, folds {options.folds}")
            say(f"RandomizedSearchCV(n_jobs={N_JOBS}): {theirs.seconds:6.1f} s, peak {theirs.peak_mb:.0f} MB")
            say(
                f"search, {result.n_pruned} pruned:       {ours.seconds:6.1f} s, peak {ours.peak_mb:.0f} MB"
                f" (Ray alone {ours.before_mb:.0f} MB)"
            )
            say(f"ratio of wall times: {ratios[-1]:.2f} (target: at most 1)")
            say(f"AUC on the holdout: {their_auc:.4f} and {our_auc:.4f}, difference {our_auc - their_auc:+.4f}")
            say(f"first trial after {first:.1f} s; overhead per further trial {1000 * each:.0f} ms")
        if len(ratios) > 1:
            say(f"median ratio of {len(ratios)}: {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
