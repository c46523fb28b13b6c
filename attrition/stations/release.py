"""The release of a version under guard: stage, approve, roll out by plan, watch, intervene."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from attrition.cluster.traffic import TrafficControl
from attrition.errors import AttritionError, ConfigError, Fault, NotFound, PlatformError, RayUnreachable, UsageError
from attrition.governance.actions import Action
from attrition.release.rollout import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attrition.governance.guard import Guard
    from attrition.registry.bundle import BundleRef
    from attrition.registry.models import ModelRegistry, ModelVersion
    from attrition.release.rollout import Rollout
    from attrition.release.rollout_evidence import Evidence
    from attrition.release.rollout_store import RolloutStore
    from attrition.release.rollout_traffic import Served
    from attrition.release.staging import Staged
    from attrition.settings import Settings
    from attrition.stations.alerts import Alerts
    from attrition.stations.models import Models
    from attrition.stations.rollout_driver import RolloutDriver

HANDLED_SECONDS = 20.0
"""How long a request waits for the controller that is alive."""


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """A rollout, and who drives it.

    Attributes
    ----------
    rollout : Rollout
    driven_by : str or None
        None: nobody; a rollout that is not over then stands still.
    """

    rollout: Rollout
    driven_by: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {"driven_by": self.driven_by, **self.rollout.to_dict()}


class Release:
    """From a registered version to everybody's; reached as ``Workspace.release``.

    Every method raises ``AccessDenied`` for who may not do it. A `justification` is kept in the audit log.

    Parameters
    ----------
    settings
        Where Ray, the endpoint, the tables and the database are.
    guard
        Of the project.
    registry
        Gives the registry.
    export
        Exports a registered version, by version or alias, and verifies it.
    models
        Approves.
    alerts
        Tells people that a rollout stands still, and how it ended.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        registry: Callable[[], ModelRegistry],
        export: Callable[[str], BundleRef],
        models: Models,
        alerts: Alerts,
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry
        self._export = export
        self._models = models
        self._alerts = alerts

    @cached_property
    def evidence(self) -> Evidence:
        """Where the controller finds what its verdicts rest on."""
        from attrition.release.rollout_evidence import Evidence

        horizon = cache(lambda version: self._registry().load(version).schema.horizon_days)
        return Evidence(self._settings.tables, horizon, self._settings.serve_application)

    @cached_property
    def _store(self) -> RolloutStore:
        from attrition.release.rollout_store import RolloutStore

        self._settings.prepare_home()
        return RolloutStore(self._settings.database_url)

    @cached_property
    def _driver(self) -> RolloutDriver:
        from attrition.stations.rollout_driver import RolloutDriver

        return RolloutDriver(
            self._settings, self._guard, self._registry, self._control, self.evidence, self._alerts, self._store
        )

    def stage(self, ref: str, *, justification: str | None = None) -> Staged:
        """Warm a version beside the others, try it over HTTP, and keep it reachable by a header; it gets no traffic.

        Raises
        ------
        NotFound
            No such version.
        ConfigError
            It did not pass its gates, it answers already, or nothing is served; all faults at once.
        IntegrityError, ServingError
            It cannot be loaded; the traffic is what it was.
        """
        import httpx

        from attrition.governance.credentials import authorization
        from attrition.registry.bundle import load_bundle
        from attrition.release.staging import stage, stage_faults

        with self._guard.acting(
            Action.TRAFFIC_CHANGE, f"release of {ref}", justification=justification, details={"stage": ref}
        ) as entry:
            version = self._registry().resolve(ref).version
            entry.model_version = version
            control = self._control(entry.actor)
            served = _served(control)
            traffic = None if served is None else served.traffic
            faults = stage_faults(version, self._registry().load(version).verdict, traffic)
            if faults:
                raise ConfigError(faults)
            assert served is not None
            bundle = self._export(version)
            entry.details["manifest_sha256"] = bundle.manifest_sha256
            loaded = load_bundle(bundle.uri, bundle.manifest_sha256)
            with httpx.Client(base_url=served.status.url, timeout=30.0, headers=authorization()) as http:
                staged = stage(control, http, version, loaded)
            entry.details["smoke_tests_passed"] = staged.passed
            return staged

    def approve(self, ref: str, *, justification: str) -> ModelVersion:
        """Approve a version for production: what a plan's step with ``approval: true`` waits for.

        The same as ``Workspace.models.approve``.
        """
        return self._models.approve(ref, justification=justification)

    def start(self, ref: str, plan: str | Path = "rollout", *, justification: str | None = None) -> Rollout:
        """Begin the rollout of a staged version; :meth:`run` or :meth:`detach` drives it.

        Raises
        ------
        ConfigError
            The plan cannot be used or asks nobody for an approval where that is demanded; there is no such version, it
            did not pass its gates, is not staged or answers already; a rollout or an experiment is under way; nothing
            is served. All faults at once.
        """
        from attrition.release.rollout import Rollout
        from attrition.release.rollout_plan import RolloutPlan
        from attrition.release.rollout_traffic import weights
        from attrition.release.staging import start_faults

        with self._guard.acting(
            Action.TRAFFIC_CHANGE, f"rollout of {ref}", justification=justification, details={"start": ref}
        ) as entry:
            faults: list[Fault] = []
            loaded, package, version = None, None, ref
            try:
                loaded = RolloutPlan.load(plan)
            except ConfigError as error:
                faults += error.faults
            try:
                version = self._registry().resolve(ref).version
                package = self._registry().load(version)
            except NotFound as error:
                faults += error.faults or [Fault(f"version {ref}", "does not exist any more")]
            served = _served(self._control(entry.actor))
            traffic = None if served is None else served.traffic
            faults += start_faults(
                None if package is None else (version, package.verdict),
                loaded,
                traffic,
                running=self._store.active(),
                experiment=self._experiment(),
                demands_approval=self._demands_approval,
            )
            if faults:
                raise ConfigError(faults)
            assert loaded is not None
            assert traffic is not None
            entry.model_version = version
            (champion,) = weights(traffic)

            def made(number: int) -> Rollout:
                return Rollout(
                    id=number,
                    plan=loaded,
                    champion=champion,
                    challenger=version,
                    experiment_before=traffic.experiment,
                    alias_before=self._champion(),
                    started_by=entry.actor,
                    started_at=datetime.now(UTC),
                )

            begun = self._store.begin(made)
            entry.details |= {"rollout": begun.id, "champion": champion, "steps": [s.title for s in loaded.steps]}
            return begun

    def run(self, on_change: Callable[[Rollout], None] = lambda _: None) -> RolloutStatus:
        """Drive the rollout that is under way to its end, also one whose controller was killed.

        Parameters
        ----------
        on_change
            Called with the rollout whenever something about it has changed.

        Raises
        ------
        NotFound
            No rollout was started.
        UsageError
            Another controller drives it.
        LeaseLost
            Another controller has taken over.
        """
        self._guard.require(Action.PROMOTE, "rollout")  # what the plan may end with
        with self._driver.controller() as controller:
            return RolloutStatus(controller.run(on_change), None)

    def detach(self) -> str:
        """Have the rollout driven on the Ray cluster that serves, by an actor that Ray starts again when it dies.

        Returns
        -------
        str
            Name of the actor.

        Raises
        ------
        RayUnreachable
            There is no cluster that outlives this process.
        NotAuthenticated, AccessDenied
            Access is closed, and the cluster's processes have no key, or one that may not promote.
        PlatformError
            The actor does not drive the rollout.
        """
        from attrition.stations.rollout_actor import start_actor

        self._guard.require(Action.TRAFFIC_CHANGE, "rollout")
        name = start_actor(self._settings)
        deadline = time.monotonic() + HANDLED_SECONDS
        while self._store.holder() is None and (rollout := self._store.active()) is not None:
            if time.monotonic() > deadline:
                found = f"the actor {name} does not drive it after {HANDLED_SECONDS:.0f} s"
                raise PlatformError(
                    Fault(f"rollout {rollout.id}", found, rollout.trouble, "drive it here: attrition release run")
                )
            time.sleep(0.1)
        return name

    def status(self) -> RolloutStatus:
        """The rollout that is under way, or the last one.

        Raises
        ------
        NotFound
            There was none yet.
        """
        self._guard.require(Action.TRAFFIC_VIEW, "rollout")
        return RolloutStatus(self._store.latest(), self._store.holder())

    def pause(self, *, justification: str | None = None) -> RolloutStatus:
        """Have the rollout stand still; the guard and evidence of harm are acted on all the same."""
        return self._ask(Command.PAUSE, Action.TRAFFIC_CHANGE, justification)

    def resume(self, *, justification: str | None = None) -> RolloutStatus:
        """Go on with a rollout that was paused."""
        return self._ask(Command.RESUME, Action.TRAFFIC_CHANGE, justification)

    def promote(self, *, justification: str | None = None) -> RolloutStatus:
        """Skip what is left of the plan: the challenger becomes the champion now.

        Raises
        ------
        UsageError
            The plan asks for an approval, and nobody approved the version.
        """
        return self._ask(Command.PROMOTE, Action.PROMOTE, justification)

    def rollback(self, *, justification: str | None = None) -> RolloutStatus:
        """Give the champion everything back and end the rollout, whether or not a controller is alive."""
        return self._ask(Command.ROLLBACK, Action.ROLLBACK, justification)

    def _ask(self, command: Command, action: Action, justification: str | None) -> RolloutStatus:
        """Leave a request for the controller, or deal with it when there is none."""
        with self._guard.acting(
            action, "rollout", justification=justification, details={"asked": str(command)}
        ) as entry:
            running = self._running()
            entry.details["rollout"] = running.id
            entry.model_version = running.challenger
            if command is Command.PROMOTE:
                self._require_approval(running)
            number = self._store.ask(running, command, entry.actor, justification or "")
            deadline = time.monotonic() + HANDLED_SECONDS
            while self._is_open(running, number):
                if self._store.holder() is None:
                    with contextlib.suppress(UsageError), self._driver.controller(patience_seconds=0.0) as controller:
                        controller.tick()
                if time.monotonic() > deadline:
                    latest = self._store.latest()
                    found = f"did not {command} within {HANDLED_SECONDS:.0f} s"
                    raise PlatformError(
                        Fault(f"rollout {running.id}", found, latest.trouble, "attrition release status")
                    )
                time.sleep(0.1)
            return RolloutStatus(self._store.latest(), self._store.holder())

    def _is_open(self, rollout: Rollout, request: int) -> bool:
        """Whether a request is still to be dealt with: not when the rollout has ended, whatever ended it."""
        is_handled = self._store.is_handled(request)
        active = self._store.active()
        return active is not None and active.id == rollout.id and not (is_handled and active.intent is None)

    def _require_approval(self, running: Rollout) -> None:
        version = running.challenger
        if running.plan.asks_approval and not self._registry().resolve(version).approval:
            remedy = f"attrition release approve {version} --justification TEXT"
            raise UsageError(Fault(f"version {version}", "is not approved, which the plan asks for", "", remedy))

    def _running(self) -> Rollout:
        running = self._store.active()
        if running is None:
            raise UsageError(Fault("rollout", "none is under way", remedy="see attrition release status"))
        return running

    @property
    def _demands_approval(self) -> bool:
        """Whether nobody alone may bring a version to everybody: where people are told apart, under four eyes."""
        return self._settings.access == "closed" and self._guard.config.policy.four_eyes

    def _experiment(self) -> str | None:
        """Name of the experiment that runs."""
        from attrition.experiments.records import ExperimentRecords

        records = ExperimentRecords(self._settings.database_url).list()
        return next((each.plan.name for each in records if each.running), None)

    def _champion(self) -> str | None:
        try:
            return self._registry().resolve("champion").version
        except NotFound:
            return None

    def _control(self, actor: str) -> TrafficControl:
        return TrafficControl(self._settings, self._export, actor=actor)


def staged_by(release: Callable[[], Release]) -> Callable[[str], str]:
    """Function that stages a version where something is served, and says in a sentence what became of it.

    For whoever must not fail when a version that is good cannot be staged, such as a retraining.

    Parameters
    ----------
    release
        Gives the station.
    """

    def stage(version: str) -> str:
        try:
            staged = release().stage(version)
        except AttritionError as error:
            return f"not staged: {error}"
        if not staged.passed:
            return f"not staged, as it failed its smoke tests: {staged.report}"
        return f"staged without traffic; reached by the request header {staged.header}: {staged.value}"

    return stage


def _served(control: TrafficControl) -> Served | None:
    """What is served; None when nothing is."""
    from attrition.errors import ServingError

    try:
        return control.show()
    except RayUnreachable:
        raise
    except ServingError:
        return None
