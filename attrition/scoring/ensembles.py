"""Fitted tree ensembles of scikit-learn as flat nodes over the raw features.

Everything between a feature and a split is folded into the split's threshold: scaling, imputation, and the rounding of
the input to float32 that forests do. For a non-decreasing g, g(x) <= t holds exactly for x <= t', the largest float64
that g does not map above t; t' is found by bisection over the floating-point numbers themselves, hence without error.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.scoring.columns import Number, cannot_compile
from attrition.scoring.format import NumericColumn, TableColumns
from attrition.scoring.trees import Ensemble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from attrition.scoring.columns import Column, Table

LARGEST = float(np.finfo(np.float64).max)
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True, slots=True)
class Tree:
    """One fitted tree, node by node: children are -1 at leaves, `missing_left` is the side of missing values.

    `cover` is the training weight that reached the node: weighted rows of a forest, rows of a boosting.
    """

    column: NDArray[np.intp]
    threshold: NDArray[np.float64]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    cover: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trees:
    """Raw score = (base + the sum of the trees) / divisor; `single` when inputs are rounded to float32."""

    trees: list[Tree]
    base: float
    divisor: float
    single: bool


def read_trees(model: Any) -> Trees | None:
    """The trees of a fitted binary classifier; None when it is no ensemble of trees that we know.

    Raises
    ------
    ParityError
        A histogram gradient boosting with native categories.
    """
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier

    if isinstance(model, RandomForestClassifier | ExtraTreesClassifier):
        members = [_forest_tree(member.tree_) for member in model.estimators_]
        return Trees(members, base=0.0, divisor=float(len(members)), single=True)
    if isinstance(model, HistGradientBoostingClassifier):
        if model.is_categorical_ is not None:
            raise cannot_compile("native categories of HistGradientBoosting", "one-hot columns can")
        members = [_boosted_tree(predictor.nodes) for (predictor,) in model._predictors]  # noqa: SLF001 - no public access
        return Trees(members, base=float(model._baseline_prediction[0, 0]), divisor=1.0, single=False)  # noqa: SLF001
    return None


def _forest_tree(tree: Any) -> Tree:
    return Tree(
        column=np.asarray(tree.feature, np.intp),
        threshold=np.asarray(tree.threshold, np.float64),
        left=np.asarray(tree.children_left, np.intp),
        right=np.asarray(tree.children_right, np.intp),
        missing_left=np.asarray(tree.missing_go_to_left, bool),
        value=np.asarray(tree.value[:, 0, 1], np.float64),
        cover=np.asarray(tree.weighted_n_node_samples, np.float64),
    )


def _boosted_tree(nodes: Any) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        column=nodes["feature_idx"].astype(np.intp),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=np.where(leaf, -1, nodes["left"].astype(np.intp)),
        right=np.where(leaf, -1, nodes["right"].astype(np.intp)),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"].astype(np.float64),
        cover=nodes["count"].astype(np.float64),
    )


@dataclass(slots=True)
class FlatEnsemble:
    """The columns that splits read and the nodes, in the declared form; `cover` has the training weight per node."""

    numeric: tuple[NumericColumn, ...]
    tables: tuple[TableColumns, ...]
    ensemble: Ensemble
    cover: NDArray[np.float64]


def flatten(trees: Trees, columns: Sequence[Column]) -> FlatEnsemble:
    """Nodes over raw features: children side by side, thresholds in the feature's own unit.

    Parameters
    ----------
    trees
        Over the model's matrix.
    columns
        What each column of that matrix is.
    """
    layouts = [_breadth_first(tree) for tree in trees.trees]
    sizes = [len(order) for order, _ in layouts]
    roots = np.cumsum([0, *sizes[:-1]])
    column, threshold, missing_left, value, cover = (
        np.concatenate([getattr(tree, name)[order] for tree, (order, _) in zip(trees.trees, layouts, strict=True)])
        for name in ("column", "threshold", "missing_left", "value", "cover")
    )
    left = np.concatenate([left + root for (_, left), root in zip(layouts, roots, strict=True)])
    leaf = left == np.arange(len(left))
    used = _Columns(trees.single)
    new_column = np.zeros(len(left), np.uint16)
    for place in np.unique(column[~leaf]):
        at = np.flatnonzero(~leaf & (column == place))
        source = columns[place]
        threshold[at], low = _folded(source, threshold[at], missing_left[at], single=trees.single)
        for missing_low in (False, True):
            new_column[at[low == missing_low]] = used.number(source, missing_low=missing_low)
    numeric, tables, renumber = used.declared()
    ensemble = Ensemble(
        value=np.where(leaf, value, threshold),
        left=left.astype(np.int32),
        roots=roots.astype(np.int32),
        column=np.where(leaf, 0, renumber[new_column] if len(renumber) else 0).astype(np.uint16),
    )
    return FlatEnsemble(numeric, tables, ensemble, cover)


def _breadth_first(tree: Tree) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The tree's nodes in an order that puts siblings side by side, and each one's left child in that order."""
    levels = [np.zeros(1, np.intp)]
    while True:
        parents = levels[-1][tree.left[levels[-1]] >= 0]
        if not len(parents):
            break
        levels.append(np.stack([tree.left[parents], tree.right[parents]], axis=1).ravel())
    order = np.concatenate(levels)
    split = tree.left[order] >= 0
    left = np.arange(len(order))
    # the root aside, nodes come in pairs in the order of their parents
    left[split] = 1 + 2 * np.arange(split.sum())
    return order, left


