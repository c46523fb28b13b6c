"""Rollouts on real Serve: good, bad and equal challengers, under load, with the versions of a real registry.

The versions are one model with different thresholds, hence with different false positive rates. Run with ``-s`` it
prints what the audit log tells, and how long it took to withdraw a version.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from faulty_versions import replica_environment
from invented_people import Load, People
from registered_versions import register

from attrition.cluster import endpoint
from attrition.release.rollout import Status
from attrition.serving.config import GATEWAY, ServeConfig
from attrition.settings import Settings
from attrition.workspace import Workspace

# MLflow's own table definitions, at their first import
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")]

LAX, STRICT, EQUAL, LAXER, HELD = 0.15, 0.6, 0.1501, 0.02, 0.4
CHAMPION, BETTER, SAME, WORSE, FAILED = "1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4"

PLAN = """
look: 1s
guard: {max_error_rate: 0.05, max_latency_ms: 2000, window: 5s, poll: 0.5s}
analysis:
  metrics:
    - {metric: error_rate, role: guardrail, margin: 0.05, min_units: 50}
    - {metric: false_positive_rate, role: goal, margin: 0.02, min_units: 50}
steps:
  - {shadow: true, min_samples: 50, dwell: 2s, limit: 60s}
  - {champion: 60, challenger: 40, min_samples: 50, dwell: 2s, limit: 60s}
  - {champion: 0, challenger: 100, dwell: 2s}
"""


class Project:
    """A served project with five versions."""

    def __init__(self, workspace, url, faults, people):
        self.workspace, self.url, self.faults, self.people = workspace, url, faults, people

    @property
    def release(self):
        return self.workspace.release

    def misbehave(self, version="", **fault):
        """From now on, in every replica; without a version nothing does."""
        draft = self.faults.with_suffix(".new")
        draft.write_text(json.dumps({version: fault} if version else {}))
        draft.replace(self.faults)

    def plan(self, text=PLAN):
        path = self.faults.parent / f"plan-{time.monotonic_ns()}.yaml"
        path.write_text(text)
        return path

    def begin(self, version, plan):
        """Stage and start."""
        staged = self.release.stage(version)
        assert staged.passed, str(staged.report)
        return self.release.start(version, plan)

    def story(self, rollout):
        """What the audit log says of a rollout, printed."""
        events = [
            e for e in self.workspace.audit.records(limit=500) if str(e.details.get("rollout")) == str(rollout.id)
        ]
        for event in events:
            details = {k: v for k, v in event.details.items() if k not in {"rollout", "via", "champion", "asked_by"}}
            print(f"{event.time} {event.action:16} {event.outcome:9} {event.actor} {event.model_version} {details}")  # noqa: T201
        return events


@pytest.fixture(scope="module")
def project(ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    settings = Settings.from_environment(home=folder / "home")
    settings.prepare_home()
    (folder / "home" / "keys").mkdir()
    key = folder / "home" / "keys" / "pseudonym.key"
    key.write_text("5a" * 32)
    key.chmod(0o600)
    people = People()
    thresholds = [LAX, STRICT, EQUAL, LAXER, HELD]
    assert register(settings, folder / "packages", thresholds, held=(HELD,)) == [CHAMPION, BETTER, SAME, WORSE, FAILED]
    faults = folder / "faults.json"
    document = ServeConfig.load("local").model_dump(mode="json")
    (application,) = document["applications"]
    application["runtime_env"] = {"env_vars": replica_environment(faults)}
    application["args"] |= {"explanations": None}
    application["args"]["prediction_log"] |= {"commit_seconds": 1.0}
    gateway = next(each for each in application["deployments"] if each["name"] == GATEWAY)
    application["deployments"] = [gateway | {"autoscaling_config": None, "num_replicas": 1}]
    with Workspace(settings) as workspace:
        outcomes = folder / "left.csv"
        rows = [f"E-{i},2026-01-15" for i, left in enumerate(people.left) if left]
        outcomes.write_text("\n".join(["employee_id,left_on", *rows]) + "\n")
        workspace.outcomes.load(outcomes)
        until = datetime.now(UTC) + timedelta(days=400)
        object.__setattr__(workspace.release.evidence, "labels_until", lambda known, now: until)
        status = workspace.serving.up(CHAMPION, config=_written(folder, document))
        yield Project(workspace, status.url, faults, people)
    assert endpoint.down(settings)


def _written(folder, document):
    path = folder / "serve.yaml"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def fresh(project):
    """The champion alone."""
    project.misbehave()
    project.workspace.traffic.set({CHAMPION: 100})
    project.workspace.models.set_alias("champion", CHAMPION)
    return project


@pytest.fixture
def driven(fresh):
    """Function that begins a rollout and drives it in the background; gives the thread, which holds its end."""
    threads = []

    def drive(version, plan):
        fresh.begin(version, plan)
        thread = threading.Thread(target=lambda: ends.append(fresh.release.run().rollout))
        thread.ended = ends = []
        thread.start()
        threads.append(thread)
        return thread

    yield drive
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def until(condition, seconds=40.0, told=lambda: "in vain"):
    """Return when the condition holds; `told` says what was instead."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def answering(project):
    """Versions that answer now."""
    return [v.version for v in project.workspace.traffic.show().traffic.variants if v.weight]


