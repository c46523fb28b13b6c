"""From a snapshot to a judged run: search or train, look at the holdout once, judge by the gates, package.

A judged run is what may be registered. Everything the judgement rests on (the snapshot's version, the split, the
champion it was compared with) is recorded in the package, so that `validate` can repeat it later.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.data.quality import check_split
from attrition.data.splits import apply_split, split_holdout
from attrition.errors import NotFound
from attrition.evaluation.fairness import assess_fairness
from attrition.evaluation.gates import Evidence, judge, measure_latency
from attrition.evaluation.groups import attributes_of
from attrition.evaluation.metrics import compare_auc
from attrition.evaluation.reports import evaluate
from attrition.registry.package import write_package
from attrition.scoring.compile import compile_candidate, prove_equal
from attrition.scoring.scorer import load_scorer
from attrition.training import tracking
from attrition.training.candidate import Lineage, code_version, fit_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from attrition.data.dataset import Dataset
    from attrition.data.employees import EmployeeTable
    from attrition.data.splits import Split
    from attrition.evaluation.fairness import FairnessReport
    from attrition.evaluation.gates import GatePolicy, Verdict
    from attrition.evaluation.metrics import Estimate
    from attrition.evaluation.reports import Evaluation
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings
    from attrition.training.candidate import Candidate
    from attrition.training.plan import SearchPlan
    from attrition.training.search import SearchResult, TrialUpdate

LATENCY_ROWS = 200
"""Records of the holdout that the latency gate scores one by one."""
PARITY_ROWS = 2_000
"""Records of the training part on which the compiled scorer must equal the pipeline."""
SAMPLE_ROWS = 20
"""Pseudonymised records logged with a run, to show the shape of the data."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the holdout says about a candidate, and what the gates make of it."""

    evaluation: Evaluation
    fairness: Sequence[FairnessReport]
    verdict: Verdict

    def __str__(self) -> str:
        """Tables for terminals: figures, then gate by gate."""
        return f"{self.evaluation}\n\n{self.verdict}"

    def _repr_html_(self) -> str:
        return self.evaluation._repr_html_() + self.verdict._repr_html_()


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A fitted candidate with its judgement, logged to MLflow as `run_id` and packaged for registration."""

    run_id: str
    candidate: Candidate
    judgement: Judgement
    n_train: int
    n_holdout: int
    seconds: float
    """Wall time from the split to the logged package."""
    search: SearchResult | None = None
    """The search behind the candidate; None for a single training."""

    @property
    def evaluation(self) -> Evaluation:
        """Metrics on the holdout, with intervals."""
        return self.judgement.evaluation

    @property
    def verdict(self) -> Verdict:
        """The gates' verdict."""
        return self.judgement.verdict

    def __str__(self) -> str:
        """What won, then its judgement."""
        return f"run {self.run_id}: {self.candidate.family}\n\n{self.judgement}"

    def _repr_html_(self) -> str:
        return f"<p>run {self.run_id}: {self.candidate.family}</p>{self.judgement._repr_html_()}"


