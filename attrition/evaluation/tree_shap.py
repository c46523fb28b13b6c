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
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BLOCK = 2**15
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
        self._blocks = [
            block for roots in _groups(nodes, n_players) for block in _blocks(*_leaves(nodes, roots, n_players))
        ]
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


def _leaves(nodes: TreeNodes, at: NDArray[np.intp], n_players: int) -> tuple[NDArray[np.float64], ...]:
    """Per leaf below some roots: its value, and the conditions of each player, arrays of shape (n_leaves, n_players).

    A player that the path does not ask has the condition that everything satisfies, and the share 1.
    """
    n = len(at)
    low, high = np.full((n, n_players), -np.inf), np.full((n, n_players), np.inf)
    missing, share = np.ones((n, n_players), bool), np.ones((n, n_players))
    asked = np.zeros((n, n_players), bool)
    done: list[tuple[NDArray[np.float64], ...]] = []
    while len(at):
        rows = np.arange(len(at))
        player, threshold, cover = nodes.player[at], nodes.threshold[at], nodes.cover[at]
        sides = []
        for side in (0, 1):
            child = nodes.left[at] + side
            lows, highs, may, shares, ask = low.copy(), high.copy(), missing.copy(), share.copy(), asked.copy()
            bounds, tighter = (highs, np.minimum) if side == 0 else (lows, np.maximum)
            bounds[rows, player] = tighter(bounds[rows, player], threshold)
            may[rows, player] &= nodes.missing_left[at] == (side == 0)
            shares[rows, player] *= nodes.cover[child] / cover
            ask[rows, player] = True
            sides.append((child, lows, highs, may, shares, ask))
        at, low, high, missing, share, asked = (np.concatenate(pair) for pair in zip(*sides, strict=True))
        leaf = nodes.left[at] == at
        done.append((nodes.threshold[at[leaf]], *(part[leaf] for part in (low, high, missing, share, asked))))
        at, low, high, missing, share, asked = (part[~leaf] for part in (at, low, high, missing, share, asked))
    return tuple(np.concatenate(parts) for parts in zip(*done, strict=True))


def _blocks(
    value: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    missing: NDArray[np.bool_],
    share: NDArray[np.float64],
    asked: NDArray[np.bool_],
) -> Iterator[_Block]:
    """Leaves with about as many players each, so that few are integrated with more points than they need."""
    sizes = asked.sum(axis=1)
    order = np.argsort(sizes, kind="stable")
    bounds = np.searchsorted(np.cumsum(sizes[order]), np.arange(_BLOCK, sizes.sum() + _BLOCK, _BLOCK))
    for rows in np.split(order, bounds):
        if not len(rows):
            continue
        leaf, player = np.nonzero(asked[rows])
        size = sizes[rows]
        points, weights = np.polynomial.legendre.leggauss(-(-int(size.max()) // 2))
        at = (rows[leaf], player)
        yield _Block(
            player=player,
            low=low[at],
            high=high[at],
            missing=missing[at],
            share=share[at],
            start=np.cumsum(size) - size,
            leaf=leaf,
            value=value[rows],
            points=(points + 1.0) / 2.0,
            weights=weights / 2.0,
        )