def _folded(
    source: Column, threshold: NDArray[np.float64], missing_left: NDArray[np.bool_], *, single: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Thresholds over the raw feature, and whether a missing value goes left."""
    if not isinstance(source, Number):
        # an infinite threshold separates missing from all else, and must stay below the stand-in of missing
        return np.clip(threshold, -LARGEST / 2, LARGEST / 2), missing_left

    def g(values: NDArray[np.float64]) -> NDArray[np.float64]:
        values = source.apply(values)
        return values.astype(np.float32).astype(np.float64) if single else values

    low = missing_left
    if not isnan(source.missing):  # imputed: the constant takes the side that its value takes
        low = (np.float32(source.missing) if single else source.missing) <= threshold
    if not single and not source.operations:
        return np.clip(threshold, -LARGEST, LARGEST), low
    distinct, inverse = np.unique(threshold, return_inverse=True)
    return largest_not_above(g, distinct)[inverse], low


def largest_not_above(
    g: Callable[[NDArray[np.float64]], NDArray[np.float64]], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The largest finite x with g(x) <= t for each t, for a non-decreasing g; the lowest number when there is none.

    Parameters
    ----------
    thresholds : ndarray of shape (n,), float64

    Returns
    -------
    ndarray of shape (n,), float64

    Examples
    --------
    >>> largest_not_above(lambda x: x / 2.0, np.array([1.5]))
    array([3.])
    """
    low = _to_order(np.full(len(thresholds), -LARGEST))
    high = _to_order(np.full(len(thresholds), LARGEST))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(64):
            # rounds up, so that the last two candidates are told apart
            middle = high - ((high - low) >> np.uint64(1))
            admitted = g(_from_order(middle)) <= thresholds
            low = np.where(admitted, middle, low)
            high = np.where(admitted, high, np.maximum(middle - np.uint64(1), low))
    return _from_order(low)


def _to_order(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Integers in the order of the floating-point numbers."""
    bits = values.view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _from_order(order: NDArray[np.uint64]) -> NDArray[np.float64]:
    return np.where(order & _SIGN, order ^ _SIGN, ~order).view(np.float64)


class _Columns:
    """The columns that splits turned out to need, numbered in the order of first use."""

    def __init__(self, single: bool) -> None:
        self._single = single
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._sources: list[tuple[Column, bool]] = []

    def number(self, source: Column, *, missing_low: bool) -> int:
        if isinstance(source, Number):
            key: tuple[Any, ...] = (source.feature, missing_low)
        else:
            # NaN is unequal to itself, its text is not
            key = (source.feature, str([*source.values.items(), source.unknown, source.missing]), missing_low)
        if key not in self._numbers:
            self._numbers[key] = len(self._sources)
            self._sources.append((source, missing_low))
        return self._numbers[key]

    def declared(self) -> tuple[tuple[NumericColumn, ...], tuple[TableColumns, ...], NDArray[np.uint16]]:
        """Numbers first, then one table per category; and the new number of each column."""
        order: list[int] = []
        numeric: list[NumericColumn] = []
        members: dict[int, list[tuple[Table, bool]]] = {}
        places: dict[int, list[int]] = {}
        for place, (source, missing_low) in enumerate(self._sources):
            if isinstance(source, Number):
                numeric.append(NumericColumn(source.feature, "low" if missing_low else "high"))
                order.append(place)
            else:
                members.setdefault(source.feature, []).append((source, missing_low))
                places.setdefault(source.feature, []).append(place)
        order += [place for feature in places for place in places[feature]]
        renumber = np.zeros(len(order), np.uint16)
        renumber[order] = np.arange(len(order))
        return tuple(numeric), tuple(self._table(feature, members[feature]) for feature in members), renumber

    def _table(self, feature: int, members: list[tuple[Table, bool]]) -> TableColumns:
        codes = sorted({code for table, _ in members for code in table.values})
        return TableColumns(
            feature=feature,
            codes=tuple(codes),
            values=tuple(
                tuple(self._seen(table.values.get(code, table.unknown), low) for table, low in members)
                for code in codes
            ),
            unknown=tuple(self._seen(table.unknown, low) for table, low in members),
            missing=tuple(self._seen(table.missing, low) for table, low in members),
        )

    def _seen(self, value: float, missing_low: bool) -> float:
        """What a split sees of a table's number: rounded as the forest rounds it, and a stand-in for NaN."""
        if isnan(value):
            return -LARGEST if missing_low else LARGEST
        return float(np.float32(value)) if self._single else value
