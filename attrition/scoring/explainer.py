"""The explainer of a model version, read from declared files: exact, without the libraries that trained the model.

Importing this module, loading an explainer and explaining need numpy, msgspec and the schema only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from attrition.evaluation.explanations import explain, summarise
from attrition.scoring import background
from attrition.scoring.additive import LinearAdditive, TreesAdditive, read_model
from attrition.scoring.format import LinearDocument
from attrition.scoring.output import output_functions
from attrition.scoring.scorer import load_scorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from attrition.data.schema import FeatureSchema
    from attrition.evaluation.explanations import Explanation, GlobalImportance
    from attrition.scoring.additive import Additive

MAX_ROWS = 1_000
MIN_ROWS = 50
_BUDGET = 10**8
"""Conditions that the importance of a model may look at: some seconds for the largest forests."""


class Explainer:
    """Explains what one model version estimates; immutable, may be shared between threads.

    Parameters
    ----------
    scoring_files, background_files
        Content by name, see :mod:`attrition.scoring.format` and :mod:`attrition.scoring.background`.
    schema
        Of the version.
    version
        For readers.
    threshold
        Of the version.

    Raises
    ------
    NotFound
        The version was registered without a background.
    IntegrityError
        A file is malformed, or the files do not belong together.
    """

    def __init__(
        self,
        scoring_files: Mapping[str, bytes],
        background_files: Mapping[str, bytes],
        *,
        schema: FeatureSchema,
        version: str,
        threshold: float,
    ) -> None:
        document, ensemble = read_model(scoring_files)
        self.background, covers = background.decode(background_files, document)
        self.schema = schema
        self.version = version
        self.threshold = threshold
        self.scorer = load_scorer(scoring_files)
        self.additive: Additive
        if isinstance(document, LinearDocument):
            self.additive = LinearAdditive(document, self.background.mean_contributions)
        else:
            assert ensemble is not None
            self.additive = TreesAdditive(document, ensemble, covers)
        self._mapping: dict[str, Any] = msgspec.to_builtins(document.output)
        self._to_probability, _ = output_functions(document.output)

    def explain(
        self, values: Sequence[float], *, served: float | None = None, prediction_id: str | None = None
    ) -> Explanation:
        """Why this version estimates what it does for one record.

        Parameters
        ----------
        values : sequence of float, length n_features
            NaN where missing; a category is its code.
        served
            The probability that was answered; None computes it.

        Raises
        ------
        IntegrityError
            `served` is not what this version estimates for the record.
        """
        return explain(
            self.schema,
            values,
            self.additive.contributions(values),
            model_version=self.version,
            base_value=self.additive.base_value,
            space=self.background.space,
            quartiles=self.background.quartiles,
            threshold=self.threshold,
            to_probability=self._to_probability,
            mapping=self._mapping,
            served=self.scorer.score_one(values) if served is None else served,
            prediction_id=prediction_id,
        )

    def importance(self, matrix: NDArray[np.float64]) -> GlobalImportance:
        """What the model relies on, over rows that it has not seen.

        Parameters
        ----------
        matrix : ndarray of shape (n, n_features), float64; n > 0
            Up to `MAX_ROWS` of the rows are explained, evenly spread; fewer when one takes long.

        Raises
        ------
        IntegrityError
            An explanation does not add up to what the scorer estimates: looked at for the first `MIN_ROWS` rows.
        """
        n = int(np.clip(_BUDGET // self.additive.cost if self.additive.cost else MAX_ROWS, MIN_ROWS, MAX_ROWS))
        rows = matrix[np.unique(np.linspace(0, len(matrix) - 1, min(len(matrix), n)).astype(np.intp))]
        for row in rows[:MIN_ROWS].tolist():
            self.explain(row)
        parts = np.array([self.additive.contributions(row) for row in rows.tolist()])
        return summarise(self.schema, rows, parts, space=self.background.space, base_value=self.additive.base_value)
