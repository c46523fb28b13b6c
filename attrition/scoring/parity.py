"""The proof, at registration, that a compiled scorer equals the pipeline it was compiled from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attrition.errors import Fault, ParityError
from attrition.scoring.linear import LinearScorer
from attrition.scoring.scorer import load_scorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from attrition.scoring.scorer import Scorer
    from attrition.training.candidate import Candidate

LINEAR_TOLERANCE = 1e-9
TREES_TOLERANCE = 1e-6
ONE_RECORD_TOLERANCE = 0.0
"""Between one record and a batch: both take the same steps."""

_MAX_SAMPLE = 2000
_MAX_SPLIT_POINTS = 150
_MAX_ONE_RECORD = 1000


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a scorer and its pipeline were found apart.

    Attributes
    ----------
    max_difference : float
        Largest absolute difference of two probabilities.
    n_rows : int
        Records compared, generated ones included.
    tolerance : float
        What was allowed.
    """

    max_difference: float
    n_rows: int
    tolerance: float

    def __str__(self) -> str:
        return f"equal to {self.max_difference:.1e} on {self.n_rows} records (allowed {self.tolerance:.0e})"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Parity:
        """Inverse of :meth:`to_dict`."""
        return cls(**document)


def prove_equal(
    files: Mapping[str, bytes], candidate: Candidate, features: pd.DataFrame, *, tolerance: float | None = None
) -> Parity:
    """Compare a scorer's files with the candidate on given and on generated records.

    Generated are: every feature missing, one at a time and all at once; category codes that training did not see;
    values far beyond the observed range; and the values at which some split changes its mind, each with its two
    neighbours among the floating-point numbers.

    Parameters
    ----------
    files
        Of :func:`attrition.scoring.compile.compile_candidate`, as they will be stored.
    features : DataFrame
        Holds the schema's columns; at most 2,000 rows are taken, evenly.
    tolerance
        Largest absolute difference of two probabilities; default 1e-9 for a linear model, 1e-6 for trees.

    Raises
    ------
    ParityError
        A larger difference, or a scorer whose single records differ from its batches.
    """
    import pandas as pd

    scorer = load_scorer(files)
    if tolerance is None:
        tolerance = LINEAR_TOLERANCE if isinstance(scorer, LinearScorer) else TREES_TOLERANCE
    names = list(candidate.schema.names)
    if scorer.feature_names != candidate.schema.names:
        raise ParityError(
            Fault("scorer", f"reads {', '.join(scorer.feature_names)}", f"the schema has {', '.join(names)}")
        )
    observed = features.loc[:, names].to_numpy(np.float64)
    categorical = [names.index(name) for name in candidate.schema.categorical]
    rows = np.concatenate([_evenly(observed, _MAX_SAMPLE), edge_records(scorer, observed, categorical)])
    expected = candidate.score(pd.DataFrame(rows, columns=names))
    found = scorer.score(rows)
    difference = _largest_difference(found, expected, tolerance, "pipeline")
    some = _evenly(np.arange(len(rows)), _MAX_ONE_RECORD)
    one_by_one = np.array([scorer.score_one(row) for row in rows[some].tolist()])
    _largest_difference(one_by_one, found[some], ONE_RECORD_TOLERANCE, "batch scoring")
    return Parity(difference, len(rows), tolerance)


def _largest_difference(
    found: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float, other: str
) -> float:
    differences = np.abs(found - expected)
    # written so that NaN counts as different
    beyond = ~(differences <= tolerance)
    if beyond.any():
        worst = float(np.nanmax(differences)) if np.isfinite(differences).any() else float("nan")
        message = f"{int(beyond.sum())} of {len(found)} records differ from the {other}, by up to {worst:.1e}"
        remedy = "this version cannot be served: report it with the family and its parameters"
        raise ParityError(Fault("scorer", message, f"at most {tolerance:.0e} is allowed", remedy))
    return float(differences.max(initial=0.0))


def _evenly(rows: NDArray[Any], n: int) -> NDArray[Any]:
    """At most `n` rows, spread over all."""
    if len(rows) <= n:
        return rows
    return rows[np.linspace(0, len(rows) - 1, n).astype(np.intp)]


def edge_records(scorer: Scorer, observed: NDArray[np.float64], categorical: list[int]) -> NDArray[np.float64]:
    """Records at the edges of what a scorer distinguishes, made from observed ones by replacing one value each.

    Parameters
    ----------
    observed : ndarray of shape (n, n_features), float64; n > 0
    categorical
        Positions of the features whose values are codes.

    Returns
    -------
    ndarray of shape (n_edges, n_features), float64
    """
    n_features = observed.shape[1]
    replacements: list[tuple[int, float]] = []
    for feature, points in enumerate(scorer.split_points):
        known = observed[:, feature][~np.isnan(observed[:, feature])]
        span = (known.min(), known.max()) if len(known) else (0.0, 1.0)
        values = [np.nan, 0.0, -1.0, span[0] - 1.0, span[1] + 1.0, span[1] + 0.5]
        if feature not in categorical:
            values += [span[0] * 1e3, span[1] * 1e3, -1e9, 1e9]
        jumps = _evenly(points[np.abs(points) < np.finfo(np.float32).max], _MAX_SPLIT_POINTS)
        values += [*jumps, *np.nextafter(jumps, -np.inf), *np.nextafter(jumps, np.inf)]
        replacements += [(feature, float(value)) for value in values]
    bases = np.resize(_evenly(observed, 97), (len(replacements) + 1, n_features))
    edges = bases.copy()
    for row, (feature, value) in enumerate(replacements):
        edges[row, feature] = value
    edges[-1] = np.nan
    return edges
