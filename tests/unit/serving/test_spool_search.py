"""Predictions that are answered and not yet in the table."""

from __future__ import annotations

import math

import pytest

from attrition.serving.log_entries import Outcome, Outcomes, Predictions, Scored, doubles, encode
from attrition.serving.spool import Spool
from attrition.serving.spool_search import find_in_spools

IDS = [f"018e2f5c-7a10-7cc3-98c4-dc0c0c0739{number:02d}" for number in range(6)]


def entry(*ids):
    """A request that two versions answered; the second has another feature."""
    half = len(ids) // 2
    groups = [
        Scored(
            version,
            "blue",
            0.5,
            features,
            list(some),
            [None] * len(some),
            ["sole"] * len(some),
            doubles((0.25,) * len(some)),
            doubles((40.0, math.nan) * len(some)),
        )
        for version, features, some in (
            ("1.0.0", ("age", "salary"), ids[:half]),
            ("1.1.0", ("age", "tenure"), ids[half:]),
        )
        if some
    ]
    return encode(Predictions(1_711_886_400_000_000, 120, groups))


@pytest.fixture
def spools(tmp_path):
    """Two spools: sealed and active segments, one of them torn, and outcomes in between."""
    first, second = Spool(tmp_path, max_bytes=10_000), Spool(tmp_path, max_bytes=10_000)
    first.append(entry(IDS[0], IDS[1]))
    first.append(encode(Outcomes("api", [Outcome("f" * 32, None, None)])))
    first.seal()
    first.append(entry(IDS[2]))
    second.append(entry(IDS[3], IDS[4]))
    (second.folder / "0000000009.open").write_bytes((second.folder / "0000000001.open").read_bytes()[:-5])
    (second.folder / "0000000010.log").write_bytes(b"attrition spool 9\n" + IDS[5].encode())
    yield tmp_path
    first.close()
    second.close()


@pytest.mark.parametrize(("place", "version"), [(0, "1.0.0"), (1, "1.1.0"), (2, "1.1.0"), (3, "1.0.0"), (4, "1.1.0")])
def test_found_in_any_segment(spools, place, version):
    """Sealed or active, of any version that answered."""
    found = find_in_spools(spools, IDS[place])
    assert (found.prediction_id, found.version, found.probability) == (IDS[place], version, 0.25)
    other = "salary" if version == "1.0.0" else "tenure"
    assert found.features["age"] == 40.0
    assert math.isnan(found.features[other])


def test_what_is_not_there_is_not_found(spools, tmp_path):
    """Nor in a segment of another format, nor where there is no spool at all."""
    assert find_in_spools(spools, IDS[5]) is None
    assert find_in_spools(spools, "018e2f5c-7a10-7cc3-98c4-dc0c0c073999") is None
    assert find_in_spools(tmp_path / "nothing", IDS[0]) is None


def test_a_segment_that_is_sealed_meanwhile_is_looked_for_again(spools, monkeypatch):
    """Its name has changed between listing and reading."""
    from attrition.serving import spool_search

    real, looks = spool_search._segments, []

    def stale(root):
        looks.append(1)
        paths = list(real(root))
        if len(looks) == 1:
            (active,) = [path for path in paths if IDS[2].encode() in path.read_bytes()]
            active.rename(active.with_suffix(".log"))
        return paths

    monkeypatch.setattr(spool_search, "_segments", stale)
    assert find_in_spools(spools, IDS[2]).prediction_id == IDS[2]
    assert len(looks) == 2
