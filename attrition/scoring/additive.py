"""How far each feature moves the raw score of a compiled model: exact Shapley values from its declared files.

The raw score is where a model adds up: the log-odds of leaving for logistic regression and gradient boosting, the mean
of the trees' probabilities for forests. There every value is a plain sum; the link and the calibration follow, as the
scorer applies them, and are the same for everybody.

- *Linear*: ``phi_i = c_i(x_i) - mean of c_i over the training rows``, where c_i is the feature's whole contribution:
  weight, scaling, imputation and all one-hot columns folded in. This is the Shapley value of the interventional game
  (Lundberg & Lee 2017, Corollary 1), which needs the training means and nothing else.
- *Trees*: path-dependent Shapley values, see :mod:`attrition.evaluation.tree_shap`. Chosen over the interventional
  game because that needs rows of real employees at every place where something is explained, and is exact only for
  those rows; the training weights of the nodes are already part of the trees. Players are the columns of the model's
  matrix, as in the shap library; the columns of one category are summed.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from attrition.errors import Fault, IntegrityError
from attrition.evaluation.tree_shap import TreeNodes, TreeShap
from attrition.scoring.format import SCORER_FILE, TREES_FILE, LinearDocument
from attrition.scoring.format import decode as decode_scorer
from attrition.scoring.trees import Ensemble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from attrition.scoring.format import Document, NumericColumn, TableColumns, TreesDocument

_STAND_IN = float(np.finfo(np.float64).max) / 4
"""A table's number beyond it stands for NaN, which each split may send to its own side."""


class Additive(Protocol):
    """A raw score as a sum over features."""

    @property
    def base_value(self) -> float:
        """The raw score of nobody in particular: its mean over the training weight."""

    def contributions(self, values: Sequence[float]) -> NDArray[np.float64]:
        """What each feature adds to :attr:`base_value`.

        Parameters
        ----------
        values : sequence of float, length n_features
            NaN where missing.

        Returns
        -------
        ndarray of shape (n_features,), float64
            Unit of the raw score; exactly 0 for a feature that the model does not use.
        """

    @property
    def cost(self) -> int:
        """What one record costs: conditions that are looked at."""


class LinearAdditive:
    """A linear model.

    Parameters
    ----------
    document
        Of the scorer.
    means
        Mean contribution of each feature over the training rows.
    """

    def __init__(self, document: LinearDocument, means: Sequence[float]) -> None:
        self._numeric = [(term.feature, term.weight, term.missing) for term in document.numeric]
        self._tables = [
            (table.feature, dict(zip(table.codes, table.values, strict=True)), table.unknown, table.missing)
            for table in document.tables
        ]
        self._means = np.array(means, dtype=np.float64)
        self.base_value = document.intercept + float(self._means.sum())
        self.cost = len(self._means)

    def contributions(self, values: Sequence[float]) -> NDArray[np.float64]:
        """See :meth:`Additive.contributions`."""
        parts = np.zeros(len(self._means))
        for feature, weight, missing in self._numeric:
            value = values[feature]
            parts[feature] = weight * value if value == value else missing  # noqa: PLR0124 - NaN is unequal to itself
        for feature, table, unknown, missing in self._tables:
            value = values[feature]
            parts[feature] = table.get(value, unknown) if value == value else missing  # noqa: PLR0124
        return parts - self._means


def mean_contributions(document: LinearDocument, matrix: NDArray[np.float64]) -> tuple[float, ...]:
    """Mean over rows of what each feature contributes to the raw score of a linear model.

    Parameters
    ----------
    matrix : ndarray of shape (n, n_features), float64; n > 0
    """
    means = [0.0] * len(document.features)
    for term in document.numeric:
        column = matrix[:, term.feature]
        means[term.feature] = float(np.where(np.isnan(column), term.missing, term.weight * column).mean())
    for table in document.tables:
        column = matrix[:, table.feature]
        part = np.full(len(column), table.unknown)
        for code, value in zip(table.codes, table.values, strict=True):
            part[column == code] = value
        means[table.feature] = float(np.where(np.isnan(column), table.missing, part).mean())
    return tuple(means)


