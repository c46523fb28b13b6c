"""The record of traffic changes."""

from __future__ import annotations

import pytest

from attrition.errors import PlatformError
from attrition.registry.bundle import BundleRef
from attrition.serving.changes import pin, shift
from attrition.serving.traffic_history import (
    ChangeOutcome,
    TrafficHistory,
    applied_before,
    keep,
    last_generation,
    new_change,
)

REF = BundleRef("/bundles/1.0.0", "1.0.0", "0" * 64)
TRAFFIC = pin(shift(None, [(REF, 1.0)]), "x-user-group", "pilot", REF)


def change(generation, outcome=ChangeOutcome.APPLIED, application="attrition"):
    traffic = TRAFFIC.model_copy(update={"generation": generation})
    return new_change(application, f"set {generation}", outcome, traffic, seconds=0.25, detail="why")


@pytest.fixture
def history(tmp_path):
    return TrafficHistory(str(tmp_path / "tables"))


def test_what_was_recorded_is_read(history):
    """Every field, in the order of the generations, one application at a time."""
    assert history.changes("attrition") == []
    made = [change(generation) for generation in (0, 1, 2)]
    for each in (made[1], made[0], change(9, application="other"), made[2]):
        history.record(each)
    assert history.changes("attrition") == made
    assert made[0].actor
    assert made[0].to_dict()["traffic"]["pins"][0]["value"] == "pilot"


def test_where_a_rollback_goes():
    """To the last applied one before; not to a trial or what was refused."""
    past = [change(0), change(1), change(2, ChangeOutcome.REFUSED), change(3, ChangeOutcome.TRIAL), change(4)]
    assert applied_before(past, 4).generation == 1
    assert applied_before(past, 1).generation == 0
    assert applied_before(past, 0) is None
    assert (last_generation(past), last_generation([])) == (4, -1)


def test_storage_that_fails(tmp_path, caplog):
    """Reading says what is wrong; recording a change that was applied only warns."""
    (tmp_path / "traffic_changes").write_text("a file where a folder should be")
    history = TrafficHistory(str(tmp_path))
    with pytest.raises(PlatformError, match="cannot be written"):
        history.record(change(0))
    keep(history, change(0))
    assert "cannot be written" in caplog.text


def test_rows_of_a_later_version_are_left_out(history, tmp_path):
    """A field that this version does not know must not hide the others."""
    import pyarrow as pa
    from deltalake import DeltaTable, write_deltalake

    history.record(change(0))
    uri = str(tmp_path / "tables" / "traffic_changes")
    (row,) = DeltaTable(uri).to_pyarrow_table().to_pylist()
    later = {**row, "generation": 1, "traffic": '{"novelty": 1}'}
    write_deltalake(uri, pa.Table.from_pylist([later], schema=DeltaTable(uri).to_pyarrow_table().schema), mode="append")
    assert [each.generation for each in history.changes("attrition")] == [0]
