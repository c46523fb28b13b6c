"""Experiments under guard: a challenger beside the control, looked at as often as one likes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, UsageError
from attrition.governance.actions import Action

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from attrition.experiments.expectation import Expectation
    from attrition.experiments.plan import Design, ExperimentPlan
    from attrition.experiments.planning import Size
    from attrition.experiments.records import Experiment, ExperimentRecords
    from attrition.experiments.samples import Samples
    from attrition.experiments.verdict import Analysis
    from attrition.governance.guard import Guard
    from attrition.registry.models import ModelRegistry
    from attrition.settings import Settings
    from attrition.stations.traffic import Traffic

SUBJECT = "experiments"


@dataclass(frozen=True, slots=True)
class Look:
    """A look at an experiment.

    Attributes
    ----------
    analysis : Analysis
    number : int
        From 0, among the looks of the experiment.
    run_id : str
        Run of MLflow that shows it.
    """

    analysis: Analysis
    number: int
    run_id: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return {**self.analysis.to_dict(), "look": self.number, "run_id": self.run_id}


class Experiments:
    """Experiments; reached as ``Workspace.experiments``.

    Every method raises ``AccessDenied`` for who may not do it, and ``PlatformError`` when the database, the tables or
    MLflow do not answer.

    Parameters
    ----------
    settings
        Where the tables, the database, MLflow and Prometheus are.
    guard
        Of the project.
    registry
        Gives the registry; asked only after the guard.
    traffic
        Gives the station that changes the traffic, with its own permission.
    """

    def __init__(
        self,
        settings: Settings,
        guard: Guard,
        registry: Callable[[], ModelRegistry],
        traffic: Callable[[], Traffic],
    ) -> None:
        self._settings = settings
        self._guard = guard
        self._registry = registry
        self._traffic = traffic

    def plan(
        self,
        expectations: Sequence[Expectation] | None = None,
        *,
        design: Design | None = None,
        **assumptions: Any,
    ) -> tuple[Size, ...]:
        """How many records an experiment would need until each metric is decided; changes and reads nothing.

        Parameters
        ----------
        expectations
            None is the published case.
        design
            None is both: a split, then a shadow with the metrics that it has.
        **assumptions
            Of :func:`attrition.experiments.planning.plan_sizes`: share, alpha, leave_rate, correlation, per_day ...

        Raises
        ------
        UsageError
            A figure outside its range, or nothing that the design could show.
        """
        from attrition.experiments.expectation import PUBLISHED
        from attrition.experiments.plan import Design
        from attrition.experiments.planning import plan_sizes

        wanted = expectations or PUBLISHED
        designs = list(Design) if design is None else [design]
        sizes = tuple(size for each in designs for size in plan_sizes(wanted, design=each, **assumptions))
        if not sizes:
            raise UsageError(Fault("a shadow", "has no latency of its own", "", "plan a split"))
        return sizes

    def start(
        self,
        plan: ExperimentPlan | str | Path,
        *,
        name: str | None = None,
        change_traffic: bool = True,
        justification: str | None = None,
        now: datetime | None = None,
    ) -> Experiment:
        """Begin an experiment: give both versions their part of the traffic, and record it.

        Parameters
        ----------
        plan
            Also as YAML file of an :class:`~attrition.experiments.plan.ExperimentPlan`, by path or by the name of the
            shipped one, ``experiment``.
        name
            Instead of the plan's, to run the same plan again: people are assigned anew for a new name.
        change_traffic
            Set the weights, or the shadow, of the plan; otherwise somebody else does, such as a rollout.

        Raises
        ------
        ConfigError
            The plan cannot be used; every fault is named.
        NotFound
            A version does not exist.
        UsageError
            An experiment runs, there was one of this name, the versions predict different horizons, or the traffic is
            to change and a rollout has it.
        ServingError
            Nothing is served, or a version cannot be loaded; nothing was begun.
        """
        from attrition.experiments import tracking
        from attrition.experiments.plan import ExperimentPlan

        wanted = plan if isinstance(plan, ExperimentPlan) else ExperimentPlan.load(plan)
        if name is not None:
            wanted = wanted.renamed(name)
        subject = f"experiment {wanted.name}"
        with self._guard.acting(Action.EXPERIMENT, subject, justification=justification) as entry:
            if change_traffic:
                self._require_free_traffic(wanted.name)
            fixed = self._with_versions(wanted)
            entry.model_version = f"{fixed.control}, {fixed.challenger}"
            entry.details |= {"started": True, "design": str(fixed.design), "alpha": fixed.alpha}
            self._horizon_days(fixed)
            records = self._records()
            records.start(fixed, actor=entry.actor, now=now or datetime.now(UTC))
            run_id = ""
            try:
                run_id = tracking.begin_run(self._settings, fixed)
                records.set_run(fixed.name, run_id)
                if change_traffic:  # last: it is not taken back
                    self._give_traffic(fixed, justification)
            except BaseException:
                try:
                    if run_id:
                        tracking.end_run(self._settings, run_id, "FAILED")
                finally:
                    records.discard(fixed.name)
                raise
            return records.get(fixed.name)

    def status(self, name: str | None = None) -> Experiment:
        """An experiment with its looks so far; None is the running one, or the last one.

        Raises
        ------
        NotFound
            There is none.
        """
        self._guard.require(Action.EXPERIMENT, SUBJECT)
        return self._records().get(name)

    def list(self) -> builtins.list[Experiment]:
        """Every experiment, oldest first, without its looks."""
        self._guard.require(Action.EXPERIMENT, SUBJECT)
        return list(self._records().list())

    def analyze(self, name: str | None = None, *, now: datetime | None = None) -> Look:
        """Look at an experiment now: read its samples, judge them, store the look and log it to MLflow.

        May be repeated as often as one likes, also after the experiment was stopped, as labels mature late.

        Raises
        ------
        NotFound
            There is no experiment.
        """
        from attrition.experiments import tracking
        from attrition.experiments.experiment_page import experiment_page
        from attrition.experiments.verdict import judge

        present = now or datetime.now(UTC)
        with self._guard.acting(Action.EXPERIMENT, SUBJECT if name is None else f"experiment {name[:63]}") as entry:
            records = self._records()
            experiment = records.get(name)
            plan = experiment.plan
            entry.model_version = f"{plan.control}, {plan.challenger}"
            analysis = judge(plan, self._samples(experiment, present))
            document = analysis.to_dict()
            number = records.add_look(plan.name, document)
            page = experiment_page(plan, (*experiment.looks, document))
            tracking.log_look(self._settings, experiment.run_id, number, analysis, page)
            entry.details |= {
                "experiment": plan.name,
                "look": number,
                "verdict": str(analysis.verdict),
                "standings": {str(each.metric): str(each.standing) for each in analysis.metrics},
            }
            return Look(analysis, number, experiment.run_id)

    def page(self, name: str | None = None) -> str:
        """The report of the last look as one HTML page, with every interval over time.

        Raises
        ------
        NotFound
            There is no experiment.
        UsageError
            Nobody has looked at it yet.
        """
        from attrition.experiments.experiment_page import experiment_page

        experiment = self.status(name)
        if not experiment.looks:
            name = experiment.plan.name
            raise UsageError(
                Fault(f"experiment {name}", "nobody has looked at it yet", "", f"attrition experiment analyze {name}")
            )
        return experiment_page(experiment.plan, experiment.looks)

    def stop(
        self, name: str | None = None, *, justification: str | None = None, now: datetime | None = None
    ) -> Experiment:
        """End an experiment; the traffic stays as it is, and looks stay possible.

        Raises
        ------
        NotFound
            There is no experiment.
        UsageError
            It was stopped before.
        """
        from attrition.experiments import tracking

        subject = SUBJECT if name is None else f"experiment {name[:63]}"
        with self._guard.acting(Action.EXPERIMENT, subject, justification=justification) as entry:
            records = self._records()
            experiment = records.get(name)
            plan = experiment.plan
            entry.model_version = f"{plan.control}, {plan.challenger}"
            entry.details |= {"experiment": plan.name, "stopped": True, "verdict": experiment.verdict or None}
            stopped = records.stop(plan.name, now or datetime.now(UTC))
            run_id = experiment.run_id
            # a stop that MLflow did not answer is finished by the next one
            is_open = bool(run_id) and (stopped or not tracking.has_ended(self._settings, run_id))
            if not stopped and not is_open:
                raise UsageError(
                    Fault(f"experiment {plan.name}", "was stopped before", "", "attrition experiment list")
                )
            if is_open:
                tracking.end_run(self._settings, run_id)
            return records.get(plan.name)

    def _require_free_traffic(self, name: str) -> None:
        """Return when no rollout is under way: other weights would pause it."""
        from attrition.release.rollout_store import RolloutStore

        self._settings.prepare_home()
        rollout = RolloutStore(self._settings.database_url).active()
        if rollout is not None:
            found = f"rollout {rollout.id} of {rollout.challenger} has the traffic"
            remedy = "wait for it, end it by attrition release rollback, or only watch: --keep-traffic"
            raise UsageError(Fault(f"experiment {name}", found, "", remedy))

    def _with_versions(self, plan: ExperimentPlan) -> ExperimentPlan:
        control, challenger = (self._registry().resolve(ref).version for ref in (plan.control, plan.challenger))
        if control == challenger:
            found = f"{plan.control} and {plan.challenger} are both version {control}"
            raise UsageError(Fault(f"experiment {plan.name}", found, "two versions are compared"))
        return plan.model_copy(update={"control": control, "challenger": challenger})

    def _horizon_days(self, plan: ExperimentPlan) -> int:
        """Of both versions: what they say about the same person must be about the same time."""
        one, other = (self._registry().load(ref).schema.horizon_days for ref in (plan.control, plan.challenger))
        if one != other:
            found = f"{plan.control} predicts {one} days and {plan.challenger} {other}"
            raise UsageError(Fault(f"experiment {plan.name}", found, "their errors cannot be compared"))
        return one

    def _give_traffic(self, plan: ExperimentPlan, justification: str | None) -> None:
        from attrition.experiments.plan import Design

        traffic = self._traffic()
        if plan.design is Design.SHADOW:
            traffic.shadow([plan.challenger], justification=justification)
        else:
            share = plan.weights.share
            weights = {plan.control: 1.0 - share, plan.challenger: share}
            traffic.set(weights, experiment=plan.name, justification=justification)

    def _samples(self, experiment: Experiment, now: datetime) -> Samples:
        from dataclasses import replace

        from attrition.data.outcomes import OutcomeTable, complete_until
        from attrition.experiments.collection import Outcomes, collect
        from attrition.experiments.epochs import find_spans
        from attrition.experiments.prometheus import Prometheus
        from attrition.serving.traffic_history import TrafficHistory

        settings, plan = self._settings, experiment.plan
        until = now if experiment.stopped_at is None else min(now, experiment.stopped_at)
        changes = TrafficHistory(settings.tables).changes(settings.serve_application)
        spans = find_spans(changes, plan, since=experiment.started_at, until=until)
        table = OutcomeTable(settings.tables)
        known_until = complete_until(table.history(), now)
        outcomes = None
        if known_until is not None:
            outcomes = Outcomes(table.current(known_until), known_until, self._horizon_days(plan))
        server = Prometheus.of(settings)
        samples = collect(
            plan,
            spans,
            settings.tables,
            as_of=now,
            outcomes=outcomes,
            count_errors=None if server is None else server.errors,
        )
        return replace(samples, is_complete=not experiment.running)

    def _records(self) -> ExperimentRecords:
        from attrition.experiments.records import ExperimentRecords

        self._settings.prepare_home()
        return ExperimentRecords(self._settings.database_url)
