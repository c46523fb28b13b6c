"""How many replicas a load wants."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from attrition.serving.autoscaling import IMPORT_PATH, IN_FLIGHT, by_load


def context(*, replicas=2, total=0.0, lane=None, target=16.0):
    config = SimpleNamespace(get_target_ongoing_requests=lambda: target)
    metrics = (
        None if lane is None else {IN_FLIGHT: {f"r{i}": value for i, value in enumerate(lane)}, "other": {"r0": 9}}
    )
    return SimpleNamespace(
        current_num_replicas=replicas,
        target_num_replicas=3,
        total_num_requests=total,
        aggregated_metrics=metrics,
        config=config,
    )


@pytest.mark.parametrize(
    ("ctx", "replicas"),
    [
        (context(), 0),
        (context(total=32), 2),
        (context(lane=(16.0, 24.0)), 2.5),
        (context(total=8, lane=(0.0, 24.0)), 2),
        (context(lane=()), 0),
        (context(replicas=0, lane=(50.0,)), 3),
    ],
)
def test_requests_in_flight_per_replica(ctx, replicas):
    """Serve's own and the lane's are one load; without a replica there is nothing to go by."""
    assert by_load(ctx) == (replicas, {})


@pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")  # Ray's own models
def test_without_the_lane_it_is_the_rule_of_serve():
    """The same number for any load that Serve sees itself."""
    from ray.serve.autoscaling_policy import replica_queue_length_autoscaling_policy

    policy = getattr(replica_queue_length_autoscaling_policy, "__wrapped__", replica_queue_length_autoscaling_policy)
    for total in (0, 5, 16, 100):
        ctx = context(total=total)
        assert by_load(ctx)[0] == pytest.approx(policy(ctx)[0])


def test_it_can_be_imported_where_serve_decides():
    """By its name, and without anything that the controller would have to load."""
    module, function = IMPORT_PATH.split(":")
    code = f"import sys, {module} as m; m.{function}; print('numpy' in sys.modules, 'ray' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.split() == ["False", "False"]
