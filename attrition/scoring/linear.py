"""Scores of a linear model whose preprocessing has been folded into its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attrition.scoring.output import output_functions
from attrition.scoring.ranks import Codes
from attrition.scoring.trees import sum_in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.scoring.format import LinearDocument

_BLOCK = 2**13
"""Rows at a time: the contributions of a dozen features stay in the second-level cache."""


class LinearScorer:
    """Intercept plus one contribution per feature; satisfies :class:`attrition.scoring.scorer.Scorer`.

    Contributions are added one after the other, those of numbers first, whether one record is scored or many.
    """

    def __init__(self, document: LinearDocument) -> None:
        self.feature_names = document.features
        self.document = document
        self._intercept = document.intercept
        self._numeric = [(term.feature, term.weight, term.missing) for term in document.numeric]
        self._tables = [
            (table.feature, dict(zip(table.codes, table.values, strict=True)), table.unknown, table.missing)
            for table in document.tables
        ]
        self._columns = np.array([feature for feature, _, _ in self._numeric], dtype=np.intp)
        self._weights = np.array([[weight] for _, weight, _ in self._numeric])
        self._missing = np.array([[missing] for _, _, missing in self._numeric])
        self._codes = [
            (table.feature, Codes(table.codes), np.array([*table.values, table.unknown, table.missing]))
            for table in document.tables
        ]
        self._one, self.to_probability = output_functions(document.output)

    @property
    def split_points(self) -> tuple[NDArray[np.float64], ...]:
        """Per feature, where the score jumps: the codes of a category, nothing for a number."""
        tables = {feature: np.array(sorted(values)) for feature, values, _, _ in self._tables}
        return tuple(tables.get(feature, np.empty(0)) for feature in range(len(self.feature_names)))

    def score_one(self, values: Sequence[float]) -> float:
        """Probability of leaving for one record; see :meth:`attrition.scoring.scorer.Scorer.score_one`."""
        raw = self._intercept
        for feature, weight, missing in self._numeric:
            value = values[feature]
            raw += weight * value if value == value else missing  # noqa: PLR0124 - NaN is unequal to itself
        for feature, contributions, unknown, missing in self._tables:
            value = values[feature]
            raw += contributions.get(value, unknown) if value == value else missing  # noqa: PLR0124
        return self._one(raw)

    def score(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of leaving for each row; see :meth:`attrition.scoring.scorer.Scorer.score`."""
        probability = np.empty(len(matrix))
        for start in range(0, len(matrix), _BLOCK):
            rows = slice(start, start + _BLOCK)
            probability[rows] = self.to_probability(self._raw(matrix[rows]))
        return probability

    def _raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        n_numeric, n_terms = len(self._columns), len(self._columns) + len(self._codes)
        if not n_terms:
            return np.full(len(rows), self._intercept)
        contributions = np.empty((n_terms, len(rows)))
        if n_numeric:
            numbers = rows.T[self._columns]
            np.multiply(numbers, self._weights, out=contributions[:n_numeric])
            np.copyto(contributions[:n_numeric], self._missing, where=np.isnan(numbers))
        for term, (feature, codes, values) in enumerate(self._codes, n_numeric):
            contributions[term] = values.take(codes.places(rows[:, feature]))
        return sum_in_order(contributions, self._intercept)
