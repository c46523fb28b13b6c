"""The split between variants."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from attrition.serving.traffic import N_BUCKETS, Reason, Split, Traffic, Variant


def variant(name, weight, version="1.0.0"):
    return Variant(name=name, version=version, bundle=f"/bundles/{version}", manifest_sha256="a" * 64, weight=weight)


def test_a_single_version_takes_everything():
    """One variant is the sole one, whoever asks."""
    traffic = Traffic.single("1.0.0", "/bundles/1.0.0", "a" * 64)
    assert traffic.split.sole == traffic.variants[0]
    assert traffic.split.assign("E-1", draw=0)[0].version == "1.0.0"


def test_an_idle_challenger_leaves_the_champion_sole():
    """A weight of zero keeps a version loaded without traffic."""
    traffic = Traffic(variants=(variant("blue", 1.0), variant("green", 0.0, "1.1.0")))
    assert traffic.split.sole.name == "blue"
    assert {traffic.split.assign(f"E-{i}", draw=0)[0].name for i in range(50)} == {"blue"}


def test_a_challenger_may_take_everything():
    """Weight one moves all traffic, also the last bucket."""
    split = Traffic(variants=(variant("blue", 0.0), variant("green", 1.0, "1.1.0"))).split
    assert split.sole.name == "green"
    assert split.assign(None, draw=N_BUCKETS - 1)[0].name == "green"


def test_records_without_an_id_are_drawn_and_marked():
    """The draw decides: challengers from below, the champion above them."""
    split = Traffic(variants=(variant("blue", 0.9), variant("green", 0.1, "1.1.0"))).split
    assert split.assign(None, draw=999) == (split.variants[0], Reason.RANDOM)
    assert split.variants[0].name == "green"
    assert split.assign(None, draw=1_000)[0].name == "blue"


def test_assignment_is_the_documented_hash():
    """Golden value: any change would move people between versions of a running experiment."""
    split = Split(variants=(), bounds=(), salt=b"attrition")
    assert [split.bucket(name) for name in ("E-1", "E-2", "Ärger")] == [7_527, 9_066, 5_134]


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "at least 1"),
        ([variant("blue", 0.5)], "must sum to 1"),
        ([variant("blue", 0.5), variant("blue", 0.5)], "named twice: blue"),
    ],
)
def test_impossible_traffic_is_refused(variants, message):
    """Weights sum to one and names are unique."""
    with pytest.raises(ValidationError, match=message):
        Traffic(variants=variants)


@pytest.mark.parametrize("change", [{"weight": 1.4}, {"weight": -0.1}, {"name": "Blue!"}, {"manifest_sha256": "x"}])
def test_an_impossible_variant_is_refused(change):
    """Shares lie in [0, 1]; names are labels; digests are hexadecimal."""
    with pytest.raises(ValidationError):
        Variant.model_validate({**variant("blue", 1.0).model_dump(), **change})