def test_a_better_version_is_promoted(fresh):
    """Shadow, share, everything: traffic and alias follow, no request fails, the log tells it."""
    fresh.begin(BETTER, fresh.plan())
    with Load(fresh.url, fresh.people) as load:
        ended = fresh.release.run().rollout
    assert ended.status is Status.PROMOTED, ended.reason
    assert (load.failures, len(load.answers) > 500) == ([], True)
    assert answering(fresh) == [BETTER]
    assert fresh.workspace.models.resolve("champion").version == BETTER
    events = fresh.story(ended)
    steps = [(event.action, event.details.get("step")) for event in events if event.outcome == "succeeded"]
    assert steps[1:] == [("traffic.change", "shadow"), ("traffic.change", "40 %"), ("traffic.promote", "100 %")]
    assert fresh.workspace.audit.records(unfinished=True) == []


SPLIT = PLAN.replace("  - {shadow: true, min_samples: 50, dwell: 2s, limit: 60s}\n", "").replace(
    "dwell: 2s", "dwell: 60s"
)


def test_a_version_that_begins_to_fail_is_withdrawn_within_seconds(fresh, driven):
    """The guard does not wait for the next look; what failed in between is all that failed."""
    thread = driven(BETTER, fresh.plan(SPLIT.replace("look: 1s", "look: 1h")))
    with Load(fresh.url, fresh.people) as load:
        until(lambda: BETTER in answering(fresh))
        time.sleep(2)
        fresh.misbehave(BETTER, error_share=0.5)
        broken = time.time()
        until(lambda: answering(fresh) == [CHAMPION])
        thread.join(30)
        time.sleep(1)
    (ended,) = thread.ended
    last = max(moment for moment, _ in load.failures) - broken
    print(f"withdrawn {last:.2f} s after the first possible failure; {len(load.failures)} requests failed meanwhile")  # noqa: T201
    fresh.story(ended)
    assert ended.status is Status.ROLLED_BACK
    assert "requests failed within" in ended.reason
    assert min(moment for moment, _ in load.failures) >= broken
    assert last < 6
    assert fresh.workspace.models.resolve("champion").version == CHAMPION


@pytest.mark.slow
def test_a_version_that_becomes_slow_is_withdrawn(fresh, driven):
    """30 ms more: the guard's limit of 20 ms for the 95th percentile is broken; nobody's request fails."""
    thread = driven(BETTER, fresh.plan(SPLIT.replace("max_latency_ms: 2000", "max_latency_ms: 25")))
    with Load(fresh.url, fresh.people) as load:
        until(lambda: BETTER in answering(fresh))
        time.sleep(2)
        fresh.misbehave(BETTER, sleep_seconds=0.03)
        broken = time.time()
        thread.join(60)
        seconds = time.time() - broken
    (ended,) = thread.ended
    print(f"withdrawn {seconds:.2f} s after it became slow; {ended.reason}")  # noqa: T201
    fresh.story(ended)
    assert (ended.status, load.failures) == (Status.ROLLED_BACK, [])
    assert "took longer than 25 ms" in ended.reason


