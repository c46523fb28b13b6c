"""Exact Shapley values of an ensemble of decision trees, from arrays.

What a tree is worth for a set S of players is its *path-dependent* expectation: a split on a player in S is followed,
any other sends a part of the record to both sides, in proportion to the training weight that went there (Lundberg et
al. 2020, Algorithm 1). So no background rows are needed beyond these weights, the values are exact for the trees as
they are, and they equal those of ``shap.TreeExplainer`` without background data.

Notation. A leaf with value v is reached through splits on m different players. Player j is followed to it or not,
``o_j`` in {0, 1}; of a record that does not know j, the share ``z_j`` in (0, 1] arrives (the product of the shares at
all splits on j). The leaf contributes v · prod(o_j for j in S) · prod(z_j for j not in S) to the worth of S. That is a
multilinear game, whose Shapley value is an integral along the diagonal of the unit cube (Owen 1972, section 5)::

    phi_i = v (o_i - z_i) · integral over t in [0, 1] of prod(t o_j + (1 - t) z_j for j != i)

The integrand is a polynomial of degree m - 1, for which Gauss-Legendre quadrature with ceil(m / 2) points is exact. All
its terms are positive, so nothing cancels, and all leaves are computed at once.

References
----------
Lundberg & Lee (2017), NeurIPS 30. Lundberg et al. (2020), Nature Machine Intelligence 2, 56-67. Owen (1972), Management
Science 18(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_BLOCK = 2**13
"""Conditions per block: its arrays, some numbers each, stay in a core's cache."""
_GROUP = 2**21
"""Nodes times players whose paths are laid out at once: some tens of megabytes."""


@dataclass(frozen=True, slots=True)
class TreeNodes:
    """All nodes of an ensemble; a node sends a record left when its column is at most its threshold.

    Attributes
    ----------
    threshold : ndarray of shape (n_nodes,), float64
        Of a split; value of a leaf.
    left : ndarray of shape (n_nodes,), int
        Left child, the right one follows it; a leaf points to itself.
    roots : ndarray of shape (n_trees,), int
    player : ndarray of shape (n_nodes,), int
        What the split asks about: splits of one player are known together or not at all.
    missing_left : ndarray of shape (n_nodes,), bool
        Side of a record in which the player's feature is missing.
    cover : ndarray of shape (n_nodes,), float64, > 0
        Training weight that reached the node.
    """

    threshold: NDArray[np.float64]
    left: NDArray[np.intp]
    roots: NDArray[np.intp]
    player: NDArray[np.intp]
    missing_left: NDArray[np.bool_]
    cover: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Block:
    """Conditions of some leaves, leaf after leaf: one per player on the path, satisfied by low < x <= high."""

    player: NDArray[np.intp]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    missing: NDArray[np.bool_]
    share: NDArray[np.float64]
    start: NDArray[np.intp]
    leaf: NDArray[np.intp]
    value: NDArray[np.float64]
    points: NDArray[np.float64]
    weights: NDArray[np.float64]


