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
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, UsageError
from attrition.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Self

    import pandas as pd

    from attrition.admission.judging import Judgement
    from attrition.admission.runs import Hooks, JudgedRun
    from attrition.client import Client
    from attrition.cluster.session import RaySession
    from attrition.cluster.traffic import TrafficControl
    from attrition.data.dataset import Dataset
    from attrition.data.erasure import Erasure, PersonRecords
    from attrition.data.extracts import Extract
    from attrition.data.findings import QualityReport
    from attrition.data.holdings import PersonReport
    from attrition.data.outcomes import Recorded
    from attrition.data.retention import Retained, RetentionPolicy
    from attrition.data.tables import SnapshotRef, Tables
    from attrition.evaluation.gates import GatePolicy
    from attrition.governance.persons import PersonKeys
    from attrition.governance.privacy import PseudonymKey
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.serving.batch import BatchResult, Progress
    from attrition.serving.batch_ids import Ids
    from attrition.serving.control import ServeStatus
    from attrition.serving.log_commit import CommitStatus
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
        return Data(self.settings)

    @cached_property
    def models(self) -> ModelRegistry:
        """Model versions in MLflow: register, list, show, compare, verify, load."""
        from attrition.registry.models import ModelRegistry

        self.settings.prepare_home()
        return ModelRegistry(self.settings)

    @cached_property
    def serving(self) -> Serving:
        """The HTTP endpoint on Ray Serve."""
        return Serving(self)

    @cached_property
    def predictions(self) -> Predictions:
        """What the endpoint answered."""
        return Predictions(self.settings)

    @cached_property
    def outcomes(self) -> Outcomes:
        """Who left, and when."""
        return Outcomes(self)

    @cached_property
    def privacy(self) -> Privacy:
        """What is held about a person, its erasure, and retention."""
        return Privacy(self)

    @cached_property
    def traffic(self) -> TrafficControl:
        """The split between served versions: show, set, pin, shadow, switch, rollback, history."""
        from attrition.cluster.traffic import TrafficControl

        def export(ref: str) -> BundleRef:
            return self.models.export_bundle(ref)  # the registry is opened only for a version that is not served yet

        return TrafficControl(self.settings, export)

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
        """Close the clients, leave or stop the Ray session; the stores need no closing. Harmless when repeated."""
        self._open.close()
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
        dataset = self.data.read(snapshot)
        hooks = runs.Hooks(on_trial, on_step)
        probe(self.settings)  # a server that does not answer must not cost the start of a Ray first
        self._ray_for_search(hooks)
        return runs.tune(self.models, self.settings, dataset, search_plan, policy, hooks=hooks, resume=resume)

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
        return runs.train(
            self.models,
            self.settings,
            self.data.read(snapshot),
            SearchPlan.load(plan),
            _policy(gates),
            family=family,
            parameters=parameters or {},
            hooks=runs.Hooks(on_step=on_step),
        )

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
        return runs.validate(self.models, self.data.read, ref, policy)

    def unchanged(self, plan: str | Path = "default", *, snapshot: int | None = None) -> ModelVersion | None:
        """The version that a run of `plan` would reproduce (same data, plan and code), or None.

        Data from which persons were erased since count as the same: an erasure is no reason to retrain.
        """
        from attrition.admission import runs
        from attrition.training.plan import SearchPlan

        return runs.reproduced(self.models, self.data.read(snapshot), SearchPlan.load(plan))

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
            CSV, CSV.gz, Parquet, a folder of one of them, or a Delta table.
        target
            ``.csv``, ``.csv.gz`` and ``.parquet`` name one file; anything else a folder of Parquet files.
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

        batch = plan_batch(
            source,
            target,
            self.models.export_bundle(ref),
            self.data.key,
            mapping=None if mapping is None else load_mapping(mapping),
            keep=keep,
            ids=ids,
            as_delta=as_delta,
            table_version=table_version,
        )
        execute = batch_execution.in_process
        if not batch.small:
            self.ray()
            execute = batch_execution.on_ray
        return run_batch(batch, execute, overwrite=overwrite, on_progress=on_progress)

    def client(self, url: str | None = None) -> Client:
        """An HTTP client of the endpoint, closed with this workspace."""
        from attrition.client import Client

        return self._open.enter_context(Client(url or self.settings.serve_url))