@pytest.mark.slow
def test_evidence_of_more_latency_rolls_back(fresh, driven):
    """30 ms more, within every hard limit: the analysis finds it."""
    plan = SPLIT.replace(
        "metrics:", "metrics:\n    - {metric: latency_p50_ms, role: guardrail, margin: 5, min_units: 50}"
    )
    thread = driven(BETTER, fresh.plan(plan))
    fresh.misbehave(BETTER, sleep_seconds=0.03)
    with Load(fresh.url, fresh.people) as load:
        thread.join(100)
    (ended,) = thread.ended
    fresh.story(ended)
    assert (ended.status, load.failures) == (Status.ROLLED_BACK, [])
    assert "latency_p50_ms" in ended.reason
    assert answering(fresh) == [CHAMPION]


@pytest.mark.slow
def test_a_version_with_more_false_alarms_is_rolled_back(fresh, driven):
    """By labels: many more stayers are expected to leave."""
    thread = driven(WORSE, fresh.plan(SPLIT))
    with Load(fresh.url, fresh.people) as load:
        thread.join(100)
    (ended,) = thread.ended
    fresh.story(ended)
    assert (ended.status, load.failures) == (Status.ROLLED_BACK, [])
    assert "false_positive_rate" in ended.reason
    assert answering(fresh) == [CHAMPION]


@pytest.mark.slow
def test_an_equal_version_ends_inconclusive(fresh, driven):
    """Neither harm nor merit in the time of the plan: the champion stays, and nothing failed."""
    thread = driven(SAME, fresh.plan(PLAN.replace("dwell: 2s, limit: 60s", "dwell: 2s, limit: 12s")))
    with Load(fresh.url, fresh.people) as load:
        thread.join(100)
    (ended,) = thread.ended
    fresh.story(ended)
    assert (ended.status, load.failures) == (Status.INCONCLUSIVE, [])
    assert answering(fresh) == [CHAMPION]
    assert fresh.workspace.models.resolve("champion").version == CHAMPION


@pytest.mark.slow
def test_no_traffic_is_inconclusive(fresh):
    """Not a failure: nothing is known."""
    fresh.begin(BETTER, fresh.plan(SPLIT.replace("dwell: 60s, limit: 60s", "dwell: 1s, limit: 4s")))
    ended = fresh.release.run().rollout
    fresh.story(ended)
    assert (ended.status, ended.reason) == (Status.INCONCLUSIVE, "no traffic to judge by in the time of the step 40 %")


@pytest.mark.slow
def test_a_detached_controller_survives_its_death(fresh):
    """kill -9 in the middle of a rollout: Ray starts another, which goes on; nobody's request fails."""
    import ray

    unlabelled = PLAN.replace("    - {metric: false_positive_rate, role: goal, margin: 0.02, min_units: 50}\n", "")
    fresh.begin(BETTER, fresh.plan(unlabelled.replace("dwell: 2s, limit", "dwell: 5s, limit")))
    actor = ray.get_actor(fresh.release.detach(), namespace="attrition")
    with Load(fresh.url, fresh.people) as load:
        until(lambda: BETTER in answering(fresh))
        first = fresh.release.status().driven_by
        os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: fresh.release.status().driven_by not in {None, first})
        print(f"another controller after {time.monotonic() - killed:.1f} s")  # noqa: T201
        until(lambda: fresh.release.status().rollout.status.is_final, told=lambda: fresh.release.status().to_dict())
    ended = fresh.release.status().rollout
    fresh.story(ended)
    assert (ended.status, load.failures) == (Status.PROMOTED, [])
    assert fresh.workspace.audit.records(unfinished=True) == []
