"""Processes of the serving stack are killed under load: what fails, when it is whole again, is each answer logged once.

Most of it on a Ray of its own in the background, since a killed controller would take other tests with it. Run with
``-s`` it prints what was measured.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pandas as pd
import pytest
from steady_load import N_SENDERS, Load

from attrition.cluster import processes
from attrition.cluster.environment import LOOPBACK, free_ports
from attrition.cluster.local_head import start_local_head, stop_local_head
from attrition.data.predictions import PredictionTable
from attrition.errors import NotFound, RayUnreachable, ServingError
from attrition.serving.config import APPLICATION, GATEWAY, ServeConfig
from attrition.serving.control import ServeControl
from attrition.serving.log_commit import has_committer, read_status
from attrition.serving.prediction_log import LogConfig
from attrition.serving.traffic import single_variant
from attrition.settings import Settings

if TYPE_CHECKING:
    from steady_load import Outcome

    from attrition.registry.bundle import BundleRef

pytestmark = [pytest.mark.ray, pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")]

SETTLE_SECONDS = 90.0
UPSCALE_LIMIT_SECONDS = 60.0
CONTROLLER = "ray::ServeController"


def configuration(*, fast_lane=True, max_records=1_000, **gateway):
    """The local configuration with two replicas, replaced as in production: new ones start first."""
    document = ServeConfig.load("local").model_dump(mode="json") | {"monitor": None}
    (application,) = document["applications"]
    application["args"] |= {"fast_lane": fast_lane, "explanations": None}
    application["args"]["limits"]["max_records"] = max_records
    (shipped,) = (each for each in application["deployments"] if each["name"] == GATEWAY)
    fixed = {"autoscaling_config": None, "num_replicas": 2, "max_surge_percent": 50}
    application["deployments"] = [shipped | fixed | gateway]
    return ServeConfig.model_validate(document)


@dataclass
class Endpoint:
    """A served version.

    Attributes
    ----------
    pid : int
        First process of its Ray, when that runs in the background.
    """

    settings: Settings
    control: ServeControl
    bundle: BundleRef
    pid: int = 0
    loads: list[Path] = field(default_factory=list)
    n_kills: int = 0

    @property
    def log(self):
        return LogConfig.of(self.settings, commit_seconds=1.0)

    def deploy(self, **options):
        """Serve with these options of the gateway; returns when every replica does."""
        address = {"host": LOOPBACK, "port": self.settings.serve_port}
        self.control.deploy(single_variant(self.bundle), configuration(**options), log=self.log, **address)
        until(lambda: asked(self.settings.serve_url) is not None)

    def load(self, **options):
        """Requests as long as a block runs."""
        self.loads.append(self.settings.home / f"load-{len(self.loads)}.json")
        return Load(self.settings.serve_url, self.loads[-1], **options)

    @property
    def replicas(self):
        """Running replicas: identity → process."""
        url = f"{self.control.dashboard_url}/api/serve/applications/"
        application = httpx.get(url, timeout=30).json()["applications"][APPLICATION]
        found = application["deployments"][GATEWAY]["replicas"]
        return {each["replica_id"]: each["pid"] for each in found if each["state"] == "RUNNING"}

    def await_replicas(self, n, *, without=()):
        """Seconds until so many run, none of them among the named."""
        return until(lambda: len(found := self.replicas) == n and set(without).isdisjoint(found))

    def kill_replica(self, pid):
        """Seconds until another one answers in its place."""
        before = self.replicas
        (killed,) = (replica for replica, each in before.items() if each == pid)
        self.kill(pid)
        began = time.monotonic()
        self.await_replicas(len(before), without=[killed])
        new = set(self.replicas) - set(before)
        until(lambda: asked(self.settings.serve_url) in new)
        return time.monotonic() - began

    def find(self, name):
        """Newest process of this Ray whose program, or title, begins so."""
        members = processes.family(processes.running(), {self.pid}, session=self.pid)
        found = [(int(each.started), pid) for pid, each in members.items()]
        return max(pair for pair in found if Path(members[pair[1]].arguments[0]).name.startswith(name))[1]

    @property
    def committer(self):
        """Process that commits the prediction log, and the one that started it; None while there is none."""
        status = read_status(self.log.spool)
        if status is None or not has_committer(self.log.spool):
            return None
        process = processes.running().get(status.pid)
        return None if process is None else (status.pid, process.parent)

    def kill(self, pid):
        """Kill a process of the serving stack."""
        self.n_kills += 1
        os.kill(pid, signal.SIGKILL)

    def check(self, what, outcome: Outcome, *, n_failed=0):
        """At most so many failed, and each answer is in the log exactly once; prints all of it.

        A kill may leave records that nobody was answered: as many as there were requests under way.
        """
        answered = outcome.prediction_ids
        assert len(set(answered)) == len(answered) > 100

        def logged():
            try:
                rows = PredictionTable(self.log.tables).between(columns=["prediction_id"])
            except NotFound:  # on a busy machine the first commit is still to come
                return pd.Series(dtype=int)
            return rows["prediction_id"].value_counts()

        until(lambda: set(answered) <= set(logged().index), 40.0, or_fail=False)
        counts = logged()
        lost, doubled = set(answered) - set(counts.index), int((counts > 1).sum())
        everything = set().union(*(answered_ids(path) for path in self.loads))
        extra = len(set(counts.index) - everything)
        print(  # noqa: T201
            f"\n{what}: {outcome.n_requests} requests, {len(outcome.failures)} failed, slowest "
            f"{outcome.slowest_seconds:.2f} s, {len(lost)} lost, {doubled} doubled, {extra} unanswered in the log",
            *outcome.failures[:5],
            sep="\n  ",
        )
        assert len(outcome.failures) <= n_failed
        assert (len(lost), doubled) == (0, 0)
        assert extra <= N_SENDERS * self.n_kills


def answered_ids(path):
    """Answered identifiers of a load that has ended."""
    return {prediction_id for _, _, prediction_id in json.loads(path.read_text(encoding="utf-8"))["answered"]}


def asked(url):
    """Replica that answers, or None."""
    try:
        answer = httpx.get(f"{url}/readiness", timeout=10)
    except httpx.TransportError:
        return None
    return answer.json()["replica"] if answer.is_success else None


def until(condition, timeout_seconds=SETTLE_SECONDS, *, or_fail=True):
    """Seconds until a condition holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + timeout_seconds:
            assert not or_fail, "it did not come true in time"
            break
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def own(make_bundle, tmp_path_factory):
    """Two replicas on a Ray in the background."""
    (port,) = free_ports(1)
    settings = Settings.from_environment({}, home=tmp_path_factory.mktemp("faults"), serve_port=port)
    head = start_local_head(settings, num_cpus=4)
    try:
        control = ServeControl(head.dashboard_url, settings.serve_url)
        yield Endpoint(settings, control, make_bundle("1.0.0", 1.0), head.pid)
    finally:
        assert stop_local_head(settings)


