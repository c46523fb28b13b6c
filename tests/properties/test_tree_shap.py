"""Shapley values of random trees against their definition, and the axioms that make them Shapley values."""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrition.evaluation.tree_shap import TreeNodes, TreeShap

N_PLAYERS = 4


def grow(rng, n_trees, depth, players):
    """Random trees, children side by side, with random positive covers that add up."""
    threshold, left, roots, player, missing_left, cover = [], [], [], [], [], []

    def node(weight):
        threshold.append(float(rng.normal()))
        left.append(len(left))
        player.append(0)
        missing_left.append(bool(rng.integers(2)))
        cover.append(weight)
        return len(left) - 1

    for _ in range(n_trees):
        roots.append(node(float(rng.integers(50, 100))))
        level = [roots[-1]]
        for _ in range(depth):
            below = []
            for place in level:
                if rng.random() < 0.8:
                    share = rng.uniform(0.05, 0.95)
                    left[place] = node(cover[place] * share)
                    node(cover[place] * (1 - share))
                    player[place] = int(rng.choice(players))
                    below += [left[place], left[place] + 1]
            level = below
    arrays = (np.array(threshold), np.array(left), np.array(roots), np.array(player), np.array(missing_left))
    return TreeNodes(*arrays, np.array(cover))


def worth(nodes, place, known, x, missing):
    """Algorithm 1 of Lundberg et al. (2020): follow known players, split the rest by cover."""
    if nodes.left[place] == place:
        return nodes.threshold[place]
    children = nodes.left[place], nodes.left[place] + 1
    player = nodes.player[place]
    if player in known:
        goes_left = nodes.missing_left[place] if missing[player] else x[player] <= nodes.threshold[place]
        return worth(nodes, children[0 if goes_left else 1], known, x, missing)
    return sum(nodes.cover[c] / nodes.cover[place] * worth(nodes, c, known, x, missing) for c in children)


def shapley(nodes, x, missing):
    """The definition: the mean marginal worth over all coalitions."""

    def total(known):
        return sum(worth(nodes, root, set(known), x, missing) for root in nodes.roots)

    values = np.zeros(N_PLAYERS)
    for player in range(N_PLAYERS):
        others = [other for other in range(N_PLAYERS) if other != player]
        for size in range(N_PLAYERS):
            weight = factorial(size) * factorial(N_PLAYERS - size - 1) / factorial(N_PLAYERS)
            values[player] += weight * sum(total((*s, player)) - total(s) for s in combinations(others, size))
    return values, total(())


cases = st.tuples(
    st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 5), st.lists(st.booleans(), min_size=4, max_size=4)
)


@settings(max_examples=80, deadline=None)
@given(cases)
def test_equal_to_the_definition_and_locally_accurate(case):
    """Every value is the mean marginal worth; they sum to the leaves' values; the base is the worth of nothing."""
    seed, n_trees, depth, missing = case
    rng = np.random.default_rng(seed)
    nodes = grow(rng, n_trees, depth, range(N_PLAYERS))
    x, missing = rng.normal(size=N_PLAYERS), np.array(missing)
    tree_shap = TreeShap(nodes, N_PLAYERS)
    found = tree_shap.values(x, missing)
    expected, base = shapley(nodes, x, missing)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert tree_shap.expected_value == pytest.approx(base, abs=1e-12)
    reached = sum(worth(nodes, root, set(range(N_PLAYERS)), x, missing) for root in nodes.roots)
    assert tree_shap.expected_value + found.sum() == pytest.approx(reached, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_a_player_that_is_never_asked_gets_exactly_zero(case):
    """The dummy axiom."""
    seed, n_trees, depth, missing = case
    rng = np.random.default_rng(seed)
    nodes = grow(rng, n_trees, depth, [0, 2, 3])
    assert TreeShap(nodes, N_PLAYERS).values(rng.normal(size=N_PLAYERS), np.array(missing))[1] == 0.0


@settings(max_examples=40, deadline=None)
@given(cases)
def test_renaming_players_renames_their_values(case):
    """The symmetry axiom: a value belongs to what a player does, not to its number."""
    seed, n_trees, depth, missing = case
    rng = np.random.default_rng(seed)
    nodes = grow(rng, n_trees, depth, range(N_PLAYERS))
    x, missing = rng.normal(size=N_PLAYERS), np.array(missing)
    names = rng.permutation(N_PLAYERS)
    renamed = TreeNodes(nodes.threshold, nodes.left, nodes.roots, names[nodes.player], nodes.missing_left, nodes.cover)
    new_x, new_missing = np.empty(N_PLAYERS), np.empty(N_PLAYERS, bool)
    new_x[names], new_missing[names] = x, missing
    found = TreeShap(renamed, N_PLAYERS).values(new_x, new_missing)
    np.testing.assert_allclose(found[names], TreeShap(nodes, N_PLAYERS).values(x, missing), atol=1e-12)


def test_many_small_groups_and_blocks_change_nothing(monkeypatch):
    """Large ensembles are cut into pieces."""
    from attrition.evaluation import tree_shap

    rng = np.random.default_rng(3)
    nodes = grow(rng, 30, 5, range(N_PLAYERS))
    x, missing = rng.normal(size=N_PLAYERS), np.zeros(N_PLAYERS, bool)
    whole = TreeShap(nodes, N_PLAYERS)
    monkeypatch.setattr(tree_shap, "_BLOCK", 16)
    monkeypatch.setattr(tree_shap, "_GROUP", 100)
    pieces = TreeShap(nodes, N_PLAYERS)
    np.testing.assert_allclose(pieces.values(x, missing), whole.values(x, missing), atol=1e-12)
    assert pieces.expected_value == pytest.approx(whole.expected_value)
    assert pieces.n_conditions == whole.n_conditions
