"""Scores of a tree ensemble by walking all trees in step, level by level.

Serves any ensemble. When every tree is small, :mod:`attrition.scoring.masks` answers faster from the same
:class:`Ensemble`. Leaf values are added in the order of the trees, as scikit-learn adds them: the raw score is equal to
the last bit, so that a steep step of an isotonic calibration cannot magnify a difference in rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from attrition.errors import Fault, IntegrityError
from attrition.scoring.format import TREES_FILE
from attrition.scoring.output import output_functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.scoring.format import TreesDocument

MAX_DEPTH = 512
_BLOCK = 2**17
"""Tree visits per block of a batch: intermediate arrays of 8 bytes each stay in a core's cache."""
_CHECK_EVERY = 4
"""Levels between two looks at which paths have arrived."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """The nodes of all trees, one after another; see :class:`attrition.scoring.format.TreesDocument`.

    Attributes
    ----------
    value : ndarray of shape (n_nodes,), float64
        Threshold of a split, value of a leaf.
    left : ndarray of shape (n_nodes,), int32
        Left child; a leaf points to itself.
    roots : ndarray of shape (n_trees,), int32
    column : ndarray of shape (n_nodes,), uint16
    """

    value: NDArray[np.float64]
    left: NDArray[np.int32]
    roots: NDArray[np.int32]
    column: NDArray[np.uint16]

    def to_bytes(self) -> bytes:
        """Content of ``trees.bin``."""
        whole = self.left.astype("<i4").tobytes() + self.roots.astype("<i4").tobytes()
        return self.value.astype("<f8").tobytes() + whole + self.column.astype("<u2").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, document: TreesDocument) -> Ensemble:
        """The checked nodes of ``trees.bin``.

        Raises
        ------
        IntegrityError
            Wrong length, a number that is not finite, a column or child that does not exist, or a node that is not
            reached exactly once.
        """
        nodes, trees = document.n_nodes, document.n_trees
        if len(data) != nodes * 14 + trees * 4:
            found = f"{len(data)} bytes"
            raise IntegrityError(
                Fault(TREES_FILE, found, f"{nodes} nodes of {trees} trees take {nodes * 14 + trees * 4}")
            )
        ensemble = cls(
            value=np.frombuffer(data, "<f8", nodes),
            left=np.frombuffer(data, "<i4", nodes, nodes * 8),
            roots=np.frombuffer(data, "<i4", trees, nodes * 12),
            column=np.frombuffer(data, "<u2", nodes, nodes * 12 + trees * 4),
        )
        n_columns = len(document.numeric) + sum(len(table.unknown) for table in document.tables)
        problem = ensemble.problem(n_columns)
        if problem:
            raise IntegrityError(
                Fault(TREES_FILE, problem, "every node belongs to one tree", "export the version again")
            )
        return ensemble

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Which nodes are leaves, shape (n_nodes,)."""
        return np.asarray(self.left == np.arange(len(self.left)))

    @property
    def in_order(self) -> bool:
        """Whether each tree's nodes follow its root, so that node ranges are trees."""
        return bool(self.roots[0] == 0 and (np.diff(self.roots) > 0).all())

    def problem(self, n_columns: int) -> str:
        """What makes the nodes unusable, empty when nothing does."""
        n_nodes = len(self.left)
        splits = np.flatnonzero(~self.is_leaf)
        children = self.left[splits].astype(np.int64)
        outside = (children <= splits).any() or (children + 1 >= n_nodes).any()
        if outside or (self.roots < 0).any() or (self.roots >= n_nodes).any():
            return "a root lies outside, or a child outside or before its parent"
        if (self.column[splits] >= n_columns).any():
            return f"a split reads a column that does not exist, there are {n_columns}"
        reached = np.bincount(np.concatenate([self.roots, children, children + 1]), minlength=n_nodes)
        if (reached != 1).any():
            return "a node is reached by no path or by several"
        if not np.isfinite(self.value).all():
            return "a threshold or leaf value is not finite"
        return f"a tree is deeper than {MAX_DEPTH}" if self.depth() > MAX_DEPTH else ""

    def depth(self) -> int:
        """Splits on the longest path, counted to one beyond `MAX_DEPTH`."""
        leaf = self.is_leaf
        level = self.roots[~leaf[self.roots]]
        depth = 0
        while len(level) and depth <= MAX_DEPTH:
            children = np.concatenate([self.left[level], self.left[level] + 1])
            level = children[~leaf[children]]
            depth += 1
        return depth