class TreeShap:
    """Shapley values of the sum of all trees, by player.

    Parameters
    ----------
    nodes
        Of the trees.
    n_players
        Players are numbered from 0.

    Attributes
    ----------
    expected_value : float
        Worth of knowing nothing: the mean of the leaves, each weighed by its share of the training weight.
    n_conditions : int
        What one record costs is proportional to it.
    """

    def __init__(self, nodes: TreeNodes, n_players: int) -> None:
        self._n_players = n_players
        self._blocks: list[_Block] = []
        for roots in _groups(nodes, n_players):
            paths = _to_leaves(nodes, roots, n_players)
            self._blocks += _blocks(paths, nodes.threshold[paths.node])
        self.n_conditions = sum(len(block.player) for block in self._blocks)
        stumps = nodes.roots[nodes.left[nodes.roots] == nodes.roots]
        self.expected_value = float(nodes.threshold[stumps].sum()) + sum(
            float(block.value @ np.multiply.reduceat(block.share, block.start)) for block in self._blocks
        )

    def values(self, known: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each player adds to the expected value, for one record.

        Parameters
        ----------
        known : ndarray of shape (n_players,), float64
            What the players' splits compare; anything where it is missing.
        missing : ndarray of shape (n_players,), bool

        Returns
        -------
        ndarray of shape (n_players,), float64
            With :attr:`expected_value` they sum to the record's leaf values.
        """
        found = np.zeros(self._n_players)
        for block in self._blocks:
            x = known.take(block.player)
            follows = np.where(missing.take(block.player), block.missing, (block.low < x) & (x <= block.high))
            share = block.share
            factor = np.multiply.outer(1.0 - block.points, share)
            factor += np.multiply.outer(block.points, follows)
            product = np.multiply.reduceat(factor, block.start, axis=1)
            product *= block.weights[:, None]
            others = (product.take(block.leaf, axis=1) / factor).sum(axis=0)
            terms = (follows - share) * others * block.value.take(block.leaf)
            found += np.bincount(block.player, terms, self._n_players)
        return found


def _groups(nodes: TreeNodes, n_players: int) -> Iterator[NDArray[np.intp]]:
    """Roots of the trees that have a split, in groups whose paths fit into memory side by side."""
    starts = np.append(np.sort(nodes.roots), len(nodes.left))
    sizes = np.diff(starts)
    group = np.cumsum(sizes * n_players) // _GROUP
    splits = nodes.left[starts[:-1]] != starts[:-1]
    for number in np.unique(group[splits]):
        yield starts[:-1][splits & (group == number)]


@dataclass(frozen=True, slots=True)
class _Paths:
    """Paths from roots to nodes, and what each asks of every player: arrays of shape (n,) and (n, n_players).

    A player that is not asked has the condition that everything satisfies, and the share 1.
    """

    node: NDArray[np.intp]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    missing: NDArray[np.bool_]
    share: NDArray[np.float64]
    asked: NDArray[np.bool_]

    @classmethod
    def to_roots(cls, roots: NDArray[np.intp], n_players: int) -> _Paths:
        shape = (len(roots), n_players)
        unbounded = np.full(shape, np.inf)
        return cls(roots, -unbounded, unbounded, np.ones(shape, bool), np.ones(shape), np.zeros(shape, bool))

    @classmethod
    def joined(cls, several: Sequence[_Paths]) -> _Paths:
        return cls(*(np.concatenate([getattr(paths, name) for paths in several]) for name in cls.__slots__))

    def take(self, rows: NDArray[Any]) -> _Paths:
        return _Paths(*(getattr(self, name)[rows] for name in self.__slots__))

    def extended(self, nodes: TreeNodes, *, to_left: bool) -> _Paths:
        """The paths to one child of each node, which is a split."""
        at = np.arange(len(self.node)), nodes.player[self.node]
        threshold, child = nodes.threshold[self.node], nodes.left[self.node] + (not to_left)
        low, high, missing = self.low.copy(), self.high.copy(), self.missing.copy()
        share, asked = self.share.copy(), self.asked.copy()
        if to_left:
            high[at] = np.minimum(high[at], threshold)
        else:
            low[at] = np.maximum(low[at], threshold)
        missing[at] &= nodes.missing_left[self.node] == to_left
        share[at] *= nodes.cover[child] / nodes.cover[self.node]
        asked[at] = True
        return _Paths(child, low, high, missing, share, asked)


def _to_leaves(nodes: TreeNodes, roots: NDArray[np.intp], n_players: int) -> _Paths:
    """The paths to all leaves below some roots, which are splits."""
    paths = _Paths.to_roots(roots, n_players)
    complete: list[_Paths] = []
    while len(paths.node):
        paths = _Paths.joined([paths.extended(nodes, to_left=to_left) for to_left in (True, False)])
        leaf = nodes.left[paths.node] == paths.node
        complete.append(paths.take(leaf))
        paths = paths.take(~leaf)
    return _Paths.joined(complete)


def _blocks(paths: _Paths, value: NDArray[np.float64]) -> Iterator[_Block]:
    """Leaves with about as many players each, so that few are integrated with more points than they need."""
    sizes = paths.asked.sum(axis=1)
    order = np.argsort(sizes, kind="stable")
    bounds = np.searchsorted(np.cumsum(sizes[order]), np.arange(_BLOCK, sizes.sum() + _BLOCK, _BLOCK))
    for rows in np.split(order, bounds):
        if not len(rows):
            continue
        leaf, player = np.nonzero(paths.asked[rows])
        size = sizes[rows]
        points, weights = np.polynomial.legendre.leggauss(-(-int(size.max()) // 2))
        at = (rows[leaf], player)
        yield _Block(
            player=player,
            low=paths.low[at],
            high=paths.high[at],
            missing=paths.missing[at],
            share=paths.share[at],
            start=np.cumsum(size) - size,
            leaf=leaf,
            value=value[rows],
            # from [-1, 1] to [0, 1]
            points=(points + 1.0) / 2.0,
            weights=weights / 2.0,
        )
