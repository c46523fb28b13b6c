"""Changes of traffic: what is deployed afterwards."""

from __future__ import annotations

import pytest

from attrition.errors import ConfigError, UsageError
from attrition.registry.bundle import BundleRef
from attrition.serving.changes import NAMES, pin, place, restore, shadow, shift, unpin
from attrition.serving.placement import Placement
from attrition.serving.traffic import SMOKE_HEADER


def ref(minor):
    return BundleRef(f"/bundles/1.{minor}.0", f"1.{minor}.0", f"{minor:064x}")


def shares(traffic):
    return {variant.version: variant.weight for variant in traffic.variants}


def names(traffic):
    return {variant.version: variant.name for variant in traffic.variants}


ONE = shift(None, [(ref(0), 1.0)])


def test_the_first_version_is_blue():
    """Nothing deployed: one variant, no layout."""
    assert (names(ONE), shares(ONE), ONE.layout) == ({"1.0.0": "blue"}, {"1.0.0": 1.0}, ())


def test_names_are_stable_and_used_again():
    """Successive versions alternate between two names, and a version that stays keeps its own."""
    traffic, seen = ONE, []
    for minor in range(1, 6):
        traffic = shift(traffic, [(ref(minor), 1.0)])
        seen.append(names(traffic)[f"1.{minor}.0"])
        assert len(traffic.variants) == 2
    assert seen == ["green", "blue", "green", "blue", "green"]
    assert names(shift(ONE, [(ref(0), 0.7), (ref(1), 0.3)])) == names(shift(ONE, [(ref(1), 0.3), (ref(0), 0.7)]))


def test_what_lost_its_traffic_stays_loaded():
    """Both versions of a split are warm after a third took over, and leave with the next change."""
    split = shift(ONE, [(ref(0), 0.7), (ref(1), 0.3)])
    third = shift(split, [(ref(2), 1.0)])
    assert shares(third) == {"1.2.0": 1.0, "1.0.0": 0.0, "1.1.0": 0.0}
    assert shares(shift(third, [(ref(3), 1.0)])) == {"1.3.0": 1.0, "1.2.0": 0.0}


def test_only_new_weights_move_anybody():
    """Weights that no whole buckets fit: a pin, a placement and a way back leave the ranges as they are."""
    split = shift(None, [(ref(minor), weight / 160) for minor, weight in enumerate((5, 5, 50, 100))])
    assert pin(split, "x-user-group", "pilot", ref(1)).ranges == split.ranges
    assert shadow(split, [ref(4)]).ranges == split.ranges
    assert place(split, ref(1), Placement.DEPLOYMENT).ranges == split.ranges
    assert restore(shift(split, [(ref(0), 1.0)]), split).ranges == split.ranges


def test_rollback_assigns_as_before_and_keeps_what_was_active():
    """The same ranges, also when the earlier names belong to other versions now."""
    split = shift(ONE, [(ref(0), 0.7), (ref(1), 0.3)])
    later = shift(shift(split, [(ref(2), 1.0)]), [(ref(3), 1.0)])
    back = restore(later, split)
    assert back.ranges == split.ranges
    assert (shares(back)["1.0.0"], shares(back)["1.1.0"], shares(back)["1.3.0"]) == (0.7, 0.3, 0.0)
    assert restore(None, split) == split
    assert shares(restore(back, later))["1.3.0"] == 1.0


def test_a_middle_challenger_that_leaves_moves_nobody_else():
    """Consecutive ranges would push the third variant's people around."""
    three = shift(ONE, [(ref(0), 0.6), (ref(1), 0.2), (ref(2), 0.2)])
    two = shift(three, [(ref(0), 0.8), (ref(2), 0.2)])
    amber = names(three)["1.2.0"]
    assert [r for r in three.ranges if r[2] == amber] == [r for r in two.ranges if r[2] == amber]
    assert two.layout