class TreeScorer:
    """Any ensemble, by walking; satisfies :class:`attrition.scoring.scorer.Scorer`.

    A record becomes a row of columns once (missing as minus or plus infinity, categories as their table's row), after
    which every split of every tree is the same comparison.
    """

    def __init__(self, document: TreesDocument, ensemble: Ensemble) -> None:
        self.feature_names = document.features
        self.document = document
        self.ensemble = ensemble
        leaf = ensemble.is_leaf
        # a leaf sends everything to itself, so that short paths need no special case
        self._thresholds = np.where(leaf, inf, ensemble.value)
        self._left = ensemble.left.astype(np.intp)
        self._column = ensemble.column.astype(np.intp)
        self._leaf = leaf
        self._values = ensemble.value
        self._roots = ensemble.roots.astype(np.intp)
        self._depth = ensemble.depth()
        self._numeric = [(c.feature, -inf if c.missing == "low" else inf) for c in document.numeric]
        self._tables = [
            (
                t.feature,
                {code: list(row) for code, row in zip(t.codes, t.values, strict=True)},
                list(t.unknown),
                list(t.missing),
            )
            for t in document.tables
        ]
        self._one, self.to_probability = output_functions(document.output)

    @property
    def split_points(self) -> tuple[NDArray[np.float64], ...]:
        """Per feature, where the score may jump: thresholds of a number, codes of a category; sorted."""
        return split_points(self.document, self.ensemble)

    def score_one(self, values: Sequence[float]) -> float:
        """Probability of leaving for one record; see :meth:`attrition.scoring.scorer.Scorer.score_one`."""
        row = []
        for feature, missing in self._numeric:
            value = values[feature]
            row.append(value if value == value else missing)  # noqa: PLR0124 - NaN is unequal to itself
        for feature, rows, unknown, missing_row in self._tables:
            value = values[feature]
            row += rows.get(value, unknown) if value == value else missing_row  # noqa: PLR0124
        columns = np.array(row)
        nodes = self._roots
        for level in range(self._depth):
            right = columns.take(self._column.take(nodes)) > self._thresholds.take(nodes)
            nodes = self._left.take(nodes) + right
            if level % _CHECK_EVERY == _CHECK_EVERY - 1 and self._leaf.take(nodes).all():
                break
        leaves = self._values.take(nodes)
        leaves[0] += self.document.base
        return self._one(float(leaves.cumsum()[-1]) / self.document.divisor)

    def score(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of leaving for each row; see :meth:`attrition.scoring.scorer.Scorer.score`."""
        raw = np.empty(len(matrix))
        n_rows = max(1, _BLOCK // len(self._roots))
        for start in range(0, len(matrix), n_rows):
            raw[start : start + n_rows] = self._walk(self._expand(matrix[start : start + n_rows]))
        return self.to_probability(raw / self.document.divisor)

    def _expand(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns of each row, shape (n_rows, n_columns)."""
        parts = []
        for feature, missing in self._numeric:
            column = rows[:, feature]
            parts.append(np.where(np.isnan(column), missing, column)[:, None])
        for feature, table, unknown, missing_row in self._tables:
            column = rows[:, feature]
            part = np.tile(unknown, (len(rows), 1))
            for code, values in table.items():
                part[column == code] = values
            part[np.isnan(column)] = missing_row
            parts.append(part)
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 1))

    def _walk(self, columns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of leaf values per row, trees added in order."""
        flat = columns.ravel()
        n_rows, n_trees = len(columns), len(self._roots)
        reached = np.repeat(self._roots, n_rows)
        offsets = np.tile(np.arange(n_rows) * columns.shape[1], n_trees)
        walking = np.arange(len(reached))
        nodes = reached
        for level in range(self._depth):
            right = flat.take(self._column.take(nodes) + offsets) > self._thresholds.take(nodes)
            nodes = self._left.take(nodes) + right
            if level % _CHECK_EVERY == _CHECK_EVERY - 1:
                # most paths are far shorter than the longest: go on with those that have not arrived
                reached[walking] = nodes
                still = np.flatnonzero(~self._leaf.take(nodes))
                walking, nodes, offsets = walking.take(still), nodes.take(still), offsets.take(still)
        reached[walking] = nodes
        return sum_in_order(self._values.take(reached).reshape(n_trees, n_rows), self.document.base)


def sum_in_order(leaves: NDArray[np.float64], base: float) -> NDArray[np.float64]:
    """`base` plus the leaf values of each record, added tree after tree, as scikit-learn does.

    Parameters
    ----------
    leaves : ndarray of shape (n_trees, n), float64, C-contiguous

    Returns
    -------
    ndarray of shape (n,), float64
    """
    leaves[0] += base
    if leaves.shape[1] == 1:
        return np.asarray(leaves.cumsum(axis=0)[-1])
    # over the first of two axes numpy adds row by row; over a single one it would add in pairs
    return np.asarray(leaves.sum(axis=0))


def split_points(document: TreesDocument, ensemble: Ensemble) -> tuple[NDArray[np.float64], ...]:
    """Per feature, the sorted thresholds of a number or codes of a category, without repetition."""
    splits = ~ensemble.is_leaf
    columns, thresholds = ensemble.column[splits], ensemble.value[splits]
    points: list[NDArray[np.float64]] = [np.empty(0)] * len(document.features)
    for place, column in enumerate(document.numeric):
        points[column.feature] = np.union1d(points[column.feature], thresholds[columns == place])
    for table in document.tables:
        if table.codes:
            points[table.feature] = np.array(sorted(table.codes))
    return tuple(points)
