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
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from attrition.settings import Settings
from attrition.stations.explanations import Explanations
from attrition.stations.scoring import Scoring
from attrition.stations.training import Training

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Concatenate, Self

    from attrition.admission.runs import Hooks
    from attrition.client import Client
    from attrition.cluster.session import RaySession
    from attrition.data.scenarios import Scenario
    from attrition.governance.guard import Guard
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import ModelRegistry
    from attrition.retraining.policy import RetrainingPolicy
    from attrition.retraining.simulation_report import Quarter, SimulationReport
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

P = ParamSpec("P")
Result = TypeVar("Result")
Station = TypeVar("Station")


def _of(
    station: Callable[[Workspace], Station], method: Callable[Concatenate[Station, P], Result]
) -> Callable[Concatenate[Workspace, P], Result]:
    """A station's method as one of the Workspace, with its signature and documentation."""

    @wraps(method)
    def call(self: Workspace, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return method(station(self), *args, **kwargs)

    return call


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
            sign=self._training.signed,
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

        return Release(self.settings, self.guard, lambda: self._registry, self._export, self.models, self.alerts)

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

    def close(self) -> None:
        """Close the clients and the audit log, leave or stop the Ray session. Harmless when repeated."""
        self._open.close()
        self.guard.close()
        self._session = None

    @cached_property
    def _training(self) -> Training:
        return Training(
            self.settings, self.guard, lambda: self._registry, lambda: self.data.tables, self._ray_for_search
        )

    tune = _of(lambda self: self._training, Training.tune)
    train = _of(lambda self: self._training, Training.train)
    validate = _of(lambda self: self._training, Training.validate)
    unchanged = _of(lambda self: self._training, Training.unchanged)

    @cached_property
    def _scoring(self) -> Scoring:
        return Scoring(self.settings, self.guard, self._export, lambda: self.data.key, self.ray)

    score = _of(lambda self: self._scoring, Scoring.score)

    @cached_property
    def _explanations(self) -> Explanations:
        return Explanations(self.settings, self.guard, lambda: self._registry)

    explain = _of(lambda self: self._explanations, Explanations.explain)
    explain_global = _of(lambda self: self._explanations, Explanations.explain_global)

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
