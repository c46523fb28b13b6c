"""From a snapshot to a judged run: search or train, look at the holdout once, judge by the gates, package.

A judged run is what may be registered. Everything the judgement rests on (the snapshot's version, the split, the
findings about both) is recorded in the package, so that `validate` can repeat it later.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrition.admission.judging import judge_candidate
from attrition.data.splits import apply_split, split_holdout
from attrition.errors import Fault, IntegrityError, NotFound
from attrition.evaluation.references import DriftReference
from attrition.registry.package import write_package
from attrition.scoring.compile import compile_background, compile_candidate, prove_equal
from attrition.scoring.explainer import Explainer
from attrition.scoring.scorer import load_scorer
from attrition.training import tracking
from attrition.training.candidate import Lineage, code_version, fit_candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date

    from attrition.admission.judging import Judgement
    from attrition.data.dataset import Dataset
    from attrition.data.employees import EmployeeTable
    from attrition.data.splits import Split
    from attrition.data.tables import SnapshotRef
    from attrition.evaluation.gates import GatePolicy, Verdict
    from attrition.evaluation.reports import Evaluation
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.settings import Settings
    from attrition.training.candidate import Candidate
    from attrition.training.plan import SearchPlan
    from attrition.training.search import SearchResult, TrialUpdate


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller wants to be told while a run is made; called in the caller's process."""

    on_trial: Callable[[TrialUpdate], None] | None = None
    """After every report of a trial."""
    on_step: Callable[[str], None] | None = None
    """With a few words when the next step begins."""

    def step(self, words: str) -> None:
        """Say that the next step begins."""
        if self.on_step is not None:
            self.on_step(words)


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


@dataclass(frozen=True, slots=True)
class Recent:
    """A holdout of the latest records, for data that grow.

    Attributes
    ----------
    holdout_days : int, >= 1
        Records of so many days up to the newest one are judged on.
    embargo_days : int, >= 0
        Days before them that training leaves out.
    """

    holdout_days: int
    embargo_days: int

    def cutoff(self, table: EmployeeTable) -> date:
        """First day of the holdout."""
        newest: date = table.dates.max().date()
        return newest - timedelta(days=self.holdout_days - 1)


def plan_lineage(dataset: Dataset, plan: SearchPlan, recent: Recent | None = None) -> tuple[Lineage, Split]:
    """What a run of `plan` on `dataset` would be traceable to, and its split; equal fingerprints mean equal runs.

    Parameters
    ----------
    recent
        Which rows are judged on; None leaves that to :func:`attrition.data.splits.split_holdout`.
    """
    table = dataset.table
    split = split_holdout(
        table,
        holdout_share=plan.holdout_share,
        seed=plan.seed,
        cutoff=None if recent is None else recent.cutoff(table),
        embargo_days=table.schema.horizon_days if recent is None else recent.embargo_days,
    )
    lineage = Lineage(
        snapshot=dataset.snapshot,
        split=split.spec,
        code_version=code_version(),
        plan=plan.name,
        plan_digest=plan.digest,
        seed=plan.seed,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        surrogate_ids=table.surrogate_ids,
    )
    return lineage, split


def reproduced(
    registry: ModelRegistry, dataset: Dataset, plan: SearchPlan, recent: Recent | None = None
) -> ModelVersion | None:
    """The version that a run of `plan` on `dataset` would reproduce, or None.

    A version that was trained before persons were erased from the snapshot counts: what remains is the same data.
    """
    lineage, _ = plan_lineage(dataset, plan, recent)
    snapshot = dataset.snapshot
    for content_hash in (snapshot.content_hash, *reversed(snapshot.earlier_hashes)):
        then = replace(lineage, snapshot=replace(snapshot, content_hash=content_hash))
        version = registry.by_fingerprint(then.fingerprint)
        if version is not None:
            return version
    return None


def tune(
    registry: ModelRegistry,
    settings: Settings,
    dataset: Dataset,
    plan: SearchPlan,
    policy: GatePolicy,
    *,
    hooks: Hooks | None = None,
    resume: bool = False,
    recent: Recent | None = None,
) -> JudgedRun:
    """Search by `plan` on the training part, judge the winner on the holdout. Ray must be initialised.

    Parameters
    ----------
    resume
        Continue the interrupted search of the same plan and data.
    recent
        As of :func:`plan_lineage`.

    Raises
    ------
    InsufficientData
        The training part or the holdout lacks rows or one of the classes.
    ParityError
        The compiled scorer differs from the winner's pipeline.
    PlatformError
        Ray or MLflow do not answer.
    """
    from attrition.training.search import search, study_folder
    from attrition.training.study import was_begun

    hooks, started = hooks or Hooks(), datetime.now(UTC)
    lineage, split = plan_lineage(dataset, plan, recent)
    if resume and not was_begun(study_folder(settings, plan)):
        hooks.step("Nothing to resume: no search of this plan was begun here, so it starts")
    result = search(
        dataset.table.take(split.train),
        plan,
        settings=settings,
        lineage=lineage,
        on_trial=hooks.on_trial,
        resume=resume,
    )
    judgement = _conclude(registry, settings, dataset, split, result.candidate, policy, result.run_id, hooks)
    return _judged(result.run_id, result.candidate, judgement, split, started, result)


