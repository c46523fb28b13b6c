"""The Python SDK: one project's data, searches, model versions and endpoint behind a single object.

::

    ws = Workspace()                                  # embedded: everything under ./.attrition
    ws.data.load("hr.csv", mapping="hr_comma_sep")    # checked, pseudonymised, stored as a snapshot
    run = ws.tune("default")                          # Ray Tune, gates, MLflow
    version = ws.models.register(run.run_id)          # 1.0.0
    ws.serving.up(version.version)                    # Ray Serve
    ws.traffic.set({"1.0.0": 70, "1.1.0": 30})        # split between versions
    ws.client().predict(frame)                        # a DataFrame back

The Workspace composes the packages and adds no logic of its own. Every method has its command: ``attrition --help``.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrition.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Self

    from attrition.client import Client
    from attrition.cluster.session import RaySession
    from attrition.cluster.traffic import TrafficControl
    from attrition.data.dataset import Dataset
    from attrition.data.extracts import Extract
    from attrition.data.findings import QualityReport
    from attrition.data.tables import SnapshotRef, Tables
    from attrition.evaluation.gates import GatePolicy
    from attrition.governance.privacy import PseudonymKey
    from attrition.registry.admission import JudgedRun, Judgement
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.serving.control import ServeStatus
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

        return ModelRegistry(self.settings)

    @cached_property
    def serving(self) -> Serving:
        """The HTTP endpoint on Ray Serve."""
        return Serving(self)

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

    def _ray_for_search(self, on_step: Callable[[str], None] | None) -> None:
        if on_step is not None:
            on_step("Starting Ray")
        self.ray()
        if on_step is not None:
            on_step("Searching")

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
        from attrition.registry import admission
        from attrition.training.plan import SearchPlan

        search_plan, policy = SearchPlan.load(plan), _policy(gates)
        dataset = self.data.read(snapshot)
        self._ray_for_search(on_step)
        return admission.tune(
            self.models, self.settings, dataset, search_plan, policy, on_trial=on_trial, on_step=on_step, resume=resume
        )

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
        from attrition.registry import admission
        from attrition.training.baseline import BASELINE
        from attrition.training.plan import SearchPlan

        if family is None:
            family, defaults = BASELINE
            parameters = {**defaults, **(parameters or {})}
        return admission.train(
            self.models,
            self.settings,
            self.data.read(snapshot),
            SearchPlan.load(plan),
            _policy(gates),
            family=family,
            parameters=parameters or {},
            on_step=on_step,
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
        from attrition.registry import admission

        policy = _policy(gates).with_overrides(
            min_auc=min_auc, min_accuracy=min_accuracy, bias_threshold=bias_threshold, check_fairness=check_fairness
        )
        return admission.validate(self.models, self.data.read, ref, policy)

    def unchanged(self, plan: str | Path = "default", *, snapshot: int | None = None) -> ModelVersion | None:
        """The version that a run of `plan` would reproduce (same data, plan and code), or None."""
        from attrition.registry import admission
        from attrition.training.plan import SearchPlan

        lineage, _ = admission.plan_lineage(self.data.read(snapshot), SearchPlan.load(plan))
        return self.models.by_fingerprint(lineage.fingerprint)

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

        return Tables(self._settings.tables)

    @cached_property
    def key(self) -> PseudonymKey:
        """The key that turns employee ids into pseudonyms; created on first use."""
        from attrition.governance.privacy import PseudonymKey

        assert self._settings.key_file is not None  # Settings.from_environment resolves it
        return PseudonymKey.load_or_create(self._settings.key_file)

    def extract(self, path: str | Path, mapping: str | Path | None = None) -> Extract:
        """Read a CSV, CSV.gz or Parquet extract into an employee table; nothing is stored.

        Raises
        ------
        ExtractError, ConfigError, InsufficientData
            With every fault of the file and its mapping.
        """
        from attrition.data.extracts import read_extract

        return read_extract(path, mapping, self.key)

    def check(self, path: str | Path, mapping: str | Path | None = None) -> QualityReport:
        """Every quality finding of an extract; nothing is stored."""
        from attrition.data.quality import check_quality

        return check_quality(self.extract(path, mapping))

    def load(self, path: str | Path, mapping: str | Path | None = None) -> Dataset:
        """Read, check and repair an extract, and store it as a snapshot.

        The same content again yields the existing snapshot.
        """
        from attrition.data.dataset import Dataset
        from attrition.data.quality import check_quality, repair

        extract = self.extract(path, mapping)
        report = check_quality(extract)
        table = repair(extract.table, report)
        return Dataset(table, self.tables.write_snapshot(table, report), report)

    def read(self, version: int | None = None) -> Dataset:
        """A stored snapshot, the latest when `version` is None.

        Raises
        ------
        NotFound
            Nothing is stored, or not this version.
        """
        from attrition.data.dataset import Dataset
        from attrition.data.findings import QualityReport

        table, snapshot = self.tables.read_snapshot(version)
        return Dataset(table, snapshot, self.tables.quality(snapshot.version) or QualityReport((), len(table)))

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
        from attrition.serving.traffic import Traffic

        bundle = self._workspace.models.export_bundle(ref)
        traffic = Traffic.single(bundle.version, bundle.uri, bundle.manifest_sha256)
        return endpoint.up(self._workspace.settings, traffic, config)

    def status(self) -> ServeStatus:
        """What is served, by how many replicas, at which addresses."""
        from attrition.cluster import endpoint

        return endpoint.status(self._workspace.settings)

    def down(self) -> bool:
        """Stop serving, and the local Ray head if :meth:`up` started it; False when nothing was served."""
        from attrition.cluster import endpoint

        return endpoint.down(self._workspace.settings)


def _policy(gates: str | Path | None) -> GatePolicy:
    from attrition.evaluation.gates import GatePolicy

    return GatePolicy.default() if gates is None else GatePolicy.load(gates)
