"""The Python SDK: one project's data, searches, model versions and endpoint behind a single object.

::

    ws = Workspace()                                  # embedded: everything under ./.attrition
    ws.data.load("hr.csv", mapping="hr_comma_sep")    # checked, pseudonymised, stored as a snapshot
    run = ws.tune("default")                          # Ray Tune, gates, MLflow
    version = ws.models.register(run.run_id)          # 1.0.0
    ws.serving.up(version.version)                    # Ray Serve
    ws.traffic.set({"1.0.0": 70, "1.1.0": 30})        # split between versions
    ws.client().predict(frame)                        # a DataFrame back

The Workspace composes the packages and adds no logic of its own. What people do by hand has its command, too:
``attrition --help``.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from attrition.errors import UsageError
from attrition.governance.actions import Action
from attrition.settings import Settings
from attrition.stations.data import stored_dataset
from attrition.stations.subjects import file_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from attrition.admission.judging import Judgement
    from attrition.admission.runs import Hooks, JudgedRun
    from attrition.client import Client
    from attrition.cluster.session import RaySession
    from attrition.data.scenarios import Scenario
    from attrition.evaluation.explanations import Explanation, GlobalImportance
    from attrition.evaluation.gates import GatePolicy
    from attrition.governance.guard import Entry, Guard
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.retraining.policy import RetrainingPolicy
    from attrition.retraining.simulation_report import Quarter, SimulationReport
    from attrition.serving.batch import BatchResult, Progress
    from attrition.serving.batch_ids import Ids
    from attrition.stations.access import Access
    from attrition.stations.alerts import Alerts
    from attrition.stations.audit import Audit
    from attrition.stations.certificates import Certificates
    from attrition.stations.cluster import Cluster
    from attrition.stations.data import Data
    from attrition.stations.experiments import Experiments
    from attrition.stations.jobs import Jobs
    from attrition.stations.models import Models
    from attrition.stations.monitoring import Monitoring
    from attrition.stations.outcomes import Outcomes
    from attrition.stations.performance import Performance
    from attrition.stations.predictions import Predictions
    from attrition.stations.privacy import Privacy
    from attrition.stations.release import Release
    from attrition.stations.retraining import Retraining
    from attrition.stations.serving import Serving
    from attrition.stations.traffic import Traffic
    from attrition.training.search import TrialUpdate


class Workspace:
    """One project: its stores, its MLflow, its Ray cluster.

    Parameters
    ----------
    settings
        Addresses and folders; by default from the environment (``ATTRITION_*``, ``MLFLOW_TRACKING_URI``,
        ``RAY_ADDRESS``), otherwise embedded under ``./.attrition``.
    **overrides
        Fields of :class:`~attrition.settings.Settings` that win over the environment.

    Raises
    ------
    ConfigError
        A setting is not valid.

    Examples
    --------
    >>> ws = Workspace(home="/tmp/attrition-doc")
    >>> ws.settings.tables
    '/tmp/attrition-doc/tables'
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.settings = settings or Settings.from_environment(**overrides)
        self._session: RaySession | None = None
        self._open = ExitStack()

    def __repr__(self) -> str:
        return f"Workspace(home={str(self.settings.home)!r}, tracking={self.settings.tracking_uri!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def data(self) -> Data:
        """Extracts, quality findings and snapshots."""
        from attrition.stations.data import Data

        return Data(self.settings, self.guard)

    @cached_property
    def guard(self) -> Guard:
        """Authorises and records what this workspace does."""
        from attrition.governance.guard import Guard

        return Guard(self.settings)

    @cached_property
    def access(self) -> Access:
        """API keys, roles, and who asks."""
        from attrition.stations.access import Access

        return Access(self.settings, self.guard)

    @cached_property
    def models(self) -> Models:
        """Model versions in MLflow: register, list, show, compare, verify, approve, load."""
        from attrition.stations.models import Models

        return Models(self.settings, self.guard, lambda: self._registry)

    @cached_property
    def certificates(self) -> Certificates:
        """Compliance certificates: assess, issue, verify."""
        from attrition.stations.certificates import Certificates

        return Certificates(self.settings, self.guard, lambda: self._registry)

    @cached_property
    def _registry(self) -> ModelRegistry:
        from attrition.registry.models import ModelRegistry

        self.settings.prepare_home()
        return ModelRegistry(self.settings)

    @cached_property
    def serving(self) -> Serving:
        """The HTTP endpoint on Ray Serve."""
        from attrition.stations.serving import Serving

        return Serving(self.settings, self.guard, self._export)

    @cached_property
    def predictions(self) -> Predictions:
        """What the endpoint answered."""
        from attrition.stations.predictions import Predictions

        return Predictions(self.settings, self.guard)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Who left, and when."""
        from attrition.stations.outcomes import Outcomes

        return Outcomes(self.settings, self.guard, self.data, self.predictions)

    @cached_property
    def monitoring(self) -> Monitoring:
        """What the world and the model have become: drift."""
        from attrition.stations.monitoring import Monitoring

        return Monitoring(
            self.settings, self.guard, lambda: self._registry, lambda: self.data.tables, self.ray, self.alerts
        )

    @cached_property
    def performance(self) -> Performance:
        """What versions are worth in production: measured on matured labels, or estimated without."""
        from attrition.stations.performance import Performance

        return Performance(self.settings, self.guard, lambda: self._registry, self.alerts)

    @cached_property
    def retraining(self) -> Retraining:
        """Whether a new version is worth training, and its training."""
        from attrition.stations.release import staged_by
        from attrition.stations.retraining import Retraining

        return Retraining(
            self.settings,
            self.guard,
            lambda: self._registry,
            lambda: self.data.tables,
            execution=self.monitoring.execution,
            ray=self.ray,
            sign=self._signed,
            register=self.models.register,
            stage=staged_by(lambda: self.release),
        )

    @cached_property
    def alerts(self) -> Alerts:
        """Notifications of what monitoring found."""
        from attrition.stations.alerts import Alerts

        return Alerts(self.settings, self.guard)

    @cached_property
    def privacy(self) -> Privacy:
        """What is held about a person, its erasure, and retention."""
        from attrition.stations.privacy import Privacy

        return Privacy(self.settings, self.guard, self.data.tables)

    @cached_property
    def traffic(self) -> Traffic:
        """The split between served versions: show, set, pin, shadow, switch, rollback, history."""
        from attrition.stations.traffic import Traffic

        return Traffic(self.settings, self.guard, self._export)

    @cached_property
    def experiments(self) -> Experiments:
        """A challenger beside the control: plan, start, status, analyze, stop."""
        from attrition.stations.experiments import Experiments

        return Experiments(self.settings, self.guard, lambda: self._registry, lambda: self.traffic)

    @cached_property
    def release(self) -> Release:
        """From a registered version to everybody's: stage, approve, roll out by plan, intervene."""
        from attrition.stations.release import Release

        return Release(self.settings, self.guard, lambda: self._registry, self._export, self.models)

    def _export(self, ref: str) -> BundleRef:
        return self._registry.export_bundle(ref)  # the registry is opened only for a version that is not served yet

    @cached_property
    def cluster(self) -> Cluster:
        """Ray on Kubernetes: apply, look, deploy, split, delete."""
        from attrition.stations.cluster import Cluster

        return Cluster(self.settings, self.guard, self._export)

    @cached_property
    def jobs(self) -> Jobs:
        """Commands that run on the cluster."""
        from attrition.stations.jobs import Jobs

        return Jobs(self.settings, self.guard)

    @cached_property
    def audit(self) -> Audit:
        """The audit log: who did what, when and why."""
        from attrition.stations.audit import Audit

        return Audit(self.settings, self.guard)

    def ray(self, *, serving: bool = False) -> RaySession:
        """The Ray session of this workspace, started or joined on first use and closed by :meth:`close`.

        Parameters
        ----------
        serving
            Ask an embedded start for the ingress that serving wants; decided by the first call.

        Raises
        ------
        RayUnreachable
            The configured cluster does not answer.
        """
        from attrition.cluster.session import connect

        if self._session is None:
            self._session = connect(self.settings, serving=serving)
            self._open.callback(self._session.close)
        return self._session

    def _ray_for_search(self, hooks: Hooks) -> None:
        if self._session is None:
            hooks.step("Starting Ray")
        self.ray()
        hooks.step("Searching")

    def close(self) -> None:
        """Close the clients and the audit log, leave or stop the Ray session. Harmless when repeated."""
        self._open.close()
        self.guard.close()
        self._session = None

    def tune(
        self,
        plan: str | Path = "default",
        *,
        snapshot: int | None = None,
        gates: str | Path | None = None,
        on_trial: Callable[[TrialUpdate], None] | None = None,
        on_step: Callable[[str], None] | None = None,
        resume: bool = False,
    ) -> JudgedRun:
        """Search hyper-parameters on Ray, judge the winner by the gates and log everything to MLflow.

        Parameters
        ----------
        plan
            A search plan by path, or a shipped one by name (``smoke``, ``default``, ``thorough``).
        snapshot
            Version of the snapshot; the latest when None.
        gates
            Gate thresholds by path or name; the shipped ones when None.
        resume
            Continue the interrupted search of the same plan and data.

        Raises
        ------
        InputError
            Plan, gates or data cannot be used.
        PlatformError
            Ray or MLflow do not answer.
        """
        from attrition.admission import runs
        from attrition.training.connection import probe
        from attrition.training.plan import SearchPlan

        search_plan, policy = SearchPlan.load(plan), _policy(gates)
        hooks = runs.Hooks(on_trial, on_step)
        with self.guard.acting(Action.TRAIN, f"plan {search_plan.name}", details={"resume": resume}) as entry:
            dataset = stored_dataset(self.data.tables, snapshot)
            entry.data_version = str(dataset.snapshot.version)
            probe(self.settings)  # a server that does not answer must not cost the start of a Ray first
            self._ray_for_search(hooks)
            run = runs.tune(self._registry, self.settings, dataset, search_plan, policy, hooks=hooks, resume=resume)
            return self._signed(run, entry)

    def train(
        self,
        family: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        plan: str | Path = "default",
        snapshot: int | None = None,
        gates: str | Path | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> JudgedRun:
        """Fit one configuration without a search and judge it; by default the baseline, a balanced logistic regression.

        `plan` supplies everything but the configuration: split, folds, seed, calibration, threshold objective.
        """
        from attrition.admission import runs
        from attrition.training.baseline import BASELINE
        from attrition.training.plan import SearchPlan

        if family is None:
            family, defaults = BASELINE
            parameters = {**defaults, **(parameters or {})}
        search_plan, policy = SearchPlan.load(plan), _policy(gates)
        with self.guard.acting(Action.TRAIN, f"family {family}") as entry:
            dataset = stored_dataset(self.data.tables, snapshot)
            entry.data_version = str(dataset.snapshot.version)
            run = runs.train(
                self._registry,
                self.settings,
                dataset,
                search_plan,
                policy,
                family=family,
                parameters=parameters or {},
                hooks=runs.Hooks(on_step=on_step),
            )
            return self._signed(run, entry)

    def _signed(self, run: JudgedRun, entry: Entry) -> JudgedRun:
        """The run, with who made it: its author may not be the one who approves it."""
        self._registry.set_author(run.run_id, entry.actor)
        entry.details |= {"run": run.run_id, "family": run.candidate.family, "verdict": str(run.verdict.outcome)}
        return run

    def validate(
        self,
        ref: str,
        *,
        gates: str | Path | None = None,
        min_auc: float | None = None,
        min_accuracy: float | None = None,
        bias_threshold: float | None = None,
        check_fairness: bool | None = None,
    ) -> Judgement:
        """Judge a version (``1.0.0``, ``champion``) or a logged run again on its own holdout.

        Parameters
        ----------
        min_auc, min_accuracy, bias_threshold, check_fairness
            Override the thresholds of `gates`; None keeps them.
        """
        from attrition.admission import runs

        policy = _policy(gates).with_overrides(
            min_auc=min_auc, min_accuracy=min_accuracy, bias_threshold=bias_threshold, check_fairness=check_fairness
        )
        with self.guard.acting(Action.VALIDATE, f"model {ref}") as entry:
            judgement = runs.validate(self._registry, partial(stored_dataset, self.data.tables), ref, policy)
            entry.details["verdict"] = str(judgement.verdict.outcome)
            return judgement

    def unchanged(self, plan: str | Path = "default", *, snapshot: int | None = None) -> ModelVersion | None:
        """The version that a run of `plan` would reproduce (same data, plan and code), or None.

        Data from which persons were erased since count as the same: an erasure is no reason to retrain.
        """
        from attrition.admission import runs
        from attrition.training.plan import SearchPlan

        self.guard.require(Action.MODEL_VIEW, "models")
        return runs.reproduced(self._registry, stored_dataset(self.data.tables, snapshot), SearchPlan.load(plan))

    def score(
        self,
        source: str | Path,
        target: str | Path,
        ref: str = "champion",
        *,
        mapping: str | Path | None = None,
        keep: Sequence[str] = (),
        ids: Ids | None = None,
        as_delta: bool = False,
        table_version: int | None = None,
        overwrite: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> BatchResult:
        """Score a file, a folder or a Delta table of employees in a batch; repeat an interrupted call to finish it.

        Parameters
        ----------
        source
            CSV, CSV.gz, Parquet, a folder of one of them, or a Delta table; a path, ``file:`` or ``abfss:`` address.
        target
            Path or ``file:`` URI. ``.csv``, ``.csv.gz`` and ``.parquet`` name one file; anything else a folder of
            Parquet files.
        ref
            Version or alias that scores.
        mapping
            Mapping by path or shipped name; None: `source` has canonical columns.
        keep
            Columns of `source` that the output repeats.
        ids
            ``raw`` or ``pseudonyms``: what the column ``employee_id`` holds; raw ids are replaced by pseudonyms.
        as_delta
            Make a Delta table of the folder.
        table_version
            Of a Delta table as input; the latest when None.
        overwrite
            Replace what an earlier batch wrote to `target`.

        Raises
        ------
        InputError, UsageError
            Input, version or output cannot be used; every fault is counted and named.
        PlatformError
            Ray or the storage did not do its part.
        """
        from attrition.data.mapping import load_mapping
        from attrition.serving import batch_execution
        from attrition.serving.batch import plan_batch, run_batch

        with self.guard.acting(Action.BATCH_SCORE, file_subject("batch", source)) as entry:
            batch = plan_batch(
                source,
                target,
                self._registry.export_bundle(ref),
                self.data.key,
                mapping=None if mapping is None else load_mapping(mapping),
                keep=keep,
                ids=ids,
                as_delta=as_delta,
                table_version=table_version,
            )
            execute = batch_execution.in_threads
            # an embedded Ray has this machine's cores only, and takes seconds to start
            if not batch.small and (self.settings.ray_address or not batch.leaves_threads_free):
                self.ray()
                execute = batch_execution.on_ray
            result = run_batch(batch, execute, overwrite=overwrite, on_progress=on_progress)
            entry.model_version = result.version
            entry.details |= {"rows": result.n_rows, "target": file_subject("output", target)}
            return result

    def explain(
        self,
        prediction_id: str | None = None,
        *,
        record: Mapping[str, float | None] | None = None,
        version: str | None = None,
    ) -> Explanation:
        """Why a version estimates what it does, for a logged prediction or for a record; needs no endpoint.

        Parameters
        ----------
        prediction_id
            Of an answer; the registered version that gave it explains it.
        record
            Feature → value, instead of an id; what is missing is None or left out.
        version
            Version or alias that explains the record; None is the champion.

        Raises
        ------
        UsageError
            Neither an id nor a record, or both, or a version for a prediction.
        NotFound
            No such prediction or version, or the version was registered without what explanations need.
        InputError
            The record does not fit the version's features.
        """
        from attrition.serving.explaining import checked_id, explain_prediction, explain_record

        by_id = prediction_id is not None and record is None and version is None
        if not by_id and (prediction_id is not None or record is None):
            raise UsageError("explain: give a prediction_id, or a record and if you like a version.")
        subject = "record" if prediction_id is None else f"prediction {checked_id(prediction_id)}"
        with self.guard.acting(Action.EXPLAIN, subject) as entry:
            if prediction_id is not None:
                found = explain_prediction(self.settings, self._registry, prediction_id)
            else:
                found = explain_record(self._registry, record or {}, version or "champion")
            entry.model_version = found.model_version
            return found

    def explain_global(self, ref: str = "champion") -> GlobalImportance:
        """What a version (``1.0.0``, ``champion``) or a logged run relies on: Shapley importance on its holdout.

        Raises
        ------
        NotFound
            No such version or run, or it was registered without what explanations need.
        """
        self.guard.require(Action.MODEL_VIEW, f"version {ref}")
        return self._registry.load(ref).importance

    def simulate(
        self,
        folder: str | Path | None = None,
        *,
        quarters: int = 8,
        seed: int = 42,
        scenario: str | Scenario = "flexible_hours",
        drift_quarter: int = 2,
        employees: int = 4_000,
        policy: RetrainingPolicy | str | Path = "retraining-simulation",
        serve: bool = False,
        on_quarter: Callable[[Quarter], None] | None = None,
        on_step: Callable[[str], None] | None = None,
    ) -> tuple[SimulationReport, list[Path]]:
        """Run the whole loop on a simulated company, with and without retraining; the report and its files.

        Nothing of this project is touched: the company is a project of its own in `folder`, on the same Ray.

        Parameters
        ----------
        folder
            Of the simulated project, replaced when there is an earlier simulation in it; by default ``simulation``
            under the home.
        quarters
            To report on. Before them lie years of history and one of undisturbed production.
        scenario
            Name in :data:`~attrition.data.workforce.SCENARIOS`, ``none``, or a scenario of your own.
        drift_quarter
            Quarter in which it starts; 0 and below is in the year of production before.
        employees
            Headcount, >= 500.
        policy
            When to retrain, and by which plan.
        serve
            Score over HTTP by Ray Serve; otherwise in batches.

        Raises
        ------
        UsageError
            An argument out of its range, or `folder` holds something else.
        InsufficientData
            The gates hold the first version.
        PlatformError
            Ray, Serve, MLflow or the storage does not do its part.
        """
        from attrition.retraining.simulated_world import make_world
        from attrition.stations import simulation

        return simulation.run(
            Workspace,
            self.settings,
            make_world(quarters, n_employees=employees, seed=seed, scenario=scenario, drift_quarter=drift_quarter),
            folder or self.settings.home / "simulation",
            seed=seed,
            policy=policy,
            serve=serve,
            on_quarter=on_quarter,
            on_step=on_step,
        )

    def client(self, url: str | None = None) -> Client:
        """An HTTP client of the endpoint, closed with this workspace.

        Parameters
        ----------
        url
            Base address; None is that of the settings, with the route prefix of the application if there is a Ray
            nearby that knows it.
        """
        from attrition.client import Client
        from attrition.cluster import endpoint

        return self._open.enter_context(Client(url or endpoint.url(self.settings)))


def _policy(gates: str | Path | None) -> GatePolicy:
    from attrition.evaluation.gates import GatePolicy

    return GatePolicy.default() if gates is None else GatePolicy.load(gates)