def plan_lineage(dataset: Dataset, plan: SearchPlan) -> tuple[Lineage, Split]:
    """What a run of `plan` on `dataset` would be traceable to, and its split; equal fingerprints mean equal runs."""
    split = split_holdout(dataset.table, holdout_share=plan.holdout_share, seed=plan.seed)
    lineage = Lineage(
        snapshot=dataset.snapshot,
        split=split.spec,
        code_version=code_version(),
        plan=plan.name,
        plan_digest=plan.digest,
        seed=plan.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return lineage, split


def tune(
    registry: ModelRegistry,
    settings: Settings,
    dataset: Dataset,
    plan: SearchPlan,
    policy: GatePolicy,
    *,
    on_trial: Callable[[TrialUpdate], None] | None = None,
    on_step: Callable[[str], None] | None = None,
    resume: bool = False,
) -> JudgedRun:
    """Search by `plan` on the training part, judge the winner on the holdout. Ray must be initialised.

    Parameters
    ----------
    on_trial
        Called in this process after every report of a trial.
    on_step
        Called with a few words when the next step begins.
    resume
        Continue the interrupted search of the same plan and data.

    Raises
    ------
    InsufficientData
        The training part or the holdout lacks rows or one of the classes.
    ParityError
        The compiled scorer differs from the winner's pipeline.
    TrackingUnreachable
        MLflow does not answer.
    """
    from attrition.training.search import search

    started = datetime.now(UTC)
    lineage, split = plan_lineage(dataset, plan)
    result = search(
        dataset.table.take(split.train), plan, settings=settings, lineage=lineage, on_trial=on_trial, resume=resume
    )
    return _conclude(
        registry, settings, dataset, split, result.candidate, policy, result.run_id, started, on_step, result
    )


def train(
    registry: ModelRegistry,
    settings: Settings,
    dataset: Dataset,
    plan: SearchPlan,
    policy: GatePolicy,
    *,
    family: str,
    parameters: Mapping[str, Any],
    on_step: Callable[[str], None] | None = None,
) -> JudgedRun:
    """Fit one configuration without a search and judge it like any other candidate; needs no Ray.

    Raises
    ------
    ConfigError
        `family` or a parameter is unknown.
    """
    started = datetime.now(UTC)
    lineage, split = plan_lineage(dataset, plan)
    configuration = json.dumps([plan.digest, family, dict(parameters)], sort_keys=True)
    lineage = replace(lineage, plan=f"train {family}", plan_digest=hashlib.sha256(configuration.encode()).hexdigest())
    (on_step or _silent)("Fitting and calibrating")
    candidate = fit_candidate(
        dataset.table.take(split.train),
        family,
        parameters,
        n_folds=plan.n_folds,
        seed=plan.seed,
        calibration=plan.calibration,
        objective=plan.objective,
        lineage=lineage,
    )
    run_id = tracking.start_training_run(settings, candidate)
    return _conclude(registry, settings, dataset, split, candidate, policy, run_id, started, on_step, None)


def judge_candidate(
    candidate: Candidate,
    score_one: Callable[[Sequence[float]], float],
    dataset: Dataset,
    split: Split,
    policy: GatePolicy,
    champion: Candidate | None,
) -> Judgement:
    """Evaluate on the holdout and hold the result against every gate.

    Parameters
    ----------
    score_one
        The compiled scorer whose single-record latency is measured.
    champion
        The version in production, compared on the same persons; None when there is none.
    """
    holdout = dataset.table.take(split.holdout)
    features, y_true = holdout.features, holdout.target
    y_score = candidate.score(features)
    groups = attributes_of(holdout)
    evaluation = evaluate(y_true, y_score, candidate.threshold, groups=groups, seed=candidate.lineage.seed)
    fairness = assess_fairness(
        y_true, (y_score >= candidate.threshold).astype(np.int8), groups, min_group_size=policy.fairness.min_group_size
    )
    evidence = Evidence(
        evaluation=evaluation,
        fairness=fairness,
        findings=(*dataset.quality.findings, *check_split(dataset.table, split)),
        latency=measure_latency(score_one, features.to_numpy(np.float64)[:LATENCY_ROWS]),
        champion=_against_champion(champion, holdout, y_score),
    )
    return Judgement(evaluation, fairness, judge(policy, evidence))


def validate(registry: ModelRegistry, read: Callable[[int], Dataset], ref: str, policy: GatePolicy) -> Judgement:
    """Judge a registered version or a logged run again: its own snapshot, its own holdout, the policy given now.

    Parameters
    ----------
    read
        Reads the snapshot with a version number.

    Raises
    ------
    NotFound
        No such version or run, or its snapshot is gone.
    IntegrityError
        The package differs from its manifest.
    """
    package = registry.load(ref)
    candidate = package.candidate
    lineage = candidate.lineage
    if lineage.snapshot is None or lineage.split is None:
        raise NotFound(f"{ref} does not say which snapshot it was trained on; it cannot be validated again.")
    dataset = read(lineage.snapshot.version)
    split = apply_split(dataset.table, lineage.split)
    champion = champion_candidate(registry, but=ref)
    return judge_candidate(candidate, package.scorer.score_one, dataset, split, policy, champion)


def champion_candidate(registry: ModelRegistry, *, but: str = "") -> Candidate | None:
    """The champion's candidate, verified; None when there is none or when it is the version called `but`."""
    try:
        champion = registry.resolve("champion")
    except NotFound:
        return None
    if but and champion.manifest_sha256 == registry.manifest_sha256(but):
        return None
    return registry.load("champion").candidate


def _against_champion(champion: Candidate | None, holdout: EmployeeTable, y_score: Any) -> Estimate | None:
    if champion is None or not set(champion.schema.names) <= set(holdout.schema.names):
        return None
    champion_score = champion.score(holdout.frame.loc[:, list(champion.schema.names)])
    return compare_auc(holdout.target, champion_score, y_score)


def _conclude(
    registry: ModelRegistry,
    settings: Settings,
    dataset: Dataset,
    split: Split,
    candidate: Candidate,
    policy: GatePolicy,
    run_id: str,
    started: datetime,
    on_step: Callable[[str], None] | None,
    result: SearchResult | None,
) -> JudgedRun:
    """Compile, prove, judge, package and log what a search or a training produced."""
    step = on_step or _silent
    step("Compiling the scorer and proving it equal to the pipeline")
    files = compile_candidate(candidate)
    training = dataset.table.take(split.train)
    parity = prove_equal(files, candidate, training.features.iloc[:PARITY_ROWS])
    step("Judging on the holdout")
    judgement = judge_candidate(
        candidate, load_scorer(files).score_one, dataset, split, policy, champion_candidate(registry)
    )
    step("Logging to MLflow")
    holdout = dataset.table.take(split.holdout)
    tracking.log_training(
        settings,
        run_id,
        candidate,
        judgement.evaluation,
        dataset.quality,
        holdout=holdout,
        sample=training.take(np.arange(min(SAMPLE_ROWS, len(training)))),
    )
    with tempfile.TemporaryDirectory() as folder:
        package = write_package(
            Path(folder) / "package",
            candidate,
            judgement.evaluation,
            dataset.quality,
            judgement.fairness,
            judgement.verdict,
            parity,
        )
        registry.log_package(run_id, package)
    return JudgedRun(
        run_id=run_id,
        candidate=candidate,
        judgement=judgement,
        n_train=len(split.train),
        n_holdout=len(split.holdout),
        seconds=(datetime.now(UTC) - started).total_seconds(),
        search=result,
    )


def _silent(_: str) -> None:
    return
