"""What is answered but not committed: reported, and committed without the erased person."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from attrition.data.outcomes import OutcomeTable
from attrition.data.predictions import PredictionTable
from attrition.data.tombstones import ErasureState, Tombstones
from attrition.serving.log_commit import exclusive
from attrition.serving.log_entries import Outcome, Outcomes, Predictions, Scored, doubles, encode
from attrition.serving.spool import UNREADABLE, Spool, spools
from attrition.serving.spooled_persons import SpoolStore

NOON = 1_711_886_400_000_000  # 2024-03-31T12:00:00Z
NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
ANNA, BERT = "a1" * 16, "b2" * 16


@pytest.fixture
def root(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def tables(tmp_path):
    return str(tmp_path / "tables")


@pytest.fixture
def store(root, tables):
    return SpoolStore(root, tables, wait_seconds=0.2)


@pytest.fixture
def spool(root):
    """Three predictions in a sealed segment, one and two outcomes in the active one."""
    spool = Spool(root, max_bytes=10**6)
    spool.append(predictions(ANNA, BERT, None))
    spool.seal()
    spool.append(predictions(ANNA))
    spool.append(encode(Outcomes("api", [Outcome(ANNA, "2024-03-31", None), Outcome(BERT, None, None)])))
    yield spool
    spool.close()


def predictions(*ids):
    n = len(ids)
    names = [f"{number}-{len(ids)}" for number in range(n)]
    group = Scored(
        "1.0.0", "blue", 0.2, ("age", "salary"), names, list(ids), ["sole"] * n, doubles([0.25] * n),
        doubles((40.0, float("nan")) * n),
    )  # fmt: skip
    return encode(Predictions(NOON, 120, [group]))


def test_sealed_and_active_segments_are_looked_through(store, spool):
    """With their values only when these are asked for."""
    (holding,) = store.holdings(ANNA)
    assert (holding.place, holding.n_rows) == (spool.spool_id, 3)
    assert {"employee_id", "feature_age", "left_on"} <= set(holding.columns)
    values = store.values(ANNA)
    assert [row.get("feature_age") for row in values] == [40.0, 40.0, None]
    assert values[0]["feature_salary"] is None
    assert values[0]["time"] == "2024-03-31T12:00:00+00:00"
    json.dumps(values, allow_nan=False)
    assert store.holdings("dd" * 16) == []


def test_a_killed_replicas_spool_is_committed_without_the_person(store, spool, root, tables):
    """Everybody else's answers arrive."""
    spool.close()
    Tombstones(tables).set(ANNA, ErasureState.BEGUN, now=NOW)
    assert store.erase(ANNA) == 3
    assert spools(root) == []
    assert store.holdings(ANNA) == []
    assert PredictionTable(tables).between()["employee_id"].fillna("").tolist() == [BERT, ""]
    assert OutcomeTable(tables).history()["employee_id"].tolist() == [BERT]
    assert store.erase(ANNA) == 0


def test_a_running_committer_is_waited_for(store, spool, root, tables):
    """And when it does not come in time, what is left is said."""
    Tombstones(tables).set(ANNA, ErasureState.BEGUN, now=NOW)
    with exclusive(root):
        store.erase(ANNA)
        assert store.holdings(ANNA)[0].n_rows == 3
    spool.close()
    store.erase(ANNA)
    assert store.holdings(ANNA) == []


def test_segments_that_cannot_be_read_are_said(store, spool):
    """Somebody must look: the person may be in them."""
    (spool.folder / f"0000000009{UNREADABLE}").write_bytes(b"attrition spool 99\n")
    holding = store.holdings("dd" * 16)[0]
    assert (holding.n_rows, holding.place) == (0, f"{spool.spool_id}, unreadable")
    assert "1 segments were set aside" in holding.note


def test_no_spools(store):
    """A project that never served."""
    assert store.holdings(ANNA) == []
    assert store.values(ANNA) == []
    assert store.erase(ANNA) == 0
