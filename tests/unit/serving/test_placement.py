"""Where variants are scored: their options, the Serve documents of their deployments, and changes of both."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from attrition.errors import UsageError
from attrition.registry.bundle import BundleRef
from attrition.serving.changes import is_same, place, restore, shift
from attrition.serving.placement import (
    PlacedOptions,
    Placement,
    application_name,
    placed_applications,
    serves_variant_of,
)
from attrition.serving.traffic import Traffic, Variant


def ref(minor):
    return BundleRef(f"/bundles/1.{minor}.0", f"1.{minor}.0", f"{minor:064x}")


def variant_of(traffic, minor):
    return next(variant for variant in traffic.variants if variant.version == f"1.{minor}.0")


SPLIT = shift(shift(None, [(ref(0), 1.0)]), [(ref(0), 0.7), (ref(1), 0.3)])
PLACED = place(SPLIT, ref(1), Placement.DEPLOYMENT, PlacedOptions(num_replicas=2))


def test_nothing_is_placed_by_default():
    """And a traffic that an earlier version of attrition wrote is one in process."""
    document = SPLIT.model_dump(mode="json")
    for variant in document["variants"]:
        del variant["placement"], variant["deployment"]
    assert Traffic.model_validate(document) == SPLIT
    assert placed_applications("attrition", SPLIT) == []


def test_a_placement_moves_nobody():
    """Same shares and ranges; only where it is scored changes, and back."""
    assert PLACED.ranges == SPLIT.ranges
    assert variant_of(PLACED, 1).options.num_replicas == 2
    assert place(PLACED, ref(1), Placement.IN_PROCESS) == SPLIT
    assert Traffic.model_validate(PLACED.model_dump(mode="json")) == PLACED


def test_a_new_version_is_placed_without_traffic():
    """It is loaded beside the others; a share later leaves it where it is."""
    idle = place(SPLIT, ref(2), Placement.DEPLOYMENT)
    assert variant_of(idle, 2).weight == 0.0
    assert len(placed_applications("attrition", idle)) == 1
    assert placed_applications("attrition", idle, only=idle.active) == []
    weighted = shift(idle, [(ref(0), 0.5), (ref(2), 0.5)])
    assert variant_of(weighted, 2).is_placed
    assert placed_applications("attrition", weighted) == placed_applications("attrition", idle)


def test_a_rollback_restores_the_placement():
    """In both directions; a placement alone is a change that a rollback undoes."""
    assert not is_same(PLACED, SPLIT)
    assert not variant_of(restore(PLACED, SPLIT), 1).is_placed
    assert variant_of(restore(SPLIT, PLACED), 1).options.num_replicas == 2
    later = shift(PLACED, [(ref(0), 1.0)])
    assert variant_of(later, 1).is_placed
    assert placed_applications("attrition", later) == placed_applications("attrition", PLACED)


def test_options_belong_to_a_deployment():
    """Options for a version in process, sizes in the wrong order and unknown keys are refused."""
    with pytest.raises(UsageError, match="in process has none"):
        place(SPLIT, ref(1), Placement.IN_PROCESS, PlacedOptions())
    variant = {"name": "blue", "version": "1.0.0", "bundle": "b", "manifest_sha256": "0" * 64}
    with pytest.raises(ValidationError, match="its placement is in_process"):
        Variant(**variant, deployment=PlacedOptions())
    with pytest.raises(ValidationError, match="max_replicas 1 is below num_replicas 2"):
        PlacedOptions(num_replicas=2, max_replicas=1)
    with pytest.raises(ValidationError, match="extra"):
        PlacedOptions.model_validate({"replicas": 2})


def test_the_name_says_what_runs():
    """Limits of the gateway and weights keep it; another version, bundle, size or environment is another one."""
    variant = variant_of(PLACED, 1)
    name = application_name("attrition", variant)
    assert name.startswith("attrition-variant-1.1.0-")
    assert serves_variant_of("attrition", name)
    assert not serves_variant_of("attrition-b", name)
    same = {"weight": 0.5, "name": "amber", "deployment": PlacedOptions(num_replicas=2, timeout_seconds=9)}
    assert application_name("attrition", variant.model_copy(update=same)) == name
    others = [
        {"bundle": "/elsewhere"},
        {"manifest_sha256": "f" * 64},
        {"deployment": PlacedOptions(num_replicas=3)},
        {"deployment": PlacedOptions(num_replicas=2, runtime_env={"pip": ["x"]})},
    ]
    changed = {application_name("attrition", variant.model_copy(update=update)) for update in others}
    assert len(changed | {name}) == 5
    odd = variant.model_copy(update={"version": "1.0.0+a#b/c"})
    assert application_name("attrition", odd).startswith("attrition-variant-1.0.0-a-b-c-")


def test_the_documents():
    """They have no route; a fixed number or a range of replicas; what is not asked for is left out."""
    options = PlacedOptions(
        num_replicas=2,
        max_replicas=4,
        num_cpus=1,
        memory=1e9,
        resources={"gpu": 1},
        runtime_env={"env_vars": {"A": "b"}},
    )
    traffic = place(PLACED, ref(2), Placement.DEPLOYMENT, options)
    fixed, scaled = placed_applications("attrition", traffic)
    for document in (fixed, scaled):
        assert document["route_prefix"] is None
    assert fixed["args"] == {"bundle": "/bundles/1.1.0", "manifest_sha256": f"{1:064x}"}
    (deployment,) = fixed["deployments"]
    assert (deployment["num_replicas"], deployment["ray_actor_options"]) == (2, {"num_cpus": 0.1})
    (deployment,) = scaled["deployments"]
    bounds = deployment["autoscaling_config"]["min_replicas"], deployment["autoscaling_config"]["max_replicas"]
    assert (bounds, "num_replicas" in deployment) == ((2, 4), False)
    assert deployment["ray_actor_options"] == {
        "num_cpus": 1.0,
        "memory": 1e9,
        "resources": {"gpu": 1.0},
        "runtime_env": {"env_vars": {"A": "b"}},
    }
