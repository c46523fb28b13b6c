"""A world for rollouts that lies in files, so that a process that is killed leaves in it what it did."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from attrition.errors import NotFound
from attrition.governance.guard import Guard
from attrition.registry.bundle import BundleRef
from attrition.release.rollout import Look, Rollout
from attrition.release.rollout_controller import Controller, World
from attrition.release.rollout_lease import Lease
from attrition.release.rollout_plan import RolloutPlan
from attrition.release.rollout_store import RolloutStore
from attrition.release.rollout_traffic import STAGE_HEADER
from attrition.serving import changes
from attrition.serving.traffic import Traffic, single_variant
from attrition.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from attrition.experiments.verdict import Verdict

OLD, NEW = "1.0.0", "1.1.0"
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)

PLAN = RolloutPlan.model_validate(
    {
        "look": 0.5,
        "guard": {"poll": 0.1, "window": "5s"},
        "analysis": {"metrics": [{"metric": "error_rate", "role": "guardrail", "margin": 0.01}]},
        "steps": [
            {"shadow": True, "min_samples": 10, "dwell": "1m", "limit": "1h"},
            {"champion": 95, "challenger": 5, "min_samples": 20, "dwell": "1m", "limit": "1h"},
            {"champion": 70, "challenger": 30, "min_samples": 30, "dwell": "1m", "limit": "1h"},
            {"champion": 0, "challenger": 100, "dwell": "1m"},
        ],
    }
)


def ref(version: str) -> BundleRef:
    return BundleRef(f"/bundles/{version}", version, version.replace(".", "").ljust(64, "0"))


def staged() -> Traffic:
    """All traffic with the old version, the new one staged."""
    return changes.pin(single_variant(ref(OLD)), STAGE_HEADER, NEW, ref(NEW))


def look(verdict: Verdict, n: int = 1_000, *reasons: str) -> Look:
    """An analysis that says so."""
    analysis = SimpleNamespace(verdict=verdict, reasons=reasons, to_dict=lambda: {"verdict": str(verdict)})
    return Look(analysis, n, n)


def rollout(**changed: Any) -> Rollout:
    """A rollout that has just been started."""
    fields = {
        "id": 1,
        "plan": PLAN,
        "champion": OLD,
        "challenger": NEW,
        "experiment_before": "",
        "alias_before": OLD,
        "started_by": "ada",
        "started_at": NOW,
    }
    return Rollout(**{**fields, **changed})


@dataclass
class FileTraffic:
    """Traffic control over a file, by the real rules of change."""

    path: Path
    after: Any = lambda _what: None
    refuses: Any = None

    def show(self) -> Any:
        traffic = Traffic.model_validate_json(self.path.read_text())
        return SimpleNamespace(traffic=traffic, status=SimpleNamespace(url="http://nowhere", replicas=1))

    def put(self, traffic: Traffic, generation: int) -> None:
        self.path.write_text(traffic.model_copy(update={"generation": generation}).model_dump_json())

    def _apply(self, what: str, make: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        current = self.show().traffic
        self.put(make(current), current.generation + 1)
        self.after(what)

    def set(self, shares: Any, *, experiment: str | None = None) -> None:
        wanted = [(ref(version), share) for version, share in shares.items()]
        self._apply("set", lambda current: changes.shift(current, wanted, experiment=experiment))

    def shadow(self, versions: Any) -> None:
        self._apply("shadow", lambda current: changes.shadow(current, [ref(version) for version in versions]))

    def pin(self, header: str, value: str, version: str) -> None:
        self._apply("pin", lambda current: changes.pin(current, header, value, ref(version)))

    def settle(self, action: str) -> None:
        """There is no history."""

    def unpin(self, header: str, value: str | None = None) -> None:
        self._apply("unpin", lambda current: changes.unpin(current, header, value))


@dataclass
class FileRegistry:
    """Aliases and approvals in a file."""

    path: Path
    after: Any = lambda _what: None
    refuses: Any = None

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    def resolve(self, name: str) -> Any:
        known = self._read()
        version = known["aliases"].get(name, name)
        if version not in {OLD, NEW}:
            raise NotFound(f"version {name}")
        return SimpleNamespace(version=version, approval={"by": "bea"} if version in known["approved"] else {})

    def approve(self, version: str) -> None:
        self.path.write_text(json.dumps({**self._read(), "approved": [version]}))

    def set_alias(self, alias: str, version: str) -> Any:
        if self.refuses is not None:
            raise self.refuses
        known = self._read()
        self.path.write_text(json.dumps({**known, "aliases": {**known["aliases"], alias: version}}))
        self.after("alias")
        return self.resolve(version)

    def promote(self, version: str) -> Any:
        return self.set_alias("champion", version)


class Project:
    """A project in a folder; `after` is called when something was done."""

    def __init__(self, folder: Path, after: Any = lambda _what: None) -> None:
        self.settings = Settings.from_environment({}, home=folder)
        self.settings.prepare_home()
        self.traffic = FileTraffic(folder / "traffic.json", after)
        self.registry = FileRegistry(folder / "registry.json", after)
        if not self.traffic.path.exists():
            self.traffic.put(staged(), 1)
            self.registry.path.write_text(json.dumps({"aliases": {"champion": OLD}, "approved": []}))
        self.guard = Guard(self.settings)
        self.store = RolloutStore(self.settings.database_url)
        self.readings: list[Any] = []
        self.look: Look | None = None
        self._after = after

    def world(self) -> World:
        append, save = self.guard.audit.append, self.store.save

        def appended(event: Any) -> Any:
            stored = append(event)
            self._after(f"audit {event.outcome}")
            return stored

        def saved(*arguments: Any, **options: Any) -> None:
            save(*arguments, **options)
            self._after("save")

        self.guard.audit.append = appended
        self.store.save = saved
        return World(
            lambda _actor: self.traffic,
            lambda: self.registry,
            lambda _served: self.readings,
            lambda *_question: self._looked(),
            self.guard,
        )

    def _looked(self) -> Look:
        if self.look is None:
            raise NotFound("nothing is logged yet")
        return self.look

    @contextmanager
    def controller(self) -> Any:
        with Lease(self.store, patience_seconds=5.0) as lease:
            controller = Controller(self.world(), self.store, lease)
            try:
                yield controller
            finally:
                controller.close()

    def close(self) -> None:
        self.guard.close()

    @property
    def answering(self) -> dict[str, float]:
        """Shares of the versions."""
        return {v.version: v.weight for v in self.traffic.show().traffic.variants if v.weight}

    @property
    def alias(self) -> str:
        """Version with the alias ``champion``."""
        return self.registry.resolve("champion").version
