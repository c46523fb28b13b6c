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
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrition.errors import UsageError
from attrition.governance.actions import Action
from attrition.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Self

    import pandas as pd

    from attrition.admission.judging import Judgement
    from attrition.admission.runs import Hooks, JudgedRun
    from attrition.client import Client
    from attrition.cluster.session import RaySession
    from attrition.data.dataset import Dataset
    from attrition.data.delta import Compaction
    from attrition.data.extracts import Extract
    from attrition.data.findings import QualityReport
    from attrition.data.outcomes import Recorded
    from attrition.data.tables import SnapshotRef, Tables
    from attrition.evaluation.explanations import Explanation, GlobalImportance
    from attrition.evaluation.gates import GatePolicy
    from attrition.governance.guard import Entry, Guard
    from attrition.governance.privacy import PseudonymKey
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.serving.batch import BatchResult, Progress
    from attrition.serving.batch_ids import Ids
    from attrition.serving.control import ServeStatus
    from attrition.serving.log_commit import CommitStatus
    from attrition.serving.traffic import Traffic as ServedTraffic
    from attrition.stations.access import Access
    from attrition.stations.alerts import Alerts
    from attrition.stations.audit import Audit
    from attrition.stations.certificates import Certificates
    from attrition.stations.models import Models
    from attrition.stations.monitoring import Monitoring
    from attrition.stations.performance import Performance
    from attrition.stations.privacy import Privacy
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
        return Serving(self, self._export)

    @cached_property
    def predictions(self) -> Predictions:
        """What the endpoint answered."""
        return Predictions(self.settings, self.guard)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Who left, and when."""
        return Outcomes(self)

    @cached_property
    def monitoring(self) -> Monitoring:
        """What the world and the model have become: drift."""
        from attrition.stations.monitoring import Monitoring

        return Monitoring(self.settings, self.guard, lambda: self._registry, lambda: self.data.tables, self.ray)

    @cached_property
    def performance(self) -> Performance:
        """What versions are worth in production: measured on matured labels, or estimated without."""
        from attrition.stations.performance import Performance

        return Performance(self.settings, self.guard, lambda: self._registry, self.alerts)

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

    def _export(self, ref: str) -> BundleRef:
        return self._registry.export_bundle(ref)  # the registry is opened only for a version that is not served yet

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
            dataset = _dataset(self.data.tables, snapshot)
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
            dataset = _dataset(self.data.tables, snapshot)
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
            judgement = runs.validate(self._registry, partial(_dataset, self.data.tables), ref, policy)
            entry.details["verdict"] = str(judgement.verdict.outcome)
            return judgement

    def unchanged(self, plan: str | Path = "default", *, snapshot: int | None = None) -> ModelVersion | None:
        """The version that a run of `plan` would reproduce (same data, plan and code), or None.

        Data from which persons were erased since count as the same: an erasure is no reason to retrain.
        """
        from attrition.admission import runs
        from attrition.training.plan import SearchPlan

        self.guard.require(Action.MODEL_VIEW, "models")
        return runs.reproduced(self._registry, _dataset(self.data.tables, snapshot), SearchPlan.load(plan))

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

        with self.guard.acting(Action.BATCH_SCORE, _file("batch", source)) as entry:
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
            entry.details |= {"rows": result.n_rows, "target": _file("output", target)}
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


class Data:
    """Extracts in, snapshots out; reached as ``Workspace.data``."""

    def __init__(self, settings: Settings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard

    @cached_property
    def tables(self) -> Tables:
        """The Delta tables of this project."""
        from attrition.data.tables import Tables

        self._settings.prepare_home()
        return Tables(self._settings.tables)

    @cached_property
    def key(self) -> PseudonymKey:
        """The key that turns employee ids into pseudonyms; created on first use."""
        from attrition.governance.privacy import PseudonymKey

        self._settings.prepare_home()
        assert self._settings.key_file is not None  # Settings.from_environment resolves it
        return PseudonymKey.load_or_create(self._settings.key_file)

    def extract(
        self, path: str | Path, mapping: str | Path | None = None, *, schema: str | Path | None = None
    ) -> Extract:
        """Read a CSV, CSV.gz or Parquet extract into an employee table; nothing is stored.

        Parameters
        ----------
        path
            File or folder.
        mapping
            Mapping by path or shipped name; None: the extract has canonical names.
        schema
            YAML file of an own :class:`~attrition.data.schema.FeatureSchema`; None: the nine HR features.

        Raises
        ------
        ExtractError, ConfigError, InsufficientData
            With every fault of the file and its mapping.
        """
        from attrition.data.extracts import read_extract
        from attrition.data.schema import FeatureSchema

        features = None if schema is None else FeatureSchema.from_yaml(schema)
        return read_extract(path, mapping, self.key, features)

    def check(
        self, path: str | Path, mapping: str | Path | None = None, *, schema: str | Path | None = None
    ) -> QualityReport:
        """Every quality finding of an extract, see :meth:`extract`; nothing is stored."""
        from attrition.data.quality import check_quality

        return check_quality(self.extract(path, mapping, schema=schema))

    def load(self, path: str | Path, mapping: str | Path | None = None, *, schema: str | Path | None = None) -> Dataset:
        """Read, check and repair an extract, see :meth:`extract`, and store it as a snapshot.

        The same content with the same findings again yields the existing snapshot. Persons who were erased are left
        out.
        """
        from attrition.data.dataset import Dataset
        from attrition.data.quality import check_quality, repair

        with self._guard.acting(Action.DATA_IMPORT, _file("extract", path)) as entry:
            extract = self.extract(path, mapping, schema=schema)
            extract = extract.take(~self.tables.erased_rows(extract.table))
            report = check_quality(extract)
            table = repair(extract.table, report)
            snapshot = self.tables.write_snapshot(table, report)
            if snapshot.n_rows < len(table):  # somebody was erased at this very moment
                table = self.tables.without_erased(table)
            entry.data_version = str(snapshot.version)
            entry.details["content_hash"] = snapshot.content_hash
            return Dataset(table, snapshot, report)

    def read(self, version: int | None = None) -> Dataset:
        """A stored snapshot, the latest when `version` is None.

        Raises
        ------
        NotFound
            Nothing is stored, or not this version.
        """
        with self._guard.acting(Action.DATA_VIEW, "snapshot") as entry:
            dataset = _dataset(self.tables, version)
            entry.data_version = str(dataset.snapshot.version)
            return dataset

    def snapshots(self) -> list[SnapshotRef]:
        """Every stored snapshot, oldest first."""
        self._guard.require(Action.DATA_VIEW, "snapshots")
        return self.tables.snapshots()

    def simulate(
        self,
        path: str | Path | None = None,
        *,
        n_employees: int = 15_000,
        n_quarters: int = 1,
        seed: int = 42,
        scenario: str | None = None,
    ) -> Path:
        """Write the extract of a simulated workforce and return its path; not evidence about real people."""
        from pathlib import Path

        from attrition.data.workforce import simulate, write_extract

        frame = simulate(n_employees, n_quarters=n_quarters, seed=seed, scenario=scenario)
        target = Path(path) if path else self._settings.home / "extracts" / f"workforce-{n_employees}-{seed}.csv.gz"
        return write_extract(frame, target)


class Serving:
    """The served application; reached as ``Workspace.serving``."""

    def __init__(self, workspace: Workspace, export: Callable[[str], BundleRef]) -> None:
        self._workspace = workspace
        self._export = export

    def up(
        self,
        ref: str | None = None,
        *,
        config: str | Path = "local",
        replace: bool = False,
        justification: str | None = None,
    ) -> ServeStatus:
        """Serve a registered version over HTTP and return once it answers.

        Parameters
        ----------
        ref
            Version or alias; verified against its manifest before a replica loads it. None keeps the traffic of an
            endpoint that runs, and serves the champion when none does.
        config
            Serve configuration by path or shipped name.
        replace
            Drop the split, pins and shadows of an endpoint that runs.

        Raises
        ------
        UsageError
            The endpoint runs with a split, pins or shadows, and `ref` would replace them.
        NotFound, IntegrityError
            The version does not exist or its bytes changed.
        PortInUse, ServingError, RayUnreachable
            The endpoint cannot be brought up.
        """
        from attrition.cluster import endpoint

        workspace = self._workspace
        with workspace.guard.acting(Action.DEPLOY, "endpoint", justification=justification) as entry:

            def traffic(live: ServedTraffic | None) -> ServedTraffic:
                wanted = endpoint.wanted(live, ref, self._export, replace=replace)
                answering = [variant for variant in wanted.variants if variant.weight]
                entry.model_version = ", ".join(variant.version for variant in answering)
                entry.details["manifest_sha256"] = ", ".join(variant.manifest_sha256 for variant in answering)
                return wanted

            entry.details["config"] = str(config)[-200:]
            return endpoint.up(workspace.settings, traffic, config, actor=entry.actor)

    def require_free_port(self) -> None:
        """Return when nobody listens on the endpoint's port, so that :meth:`up` can take it.

        Raises
        ------
        PortInUse
            Somebody does.
        """
        from attrition.cluster import endpoint

        endpoint.require_free_port(self._workspace.settings)

    def status(self) -> ServeStatus:
        """What is served, by how many replicas, at which addresses."""
        from attrition.cluster import endpoint

        return endpoint.status(self._workspace.settings)

    def down(self, *, justification: str | None = None) -> bool:
        """Stop serving, and the local Ray head if :meth:`up` started it; False when nothing was served."""
        from attrition.cluster import endpoint

        with self._workspace.guard.acting(Action.DEPLOY, "endpoint", justification=justification) as entry:
            entry.details["stopped"] = stopped = endpoint.down(self._workspace.settings)
            return stopped


class Predictions:
    """The log of predictions; reached as ``Workspace.predictions``."""

    def __init__(self, settings: Settings, guard: Guard) -> None:
        from attrition.data.predictions import PredictionTable

        self._settings = settings
        self._guard = guard
        self.table = PredictionTable(settings.tables)

    def tail(self, n: int = 20) -> pd.DataFrame:
        """The last `n` predictions, the oldest of them first; columns as in :mod:`attrition.data.predictions`.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        """
        with self._guard.acting(Action.PREDICTION_VIEW, "predictions", details={"rows": n}):
            return self.table.tail(n)

    def between(self, start: datetime | None = None, end: datetime | None = None) -> pd.DataFrame:
        """Predictions with ``start <= time < end``, in the order of time; a time without a zone is UTC."""
        with self._guard.acting(Action.PREDICTION_VIEW, "predictions") as entry:
            frame = self.table.between(_utc(start), _utc(end))
            entry.details["rows"] = len(frame)
            return frame

    def export(self, path: str | Path, start: datetime | None = None, end: datetime | None = None) -> int:
        """Write the predictions of a period to a ``.parquet`` or ``.csv`` file; how many they are.

        Raises
        ------
        UsageError
            Another suffix, or a place that cannot be written.
        NotFound
            Nothing was logged yet.
        """
        with self._guard.acting(Action.PREDICTION_VIEW, _file("predictions to", path)) as entry:
            entry.details["rows"] = n_rows = self.table.export(path, _utc(start), _utc(end))
            return n_rows

    def recover(self) -> CommitStatus | None:
        """Commit what killed replicas left on this machine; None when the endpoint runs, which does that itself."""
        from attrition.serving.log_commit import commit_orphans

        return commit_orphans(self._settings.home / "spool", self._settings.tables)

    def compact(self, *, today: bool = False) -> Compaction:
        """Merge the small files of the log into few; a node that serves does so each day by itself.

        Parameters
        ----------
        today
            Also those of the current day, UTC. While the endpoint answers, that usually fails: the day still grows.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        PlatformError
            Another process wrote to the same day, or the storage does not answer.
        """
        from datetime import UTC, datetime

        return self.table.compact(None if today else datetime.now(UTC).date())


class Outcomes:
    """Who left, and when; reached as ``Workspace.outcomes``."""

    def __init__(self, workspace: Workspace) -> None:
        from attrition.data.outcomes import OutcomeTable

        self._workspace = workspace
        self.table = OutcomeTable(workspace.settings.tables)

    def load(self, path: str | Path) -> Recorded:
        """Record the outcomes in a CSV or Parquet file; the same file again changes nothing.

        Raises
        ------
        ExtractError
            The file cannot be used; all faults at once.
        """
        from datetime import UTC, datetime

        from attrition.data.outcome_files import read_outcomes
        from attrition.governance.identity import Pseudonymiser

        now = datetime.now(UTC)
        with self._workspace.guard.acting(Action.OUTCOME_IMPORT, _file("outcomes", path)) as entry:
            outcomes = read_outcomes(path, Pseudonymiser(self._workspace.data.key), now=now)
            recorded = self.table.record(outcomes, now=now)
            entry.details |= {"rows": recorded.n_rows, "new": recorded.n_new}
            return recorded

    def compact(self) -> Compaction:
        """Merge the small files of the table into few, see :meth:`Predictions.compact`."""
        return self.table.compact()

    def labels(self, horizon_days: int, *, as_of: datetime) -> pd.DataFrame:
        """Every logged prediction with what became of it; see :func:`attrition.data.maturity.matured_labels`.

        Parameters
        ----------
        horizon_days
            Of the versions that predicted.
        as_of
            Moment up to which outcomes are complete; without a zone it is UTC.
        """
        from attrition.data.maturity import matured_labels

        moment = _utc(as_of)
        assert moment is not None
        predictions = self._workspace.predictions.between(end=moment)
        known = self.table.current(moment)
        return predictions.join(matured_labels(predictions, known, horizon_days=horizon_days, as_of=moment))


def _dataset(tables: Tables, version: int | None) -> Dataset:
    """A stored snapshot with its findings."""
    from attrition.data.dataset import Dataset
    from attrition.data.quality import check_quality

    table, snapshot = tables.read_snapshot(version)
    return Dataset(table, snapshot, tables.quality(snapshot.version) or check_quality(table))


def _file(what: str, path: str | Path) -> str:
    """A file as the subject of an audit event: its name, without what could forge a line of a listing."""
    # an address may hold a secret before its path and behind it
    name = Path(urlsplit(str(path)).path if "://" in str(path) else path).name
    return f"{what} {''.join(c if c.isprintable() else '?' for c in name)}"[:256]


def _utc(moment: datetime | None) -> datetime | None:
    from datetime import UTC

    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _policy(gates: str | Path | None) -> GatePolicy:
    from attrition.evaluation.gates import GatePolicy

    return GatePolicy.default() if gates is None else GatePolicy.load(gates)