def test_a_killed_replica(ray_cluster, make_bundle, tmp_path):
    """Of two, under load: no request fails, each answer is logged once, and another takes its place.

    But for an answer whose first bytes were on their way: nobody can ask for it again.
    """
    settings = Settings.from_environment(home=tmp_path)
    control = ServeControl(ray_cluster.dashboard_url, settings.serve_url)
    served = Endpoint(settings, control, make_bundle("1.0.0", 1.0))
    served.deploy()
    try:
        with served.load() as load:
            time.sleep(1)
            seconds = served.kill_replica(min(served.replicas.values()))
        served.check(f"replica, whole after {seconds:.1f} s", load.outcome, n_failed=N_SENDERS)
    finally:
        control.remove(APPLICATION)


@pytest.mark.slow
@pytest.mark.parametrize("fast_lane", [True, False])
def test_killed_replicas(own, fast_lane):
    """One after the other, also the one whose committer writes the table: the other replica's takes over."""
    own.deploy(fast_lane=fast_lane)
    for number in range(4):
        with own.load() as load:
            until(lambda: own.committer is not None)
            committer, owner = own.committer
            victim = owner if number % 2 else min(set(own.replicas.values()) - {owner})
            seconds = own.kill_replica(victim)
            handed_over = until(lambda: (now := own.committer) is not None and now[1] in own.replicas.values())
            time.sleep(1)
        assert (own.committer[0] == committer) is (victim != owner)
        what = f"replica {'with' if victim == owner else 'without'} committer, fast lane {fast_lane}"
        own.check(f"{what}, whole after {seconds:.1f} s, committer {handed_over:.1f} s", load.outcome)