class TreesAdditive:
    """An ensemble of trees.

    Parameters
    ----------
    document, ensemble
        Of the scorer.
    covers : ndarray of shape (n_nodes,), float64
        Training weight that reached each node.
    """

    def __init__(self, document: TreesDocument, ensemble: Ensemble, covers: NDArray[np.float64]) -> None:
        players = _Players(document.numeric, document.tables)
        column = ensemble.column.astype(np.intp)
        nodes = TreeNodes(
            threshold=ensemble.value,
            left=ensemble.left.astype(np.intp),
            roots=ensemble.roots.astype(np.intp),
            player=players.of_column[column] if len(players.of_column) else column,
            missing_left=(players.missing[column] <= ensemble.value) if len(players.missing) else column < 0,
            cover=covers,
        )
        self._shap = TreeShap(nodes, max(1, len(players.feature)))
        self._players = players
        self._divisor = document.divisor
        self._n_features = len(document.features)
        self.base_value = (document.base + self._shap.expected_value) / document.divisor
        self.cost = self._shap.n_conditions

    def contributions(self, values: Sequence[float]) -> NDArray[np.float64]:
        """See :meth:`Additive.contributions`."""
        players = self._players
        if not players.feature:
            return np.zeros(self._n_features)
        known = np.array(players.known(values))
        missing = np.isnan(np.array(values, dtype=np.float64)).take(players.feature)
        found = self._shap.values(known, missing)
        return np.bincount(players.feature, found, self._n_features) / self._divisor


class _Player(NamedTuple):
    """A column of the model's matrix: its feature, and what it holds per code; None for the number itself."""

    feature: int
    held: tuple[float | None, ...] | None


class _Players:
    """The columns of the model's matrix behind the declared columns.

    One column of that matrix is declared twice when some splits send its missing values left and others right.
    """

    def __init__(self, numeric: Sequence[NumericColumn], tables: Sequence[TableColumns]) -> None:
        places: dict[_Player, int] = {}
        of_column: list[int] = []
        missing: list[float] = []

        def place(player: _Player, value_of_missing: float) -> int:
            of_column.append(places.setdefault(player, len(places)))
            missing.append(value_of_missing)
            return of_column[-1]

        self._numbers = [
            (place(_Player(column.feature, None), -inf if column.missing == "low" else inf), column.feature)
            for column in numeric
        ]
        self._tables = []
        for table in tables:
            rows = (*table.values, table.unknown, table.missing)
            held = [
                tuple(None if abs(number) > _STAND_IN else number for number in column)
                for column in zip(*rows, strict=True)
            ]
            mine = [place(_Player(table.feature, h), m) for h, m in zip(held, table.missing, strict=True)]
            self._tables.append((table.feature, mine, dict(zip(table.codes, table.values, strict=True)), table.unknown))
        self.feature = [player.feature for player in places]
        self.of_column = np.array(of_column, np.intp)
        self.missing = np.array(missing)

    def known(self, values: Sequence[float]) -> list[float]:
        """What the splits of each player compare."""
        found = [0.0] * len(self.feature)
        for place, feature in self._numbers:
            found[place] = values[feature]
        for feature, places, rows, unknown in self._tables:
            for place, number in zip(places, rows.get(values[feature], unknown), strict=True):
                found[place] = number
        return found


def read_model(files: Mapping[str, bytes]) -> tuple[Document, Ensemble | None]:
    """The declared model of a scorer's files, and its nodes when it is an ensemble.

    Raises
    ------
    IntegrityError
        A file is missing or malformed.
    """
    if SCORER_FILE not in files:
        raise IntegrityError(Fault(SCORER_FILE, "missing", "", "export the model version again"))
    document = decode_scorer(files[SCORER_FILE])
    if isinstance(document, LinearDocument):
        return document, None
    if TREES_FILE not in files:
        raise IntegrityError(Fault(TREES_FILE, "missing", "a scorer of kind trees has one", "export the version again"))
    return document, Ensemble.from_bytes(files[TREES_FILE], document)