def train(
    registry: ModelRegistry,
    settings: Settings,
    dataset: Dataset,
    plan: SearchPlan,
    policy: GatePolicy,
    *,
    family: str,
    parameters: Mapping[str, Any],
    hooks: Hooks | None = None,
) -> JudgedRun:
    """Fit one configuration without a search and judge it like any other candidate; needs no Ray.

    Raises
    ------
    ConfigError
        `family` or a parameter is unknown.
    InsufficientData, ParityError, PlatformError
        As :func:`tune`.
    """
    hooks, started = hooks or Hooks(), datetime.now(UTC)
    lineage, split = plan_lineage(dataset, plan)
    configuration = json.dumps([plan.digest, family, dict(parameters)], sort_keys=True)
    lineage = replace(lineage, plan=f"train {family}", plan_digest=hashlib.sha256(configuration.encode()).hexdigest())
    hooks.step("Fitting and calibrating")
    candidate = fit_candidate(
        dataset.table.take(split.train),
        family,
        parameters,
        n_folds=plan.n_folds,
        seed=plan.seed,
        calibration=plan.calibration,
        objective=plan.objective,
        mitigation=plan.mitigation,
        lineage=lineage,
    )
    run_id = tracking.start_training_run(settings, candidate)
    judgement = _conclude(registry, settings, dataset, split, candidate, policy, run_id, hooks)
    return _judged(run_id, candidate, judgement, split, started, None)


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
        The package differs from its manifest, or the snapshot is not the one that the version was trained on. One from
        which persons were erased since is; the judgement notes it.
    """
    package = registry.load(ref)
    lineage = package.lineage
    if lineage.snapshot is None or lineage.split is None:
        raise NotFound(f"{ref} does not say which snapshot it was trained on; it cannot be validated again.")
    dataset = read(lineage.snapshot.version)
    if not dataset.snapshot.held(lineage.snapshot.content_hash):
        raise IntegrityError(
            Fault(
                f"snapshot {lineage.snapshot.version}",
                f"holds other rows (sha256 {dataset.snapshot.content_hash[:12]}) than {ref} was trained on",
                f"sha256 {lineage.snapshot.content_hash[:12]} is expected",
                "set ATTRITION_TABLES to the tables of that training, or train again on these data",
            )
        )
    split = apply_split(dataset.table, lineage.split)
    itself = _is_champion(registry, package.manifest_sha256)
    champion = None if itself else champion_candidate(registry)
    note = "This version is the champion." if itself else ""
    judgement = judge_candidate(
        package.candidate, package.scorer.score_one, dataset, split, policy, champion, champion_note=note
    )
    return replace(judgement, notes=_erased_since(lineage.snapshot, dataset.snapshot))


def _erased_since(trained_on: SnapshotRef, now: SnapshotRef) -> tuple[str, ...]:
    """A note for data that are not quite those of the training any more."""
    if now.content_hash == trained_on.content_hash:
        return ()
    n_rows = now.n_erased - trained_on.n_erased
    rows = f"{n_rows:,} of {trained_on.n_rows:,} rows of snapshot {now.version}"
    return (f"{rows} were erased since the training; the figures are those of the rows that remain.",)


def champion_candidate(registry: ModelRegistry) -> Candidate | None:
    """The champion's candidate, verified; None when there is no champion."""
    try:
        return registry.load("champion").candidate
    except NotFound:
        return None


def _is_champion(registry: ModelRegistry, manifest_sha256: str) -> bool:
    try:
        return registry.manifest_sha256("champion") == manifest_sha256
    except NotFound:
        return False


def _conclude(
    registry: ModelRegistry,
    settings: Settings,
    dataset: Dataset,
    split: Split,
    candidate: Candidate,
    policy: GatePolicy,
    run_id: str,
    hooks: Hooks,
) -> Judgement:
    """Compile, prove, judge, package and log what a search or a training produced, and end its run."""
    with tracking.ended(tracking.connect(settings), run_id):
        hooks.step("Compiling the scorer and proving it equal to the pipeline")
        files = compile_candidate(candidate)
        training = dataset.table.take(split.train)
        parity = prove_equal(files, candidate, training.features)
        hooks.step("Judging on the holdout")
        judgement = judge_candidate(
            candidate, load_scorer(files).score_one, dataset, split, policy, champion_candidate(registry)
        )
        hooks.step("Explaining the model")
        holdout = dataset.table.take(split.holdout)
        background = compile_background(candidate, files, training.features.to_numpy())
        explainer = Explainer(files, background, schema=candidate.schema, version="", threshold=candidate.threshold)
        importance = explainer.importance(holdout.features.to_numpy())
        hooks.step("Logging to MLflow")
        tracking.log_training(
            settings,
            run_id,
            candidate,
            judgement.evaluation,
            judgement.quality,
            holdout=holdout,
            sample=training,
            explanations=importance,
        )
        with tempfile.TemporaryDirectory() as folder:
            package = write_package(
                Path(folder) / "package",
                candidate,
                judgement.evaluation,
                judgement.quality,
                judgement.fairness,
                judgement.verdict,
                parity,
                scoring_files=files,
                background_files=background,
                importance=importance,
                drift_reference=DriftReference.of(training.features, candidate.schema, candidate.oof_score),
            )
            registry.log_package(run_id, package)
    return judgement


def _judged(
    run_id: str,
    candidate: Candidate,
    judgement: Judgement,
    split: Split,
    started: datetime,
    search: SearchResult | None,
) -> JudgedRun:
    return JudgedRun(
        run_id=run_id,
        candidate=candidate,
        judgement=judgement,
        n_train=len(split.train),
        n_holdout=len(split.holdout),
        seconds=(datetime.now(UTC) - started).total_seconds(),
        search=search,
    )
