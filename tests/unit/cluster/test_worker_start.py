"""What each worker of a local Ray does first."""

from __future__ import annotations

from attrition.cluster import worker_start
from attrition.cluster.environment import local_environment

VARIABLE = "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR"


def test_every_worker_of_a_local_ray_is_told(tmp_path):
    """By the name of a function that exists, in the variable that this Ray reads."""
    from ray._common.utils import load_class
    from ray._private import ray_constants

    assert ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR == VARIABLE
    assert load_class(local_environment(tmp_path, serving=False)[VARIABLE]) is worker_start.prepare_worker


def test_both_are_done(monkeypatch):
    """The hook is one function, what it does are two."""
    done = []
    for name in ("keep_replicas_inside", "revive_haproxy"):
        monkeypatch.setattr(worker_start, name, lambda name=name: done.append(name))
    worker_start.prepare_worker()
    assert done == ["keep_replicas_inside", "revive_haproxy"]