class Data:
    """Extracts in, snapshots out; reached as ``Workspace.data``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

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

        extract = self.extract(path, mapping, schema=schema)
        extract = extract.take(~self.tables.erased_rows(extract.table))
        report = check_quality(extract)
        table = repair(extract.table, report)
        snapshot = self.tables.write_snapshot(table, report)
        if snapshot.n_rows < len(table):  # somebody was erased at this very moment
            table = self.tables.without_erased(table)
        return Dataset(table, snapshot, report)

    def read(self, version: int | None = None) -> Dataset:
        """A stored snapshot, the latest when `version` is None.

        Raises
        ------
        NotFound
            Nothing is stored, or not this version.
        """
        from attrition.data.dataset import Dataset
        from attrition.data.quality import check_quality

        table, snapshot = self.tables.read_snapshot(version)
        return Dataset(table, snapshot, self.tables.quality(snapshot.version) or check_quality(table))

    def snapshots(self) -> list[SnapshotRef]:
        """Every stored snapshot, oldest first."""
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

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def up(self, ref: str = "champion", *, config: str | Path = "local") -> ServeStatus:
        """Serve a registered version over HTTP and return once it answers.

        Parameters
        ----------
        ref
            Version or alias; verified against its manifest before a replica loads it.
        config
            Serve configuration by path or shipped name.

        Raises
        ------
        NotFound, IntegrityError
            The version does not exist or its bytes changed.
        PortInUse, ServingError, RayUnreachable
            The endpoint cannot be brought up.
        """
        from attrition.cluster import endpoint
        from attrition.serving.traffic import single_variant

        bundle = self._workspace.models.export_bundle(ref)
        return endpoint.up(self._workspace.settings, single_variant(bundle), config)

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

    def down(self) -> bool:
        """Stop serving, and the local Ray head if :meth:`up` started it; False when nothing was served."""
        from attrition.cluster import endpoint

        return endpoint.down(self._workspace.settings)


class Predictions:
    """The log of predictions; reached as ``Workspace.predictions``."""

    def __init__(self, settings: Settings) -> None:
        from attrition.data.predictions import PredictionTable

        self._settings = settings
        self.table = PredictionTable(settings.tables)

    def tail(self, n: int = 20) -> pd.DataFrame:
        """The last `n` predictions, the oldest of them first; columns as in :mod:`attrition.data.predictions`.

        Raises
        ------
        NotFound
            Nothing was logged yet.
        """
        return self.table.tail(n)

    def between(self, start: datetime | None = None, end: datetime | None = None) -> pd.DataFrame:
        """Predictions with ``start <= time < end``, in the order of time; a time without a zone is UTC."""
        return self.table.between(_utc(start), _utc(end))

    def export(self, path: str | Path, start: datetime | None = None, end: datetime | None = None) -> int:
        """Write the predictions of a period to a ``.parquet`` or ``.csv`` file; how many they are.

        Raises
        ------
        UsageError
            Another suffix, or a place that cannot be written.
        NotFound
            Nothing was logged yet.
        """
        return self.table.export(path, _utc(start), _utc(end))

    def recover(self) -> CommitStatus | None:
        """Commit what killed replicas left on this machine; None when the endpoint runs, which does that itself."""
        from attrition.serving.log_commit import commit_orphans

        return commit_orphans(self._settings.home / "spool", self._settings.tables)


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
        return self.table.record(read_outcomes(path, Pseudonymiser(self._workspace.data.key), now=now), now=now)

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


class Privacy:
    """What is held about persons, and its end; reached as ``Workspace.privacy``.

    A person is named by the HR system's number, or by the pseudonym with ``is_pseudonym=True``.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def report(self, employee: str, *, is_pseudonym: bool = False, values_to: str | Path | None = None) -> PersonReport:
        """What is held about a person, where, and since when; without the values.

        Parameters
        ----------
        values_to
            File to write the values to as well, as JSON, readable by its owner alone: what the person is entitled to.

        Raises
        ------
        NotFound
            Nothing is held.
        UsageError
            No id, or `values_to` exists or cannot be written.
        PlatformError
            A store does not answer: an incomplete report would be a wrong one.
        """
        from pathlib import Path

        from attrition.data.holdings import export_values

        records = self._records(_retention_policy(None))
        report = records.report(self.pseudonym(employee, is_pseudonym=is_pseudonym))
        if values_to is not None:
            export_values(records.stores, report, Path(values_to))
        return report

    def erase(
        self, employee: str, *, justification: str, is_pseudonym: bool = False, policy: str | Path | None = None
    ) -> Erasure:
        """Remove a person from all stores and destroy the personal key; repeat an interrupted call to finish it.

        Parameters
        ----------
        justification
            Why; for the audit log, so it must not name the person.
        policy
            YAML file of a :class:`~attrition.data.retention.RetentionPolicy`; says for how long old files stay.

        Raises
        ------
        NotFound
            Nothing is held.
        UsageError
            No id, or no justification.
        PlatformError
            A store does not answer; what was removed by then stays removed.
        """
        from datetime import UTC, datetime

        if not justification.strip():
            raise UsageError(Fault("justification", "is empty", "", "say why, without naming the person"))
        pseudonym = self.pseudonym(employee, is_pseudonym=is_pseudonym)
        return self._records(_retention_policy(policy)).erase(pseudonym, now=datetime.now(UTC))

    def retain(self, *, policy: str | Path | None = None, dry_run: bool = False) -> Retained:
        """Remove what is past its retention; made for a schedule.

        Parameters
        ----------
        policy
            YAML file of a :class:`~attrition.data.retention.RetentionPolicy`; the default one when None.
        dry_run
            Count, and change nothing.

        Raises
        ------
        ConfigError
            The policy cannot be used.
        PlatformError
            A store does not answer.
        """
        from datetime import UTC, datetime

        from attrition.data.person_tables import SnapshotStore
        from attrition.data.retention import Retention
        from attrition.training.samples import SampleStore

        settings, tables, rules = self._workspace.settings, self._workspace.data.tables, _retention_policy(policy)
        retention = Retention(tables, settings.tables, rules, SnapshotStore(tables, rules), SampleStore(settings))
        return retention.apply(now=datetime.now(UTC), dry_run=dry_run)

    def subject(self, employee: str, *, is_pseudonym: bool = False) -> str:
        """What stands for a person in the audit log: a token, or a word for a person of whom nothing is held."""
        pseudonym = self.pseudonym(employee, is_pseudonym=is_pseudonym)
        return self._records(_retention_policy(None)).subject(pseudonym)

    def pseudonym(self, employee: str, *, is_pseudonym: bool = False) -> str:
        """The pseudonym of a person.

        Raises
        ------
        UsageError
            No id, or a pseudonym that has not the form of one. The message does not repeat it.
        ConfigError
            There is no pseudonym key yet, so nobody can be on record by a number.
        """
        from attrition.governance.identity import existing_key
        from attrition.governance.identity import is_pseudonym as has_form

        text = employee.strip()
        if not text:
            raise UsageError(Fault("employee", "is empty", "the id of one person is needed"))
        if is_pseudonym:
            if not has_form(text):
                raise UsageError(Fault("employee", "is no pseudonym", "32 hexadecimal digits in lower case"))
            return text
        assert self._workspace.settings.key_file is not None  # Settings.from_environment resolves it
        return existing_key(self._workspace.settings.key_file).pseudonym(text)

    @cached_property
    def keys(self) -> PersonKeys:
        """The personal keys."""
        from attrition.governance.persons import PersonKeys

        self._workspace.settings.prepare_home()
        return PersonKeys.open(self._workspace.settings.person_keys_url)

    def _records(self, policy: RetentionPolicy) -> PersonRecords:
        from attrition.data.erasure import PersonRecords
        from attrition.data.person_tables import person_tables
        from attrition.serving.spooled_persons import SpoolStore
        from attrition.training.samples import SampleStore

        settings, tables = self._workspace.settings, self._workspace.data.tables
        # spools first, as they flow into tables; snapshots last, as models point at them
        stores = [
            SpoolStore(settings.home / "spool", settings.tables),
            SampleStore(settings),
            *person_tables(tables, settings.tables, policy),
        ]
        return PersonRecords(stores, tables.tombstones, self.keys)


def _retention_policy(path: str | Path | None) -> RetentionPolicy:
    from pathlib import Path

    from attrition.data.retention import RetentionPolicy

    return RetentionPolicy.load(None if path is None else Path(path))


def _utc(moment: datetime | None) -> datetime | None:
    from datetime import UTC

    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _policy(gates: str | Path | None) -> GatePolicy:
    from attrition.evaluation.gates import GatePolicy

    return GatePolicy.default() if gates is None else GatePolicy.load(gates)
