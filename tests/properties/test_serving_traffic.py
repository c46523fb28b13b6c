"""Properties of the split between variants."""

from __future__ import annotations

from math import sqrt
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.registry.bundle import BundleRef
from attrition.serving.changes import pin, reallocate, restore, shadow, shift
from attrition.serving.scoring import assign, drawn
from attrition.serving.traffic import N_BUCKETS, Reason, Traffic, Variant

PEOPLE = [f"E-{i}" for i in range(2_000)]

salts = st.text(max_size=20)
shares = st.integers(0, N_BUCKETS)


def traffic(*weights: int, salt: str = "attrition") -> Traffic:
    """Champion first; weights in buckets."""
    return Traffic(
        variants=tuple(
            Variant(name=f"v{i}", version=f"1.{i}.0", bundle="b", manifest_sha256="0" * 64, weight=w / N_BUCKETS)
            for i, w in enumerate(weights)
        ),
        salt=salt,
    )


def assigned(split) -> list[str]:
    return [split.assign(person, draw=0)[0].name for person in PEOPLE]


@given(share=shares, salt=salts, person=st.text(max_size=30))
def test_assignment_is_stable(share, salt, person):
    """The same person meets the same variant, however often the split is built."""
    one, other = (traffic(N_BUCKETS - share, share, salt=salt).split for _ in range(2))
    assert one.assign(person, draw=0) == other.assign(person, draw=N_BUCKETS - 1)


@settings(max_examples=30, deadline=None)
@given(share=shares, salt=salts)
def test_a_share_is_near_its_weight(share, salt):
    """Five standard deviations of a fair draw."""
    weight = share / N_BUCKETS
    found = assigned(traffic(N_BUCKETS - share, share, salt=salt).split).count("v1") / len(PEOPLE)
    assert abs(found - weight) <= 5 * sqrt(weight * (1 - weight) / len(PEOPLE)) + 1e-12


@settings(max_examples=30, deadline=None)
@given(low=shares, high=shares, salt=salts)
def test_raising_a_share_moves_nobody_back(low, high, salt):
    """Who met the challenger still meets it; lowering the share again restores the old assignment exactly."""
    low, high = sorted((low, high))
    before = assigned(traffic(N_BUCKETS - low, low, salt=salt).split)
    after = assigned(traffic(N_BUCKETS - high, high, salt=salt).split)
    assert all(new == "v1" for old, new in zip(before, after, strict=True) if old == "v1")
    assert assigned(traffic(N_BUCKETS - low, low, salt=salt).split) == before


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(shares, min_size=3, max_size=3), salt=salts)
def test_several_challengers_never_return_people_to_the_champion(cuts, salt):
    """With the other challenger's share as it was, raising one takes people only from the champion and the other."""
    first, second, third = sorted(cuts)
    other = N_BUCKETS - third
    before = assigned(traffic(N_BUCKETS - first - other, first, other, salt=salt).split)
    after = assigned(traffic(N_BUCKETS - second - other, second, other, salt=salt).split)
    for old, new in zip(before, after, strict=True):
        assert new != "v0" or old == "v0"
        assert new == "v1" or old != "v1"


@given(weights=st.lists(st.integers(0, 1_000), min_size=1, max_size=6).filter(any))
def test_every_bucket_has_a_variant_with_weight(weights):
    """Any shares that sum to one cover all buckets, and a variant without weight gets nobody."""
    total = sum(weights)
    split = Traffic(
        variants=tuple(
            Variant(name=f"v{i}", version="1.0.0", bundle="b", manifest_sha256="0" * 64, weight=weight / total)
            for i, weight in enumerate(weights)
        )
    ).split
    idle = {f"v{i}" for i, weight in enumerate(weights) if weight == 0}
    for draw in range(0, N_BUCKETS, 7):
        assert split.assign(None, draw=draw)[0].name not in idle


weightings = st.lists(st.integers(0, 20), min_size=5, max_size=5).filter(any)


def ref(minor: int) -> BundleRef:
    return BundleRef(f"b{minor}", f"1.{minor}.0", f"{minor:064x}")


def split_by(current, weighting):
    total = sum(weighting)
    weights = [weight / total for weight in weighting]
    return shift(current, [(ref(minor), weight) for minor, weight in enumerate(weights) if weight])


def owners(traffic):
    """Version of every bucket."""
    versions = {variant.name: variant.version for variant in traffic.variants}
    return [versions[name] for low, high, name in traffic.ranges for _ in range(low, high)]


