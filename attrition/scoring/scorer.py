"""The function that a served model version is: read from its declared files, without the library that trained it.

Importing this module, loading a scorer and scoring need numpy and msgspec only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attrition.errors import Fault, IntegrityError
from attrition.scoring.format import MAX_TREES_BYTES, SCORER_FILE, TREES_FILE, LinearDocument, decode
from attrition.scoring.linear import LinearScorer
from attrition.scoring.masks import MaskScorer, fits_masks
from attrition.scoring.trees import Ensemble, TreeScorer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class Scorer(Protocol):
    """Probability of leaving within the horizon, from raw feature values in schema order.

    Values are finite, or NaN where missing; a category is its code, and a code that training did not see is scored as
    the pipeline scores it. Callers have checked length and range: scorers do not check again. Instances are immutable
    and may be shared between threads.
    """

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the values that a record holds, in order."""
        ...

    @property
    def split_points(self) -> tuple[NDArray[np.float64], ...]:
        """Per feature, the sorted values at which the score may jump; empty where it never does."""
        ...

    def score_one(self, values: Sequence[float]) -> float:
        """Probability in [0, 1] for one record.

        Parameters
        ----------
        values : sequence of float, length n_features
        """
        ...

    def score(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability in [0, 1] for each row, equal to :meth:`score_one` to the last bit.

        Parameters
        ----------
        matrix : ndarray of shape (n, n_features), float64

        Returns
        -------
        ndarray of shape (n,), float64
        """
        ...


def load_scorer(files: Mapping[str, bytes]) -> Scorer:
    """The scorer that declared files describe.

    Parameters
    ----------
    files
        Content by file name: ``scorer.json``, and ``trees.bin`` for an ensemble.

    Raises
    ------
    IntegrityError
        A file is missing, of an unknown format or version, malformed, or beyond the format's limits.
    """
    if SCORER_FILE not in files:
        raise IntegrityError(Fault(SCORER_FILE, "missing", "", "export the model version again"))
    document = decode(files[SCORER_FILE])
    if isinstance(document, LinearDocument):
        return LinearScorer(document)
    if TREES_FILE not in files:
        raise IntegrityError(Fault(TREES_FILE, "missing", "a scorer of kind trees has one", "export the version again"))
    if len(files[TREES_FILE]) > MAX_TREES_BYTES:
        raise IntegrityError(Fault(TREES_FILE, f"{len(files[TREES_FILE])} bytes", f"at most {MAX_TREES_BYTES}"))
    ensemble = Ensemble.from_bytes(files[TREES_FILE], document)
    if fits_masks(document, ensemble):
        return MaskScorer(document, ensemble)
    return TreeScorer(document, ensemble)
