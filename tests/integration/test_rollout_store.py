"""Rollouts in real databases: one at a time, one controller at a time, whoever asks at the same moment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from rollout_world import NOW, rollout

from attrition.errors import LeaseLost, UsageError
from attrition.release import rollout_store
from attrition.release.rollout import Command, Status
from attrition.release.rollout_store import RolloutStore


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'governance.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def store(url):
    return RolloutStore(url)


def at_once(url, n, work):
    """What `work` gives for `n` stores that are asked at the same moment; an error instead of its result."""

    def run(number):
        try:
            return work(RolloutStore(url), number)
        except UsageError as error:
            return error

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def test_one_rollout_at_a_time(url, store):
    """Of several that begin at once one does; the next may when it has ended."""
    found = at_once(url, 6, lambda each, _: each.begin(lambda number: rollout(id=number)))
    begun = [each for each in found if not isinstance(each, UsageError)]
    assert len(begun) == 1
    assert all("is under way" in str(each) for each in found if isinstance(each, UsageError))
    token = store.acquire("test")
    store.save(begun[0].noted("promoted", NOW, status=Status.PROMOTED), token)
    assert store.active() is None
    assert store.begin(lambda number: rollout(id=number)).id == begun[0].id + 1
    assert store.latest().status is Status.RUNNING


def test_one_controller_at_a_time(url, store, monkeypatch):
    """Of several that want the lease one gets it; after it expired another does, with a higher token."""
    monkeypatch.setattr(rollout_store, "LEASE_SECONDS", 1.0)
    running = store.begin(lambda number: rollout(id=number))
    tokens = [each for each in at_once(url, 6, lambda each, n: each.acquire(f"controller {n}")) if each is not None]
    assert len(tokens) == 1
    assert store.holder().startswith("controller")
    store.renew(tokens[0])
    time.sleep(1.1)
    assert store.holder() is None
    with pytest.raises(LeaseLost):
        store.renew(tokens[0])
    later = store.acquire("another")
    assert later > tokens[0]
    store.save(running.noted("by the new one", NOW), later)
    with pytest.raises(LeaseLost):
        store.save(running.noted("by the old one", NOW), tokens[0])
    assert [line.text for line in store.latest().log] == ["by the new one"]
    store.release(tokens[0])
    assert store.holder() == "another"
    store.release(later)
    assert store.holder() is None


def test_requests_wait_their_turn(store):
    """The oldest first, but a rollback; one that is dealt with is gone, together with the state that it led to."""
    running = store.begin(lambda number: rollout(id=number))
    first = store.ask(running, Command.PAUSE, "ada", "payroll")
    second = store.ask(running, Command.RESUME, "bea", "")
    asked = store.request(running)
    assert (asked.id, asked.command, asked.actor, asked.justification) == (first, Command.PAUSE, "ada", "payroll")
    token = store.acquire("test")
    store.save(running.paused("by ada", NOW), token, handled=first)
    assert (store.is_handled(first), store.is_handled(second)) == (True, False)
    assert store.request(running).id == second
    assert store.latest().status is Status.PAUSED
    rollback = store.ask(running, Command.ROLLBACK, "cy", "")
    assert store.request(running).id == rollback
