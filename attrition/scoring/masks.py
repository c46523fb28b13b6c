"""Scores of an ensemble of small trees from precomputed bit masks: a few microseconds per record.

A tree of at most 64 leaves fits one machine word: bit i stands for leaf i, numbered from left to right. A split that
sends the record right rules out the leaves of its left subtree, so it owns a mask with those bits cleared. The AND of
the masks of all splits that send right leaves the record's leaf as the lowest bit still set (Theorem 1 of the
reference). All splits on one feature whose threshold lies below x send right, hence their joint mask depends only on
x's rank among the feature's thresholds: it is computed once per rank, for all trees, at load. Scoring is then one
binary search and one AND per feature, whatever the number and depth of the trees. Missing values and category codes
are ranks of their own.

References
----------
Lucchese et al. (2015), QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees,
SIGIR '15, section 3. The table per rank replaces its list of masks per threshold.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from attrition.scoring.output import output_functions
from attrition.scoring.ranks import Codes, Thresholds
from attrition.scoring.trees import split_points, sum_in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.scoring.format import TreesDocument
    from attrition.scoring.trees import Ensemble

    Masks = NDArray[np.unsignedinteger[Any]]
    Word = np.dtype[np.unsignedinteger[Any]]

MAX_LEAVES = 64
MAX_TABLE_BYTES = 32 * 2**20
_BLOCK = 2**16


def fits_masks(document: TreesDocument, ensemble: Ensemble) -> bool:
    """Whether every tree has at most `MAX_LEAVES` leaves and the tables stay below `MAX_TABLE_BYTES`."""
    leaves = np.add.reduceat(ensemble.is_leaf.astype(np.int64), ensemble.roots) if ensemble.in_order else None
    if leaves is None or leaves.max() > MAX_LEAVES:
        return False
    n_ranks = sum(len(points) + 2 for points in split_points(document, ensemble))
    return bool(n_ranks * document.n_trees * _word(int(leaves.max())).itemsize <= MAX_TABLE_BYTES)


def _word(n_leaves: int) -> Word:
    return np.dtype(np.uint32) if n_leaves <= 32 else np.dtype(np.uint64)


class MaskScorer:
    """An ensemble of small trees, by masks; satisfies :class:`attrition.scoring.scorer.Scorer`."""

    def __init__(self, document: TreesDocument, ensemble: Ensemble) -> None:
        self.feature_names = document.features
        self.document = document
        self.ensemble = ensemble
        self.leaf_values, splits, word = _number_leaves(ensemble)
        self._flat_leaves = self.leaf_values.ravel()
        self._first_leaf = np.arange(document.n_trees) * self.leaf_values.shape[1]
        self._unit = word.type(1)
        self._full = np.full(document.n_trees, np.iinfo(word).max, word)
        self.rank_tables = _rank_tables(document, splits, self.split_points, self._full)
        # rows as separate arrays: indexing a list is cheaper than slicing a matrix
        self._numeric_rows = [(f, t.points.tolist(), list(table)) for f, t, table in self.rank_tables.numeric]
        self._table_rows = [
            (f, {code: i for i, code in enumerate(c.codes)}, list(table)) for f, c, table in self.rank_tables.tables
        ]
        self._one, self.to_probability = output_functions(document.output)

    @property
    def split_points(self) -> tuple[NDArray[np.float64], ...]:
        """Per feature, where the score may jump: thresholds of a number, codes of a category; sorted."""
        return split_points(self.document, self.ensemble)

    def score_one(self, values: Sequence[float]) -> float:
        """Probability of leaving for one record; see :meth:`attrition.scoring.scorer.Scorer.score_one`."""
        masks = self._full.copy()
        for feature, thresholds, rows in self._numeric_rows:
            value = values[feature]
            masks &= rows[bisect_left(thresholds, value) if value == value else -1]  # noqa: PLR0124 - NaN
        for feature, codes, rows in self._table_rows:
            value = values[feature]
            masks &= rows[codes.get(value, -2) if value == value else -1]  # noqa: PLR0124
        # zeros below the lowest set bit = its position
        leaf = np.bitwise_count(~masks & (masks - self._unit))
        leaves = self._flat_leaves.take(self._first_leaf + leaf)
        leaves[0] += self.document.base
        return self._one(float(leaves.cumsum()[-1]) / self.document.divisor)

    def score(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of leaving for each row; see :meth:`attrition.scoring.scorer.Scorer.score`."""
        ranked = self._ranks(matrix)
        raw = np.empty(len(matrix))
        n_rows = max(1, _BLOCK // len(self._first_leaf))
        for start in range(0, len(matrix), n_rows):
            block = slice(start, start + n_rows)
            masks = np.tile(self._full, (len(raw[block]), 1))
            for ranks, table in ranked:
                masks &= table.take(ranks[block], axis=0)
            leaf = np.bitwise_count(~masks & (masks - self._unit))
            leaves = np.ascontiguousarray(self._flat_leaves.take(leaf + self._first_leaf).T)
            raw[block] = sum_in_order(leaves, self.document.base)
        return self.to_probability(raw / self.document.divisor)

    def _ranks(self, matrix: NDArray[np.float64]) -> list[tuple[NDArray[np.intp], Masks]]:
        """Per feature, the row of its table that each record selects."""
        ranked = []
        for feature, thresholds, table in self.rank_tables.numeric:
            column = matrix[:, feature]
            ranks = thresholds.ranks(column)
            ranks[np.isnan(column)] = len(table) - 1
            ranked.append((ranks, table))
        for feature, codes, table in self.rank_tables.tables:
            ranked.append((codes.places(matrix[:, feature]), table))
        return ranked


class RankTables(NamedTuple):
    """Masks by rank of a number and by place of a code: feature, ranks and table; missing is a table's last row."""

    numeric: list[tuple[int, Thresholds, Masks]]
    tables: list[tuple[int, Codes, Masks]]


def _rank_tables(
    document: TreesDocument, splits: _Splits, points: Sequence[NDArray[np.float64]], full: Masks
) -> RankTables:
    numeric = [
        (feature, Thresholds(points[feature]), _rank_table(document, splits, feature, points[feature], full))
        for feature in dict.fromkeys(column.feature for column in document.numeric)
        if len(points[feature])
    ]
    tables, first = [], len(document.numeric)
    for columns in document.tables:
        rows = [_code_mask(row, first, splits, full) for row in (*columns.values, columns.unknown, columns.missing)]
        tables.append((columns.feature, Codes(columns.codes), np.array(rows)))
        first += len(columns.unknown)
    return RankTables(numeric, tables)


def _number_leaves(
    ensemble: Ensemble,
) -> tuple[NDArray[np.float64], _Splits, Word]:
    """Leaf values by tree and position, the splits with their masks, and the machine word.

    Sizes are summed from the last node up, positions handed from the first down: children follow their parents.
    """
    leaf = ensemble.is_leaf
    left = ensemble.left.tolist()
    size = leaf.astype(np.int64).tolist()
    for node in range(len(left) - 1, -1, -1):
        if left[node] != node:
            size[node] = size[left[node]] + size[left[node] + 1]
    position = [0] * len(left)
    tree = [0] * len(left)
    for number, root in enumerate(ensemble.roots.tolist()):
        tree[root] = number
    for node, child in enumerate(left):
        if child != node:
            position[child], position[child + 1] = position[node], position[node] + size[child]
            tree[child] = tree[child + 1] = tree[node]
    widest = max(size[root] for root in ensemble.roots.tolist())
    word = _word(widest)
    values = np.zeros((len(ensemble.roots), widest))
    values[np.array(tree)[leaf], np.array(position)[leaf]] = ensemble.value[leaf]
    splits = np.flatnonzero(~leaf)
    every = int(np.iinfo(word).max)
    masks = [every ^ (((1 << size[left[node]]) - 1) << position[node]) for node in splits.tolist()]
    return values, _Splits(ensemble, splits, np.array(tree)[splits], np.array(masks, word)), word


class _Splits:
    """Column, threshold, tree and mask of every split, each of shape (n_splits,)."""

    def __init__(self, ensemble: Ensemble, nodes: NDArray[np.intp], tree: NDArray[np.int64], mask: Masks) -> None:
        self.column = ensemble.column[nodes]
        self.threshold = ensemble.value[nodes]
        self.tree = tree
        self.mask = mask


def _rank_table(
    document: TreesDocument, splits: _Splits, feature: int, points: NDArray[np.float64], full: Masks
) -> Masks:
    """Masks by rank of a number among its thresholds, the last row for a missing one; (n_ranks + 1, n_trees)."""
    table = np.tile(full, (len(points) + 2, 1))
    for place, column in enumerate(document.numeric):
        if column.feature != feature:
            continue
        mine = np.flatnonzero(splits.column == place)
        ranks = np.searchsorted(points, splits.threshold[mine]) + 1
        np.bitwise_and.at(table, (ranks, splits.tree[mine]), splits.mask[mine])
        if column.missing == "high":
            np.bitwise_and.at(table[-1], splits.tree[mine], splits.mask[mine])
    np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
    return table


def _code_mask(row: Sequence[float], first: int, splits: _Splits, full: Masks) -> Masks:
    """Masks of all trees for one code of a category, shape (n_trees,)."""
    masks = full.copy()
    for place, value in enumerate(row):
        right = np.flatnonzero((splits.column == first + place) & (value > splits.threshold))
        np.bitwise_and.at(masks, splits.tree[right], splits.mask[right])
    return masks
