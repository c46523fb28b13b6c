"""Nodes of trees are checked before they are walked, and masks say what walking says."""

from __future__ import annotations

import numpy as np
import pytest

from attrition.errors import IntegrityError
from attrition.scoring.compile import compile_candidate
from attrition.scoring.format import FORMAT, Identity, NumericColumn, TableColumns, TreesDocument, decode
from attrition.scoring.masks import MaskScorer, fits_masks
from attrition.scoring.trees import MAX_DEPTH, Ensemble, TreeScorer, sum_in_order

#     0: a <= 1.5
#    /         \
#  1: 0.1     2: a <= 3.0
#             /        \
#          3: 0.2     4: 0.9
VALUE = [1.5, 0.1, 3.0, 0.2, 0.9]
LEFT = [1, 1, 3, 3, 4]


def _document(n_nodes=5, n_trees=1, **changes):
    fields = {
        "format": FORMAT,
        "features": ("a",),
        "output": Identity(),
        "base": 0.0,
        "divisor": 1.0,
        "numeric": (NumericColumn(0, "high"),),
        "tables": (),
    }
    return TreesDocument(n_nodes=n_nodes, n_trees=n_trees, **{**fields, **changes})


def _ensemble(value=VALUE, left=LEFT, roots=(0,), column=None):
    return Ensemble(
        np.array(value, float),
        np.array(left, np.int32),
        np.array(roots, np.int32),
        np.array(column or [0] * len(left), np.uint16),
    )


@pytest.mark.parametrize("kind", [TreeScorer, MaskScorer])
def test_a_tree_sends_equal_values_left_and_missing_ones_where_it_says(kind):
    """The record at the threshold is the one that errors are made with."""
    scorer = kind(_document(), _ensemble())
    records = [1.5, np.nextafter(1.5, 2), 3.0, 3.1, np.nan]
    assert [scorer.score_one([value]) for value in records] == [0.1, 0.2, 0.2, 0.9, 0.9]
    np.testing.assert_array_equal(scorer.score(np.array(records)[:, None]), [0.1, 0.2, 0.2, 0.9, 0.9])
    low = kind(_document(numeric=(NumericColumn(0, "low"),)), _ensemble())
    assert low.score_one([np.nan]) == 0.1


@pytest.mark.parametrize("kind", [TreeScorer, MaskScorer])
def test_codes_are_looked_up(kind):
    """Known, unknown and missing ones; without rows too."""
    table = TableColumns(0, codes=(1.0, 2.0), values=((0.0,), (2.0,)), unknown=(5.0,), missing=(1.0,))
    scorer = kind(_document(numeric=(), tables=(table,)), _ensemble())
    records = [1.0, 2.0, 2.5, np.nan]
    assert [scorer.score_one([value]) for value in records] == [0.1, 0.2, 0.9, 0.1]
    np.testing.assert_array_equal(scorer.score(np.array(records)[:, None]), [0.1, 0.2, 0.9, 0.1])
    assert scorer.score(np.empty((0, 1))).shape == (0,)


def test_bytes_are_read_back_as_written():
    """And do not depend on the machine's byte order."""
    data = _ensemble().to_bytes()
    read = Ensemble.from_bytes(data, _document())
    np.testing.assert_array_equal(read.value, VALUE)
    assert data[:8] == np.array([1.5], "<f8").tobytes()


@pytest.mark.parametrize(
    ("ensemble", "said"),
    [
        (_ensemble(left=[1, 1, 0, 3, 4]), "before its parent"),
        (_ensemble(left=[1, 1, 4, 3, 4]), "outside"),
        (_ensemble(left=[1, 1, 2, 3, 4]), "no path"),
        (_ensemble(left=[1, 3, 3, 3, 4]), "several"),
        (_ensemble(roots=[9]), "root"),
        (_ensemble(roots=[-1]), "root"),
        (_ensemble(column=[0, 0, 7, 0, 0]), "column"),
        (_ensemble(value=[1.5, np.nan, 3.0, 0.2, 0.9]), "finite"),
        (_ensemble(value=[np.inf, 0.1, 3.0, 0.2, 0.9]), "finite"),
    ],
)
def test_nodes_that_are_no_trees_are_refused(ensemble, said):
    """A walk over them might never end, or read beyond them."""
    with pytest.raises(IntegrityError, match=said):
        Ensemble.from_bytes(ensemble.to_bytes(), _document())


def test_a_truncated_file_is_refused():
    """The document says how long it must be."""
    with pytest.raises(IntegrityError, match="bytes"):
        Ensemble.from_bytes(_ensemble().to_bytes()[:-1], _document())


def test_a_chain_of_splits_beyond_the_limit_is_refused():
    """Depth is time."""
    n = MAX_DEPTH + 1
    left = [1 + 2 * (node // 2) if node % 2 == 0 and node < 2 * n else node for node in range(2 * n + 1)]
    with pytest.raises(IntegrityError, match="deeper"):
        Ensemble.from_bytes(_ensemble([0.0] * len(left), left).to_bytes(), _document(n_nodes=len(left)))


@pytest.mark.parametrize("n_rows", [1, 2, 3, 7, 64])
def test_leaf_values_are_added_in_the_order_of_the_trees(n_rows):
    """To the last bit, whatever the size of the batch."""
    leaves = np.random.default_rng(n_rows).normal(size=(301, n_rows)) * 1e3
    expected = []
    for record in leaves.T.tolist():
        total = 0.1
        for value in record:
            total += value
        expected.append(total)
    np.testing.assert_array_equal(sum_in_order(leaves.copy(), 0.1), expected)


def test_masks_and_walking_agree_on_a_fitted_ensemble(fit):
    """To the last bit: the same leaves, the same order."""
    candidate = fit("hist_gradient_boosting", {"max_iter": 20})
    files = compile_candidate(candidate)
    document = decode(files["scorer.json"])
    ensemble = Ensemble.from_bytes(files["trees.bin"], document)
    assert fits_masks(document, ensemble)
    records = candidate.features.to_numpy()
    np.testing.assert_array_equal(
        MaskScorer(document, ensemble).score(records), TreeScorer(document, ensemble).score(records)
    )


def test_masks_need_small_trees_small_tables_and_trees_one_after_another(monkeypatch):
    """Otherwise the ensemble is walked."""
    assert fits_masks(_document(), _ensemble())
    wide = np.zeros(131)
    left = [1 + 2 * node if node < 65 else node for node in range(131)]
    assert not fits_masks(_document(n_nodes=131), _ensemble(wide, left))
    assert not fits_masks(_document(n_nodes=2, n_trees=2), _ensemble([0.1, 0.2], [0, 1], roots=[1, 0]))
    monkeypatch.setattr("attrition.scoring.masks.MAX_TABLE_BYTES", 8)
    assert not fits_masks(_document(), _ensemble())
