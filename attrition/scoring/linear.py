"""Scores of a linear model whose preprocessing has been folded into its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attrition.scoring.output import output_functions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from attrition.scoring.format import LinearDocument


class LinearScorer:
    """Intercept plus one contribution per feature; satisfies :class:`attrition.scoring.scorer.Scorer`."""

    def __init__(self, document: LinearDocument) -> None:
        self.feature_names = document.features
        self._intercept = document.intercept
        self._numeric = [(term.feature, term.weight, term.missing) for term in document.numeric]
        self._tables = [
            (table.feature, dict(zip(table.codes, table.values, strict=True)), table.unknown, table.missing)
            for table in document.tables
        ]
        self._columns = np.array([feature for feature, _, _ in self._numeric], dtype=np.intp)
        self._weights = np.array([weight for _, weight, _ in self._numeric])
        self._missing = np.array([missing for _, _, missing in self._numeric])
        self._one, self._many = output_functions(document.output)

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
        numbers = matrix[:, self._columns]
        contributions = np.where(np.isnan(numbers), self._missing, numbers * self._weights)
        raw = self._intercept + contributions.sum(axis=1)
        for feature, table, unknown, missing in self._tables:
            column = matrix[:, feature]
            part = np.full(len(matrix), unknown)
            for code, contribution in table.items():
                part[column == code] = contribution
            part[np.isnan(column)] = missing
            raw += part
        return self._many(raw)