@pytest.mark.slow
def test_a_killed_haproxy(own):
    """Only what it had in flight fails, and nobody is refused: ten senders have ten requests at most."""
    own.deploy()
    for _ in range(5):
        before = own.find("haproxy")
        with own.load() as load:
            time.sleep(1)
            own.kill(before)
            time.sleep(2)
        assert own.find("haproxy") != before
        assert not [failure for failure in load.outcome.failures if "Refused" in failure[2]]
        assert load.outcome.slowest_seconds < 2.0
        own.check("HAProxy", load.outcome, n_failed=N_SENDERS)
    # Serve goes on with the one that it did not start: membership changes reach it
    with own.load() as load:
        own.deploy(num_replicas=3)
        own.await_replicas(3)
        new = set(own.replicas)
        seen = set()
        until(lambda: seen.add(asked(own.settings.serve_url)) or seen >= new)
    own.check("scaling after that", load.outcome)


@pytest.mark.slow
def test_a_killed_controller(own):
    """Requests go on without it; it is back, and takes changes."""
    own.deploy()
    before, replicas = own.find(CONTROLLER), own.replicas

    def changed():
        try:
            own.control.change(APPLICATION, single_variant(own.bundle))
        except (RayUnreachable, ServingError):
            return False
        return True

    with own.load() as load:
        time.sleep(1)
        own.kill(before)
        seconds = until(changed)
        time.sleep(1)
    assert own.find(CONTROLLER) != before
    assert own.replicas == replicas
    own.check(f"controller, takes changes after {seconds:.1f} s", load.outcome)


@pytest.mark.slow
def test_updates_and_scaling(own):
    """A rolling update of the application's arguments, three replicas, one, two: nothing fails."""
    own.deploy()
    before = own.replicas
    with own.load() as load:
        began = time.monotonic()
        own.deploy(max_records=999)
        own.await_replicas(2, without=before)
        seconds = time.monotonic() - began
    own.check(f"update in {seconds:.1f} s", load.outcome)
    with own.load() as load:
        for n in (3, 1, 2):
            own.deploy(max_records=999, num_replicas=n)
            own.await_replicas(n)
            time.sleep(2)
    own.check("scaling 2, 3, 1, 2", load.outcome)


@pytest.mark.slow
@pytest.mark.parametrize("shipped", ["local", "production"])
def test_a_spike(own, shipped):
    """One replica becomes three within a minute with the shipped settings, and they become one again; nothing fails."""
    (gateway,) = (each for each in ServeConfig.load(shipped).application.deployments if each.name == GATEWAY)
    scaling = gateway.autoscaling_config.model_dump(mode="json") | {"min_replicas": 1, "max_replicas": 3}
    quick_down = scaling | {"downscale_delay_s": 2, "look_back_period_s": 4, "metrics_interval_s": 1}
    own.deploy(num_replicas=None, autoscaling_config=scaling | {"initial_replicas": 1})
    own.await_replicas(1)
    with own.load(rate=1e4, n_senders=150, n_records=1_000) as spike:
        up = own.await_replicas(3)
    with own.load(rate=100) as trickle:
        own.deploy(num_replicas=None, autoscaling_config=quick_down)
        down = own.await_replicas(1)
        time.sleep(2)
    print(f"\n{shipped}: 1 to 3 in {up:.1f} s, back in {down:.1f} s; {spike.outcome.n_requests} requests")  # noqa: T201
    assert spike.outcome.failures == []
    assert up <= UPSCALE_LIMIT_SECONDS
    assert trickle.outcome.failures == []
