"""The inner loops of batch scoring, in the subset of Python that numba compiles; slow as they stand.

Each does what a scorer's numpy code does, in the same order of operations. :mod:`attrition.scoring.compiled` compiles
them, and only a batch asks for that: a replica imports neither numba nor, hence, LLVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.scoring.exponential import LOWEST, PER_STEP, ROUND, STEP_HIGH, STEP_LOW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Longs = NDArray[np.int64]
    Ints = NDArray[np.int32]
    Words = NDArray[np.unsignedinteger[Any]]

LANES = 16
"""Records whose trees are walked in step: while one waits for memory, the others go on."""
GROUP = 8
"""Records whose leaves are added up side by side."""
LINE = 8
"""Numbers of 8 bytes per line of a cache."""
LEFT_BITS, RANK_SHIFT = np.uint64(30), np.uint64(40)
LEFT_MASK, COLUMN_MASK = np.uint64(2**30 - 1), np.uint64(2**10 - 1)
"""A node in 64 bits: left child in the lowest 30, column in 10, rank of the threshold in 24; all unsigned, because an
index that could be negative would be tested for that."""


def add_numbers(values: Doubles, weight: float, missing: float, raw: Doubles) -> None:
    """Add weight · x, or `missing`, to each raw score."""
    for row in range(len(values)):
        value = values[row]
        contribution = weight * value
        raw[row] += contribution if value == value else missing  # noqa: PLR0124 - NaN is unequal to itself


def add_codes(places: Longs, contributions: Doubles, raw: Doubles) -> None:
    """Add the contribution of each place to each raw score."""
    for row in range(len(places)):
        raw[row] += contributions[places[row]]


def logistic(raw: Doubles, slope: float, intercept: float, fractions: Doubles, powers: Doubles) -> None:
    """Replace each raw score by 1 / (1 + exp(-(slope · raw + intercept)))."""
    for row in range(len(raw)):
        logit = slope * raw[row] + intercept
        x = -abs(logit)
        x = max(x, LOWEST)
        m = (x * PER_STEP + ROUND) - ROUND
        r = (x - m * STEP_HIGH) - m * STEP_LOW
        step = np.int64(m) if m == m else 0  # noqa: PLR0124
        fraction = fractions[step & 255]
        polynomial = r + r * r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0)))
        odds = (fraction + fraction * polynomial) * powers[-(step >> 8)]
        raw[row] = (1.0 if logit >= 0.0 else odds) / (1.0 + odds)


def rank(
    values: Doubles,
    low: float,
    scale: float,
    last: float,
    first: Ints,
    padded: Doubles,
    widest: int,
    missing: int,
    ranks: Ints,
) -> None:
    """Number of thresholds below each value, `missing` for NaN; see :class:`attrition.scoring.ranks.Thresholds`."""
    for row in range(len(values)):
        value = values[row]
        place = (value - low) * scale
        place = min(place, last) if place > 0.0 else 0.0
        found = first[np.int64(place)]
        half = widest
        while half > 0:
            # no branch: it would be guessed wrong every other time
            found += half * np.int64(padded[found + half - 1] < value)
            half >>= 1
        ranks[row] = found if value == value else missing  # noqa: PLR0124


def and_masks(  # noqa: C901 - one loop for all of it, or the masks leave the processor
    ranks: Ints, offsets: Longs, table: Words, multiplier: Any, shift: int, leaves: Doubles, raw: Doubles
) -> None:
    """Add the leaf of every tree to each raw score, tree after tree; see :mod:`attrition.scoring.masks`.

    Parameters
    ----------
    ranks : ndarray of shape (n_features, n), int32
        Row of each feature's part of the table.
    offsets : ndarray of shape (n_features,), int64
        Where that part begins in the table, in rows.
    table : ndarray of shape (n_rows, n_trees)
    multiplier, shift
        A word with one bit set, times `multiplier`, has a different number in its bits from `shift` on for each bit.
    leaves : ndarray of shape (n_trees * word size,)
        Leaf values of each tree, in the order of these numbers.
    raw : ndarray of shape (n,)
        Holds what the leaves are added to.
    """
    n_features, n = ranks.shape
    n_trees = table.shape[1]
    n_bits = len(leaves) // n_trees
    masks, product = np.empty(n_trees, table.dtype), np.empty(n_trees, table.dtype)
    chosen = np.zeros((n_trees, GROUP), np.int32)
    sums = np.empty(GROUP)
    for start in range(0, n, GROUP):
        size = min(GROUP, n - start)
        for record in range(size):
            row = table[offsets[0] + ranks[0, start + record]]
            for tree in range(n_trees):
                masks[tree] = row[tree]
            for feature in range(1, n_features):
                row = table[offsets[feature] + ranks[feature, start + record]]
                for tree in range(n_trees):
                    masks[tree] &= row[tree]
            for tree in range(n_trees):
                masks[tree] &= ~masks[tree] + 1  # what is left is the lowest bit
                product[tree] = masks[tree] * multiplier
                chosen[tree, record] = tree * n_bits + (product[tree] >> shift)
        for record in range(size):
            sums[record] = raw[start + record]
        for tree in range(n_trees):
            for record in range(GROUP):
                sums[record] += leaves[chosen[tree, record]]
        for record in range(size):
            raw[start + record] = sums[record]


def walk(nodes: Longs, roots: Longs, values: Doubles, columns: Words, raw: Doubles) -> tuple[Any, float]:
    """Add the leaf of every tree to each raw score, tree after tree; returns nothing of interest.

    Parameters
    ----------
    nodes : ndarray of shape (n_nodes,), uint64
        Rank of the threshold, column, and left child, from the highest bits down; a leaf sends everything to itself.
    roots : ndarray of shape (n_trees + 1,), int64
        First node of each tree, and the end of the last.
    values : ndarray of shape (n_nodes,), float64
        Of the leaves.
    columns : ndarray of shape (n, n_columns)
        Ranks; n is a multiple of `LANES`.
    raw : ndarray of shape (n,)
        Holds what the leaves are added to.
    """
    n, n_columns = columns.shape
    flat, width = columns.ravel(), np.uint64(n_columns)
    place = np.empty(LANES, np.uint64)
    nodes_read, values_read = np.uint64(0), 0.0
    for tree in range(len(roots) - 1):
        # a tree read from end to end arrives in the cache faster than one whose nodes are asked for one by one
        for line in range(roots[tree], roots[tree + 1], LINE):
            nodes_read += nodes[line]
            values_read += values[line]
        for start in range(0, n, LANES):
            for lane in range(LANES):
                place[lane] = roots[tree]
            moved = np.uint64(1)
            while moved != 0:
                moved = np.uint64(0)
                for lane in range(LANES):
                    node = nodes[place[lane]]
                    rank = flat[np.uint64(start + lane) * width + ((node >> LEFT_BITS) & COLUMN_MASK)]
                    child = (node & LEFT_MASK) + np.uint64(rank > (node >> RANK_SHIFT))
                    moved |= child ^ place[lane]
                    place[lane] = child
            for lane in range(LANES):
                raw[start + lane] += values[place[lane]]
    return nodes_read, values_read