def test_pins_shadows_and_experiment_survive_a_change_of_weights():
    """A change is about what it names and nothing else."""
    traffic = shadow(pin(ONE, "X-User-Group", "pilot", ref(1)), [ref(2)])
    after = shift(traffic, [(ref(0), 0.5), (ref(3), 0.5)])
    assert after.pins == traffic.pins
    assert after.shadows == traffic.shadows
    assert (after.salt, after.experiment) == (traffic.salt, traffic.experiment)


def test_another_experiment_draws_anew():
    """Another salt, named; the same experiment again changes nothing."""
    spring = shift(ONE, [(ref(0), 0.5), (ref(1), 0.5)], experiment="spring")
    assert (spring.experiment, spring.salt) == ("spring", "attrition:spring")
    assert shift(spring, [(ref(0), 0.5), (ref(1), 0.5)], experiment="spring") == spring
    assert shift(spring, [(ref(0), 0.5), (ref(1), 0.5)]).salt == spring.salt


def test_pinning_again_replaces():
    """One header value leads to one variant."""
    traffic = pin(pin(ONE, "x-user-group", "pilot", ref(1)), "X-USER-GROUP ", "pilot", ref(0))
    assert [(p.header, p.value, p.variant) for p in traffic.pins] == [("x-user-group", "pilot", "blue")]


def test_unpinning():
    """By value, or all values of a header; what is not pinned is told."""
    traffic = pin(pin(ONE, "x-user-group", "pilot", ref(1)), "x-user-group", "staff", ref(1))
    assert [p.value for p in unpin(traffic, "x-user-group", "pilot").pins] == ["staff"]
    assert unpin(traffic, "X-User-Group").pins == ()
    with pytest.raises(UsageError, match="x-user-group=pilot, x-user-group=staff"):
        unpin(traffic, "x-team")


def test_a_shadow_never_answers():
    """It cannot have weight or a pin; with weight it stops to be one."""
    traffic = shadow(ONE, [ref(1)])
    assert traffic.shadows == ("green",)
    with pytest.raises(UsageError, match=r"1\.0\.0"):
        shadow(ONE, [ref(0)])
    with pytest.raises(UsageError, match="never answers"):
        pin(traffic, "x-user-group", "pilot", ref(1))
    assert shift(traffic, [(ref(0), 0.9), (ref(1), 0.1)]).shadows == ()
    assert shadow(traffic, []).shadows == ()


def test_a_rollback_does_not_bring_a_smoke_test_back():
    """Its pin was for a moment."""
    assert restore(ONE, pin(ONE, SMOKE_HEADER, "token", ref(1))).pins == ()


def test_pins_and_shadows_do_not_pile_versions_up():
    """Versions that are tried one after the other do not all stay in memory."""
    traffic = ONE
    for minor in range(1, 20):
        traffic = unpin(pin(traffic, "x-team", "a", ref(minor)), "x-team")
    assert len(traffic.variants) <= 4


def test_more_versions_than_colours():
    """Names do not run out."""
    traffic = shift(ONE, [(ref(minor), 1 / 12) for minor in range(11)] + [(ref(11), 1 - 11 / 12)])
    assert len(set(names(traffic).values())) == 12
    assert set(NAMES) < set(names(traffic).values())


@pytest.mark.parametrize("wish", [[(0, 0.5)], [(0, 0.5), (1, 0.6)]])
def test_weights_must_sum_to_one(wish):
    """Otherwise the change is refused before anything is deployed."""
    with pytest.raises(ConfigError, match="sum to 1"):
        shift(ONE, [(ref(minor), share) for minor, share in wish])


def test_impossible_shares_are_all_named():
    """A version twice, a share that no bucket can hold."""
    with pytest.raises(UsageError) as caught:
        shift(ONE, [(ref(0), 0.5), (ref(0), 0.49999), (ref(1), 0.00001)])
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(("header", "value"), [("", "x"), ("a b", "x"), ("x", ""), ("x", "ü"), ("x", "a\nb")])
def test_impossible_pins(header, value):
    """A header name and a printable value."""
    with pytest.raises(ConfigError, match="pin of"):
        pin(ONE, header, value, ref(1))
