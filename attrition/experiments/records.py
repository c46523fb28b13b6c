"""Experiments and every look at them, in the project's database. One runs at a time: they share the traffic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from attrition.errors import Fault, NotFound, UsageError
from attrition.experiments.plan import ExperimentPlan
from attrition.governance.database import Database, from_microseconds, to_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection, MetaData

EXPERIMENTS, LOOKS = "experiments", "experiment_looks"


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment as it was started.

    Attributes
    ----------
    plan : ExperimentPlan
        With versions, not aliases.
    started_at, stopped_at : datetime
        UTC; `stopped_at` is None while it runs.
    actor : str
        Who started it.
    run_id : str
        Run of MLflow.
    looks : tuple of mapping
        Documents of :meth:`attrition.experiments.verdict.Analysis.to_dict`, oldest first.
    """

    plan: ExperimentPlan
    started_at: datetime
    stopped_at: datetime | None
    actor: str
    run_id: str
    looks: tuple[dict[str, Any], ...] = ()

    @property
    def running(self) -> bool:
        """It was not stopped yet."""
        return self.stopped_at is None

    @property
    def verdict(self) -> str:
        """Of the last look; empty before the first."""
        return str(self.looks[-1]["verdict"]) if self.looks else ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document, with the last look only."""
        return {
            "name": self.plan.name,
            "state": "running" if self.running else "stopped",
            "started_at": self.started_at.isoformat(timespec="seconds"),
            "stopped_at": self.stopped_at and self.stopped_at.isoformat(timespec="seconds"),
            "actor": self.actor,
            "run_id": self.run_id,
            "n_looks": len(self.looks),
            "plan": self.plan.model_dump(mode="json"),
            "last_look": self.looks[-1] if self.looks else None,
        }


class ExperimentRecords:
    """The tables of experiments; every method raises ``PlatformError`` when the database does not answer.

    Parameters
    ----------
    url
        Address of the database, as :attr:`attrition.settings.Settings.database_url`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url, _tables())

    def start(self, plan: ExperimentPlan, *, actor: str, now: datetime) -> Experiment:
        """Record that an experiment begins.

        Raises
        ------
        UsageError
            Another one runs, or one of this name was made before.
        """
        from sqlalchemy.exc import IntegrityError

        row = {
            "name": plan.name,
            "plan": json.dumps(plan.model_dump(mode="json")),
            "running": 1,
            "started_at": to_microseconds(now),
            "actor": actor,
            "run_id": "",
        }
        table = _tables().tables[EXPERIMENTS]
        try:
            self._database.run(lambda connection: connection.execute(table.insert(), row))
        except IntegrityError as error:
            raise UsageError(self._conflict(plan.name)) from error
        return Experiment(plan, now, None, actor, "")

    def _conflict(self, name: str) -> Fault:
        running = next((each.plan.name for each in self.list() if each.running), None)
        if running is not None:
            return Fault(
                f"experiment {name}",
                f"{running} is running, and experiments share the traffic",
                "one at a time",
                f"stop it: attrition experiment stop {running}",
            )
        remedy = "take another name: people are assigned by it"
        return Fault(f"experiment {name}", "there was one of this name", "", remedy)

    def set_run(self, name: str, run_id: str) -> None:
        """Note which run of MLflow shows an experiment."""
        self._update(name, {"run_id": run_id})

    def stop(self, name: str, now: datetime) -> bool:
        """Whether the caller ended it; False when it had ended before."""
        table = _tables().tables[EXPERIMENTS]
        change = (
            table.update()
            .where(table.c.name == name, table.c.running == 1)
            .values(running=None, stopped_at=to_microseconds(now))
        )
        return bool(self._database.run(lambda connection: connection.execute(change).rowcount == 1))

    def discard(self, name: str) -> None:
        """Forget an experiment that could not begin."""
        table = _tables().tables[EXPERIMENTS]
        self._database.run(lambda connection: connection.execute(table.delete().where(table.c.name == name)))

    def add_look(self, name: str, document: dict[str, Any]) -> int:
        """Store a look; its number among those of the experiment, from 0."""
        from sqlalchemy import func, select

        table, experiments = (_tables().tables[each] for each in (LOOKS, EXPERIMENTS))
        # changes nothing, but whoever adds a look at the same time waits here, in every database
        turn = experiments.update().where(experiments.c.name == name).values(name=name)

        def work(connection: Connection) -> int:
            connection.execute(turn)
            count = select(func.count()).select_from(table).where(table.c.experiment == name)
            number = int(connection.execute(count).scalar_one())
            connection.execute(table.insert(), {"experiment": name, "document": json.dumps(document, allow_nan=False)})
            return number

        return self._database.run(work)

    def get(self, name: str | None = None) -> Experiment:
        """An experiment by name; None is the running one, or the last one when none runs.

        Raises
        ------
        NotFound
            There is none.
        """
        found = [each for each in self.list() if name in {None, each.plan.name}]
        if not found:
            known = ", ".join(each.plan.name for each in self.list()[-10:])
            if not known:
                raise NotFound(
                    Fault(
                        "experiments",
                        "none was started",
                        "",
                        "attrition experiment start --plan serve_configs/experiment.yaml",
                    )
                )
            raise NotFound(Fault(f"experiment {name}", "does not exist", f"there are: {known}"))
        chosen = next((each for each in found if each.running), found[-1])
        return Experiment(
            chosen.plan,
            chosen.started_at,
            chosen.stopped_at,
            chosen.actor,
            chosen.run_id,
            self._looks(chosen.plan.name),
        )

    def list(self) -> Sequence[Experiment]:
        """Every experiment without its looks, oldest first."""
        table = _tables().tables[EXPERIMENTS]
        rows = self._database.run(
            lambda connection: connection.execute(table.select().order_by(table.c.started_at)).all()
        )
        return [
            Experiment(
                plan=ExperimentPlan.model_validate_json(row.plan),
                started_at=from_microseconds(row.started_at),
                stopped_at=None if row.stopped_at is None else from_microseconds(row.stopped_at),
                actor=row.actor,
                run_id=row.run_id,
            )
            for row in rows
        ]

    def _looks(self, name: str) -> tuple[dict[str, Any], ...]:
        table = _tables().tables[LOOKS]
        wanted = table.select().where(table.c.experiment == name).order_by(table.c.number)
        rows = self._database.run(lambda connection: connection.execute(wanted).all())
        return tuple(json.loads(row.document) for row in rows)

    def _update(self, name: str, values: dict[str, Any]) -> None:
        table = _tables().tables[EXPERIMENTS]
        change = table.update().where(table.c.name == name).values(**values)
        self._database.run(lambda connection: connection.execute(change))


@cache
def _tables() -> MetaData:
    from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, Text

    found = MetaData()
    Table(
        EXPERIMENTS,
        found,
        Column("name", String(63), primary_key=True),
        Column("plan", Text, nullable=False),
        # 1 or null: a unique column holds any number of nulls and a single 1
        Column("running", Integer, unique=True),
        Column("started_at", BigInteger, nullable=False),
        Column("stopped_at", BigInteger),
        Column("actor", String(128), nullable=False),
        Column("run_id", String(64), nullable=False),
    )
    Table(
        LOOKS,
        found,
        Column("number", Integer, primary_key=True, autoincrement=True),
        Column("experiment", String(63), nullable=False, index=True),
        Column("document", Text, nullable=False),
    )
    return found
