"""A champion is compared on rows that it has not learned from, or not at all, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attrition.admission.champion import compare_with_champion
from attrition.data.dataset import Dataset
from attrition.data.employees import EmployeeTable
from attrition.data.findings import QualityReport
from attrition.data.schema import FeatureSchema
from attrition.data.splits import SplitSpec, apply_split, split_holdout
from attrition.data.tables import SnapshotRef
from attrition.training.lineage import Lineage

N_PERSONS = 2_000


@dataclass
class Memory:
    """A champion that knows the outcome of every row it was trained on, and guesses all others."""

    schema: FeatureSchema
    lineage: Lineage
    known: frozenset[float]

    def score(self, features: pd.DataFrame) -> Any:
        tenure = features["tenure"]
        return np.where(tenure.isin(self.known), (tenure % 1 > 0.5).astype(float), 0.5)


def _dataset(n_dates: int = 1, *, surrogate_ids: bool = False, schema: FeatureSchema | None = None) -> Dataset:
    """Rows whose tenure is unique, with the outcome in its fraction."""
    schema = schema or FeatureSchema.default()
    schema = schema.without(*(name for name in schema.names if name not in {"tenure", "department_code"}))
    n_rows = N_PERSONS * n_dates
    left = np.arange(n_rows) % 5 == 0
    frame = pd.DataFrame(
        {
            "employee_id": [f"{i % N_PERSONS:08x}" for i in range(n_rows)],
            "snapshot_date": pd.to_datetime([date(2015 + i // N_PERSONS, 1, 1) for i in range(n_rows)]),
            "tenure": np.arange(n_rows) + np.where(left, 0.75, 0.25),
            "department_code": 1.0,
            "attrition": left.astype(np.int8),
        }
    )
    table = EmployeeTable.of(frame, schema, surrogate_ids=surrogate_ids, source="made up")
    dates = table.dates.dt.date
    ref = SnapshotRef(
        "snapshots", 0, table.content_hash(), n_rows, str(dates.min()), str(dates.max()), "made up", schema.digest
    )
    return Dataset(table, ref, QualityReport((), n_rows))


def _champion(dataset: Dataset, spec: SplitSpec) -> Memory:
    split = apply_split(dataset.table, spec)
    lineage = Lineage(dataset.snapshot, spec, "0.1.0+test", "unit", "0" * 64, spec.seed, "2026-01-01T00:00:00+00:00")
    lineage = replace(lineage, surrogate_ids=dataset.table.surrogate_ids)
    known = frozenset(dataset.table.frame["tenure"].iloc[split.train])
    return Memory(dataset.table.schema, lineage, known)


def _compare(champion, dataset, **split):
    chosen = split_holdout(dataset.table, **split)
    return compare_with_champion(champion, dataset, chosen, np.full(len(chosen.holdout), 0.5)), chosen


def test_the_same_split_is_compared_whole():
    """Every row of the holdout."""
    dataset = _dataset()
    champion = _champion(dataset, SplitSpec("random", 0.25, 42))
    (gained, reason), split = _compare(champion, dataset, seed=42)
    assert (gained.n, gained.value, reason) == (len(split.holdout), 0.0, "")


@pytest.mark.parametrize("changed", [{"seed": 7}, {"seed": 42, "holdout_share": 0.5}])
def test_what_the_champion_has_learned_from_does_not_count(changed):
    """It would have an AUC near 1 there; another seed, or a larger share, and only the common holdout is left."""
    dataset = _dataset()
    champion = _champion(dataset, SplitSpec("random", 0.25, 42))
    (gained, _), split = _compare(champion, dataset, **changed)
    assert gained.value == 0.0
    assert 0 < gained.n < len(split.holdout)
    flattered = champion.score(dataset.table.frame.iloc[split.holdout])
    assert (flattered != 0.5).any()


def test_a_temporal_champion_is_compared_from_its_cutoff_on():
    """Before it, the champion knows later outcomes of others."""
    dataset = _dataset(6)
    champion = _champion(dataset, SplitSpec("temporal", 0.25, 42, date(2019, 1, 1), 365))
    (gained, _), split = _compare(champion, dataset, holdout_share=0.25, cutoff=date(2017, 1, 1))
    later = dataset.table.dates.iloc[split.holdout] >= pd.Timestamp(2019, 1, 1)
    assert gained.n == later.sum()
    assert gained.value == 0.0


def test_a_champion_of_an_earlier_snapshot_is_compared_on_a_later_one():
    """All dates of which lie after its cutoff."""
    champion = _champion(_dataset(4), SplitSpec("temporal", 0.25, 42, date(2018, 1, 1), 365))
    later = _dataset()
    later = replace(later, table=later.table.take(np.arange(N_PERSONS)))
    later.table.frame["snapshot_date"] = pd.Timestamp(2019, 1, 1).as_unit("us")
    (gained, reason), split = _compare(champion, later, seed=42)
    assert (gained.n, reason) == (len(split.holdout), "")


def test_rows_without_ids_are_compared_within_their_snapshot_only():
    """In another one nobody knows who was trained on."""
    dataset = _dataset(surrogate_ids=True)
    champion = _champion(dataset, SplitSpec("random", 0.25, 42))
    (gained, _), _ = _compare(champion, dataset, seed=42)
    assert gained is not None
    other = replace(dataset, snapshot=replace(dataset.snapshot, content_hash="other"))
    (gained, reason), _ = _compare(champion, other, seed=42)
    assert gained is None
    assert "without employee ids" in reason
    named = replace(other, table=replace(other.table, surrogate_ids=False))
    (gained, reason), _ = _compare(champion, named, seed=42)
    assert gained is None


def test_too_few_common_rows_are_no_evidence():
    """The reason says how many there are."""
    dataset = _dataset()
    champion = _champion(dataset, SplitSpec("random", 0.02, 42))
    (gained, reason), _ = _compare(champion, dataset, seed=7)
    assert gained is None
    assert "Only" in reason
    assert "of each" in reason


def _horizon(schema: FeatureSchema) -> FeatureSchema:
    return schema.model_copy(update={"horizon_days": 90})


def _categories(schema: FeatureSchema) -> FeatureSchema:
    return schema.with_categories({"department_code": {1: "another department"}})


def _kind(schema: FeatureSchema) -> FeatureSchema:
    changed = (f.model_copy(update={"kind": "integer"}) if f.name == "tenure" else f for f in schema.features)
    return schema.model_copy(update={"features": tuple(changed)})


def _unit(schema: FeatureSchema) -> FeatureSchema:
    changed = (f.model_copy(update={"unit": "years"}) if f.name == "tenure" else f for f in schema.features)
    return schema.model_copy(update={"features": tuple(changed)})


def _fewer(schema: FeatureSchema) -> FeatureSchema:
    return schema.without("department_code")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_horizon, "365 days ahead, they look 90"),
        (_categories, "department_code is of another list of categories"),
        (_kind, "tenure is of another kind"),
        (_unit, "tenure is of another unit"),
        (_fewer, "no department_code"),
    ],
)
def test_data_that_mean_something_else_are_not_compared(change, said):
    """The first difference is named."""
    champion = _champion(_dataset(), SplitSpec("random", 0.25, 42))
    dataset = _dataset(schema=change(FeatureSchema.default()))
    (gained, reason), _ = _compare(champion, dataset, seed=42)
    assert gained is None
    assert said in reason


def test_a_champion_of_unknown_origin_is_not_compared():
    """Nobody can say what it has seen."""
    dataset = _dataset()
    champion = _champion(dataset, SplitSpec("random", 0.25, 42))
    champion.lineage = replace(champion.lineage, split=None)
    (gained, reason), _ = _compare(champion, dataset, seed=42)
    assert gained is None
    assert "which rows it was trained on" in reason
