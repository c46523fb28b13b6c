"""A candidate against the champion, on rows that neither of them has learned from.

A candidate's holdout is the champion's training data as soon as their splits differ: by the plan's seed, by the share
that is held out, by the cutoff. There the champion shows a flattered AUC, and every better candidate would be held.
So the rows are those of the candidate's holdout that the champion's own split, applied to the present data, holds out
as well. A person is held out or not by a hash of the pseudonym, whatever the snapshot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from attrition.data.splits import apply_split
from attrition.errors import InsufficientData
from attrition.evaluation.metrics import compare_auc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from attrition.data.dataset import Dataset
    from attrition.data.employees import EmployeeTable
    from attrition.data.schema import FeatureSchema
    from attrition.data.splits import Split
    from attrition.evaluation.metrics import Estimate
    from attrition.training.candidate import Candidate, Lineage

MIN_ROWS_PER_CLASS = 20
"""Leavers, and stayers, without which no difference of two AUCs is worth reporting: DeLong's variance is of means."""


def compare_with_champion(
    champion: Candidate, dataset: Dataset, split: Split, y_score: NDArray[np.float64]
) -> tuple[Estimate | None, str]:
    """AUC gained over the champion; without one, the reason why the two cannot be compared.

    Parameters
    ----------
    dataset, split
        Of the candidate.
    y_score : ndarray of shape (n_holdout,), float64
        The candidate's probabilities for the holdout of `split`.

    Returns
    -------
    tuple of Estimate or None, and str
        The paired difference on the common holdout, and an empty reason; or None and a sentence.
    """
    reason = next(_differences(champion.schema, dataset.table.schema), "") or _untraceable(champion.lineage, dataset)
    if reason:
        return None, f"The champion cannot be compared on these data: {reason}."
    try:
        common = _held_out(champion.lineage, dataset.table)[split.holdout]
    except InsufficientData as error:
        return None, f"The champion's split cannot be applied to these data: {error}"
    holdout = dataset.table.take(split.holdout[common])
    n_left = int(holdout.target.sum())
    n_stayed = len(holdout) - n_left
    if min(n_left, n_stayed) < MIN_ROWS_PER_CLASS:
        found = f"{n_left} leavers and {n_stayed} stayers of this holdout were held out from the champion too"
        return None, f"Only {found}; a comparison needs {MIN_ROWS_PER_CLASS} of each."
    return compare_auc(holdout.target, champion.score(holdout.frame), y_score[common]), ""


def _differences(learned: FeatureSchema, present: FeatureSchema) -> Iterator[str]:
    """What keeps a model of the schema `learned` from being judged on data of the schema `present`."""
    if learned.horizon_days != present.horizon_days:
        yield f"it looks {learned.horizon_days} days ahead, they look {present.horizon_days}"
    for feature in learned.features:
        if feature.name not in present.names:
            yield f"they have no {feature.name}, which it reads"
            continue
        other = present[feature.name]
        for aspect in ("kind", "unit", "categories"):
            if getattr(feature, aspect) != getattr(other, aspect):
                yield f"{feature.name} is of another {aspect.replace('categories', 'list of categories')}"


def _untraceable(lineage: Lineage, dataset: Dataset) -> str:
    """Why it cannot be known which of the present rows a model has learned from; empty when it can."""
    if lineage.snapshot is None or lineage.split is None:
        return "it does not say which rows it was trained on"
    other_data = lineage.snapshot.content_hash != dataset.snapshot.content_hash
    if other_data and (lineage.surrogate_ids or dataset.table.surrogate_ids):
        return "without employee ids, the persons that it was trained on cannot be found in another snapshot"
    return ""


def _held_out(lineage: Lineage, table: EmployeeTable) -> NDArray[np.bool_]:
    """Mask of the rows of persons, and of times, that a model of this lineage has not learned from."""
    spec, snapshot = lineage.split, lineage.snapshot
    assert spec is not None  # see _untraceable
    assert snapshot is not None
    # by person alone: a later snapshot has no rows on the training side of an earlier cutoff
    by_person = replace(spec, kind="random", cutoff=None, embargo_days=0)
    held_out = np.zeros(len(table), dtype=bool)
    held_out[apply_split(table, by_person).holdout] = True
    # before its cutoff, or its only date, a model knows a later climate than the rows do
    since = spec.cutoff or snapshot.last_date
    if since is not None:
        held_out &= (table.dates >= pd.Timestamp(since)).to_numpy()
    return held_out