@settings(max_examples=40, deadline=None)
@given(path=st.lists(weightings, min_size=2, max_size=5))
def test_a_change_moves_as_few_people_as_it_must(path):
    """Over any sequence of changes: only buckets that a variant lost or gained change hands, up to rounding."""
    traffic = split_by(None, path[0])
    for weighting in path[1:]:
        before, traffic = owners(traffic), split_by(traffic, weighting)
        after = owners(traffic)
        gained = sum(max(0, after.count(version) - before.count(version)) for version in set(after))
        assert sum(old != new for old, new in zip(before, after, strict=True)) == gained
        for variant in traffic.variants:
            assert abs(after.count(variant.version) - variant.weight * N_BUCKETS) <= 1 + 1e-6


@settings(max_examples=40, deadline=None)
@given(first=weightings, second=weightings)
def test_a_rollback_is_exact(first, second):
    """Everybody meets the version that they met before."""
    before = split_by(None, first)
    after = split_by(before, second)
    assert owners(restore(after, before)) == owners(before)


@settings(max_examples=40, deadline=None)
@given(low=shares, high=shares)
def test_raising_a_share_by_a_change_moves_nobody_back(low, high):
    """As without a layout; raised and lowered again it is what it was."""
    low, high = sorted((low, high))
    one, two = ("blue", N_BUCKETS - low), ("green", low)
    start = reallocate((), {name: width / N_BUCKETS for name, width in (one, two) if width or name == "blue"})
    raised = reallocate(start, {"blue": 1 - high / N_BUCKETS, "green": high / N_BUCKETS})
    assert raised == tuple(r for r in ((0, high, "green"), (high, N_BUCKETS, "blue")) if r[0] < r[1])
    assert reallocate(raised, {"blue": 1 - low / N_BUCKETS, "green": low / N_BUCKETS}) == start


@settings(max_examples=40, deadline=None)
@given(weighting=weightings, person=st.text(max_size=10), draw=st.integers(0, N_BUCKETS - 1))
def test_pins_beat_weights_and_shadows_never_answer(weighting, person, draw):
    """Whatever the weights say and whoever asks, also when the pinned version has no weight."""
    traffic = pin(shadow(split_by(None, weighting), [ref(7)]), "x-user-group", "pilot", ref(6))
    split = traffic.split
    variant, reason = split.pinned([(b"accept", b"*/*"), (b"x-user-group", b" pilot ")])
    assert (variant.version, reason) == ("1.6.0", Reason.PINNED)
    assert split.pinned([(b"x-user-group", b"pilots"), (b"x-user-groups", b"pilot")]) is None
    for employee_id in (person, None):
        assert split.assign(employee_id, draw=draw)[0].version not in {"1.6.0", "1.7.0"}


@settings(max_examples=50, deadline=None)
@given(salt=salts, people=st.lists(st.text(st.characters(exclude_categories=()), max_size=30), max_size=50))
def test_many_buckets_at_once(salt, people):
    """Of any ids, also of half surrogate pairs: as one by one."""
    split = traffic(N_BUCKETS, salt=salt).split
    assert split.buckets(people).tolist() == list(map(split.bucket, people))


@settings(max_examples=30, deadline=None)
@given(
    weights=st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any),
    people=st.lists(st.one_of(st.none(), st.text(max_size=9), st.integers(0, 99), st.just(7.0)), min_size=2),
)
def test_a_large_request_is_split_as_its_records_are(weights, people):
    """Every record once, by the variant that it would meet alone, with the same reason; without an id by chance."""
    shares = [N_BUCKETS * weight // sum(weights) for weight in weights]
    shares[0] += N_BUCKETS - sum(shares)
    plan = traffic(*shares)
    # only names matter here: a lane without a version
    snapshot = SimpleNamespace(split=plan.split, lanes={v.name: SimpleNamespace(variant=v) for v in plan.variants})
    records = [SimpleNamespace(employee_id=person) for person in people]
    found = drawn(snapshot, records)
    assert sorted(row for _, rows, _ in found for row in rows) == list(range(len(people)))
    assert len({lane.variant.name for lane, _, _ in found}) == len(found)
    for lane, rows, reasons in found:
        assert lane.variant.weight > 0
        for row, reason in zip(rows, reasons, strict=True):
            alone, why = assign(snapshot, records[row])
            assert reason is why
            assert reason is Reason.RANDOM or alone is lane


def test_records_without_an_id_are_shared_out():
    """By the weights, each by itself."""
    plan = traffic(7_000, 3_000)
    snapshot = SimpleNamespace(split=plan.split, lanes={v.name: v.name for v in plan.variants})
    found = {lane: rows for lane, rows, _ in drawn(snapshot, [SimpleNamespace(employee_id=None)] * 10_000)}
    assert abs(len(found["v1"]) - 3_000) < 5 * sqrt(10_000 * 0.3 * 0.7)
